"""Speech equals PyTorch's, token by token, in every mode."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.engines.tts import SpeechRun, TTSModel, TTSResult
from moshi_mlx.errors import ConfigError
from moshi_mlx.models import Lm, generate
from tests.speech import (
    EXPECTED,
    PREFIX,
    SCRIPTS,
    SETTINGS,
    TTS,
    VOICES,
    golden,
    speaker,
)

SCRIPT = ['hello there how are <break time="0.4s"/> you today']


def say(tts: TTSModel, script: str, **options: Any) -> TTSResult:
    expected = EXPECTED[script]
    entries = tts.prepare_script(expected["script"], expected["padding_between"])
    voices = [VOICES[name] for name in expected["voices"]]
    attributes = tts.make_condition_attributes(voices, expected["cfg_coef"])
    return tts.generate([entries], [attributes], **options)


def codes(result: TTSResult) -> np.ndarray:
    """``[B, K, frames]``."""
    return np.array(mx.concatenate(result.frames, axis=-1))


def of_pytorch(path: Path, delay_steps: int) -> np.ndarray:
    """PyTorch's audio codes from the first frame of sound on."""
    audio = np.array(golden(path)["codes"])[:, 1:]
    assert (audio[..., :delay_steps] == -1).any(axis=1).all()
    assert (audio[..., delay_steps:] >= 0).all()
    return audio[..., delay_steps:]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_token_and_code_is_pytorchs(script: str):
    tts, expected, heard = speaker(), EXPECTED[script], []
    assert tts.delay_steps == SETTINGS["delay_steps"]
    assert tts.max_speakers == SETTINGS["max_speakers"]
    result = say(tts, script, on_frame=heard.append)
    logged = [list(pair) for pair in result.logged_text_tokens[0]]
    assert logged == expected["logged_text_tokens"]
    assert result.end_steps == [expected["end_step"]]
    assert result.all_consumption_times == [expected["consumption_times"]]
    transcript = [list(word) for word in result.all_transcripts[0]]
    assert transcript == expected["transcript"]
    wanted = of_pytorch(TTS / f"{script}.safetensors", tts.delay_steps)
    np.testing.assert_array_equal(codes(result), wanted)
    assert len(heard) == len(result.frames)
    assert heard[0].shape == (1, 6, 1)


def test_fewer_codebooks_are_pytorchs():
    tts = speaker(n_q=3)
    entries = tts.prepare_script(SCRIPT, padding_between=1)
    attributes = tts.make_condition_attributes([VOICES["a"]], 2.0)
    result = tts.generate([entries], [attributes])
    wanted = of_pytorch(TTS / "reduced.safetensors", tts.delay_steps)
    assert wanted.shape[1] == 3
    np.testing.assert_array_equal(codes(result), wanted)


@pytest.mark.parametrize("name, coef", [("plain", 1.0), ("guided", 3.0)])
def test_speech_that_continues_a_recording_is_pytorchs(name: str, coef: float):
    tts = speaker(PREFIX, cfg_coef=coef)
    assert tts.lm.cfg.text_out_vocab_size == 5 and not tts.multi_speaker
    expected = golden(PREFIX / f"{name}.safetensors")
    prefix = tts.get_prefix(TTS / "voice.wav")
    np.testing.assert_array_equal(np.array(prefix), np.array(expected["prefix"]))
    entries = tts.prepare_script(SCRIPT, padding_between=1)
    attributes = tts.make_condition_attributes([])
    result = tts.generate([entries], [attributes], [prefix])
    logged = np.array(result.logged_text_tokens[0])
    np.testing.assert_array_equal(logged, np.array(expected["logged"]))
    assert result.end_steps == [expected["end_step"].item()]
    wanted = of_pytorch(PREFIX / f"{name}.safetensors", tts.delay_steps)
    np.testing.assert_array_equal(codes(result), wanted)


