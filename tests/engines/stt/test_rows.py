"""Listening for long: nothing is lost or said twice when the model starts afresh."""

import json

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.engines.stt import EndOfTurn, Pauses, Stalled, Transcript, Word
from moshi_mlx.engines.stt import rows as stt_rows
from moshi_mlx.engines.stt.rows import Frame, Rows
from moshi_mlx.models import Lm, LmConfig
from tests.listening import (
    PAUSING,
    echo,
    frames,
    listen,
    long_talk,
    sentence,
    words,
)
from tests.speech import tokenizer
from tests.tiny import DATA

STT = DATA / "lm_stt"


def golden() -> tuple[Lm, dict[str, mx.array]]:
    config = LmConfig.from_config_dict(json.loads((STT / "config.json").read_text()))
    lm = Lm(config)
    lm.load_pytorch_weights(str(STT / "model.safetensors"))
    tensors = mx.load(str(STT / "io.safetensors"))
    assert isinstance(tensors, dict)
    return lm, tensors


def test_tokens_and_pause_scores_are_pytorchs():
    lm, tensors = golden()
    heard = np.array(tensors["user_codes"])[0]
    written = np.array(tensors["step_text_tokens"])[0]
    heads = np.array(tensors["extra_heads"])[0, :, :, 0]
    rows, tokens = Rows(lm, tokenizer(), 0.0, refresh=False), []
    read = rows.rows[0].words.read

    def recorded(token: int, time_s: float) -> list:
        tokens.append(token)
        return read(token, time_s)

    rows.rows[0].words.read = recorded
    sound = frames([0] * (heard.shape[1] - 1))
    for frame, codes in zip(sound, heard.T[1:], strict=True):
        assert isinstance(frame.codes, np.ndarray)
        frame.codes.resize(len(codes), refcheck=False)
        frame.codes[:] = codes
    rows.rows[0].waiting.extend(sound)
    scores = []
    while rows.waiting:
        events = rows.step()[0]
        scores += [e.probabilities for e in events if isinstance(e, Pauses)]
    assert len(tokens) > 2 * lm.cfg.transformer.context
    assert tokens == written[1:].tolist()
    np.testing.assert_allclose(scores, heads[1:], atol=1e-4)


def test_words_and_turns_of_a_talk():
    rows = Rows(echo(), tokenizer(), 0.0)
    talk = [3] * 12 + sentence("hello", "there") + sentence("how", "are", "you")
    (events,) = listen(rows, talk)
    found = Transcript.of(events, len(talk) * 0.08)
    assert [turn.text for turn in found.turns] == ["hello there", "how are you"]
    assert found.text == "hello there how are you"
    assert sum(isinstance(e, EndOfTurn) for e in events) == 2
    pauses = [e for e in events if isinstance(e, Pauses)]
    assert len(pauses) == len(talk)
    assert {len(p.probabilities) for p in pauses} == {4}
    assert pauses[5].probabilities[2] < 0.4 < 0.6 < pauses[-1].probabilities[2]


def test_a_model_without_pause_scores_still_tells_turns():
    rows = Rows(echo(heads=0), tokenizer(), 0.0)
    (events,) = listen(rows, sentence("hello", pause=40) + sentence("there"))
    turn = [e for e in events if isinstance(e, EndOfTurn)]
    assert len(turn) == 2 and not any(isinstance(e, Pauses) for e in events)
    assert turn[0].time_s == pytest.approx(2.0 + 3 * 0.08, abs=0.01)


@pytest.mark.parametrize("pause", [25, 0])
@pytest.mark.parametrize("heads", [4, 0])
def test_listening_afresh_loses_and_doubles_no_word(pause: int, heads: int):
    codes, said = long_talk(pause)
    rows = Rows(echo(heads), tokenizer(), 0.0)
    (events,) = listen(rows, codes)
    plain = Rows(echo(heads), tokenizer(), 0.0, refresh=False)
    (expected,) = listen(plain, codes)
    assert rows.refreshes >= 2 and plain.refreshes == 0
    assert words(events) == words(expected) == said
    found = [e for e in events if isinstance(e, Word)]
    times = [t for word in found for t in (word.start_s, word.end_s)]
    assert times == sorted(times)
    wanted = [e for e in expected if isinstance(e, Word)]
    off = [abs(a.start_s - b.start_s) for a, b in zip(found, wanted, strict=True)]
    assert max(off) <= 0.081
    told = [e.time_s for e in events if isinstance(e, Pauses | EndOfTurn)]
    assert told == sorted(told)


