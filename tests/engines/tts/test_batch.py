"""Live speeches in a running batch: each says what it would say alone."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.engines.tts import batch as batches
from moshi_mlx.engines.tts.batch import TTSBatch, TTSRow
from moshi_mlx.engines.tts.live_voice import LiveVoice
from moshi_mlx.errors import CheckpointError, ConfigError, NoPlace
from tests.speech import PREFIX, TTS, VOICES, golden, speaker
from tests.waits import READ, START, WAIT, device_calls

TEXT = 'hello there how are <break time="0.4s"/> you today in paris'
RECORDING = TTS / "voice.wav"


def step_all(batch: TTSBatch, rows: list[TTSRow], heard: list[list], words) -> None:
    """Let every row say what it can."""
    more = True
    while more:
        said = batch.step(rows, ())
        for mine, its_words, spoken in zip(heard, words, said, strict=True):
            its_words += spoken.words
            if spoken.pcm is not None:
                mine.append(spoken.pcm)
        more = any(spoken.more for spoken in said)


@pytest.mark.parametrize("temp", [0.0, 0.7])
def test_rows_that_come_and_go_say_what_they_say_alone(temp: float):
    tts = speaker(temp=temp)
    texts = [TEXT, "you are in paris", "hello today"]
    alone = [
        tts.say(text, VOICES[v], seed=i)
        for i, (text, v) in enumerate(zip(texts, "aba", strict=True))
    ]
    batch = TTSBatch(tts, 2)
    voices = {v: batch.voice(VOICES[v]) for v in "ab"}
    first, second = batch.open(voices["a"], 0), batch.open(voices["b"], 1)
    heard, words = [[], []], [[], []]
    for word in TEXT.split(" "):  # the second begins in the middle of the first
        first.inbox.append(f"{word} ")
        if word == "are":
            second.inbox.extend([texts[1], None])
        step_all(batch, [first, second], heard, words)
    first.inbox.append(None)
    second.close()
    third = batch.open(voices["a"], 2)
    third.inbox.extend([texts[2], None])
    later, later_words = [heard[0], []], [words[0], []]
    step_all(batch, [first, third], later, later_words)
    for mine, its, whole in zip(
        [later[0], heard[1], later[1]],
        [words[0], words[1], later_words[1]],
        alone,
        strict=True,
    ):
        np.testing.assert_allclose(np.concatenate(mine), whole.pcm, atol=1e-6)
        assert its == whole.words


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_rows_continue_recordings_as_alone(guidance: float):
    tts = speaker(PREFIX, temp=0.7)
    whole = tts.say(TEXT, RECORDING, guidance=guidance, seed=4)
    batch = TTSBatch(tts, 2, guidance)
    voice = batch.voice(RECORDING)
    for _ in range(2):  # the second time the recording is known
        rows = [batch.open(voice, 4), batch.open(voice, 5)]
        for row in rows:
            row.inbox.extend([TEXT, None])
        heard, words = [[], []], [[], []]
        step_all(batch, rows, heard, words)
        np.testing.assert_allclose(np.concatenate(heard[0]), whole.pcm, atol=1e-6)
        assert words[0] == whole.words
        for row in rows:
            row.close()


def test_places_come_back_with_text_still_queued():
    batch = TTSBatch(speaker(), 1)
    voice = batch.voice(VOICES["a"])
    row = batch.open(voice)
    row.inbox.append(TEXT)
    batch.step([row], ())
    with pytest.raises(NoPlace, match="all 1 places"):
        batch.open(voice)
    row.close()
    assert batch.step([row], ())[0].ended
    batch.open(voice)
    assert batch.taken == 1


def said_alone(
    batch: TTSBatch, row: TTSRow, text: str = TEXT
) -> tuple[np.ndarray, list]:
    """What a row says when the others have nothing to say."""
    heard, words = [[]], [[]]
    row.inbox.extend([text, None])
    step_all(batch, [row], heard, words)
    return np.concatenate(heard[0]), words[0]


def test_an_embedding_that_was_sent_speaks_as_its_file_does():
    tts = speaker()
    whole = tts.say(TEXT, VOICES["b"], seed=0)
    batch = TTSBatch(tts, 2)
    embedding = golden(VOICES["b"])["speaker_wavs"]
    row = batch.open(batch.voice_of_embedding(embedding), 0)
    pcm, words = said_alone(batch, row)
    np.testing.assert_allclose(pcm, whole.pcm, atol=1e-6)
    assert words == whole.words
    with pytest.raises(CheckpointError, match="made for another model"):
        batch.voice_of_embedding(embedding[:, 1:])


def test_a_model_takes_only_its_own_kind_of_voice():
    batch = TTSBatch(speaker(), 1)
    with pytest.raises(ConfigError, match="choose one by name"):
        batch.voice_of_codes(mx.zeros((7, 4), mx.int32))


def test_a_speech_that_has_not_begun_may_change_its_voice():
    tts = speaker()
    whole = tts.say(TEXT, VOICES["b"], seed=0)
    batch = TTSBatch(tts, 2)
    row = batch.open(batch.voice(VOICES["a"]), 0)
    batch.change(row, batch.voice(VOICES["b"]))
    pcm, words = said_alone(batch, row)
    np.testing.assert_allclose(pcm, whole.pcm, atol=1e-6)
    assert words == whole.words


@pytest.mark.parametrize("learnt", [True, False])
def test_voices_of_different_lengths_speak_together_as_each_would_alone(learnt):
    """Also while one of another length comes or goes, and is given to a row later."""
    tts = speaker()
    if not learnt:
        tts.valid_cfg_conditionings = set()  # guidance with a null half
    embedding = golden(VOICES["a"])["speaker_wavs"]

    def voices(batch: TTSBatch) -> list[LiveVoice]:
        cut = [embedding, embedding[..., :3], mx.concatenate([embedding] * 2, axis=2)]
        return [batch.voice_of_embedding(each) for each in cut]

    alone = []
    for number in range(3):
        batch = TTSBatch(tts, 2)
        pcm, _ = said_alone(batch, batch.open(voices(batch)[number], 0))
        alone.append(pcm)
    assert len({pcm.tobytes() for pcm in alone}) == 3

    batch = TTSBatch(tts, 3)
    usual, short, long = voices(batch)
    rows = [batch.open(usual, 0)]
    rows[0].inbox.append(TEXT[:20])
    heard: list[list] = [[], [], []]
    step_all(batch, rows, heard[:1], [[]])
    rows += [batch.open(usual, 0), batch.open(long, 0)]
    batch.change(rows[1], short)
    rows[0].inbox.extend([TEXT[20:], None])
    for row in rows[1:]:
        row.inbox.extend([TEXT, None])
    step_all(batch, rows, heard, [[], [], []])
    for mine, whole in zip(heard, alone, strict=True):
        np.testing.assert_allclose(np.concatenate(mine), whole, atol=1e-6)


def test_a_bad_tag_ends_its_row_and_no_other():
    tts = speaker()
    whole = tts.say(TEXT, VOICES["a"], seed=0)
    batch = TTSBatch(tts, 2)
    voice = batch.voice(VOICES["a"])
    bad, good = batch.open(voice, 1), batch.open(voice, 0)
    bad.inbox.extend(["hello there ", "<prosody>you</prosody> ", "are", None])
    good.inbox.extend([TEXT, None])
    heard, words = [], []
    told = batch.step([bad, good], ())
    assert told[0].ended and "prosody" in str(told[0].error)
    assert (told[0].pcm, told[0].more) == (None, False)
    while told[1].more:
        told = batch.step([bad, good], ())
        words += told[1].words
        heard += [] if told[1].pcm is None else [told[1].pcm]
    np.testing.assert_allclose(np.concatenate(heard), whole.pcm, atol=1e-6)
    assert words == whole.words
    bad.close()
    assert batch.open(voice).row == 0, "its place is free again"


def test_the_decoder_is_started_before_its_codes_are_there():
    """The text is waited for within a step, as the script says what is read instead;
    then only the sound."""
    tts = speaker()
    batch = TTSBatch(tts, 2)
    rows = [batch.open(batch.voice(VOICES[v]), 0) for v in "ab"]
    for row in rows:
        row.inbox.extend([TEXT, None])
    for _ in range(tts.delay_steps + batch.run.gen.max_delay + 2):
        batch.step(rows, ())
    with device_calls() as calls:
        said = batch.step(rows, ())
    assert all(spoken.pcm is not None for spoken in said)
    # text; step and a decoder for each; the sound of each
    assert calls == [READ, START, START, START, READ, READ]
    assert WAIT not in calls
    with tts.session(VOICES["a"], seed=0) as session:
        sound = iter(session.feed(TEXT))
        next(sound)
        with device_calls() as calls:
            next(sound)
        assert calls == [READ, START, READ]


def test_a_book_that_comes_at_once_is_read_in_parts_and_said_alike(monkeypatch):
    def said(most: int) -> tuple[list[str], int]:
        monkeypatch.setattr(batches, "READ_CHARS", most)
        batch = TTSBatch(speaker(), 1)
        row = batch.open(batch.voice(VOICES["a"]), 1)
        row.inbox.extend(["hello there how ", "are you today in paris", None])
        words, steps = [], 0
        while True:
            told = row.step(np.zeros(0, np.float32))
            words += [word.text for word in told.words]
            steps += told.pcm is not None
            if told.ended:
                return words, steps
            assert told.more, "it waits for nothing"

    whole = said(4096)
    assert " ".join(whole[0]) == "hello there how are you today in paris"
    assert said(5) == whole