def test_guidance_changes_the_speech():
    plain = of_pytorch(PREFIX / "plain.safetensors", 4)
    guided = of_pytorch(PREFIX / "guided.safetensors", 4)
    assert (plain[..., 20:36] != guided[..., 20:36]).any()


@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_rows_of_a_batch_are_the_rows_alone(temp: float):
    tts, names = speaker(temp=temp), ["single_between1", "breaks_between0"]
    seeds = [3, 4]
    alone = [say(tts, name, seed=s) for name, s in zip(names, seeds, strict=True)]
    scripts = [EXPECTED[name] for name in names]
    together = tts.generate(
        [tts.prepare_script(s["script"], s["padding_between"]) for s in scripts],
        [tts.make_condition_attributes([VOICES["a"]], 2.0) for _ in scripts],
        seed=seeds,
    )
    assert together.end_steps == [result.end_steps[0] for result in alone]
    for row, result in enumerate(alone):
        assert together.all_transcripts[row] == result.all_transcripts[0]
        count = len(result.frames)
        single, batched = codes(result)[0], codes(together)[row, :, :count]
        np.testing.assert_array_equal(batched, single)


@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_a_row_that_begins_anew_says_what_it_says_alone(temp: float):
    tts, names = speaker(temp=temp), ["single_between1", "breaks_between0"]
    alone = {name: say(tts, name, seed=i) for i, name in enumerate(names)}
    entries = {
        name: tts.prepare_script(script["script"], script["padding_between"])
        for name, script in EXPECTED.items()
    }
    voice = tts.make_condition_attributes([VOICES["a"]], 2.0)
    run = SpeechRun(tts, [entries[n] for n in names], [voice] * 2, seed=[0, 1])
    now, said = list(names), [[], []]
    queue, found = [names[1], names[0], names[0]], []
    while not all(row.resting for row in run.rows):
        frame = run.step()
        for b in (0, 1):
            if run.sounds(b) and frame is not None:
                said[b].append(frame[b])
            if run.rows[b].resting or not run.ended(b):
                continue
            result = alone[now[b]]
            assert run.logged[b] == result.logged_text_tokens[0]
            codes_b = np.array(mx.stack(said[b], axis=-1))
            np.testing.assert_array_equal(codes_b, codes(result)[0])
            found.append(now[b])
            if not queue:
                run.rest(b)
                continue
            now[b], said[b] = queue.pop(0), []
            run.begin(b, entries[now[b]], voice, seed=names.index(now[b]))
    assert sorted(found) == sorted([*names, names[1], names[0], names[0]])


def test_rows_that_continue_recordings_begin_anew_under_guidance():
    tts = speaker(PREFIX, cfg_coef=3.0)
    long = tts.get_prefix(TTS / "voice.wav")
    prefixes = [long, long[:, :6]]
    entries = tts.prepare_script(["hello there"], padding_between=1)
    alone = [tts.generate([entries], [], [prefix]) for prefix in prefixes]
    run, said = SpeechRun(tts, [entries] * 2, [], prefixes), []
    while not run.ended(1):
        run.step()
    run.begin(1, entries, prefix=long)
    run.rest(0)
    while not run.ended(1):
        frame = run.step()
        if run.sounds(1) and frame is not None:
            said.append(frame[1])
    assert run.states[1].end_step == alone[0].end_steps[0]
    again = np.array(mx.stack(said, axis=-1))
    np.testing.assert_array_equal(again, codes(alone[0])[0])


def test_a_longer_recording_in_the_batch_leaves_the_other_row_alone():
    tts = speaker(PREFIX, cfg_coef=3.0)
    long = tts.get_prefix(TTS / "voice.wav")
    short = long[:, :6]
    entries = tts.prepare_script(SCRIPT, padding_between=1)
    alone = tts.generate([entries], [], [short])
    both = tts.generate([entries, entries], [], [long, short])
    assert both.end_steps[1] == alone.end_steps[0]
    count = len(alone.frames)
    np.testing.assert_array_equal(codes(both)[1, :, :count], codes(alone)[0])