def test_state_is_flat_however_long_the_talk():
    codes, _ = long_talk(25, minutes=1.5)
    rows = Rows(echo(), tokenizer(), 0.0)
    listen(rows, codes[:400])
    before = rows.nbytes
    listen(rows, codes[400:])
    assert rows.nbytes == before and len(rows.rows[0].given) <= 3 / 0.08 + 1


def test_rows_of_a_batch_are_the_rows_alone():
    sounds = [long_talk(25, 0.7)[0], sentence("hello"), [], long_talk(0, 0.6)[0]]
    together = listen(Rows(echo(), tokenizer(), 0.0, len(sounds)), *sounds)
    for events, codes in zip(together, sounds, strict=True):
        assert listen(Rows(echo(), tokenizer(), 0.0), codes)[0] == events


def test_sound_without_words_is_noticed_and_heard_afresh():
    rows = Rows(echo(), tokenizer(), 0.0)
    (events,) = listen(rows, sentence("hello", pause=300), loud=True)
    stalls = [e for e in events if isinstance(e, Stalled)]
    assert len(stalls) == 2 and rows.refreshes >= 2
    assert 10.0 <= stalls[0].time_s <= 10.6
    (quiet,) = listen(Rows(echo(), tokenizer(), 0.0), sentence("hello", pause=300))
    assert not any(isinstance(e, Stalled) for e in quiet)


def test_expected_names_win_where_the_model_is_unsure():
    hello = tokenizer().encode("hello")
    rows = Rows(echo(), tokenizer(), 0.0, phrases=["hello"])
    assert words(listen(rows, [0, 18, 13, 3, 0, *hello, 3, 0])[0])[-1] == "hello"


def led(lead: list[int], sound: list[int]) -> list[Frame]:
    """Frames of silence that take no time, and a sound."""
    apart = [Frame(np.array([code, 0], np.int32), 0.0, 0.0) for code in lead]
    return [*apart, *frames(sound)]


@pytest.mark.parametrize("word", [False, True])
def test_what_comes_before_a_sound_is_heard_at_once_where_nothing_is_written(
    monkeypatch, word: bool
):
    """And call by call in a row whose model writes something."""
    said = sentence("hello", "there")
    lead = [PAUSING] * 12
    leads = [lead, [*lead[:6], *sentence("paris", pause=0), *lead] if word else lead]
    told, steps = [], []
    for at_once in (True, False):
        rows = Rows(echo(), tokenizer(), 0.0, 2)
        step, calls = rows._gen.step_with_extra_heads, []

        def counted(*args, step=step, calls=calls, **options):
            calls.append(options["active"])
            return step(*args, **options)

        monkeypatch.setattr(rows._gen, "step_with_extra_heads", counted)
        if not at_once:
            monkeypatch.setattr(stt_rows, "read_leads", lambda *_: ([], 0))
        for row, codes in zip(rows.rows, leads, strict=True):
            row.waiting.extend(led(codes, said))
        told.append(listen(rows, [], []))
        steps.append([sum(row) for row in zip(*calls, strict=True)])
    assert told[0] == told[1]
    assert words(told[0][0]) == ["hello", "there"]
    assert words(told[0][1]) == [*(["paris"] if word else []), "hello", "there"]
    apart, each = [len(lead), len(leads[1])], len(said)
    assert steps[1] == [1 + apart[0] + each, 1 + apart[1] + each]
    assert steps[0][0] == each
    assert steps[0][1] == (1 + apart[1] + each if word else each)


def test_a_model_with_a_memory_hears_what_came_before_as_it_would_call_by_call(
    monkeypatch,
):
    lm, tensors = golden()
    lm.text_linear.weight = lm.text_linear.weight * 0.1
    bias = mx.zeros(lm.cfg.text_out_vocab_size)
    bias[3] = 1.0
    lm.text_linear.bias = bias  # mostly padding
    heard = np.array(tensors["user_codes"])[0].T.astype(np.int32)
    told = []
    for at_once in (True, False):
        if not at_once:
            monkeypatch.setattr(stt_rows, "read_leads", lambda *_: ([], 0))
        rows = Rows(lm, tokenizer(), 0.0)
        lead = [Frame(codes, 0.0, 0.0) for codes in heard[:5]]
        sound = [
            Frame(codes, i * 0.08, (i + 1) * 0.08) for i, codes in enumerate(heard[5:])
        ]
        rows.rows[0].waiting.extend([*lead, *sound])
        scores = []
        while rows.waiting:
            scores += [e for e in rows.step()[0] if isinstance(e, Pauses)]
        told.append(np.array([event.probabilities for event in scores]))
    assert len(told[0]) == len(sound)
    np.testing.assert_allclose(told[0], told[1], atol=1e-5)
