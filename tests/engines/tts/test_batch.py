"""Live speeches in a running batch: each says what it would say alone."""

import numpy as np
import pytest

from moshi_mlx.engines.tts.batch import TTSBatch, TTSRow
from moshi_mlx.errors import NoPlace
from tests.speech import PREFIX, TTS, VOICES, speaker

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