@pytest.mark.parametrize("n_q", [2, 6])
def test_the_depth_transformer_rests_during_the_delay_and_past_n_q(monkeypatch, n_q):
    tts, frames = speaker(n_q=n_q), []
    original = generate.sample_frame

    def counted(*args):
        frames.append(original(*args))
        return frames[-1]

    monkeypatch.setattr(generate, "sample_frame", counted)
    result = say(tts, "single_between1")
    assert len(frames) == len(result.logged_text_tokens[0]) - tts.delay_steps
    assert {frame.shape for frame in frames} == {(1, n_q, 1)}


def test_more_codebooks_than_the_model_has_are_its_own():
    assert speaker(n_q=32).n_q == 6


def test_gives_up_at_the_budget_without_an_end_step():
    tts = speaker(max_gen_length=20)
    result = say(tts, "breaks_between0")
    assert result.end_steps == [None]
    assert len(result.logged_text_tokens[0]) == 20
    assert len(result.frames) == 20 - tts.delay_steps - 2


def test_a_bonus_for_padding_speaks_more_slowly():
    fast = say(speaker(padding_bonus=-40.0), "single_between0").end_steps[0]
    slow = say(speaker(padding_bonus=40.0), "single_between0").end_steps[0]
    assert fast is not None and slow is not None and fast < 50 <= slow


@pytest.mark.parametrize("bits, most", [(8, 0.03), (4, 0.4)])
def test_a_quantised_voice_says_the_same_words_about_as_surely(bits: int, most: float):
    plain, tts = speaker(), speaker()
    tts.lm = Lm(plain.lm.cfg)
    tts.lm.load_pytorch_weights(str(TTS / "model.safetensors"))
    for layer in tts.lm.transformer.layers:
        nn.quantize(layer.self_attn, bits=bits, group_size=32)
        nn.quantize(layer.cross_attention, bits=bits, group_size=32)
    words = [
        [word for word, _ in result.all_transcripts[0]]
        for result in (say(plain, "breaks_between1"), say(tts, "breaks_between1"))
    ]
    assert words[0] == words[1] and len(words[0]) > 9
    codes = mx.array(golden(TTS / "breaks_between1.safetensors")["codes"])[:, :, 4:40]
    codes = mx.maximum(codes, 0)
    voice = tts.make_condition_attributes([VOICES["a"]], 2.0)
    assert plain.lm.condition_provider is not None
    conditions = plain.lm.condition_provider.fuse([voice])
    exact = np.array(plain.lm.teacher_forced(codes, *conditions).text_logits)
    rough = np.array(tts.lm.teacher_forced(codes, *conditions).text_logits)
    assert 0 < np.abs(exact - rough).max() / np.abs(exact).max() < most


def test_hooks_of_the_caller_run_after_the_machine():
    texts, audios = [], []
    result = say(
        speaker(),
        "single_between1",
        on_text_hook=lambda t: texts.append(t.tolist()),
        on_audio_hook=lambda a: audios.append(a.shape),
    )
    assert texts == [[[read]] for _, read in result.logged_text_tokens[0]]
    assert set(audios) == {(1, 6, 1)} and len(audios) == len(texts)


def test_no_step_is_held_back_by_the_previous_speech():
    tts = speaker()
    first = codes(say(tts, "single_between0"))
    np.testing.assert_array_equal(codes(say(tts, "single_between0")), first)


def test_refuses_guidance_that_the_model_learnt_as_a_condition():
    tts = speaker(cfg_coef=2.0)
    with pytest.raises(ConfigError, match="make_condition_attributes"):
        say(tts, "single_between0")
    with pytest.raises(ConfigError, match=r"use one of 1.0, 1.5, .*4.0"):
        speaker().make_condition_attributes([], 2.2)


@pytest.mark.parametrize("coef", [1.0, 3.0])
@pytest.mark.parametrize("length", [3, 11])
def test_a_prefix_is_read_at_once_as_it_is_step_by_step(coef: float, length: int):
    """Every code that follows is the same, drawn at random too."""
    tts = speaker(PREFIX)
    entries = tts.prepare_script(["hello there how are you"], padding_between=1)
    prefix = tts.get_prefix(TTS / "voice.wav")[:, :length]
    runs = [
        SpeechRun(tts, [entries], [], [prefix], cfg_coef=coef, seed=6) for _ in "ab"
    ]
    said: list[list[mx.array]] = [[], []]
    at_once = runs[1].read_prefix()
    assert runs[1].offset == length and not runs[1].in_prefix
    if at_once is not None:
        said[1] += [at_once[:, :, t] for t in range(at_once.shape[2])]
    for run, frames in zip(runs, said, strict=True):
        while not run.done:
            if (codes := run.step()) is not None:
                frames.append(codes)
    assert (at_once is None) == (length == 3)
    assert mx.array_equal(mx.stack(said[0]), mx.stack(said[1]))


@pytest.mark.parametrize("temp", [0.0, 0.8])
def test_files_read_their_recordings_at_once_and_log_the_same(monkeypatch, temp):
    """Rows that begin together, and one that begins while another speaks."""
    tts = speaker(PREFIX, temp=temp, cfg_coef=3.0)
    long = tts.get_prefix(TTS / "voice.wav")
    prefixes = [long, long[:, :6]]
    entries = tts.prepare_script(SCRIPT, padding_between=1)
    at_once = tts.generate([entries] * 2, [], prefixes, seed=4)
    run = SpeechRun(tts, [entries] * 2, [], prefixes, seed=[4, 5])
    for _ in range(2):
        run.step()
    run.begin(1, entries, prefix=prefixes[1], seed=4)
    assert run.reads_at_once([1])
    beside = run.rows[0].offset
    run.read_prefix([1])
    assert (run.rows[1].offset, run.rows[0].offset) == (6, beside)
    while not run.ended(1):
        run.step()
    mine = run.rows[1].logged
    run.begin(1, entries, prefix=prefixes[1], seed=4)
    assert not run.reads_at_once([1])  # the other row's keys and values have no room
    monkeypatch.setattr(SpeechRun, "reads_at_once", lambda *_: False)
    monkeypatch.setattr(SpeechRun, "read_prefix", lambda *_: 1 / 0)
    stepped = tts.generate([entries] * 2, [], prefixes, seed=4)
    assert at_once.logged_text_tokens == stepped.logged_text_tokens
    np.testing.assert_array_equal(codes(at_once), codes(stepped))
    assert mine == stepped.logged_text_tokens[1][: len(mine)] and len(mine) > 20


def test_hooks_see_every_step_of_a_recording():
    tts, seen = speaker(PREFIX), []
    prefix = tts.get_prefix(TTS / "voice.wav")
    entries = tts.prepare_script(["hello"], padding_between=1)
    hook = seen.append
    tts.generate([entries], [], [prefix], on_text_hook=hook)
    assert len(seen) > prefix.shape[1]


def test_refuses_another_number_of_conditions_or_prefixes():
    tts = speaker()
    entries = tts.prepare_script(SCRIPT)
    with pytest.raises(ConfigError, match=r"2 condition attributes.* 1 script"):
        tts.generate([entries], [tts.make_condition_attributes([])] * 2)
    with pytest.raises(ConfigError, match="2 prefixes"):
        tts.generate([entries], [], [mx.zeros((7, 4), mx.int32)] * 2)
    with pytest.raises(ConfigError, match=r"shape \[3, 4\].*\[7, frames\]"):
        tts.generate([entries], [], [mx.zeros((3, 4), mx.int32)])


def test_refuses_a_config_of_another_kind():
    tts = speaker()
    with pytest.raises(ConfigError, match="tts_config"):
        TTSModel(tts.lm, tts.mimi, tts.tokenizer, raw_config={"model_type": "moshi"})
