"""What programs do with text to speech: Kyutai's tts_mlx.py, tts_mlx_streaming.py, and
run_tts.py and run_helium.py of moshi_mlx 0.3.0.

Each call sequence runs on the small speaking model that PyTorch has spoken with.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import sentencepiece

from moshi_mlx import models
from moshi_mlx.models.generate import LmGen
from moshi_mlx.models.mimi import Mimi, MimiConfig
from moshi_mlx.models.tts import (
    DEFAULT_DSM_TTS_REPO,
    DEFAULT_DSM_TTS_VOICE_REPO,
    Entry,
    TTSModel,
    script_to_entries,
)
from moshi_mlx.modules.conditioner import ConditionTensor, dropout_all_conditions
from moshi_mlx.utils.loaders import hf_get
from moshi_mlx.utils.sampling import Sampler
from tests.family import writing
from tests.speech import EXPECTED, TTS, golden

SCRIPT = "single_between1"


def loaded(quantize: int | None = None, **settings: float) -> TTSModel:
    """As the scripts load it, file by file."""
    with open(hf_get(str(TTS / "config.json"))) as file:
        raw_config = json.load(file)
    weights = hf_get(str(TTS / raw_config.get("moshi_name", "model.safetensors")))
    lm_config = models.LmConfig.from_config_dict(raw_config)
    lm_config.transformer.max_seq_len = lm_config.transformer.context
    model = models.Lm(lm_config)
    model.set_dtype(mx.bfloat16)
    model.load_pytorch_weights(str(weights), lm_config, strict=True)
    if quantize is not None:
        for layer in model.transformer.layers:
            nn.quantize(layer.self_attn, bits=quantize, group_size=32)
        for part in model.depformer.slices:
            nn.quantize(
                part.transformer.layers[0].self_attn, bits=quantize, group_size=32
            )
    text_tokenizer = sentencepiece.SentencePieceProcessor(str(TTS / "tokenizer.model"))  # type: ignore[call-arg]
    codec = MimiConfig.from_config_dict(
        json.loads((TTS / "mimi_config.json").read_text()),
        num_codebooks=lm_config.generated_codebooks,
    )
    mimi = Mimi(codec)
    mimi.load_pytorch_weights(str(TTS / "mimi.safetensors"), strict=True)
    options = {
        "temp": 0.0,
        "cfg_coef": 1,
        "max_padding": 8,
        "initial_padding": 2,
        "final_padding": 4,
        "padding_bonus": 0,
        **settings,
    }
    return TTSModel(
        model,
        mimi,
        text_tokenizer,
        voice_repo=str(TTS),
        raw_config=raw_config,
        **options,  # type: ignore[arg-type]
    )


def test_the_default_repositories_are_kyutais():
    assert DEFAULT_DSM_TTS_REPO == "kyutai/tts-1.6b-en_fr"
    assert DEFAULT_DSM_TTS_VOICE_REPO == "kyutai/tts-voices"


def test_tts_mlx_says_a_text_and_decodes_it_frame_by_frame():
    tts, expected = loaded(cfg_coef=2.0), EXPECTED[SCRIPT]
    assert tts.valid_cfg_conditionings and tts.multi_speaker
    learnt, tts.cfg_coef = tts.cfg_coef, 1.0
    entries = [tts.prepare_script(expected["script"], padding_between=1)]
    voices = [tts.get_voice_path("voice_a.wav")]
    attributes = [tts.make_condition_attributes(voices, learnt)]
    result = tts.generate(
        entries, attributes, cfg_is_no_prefix=False, cfg_is_no_text=False
    )
    frames = mx.concat(result.frames, axis=-1)
    codes = np.array(golden(TTS / f"{SCRIPT}.safetensors")["codes"])
    np.testing.assert_array_equal(np.array(frames), codes[:, 1:, tts.delay_steps :])
    parts = [tts.mimi.decode_step(frame) for frame in result.frames]
    wav = mx.concat(parts, axis=-1)
    end_step = result.end_steps[0]
    assert end_step is not None and end_step == expected["end_step"]
    rate, per_second = tts.mimi.sample_rate, tts.mimi.frame_rate
    length = int(rate * (end_step + tts.final_padding) / per_second)
    pcm = np.array(mx.clip(wav[0, :, :length], -1, 1))
    assert pcm.shape[0] == 1 and np.abs(pcm).max() > 0.01


def test_tts_mlx_hears_frames_as_they_come():
    tts, pieces = loaded(), []

    def on_frame(frame: mx.array) -> None:
        if (frame == -1).any():
            return
        pcm = tts.mimi.decode_step(frame[:, :, None])  # one axis more than codes have
        pieces.append(np.array(mx.clip(pcm[0, 0], -1, 1)))

    entries = [tts.prepare_script(["hello there"])]
    voices = [tts.get_voice_path("voice_a.wav")]
    attributes = [tts.make_condition_attributes(voices, 2.0)]
    result = tts.generate(entries, attributes, on_frame=on_frame)
    tts.mimi.reset_all()
    again = [tts.mimi.decode_step(frame)[0, 0] for frame in result.frames]
    np.testing.assert_array_equal(np.concat(pieces, -1), np.clip(again, -1, 1).ravel())


@pytest.mark.parametrize("bits", [4, 8])
def test_layers_quantised_in_place_still_speak(bits: int):
    tts = loaded(quantize=bits)
    entries = tts.prepare_script(["hello there"])
    attributes = tts.make_condition_attributes([tts.get_voice_path("voice_a.wav")], 2.0)
    result = tts.generate([entries], [attributes])
    assert [word for word, _ in result.all_transcripts[0]] == ["hello", "there"]


class Streamer:
    """The streaming script's own loop: its hooks, its conditions, its stepping."""

    def __init__(self, tts: TTSModel, voices: list[Path]):
        self.tts, self.offset, self.frames = tts, 0, []
        self.state = tts.machine.new_state([])
        attributes = [tts.make_condition_attributes(voices, 2.0)]
        assert dropout_all_conditions(attributes)[0].text["cfg"] is None
        provider = tts.lm.condition_provider
        assert provider is not None
        parts = [
            provider.condition_tensor(name, value)
            for name, value in attributes[0].text.items()
        ]
        self.ct = ConditionTensor(parts[0].tensor + parts[1].tensor)
        self.cross = None
        for name, value in attributes[0].tensor.items():
            self.cross = provider.conditioners[name].condition(value)  # type: ignore[arg-type]
        self.gen = LmGen(
            tts.lm,
            max_steps=tts.max_gen_length,
            text_sampler=Sampler(temp=tts.temp),
            audio_sampler=Sampler(temp=tts.temp),
            cfg_coef=tts.cfg_coef,
            on_text_hook=self.on_text,
            on_audio_hook=self.on_audio,
        )

    def on_audio(self, audio_tokens: mx.array) -> None:
        for q in range(audio_tokens.shape[0]):  # 0.2.12's first axis: codebooks
            if self.offset < self.tts.lm.delays[q] + self.tts.delay_steps:
                audio_tokens[q] = self.tts.machine.token_ids.zero

    def on_text(self, text_tokens: mx.array) -> None:
        out = []
        for token in text_tokens.tolist():  # type: ignore[union-attr]
            assert isinstance(token, list)
            read, _ = self.tts.machine.process(self.offset, self.state, token)
            out.append(read)
        text_tokens[:] = mx.array(out, dtype=mx.int64)

    def step(self) -> None:
        missing = self.tts.lm.n_q - self.tts.lm.dep_q
        nothing = mx.ones((1, missing), dtype=mx.int64)
        nothing = nothing * self.tts.machine.token_ids.zero
        self.gen.step(nothing, ct=self.ct, cross_attention_src=self.cross)
        frame = self.gen.last_audio_tokens()
        self.offset += 1
        if frame is not None and not (frame == -1).any():
            pcm = self.tts.mimi.decode_step(frame[:, :, None])
            self.frames.append(np.array(mx.clip(pcm[0, 0], -1, 1)))

    def say(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.state.entries.append(entry)
            while len(self.state.entries) > self.tts.machine.second_stream_ahead:
                self.step()

    def finish(self) -> None:
        while self.state.entries:
            self.step()
        for _ in range(self.tts.delay_steps + max(self.tts.lm.delays) + 8):
            self.step()


def lines() -> Iterator[str]:
    yield "hello there how"
    yield "are you today"


def test_tts_mlx_streaming_speaks_while_lines_come_in():
    tts, first, heard = loaded(), True, []
    streamer = Streamer(tts, [tts.get_voice_path("voice_a.wav")])
    for line in lines():
        streamer.say(
            script_to_entries(
                tts.tokenizer,
                tts.machine.token_ids,
                tts.mimi.frame_rate,
                [line],
                multi_speaker=first and tts.multi_speaker,
                padding_between=1,
            )
        )
        first = False
        heard.append(len(streamer.frames))
    streamer.finish()
    said = [word for word, _ in streamer.state.transcript]
    assert said == ["hello", "there", "how", "are", "you", "today"]
    times = streamer.state.consumption_times
    gaps = [after - before for before, after in pairwise(times)]
    # A word comes when the model asks for it, not only when no more padding may come.
    assert min(gaps) < tts.machine.max_padding
    assert {frame.shape for frame in streamer.frames} == {(1920,)}
    assert heard[-1] > 0 and len(streamer.frames) > heard[-1]


def python(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *map(str, args)]
    root = Path(__file__).parents[2]
    return subprocess.run(command, capture_output=True, text=True, cwd=root)


def test_run_tts_takes_all_flags_of_0_3_0(tmp_path):
    request = {"turns": ["hello there"], "voices": ["voice_a.wav"], "id": "x"}
    (tmp_path / "in.txt").write_text(json.dumps(request) + "\n\n")
    flags = (
        *("--hf-repo", TTS, "--voice-repo", TTS, "--config", TTS / "config.json"),
        *("--tokenizer", TTS / "tokenizer.model"),
        *("--mimi-weights", TTS / "mimi.safetensors"),
        *("--moshi-weights", TTS / "model.safetensors"),
        *("--nq", 32, "--temp", 0, "--cfg-coef", 2.0, "--quantize", 4),
        *("--max-padding", 8, "--initial-padding", 2, "--final-padding", 4),
        *("--padding-bonus", 0.0, "--padding-between", 1),
        *("--out-folder", tmp_path / "out"),
    )
    done = python("-m", "moshi_mlx.run_tts", *flags, tmp_path / "in.txt")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["x.json", "x.safetensors", "x.wav"]
    about = json.loads((tmp_path / "out/x.json").read_text())
    wanted = "hf_repo voice_repo model_id cfg_coef temp max_padding initial_padding"
    wanted += " final_padding padding_between padding_bonus transcript turns voices"
    wanted += " consumption_times logged_text_tokens end_step start_step"
    assert set(about) == set(wanted.split())


def test_run_helium_takes_all_flags_of_0_3_0(tmp_path):
    folder = writing(tmp_path / "helium")
    flags = (
        *("--weights", folder / "model.safetensors", "--nsteps", 7, "--verbose"),
        *("--tokenizer", folder / "tokenizer.model", "--prompt", "hello there"),
        *("--quantize-bits", 8, "--quantize-group-size", 32),
        *("--save-quantized", tmp_path / "saved.safetensors"),
        *("--lm-config", folder / "config.json", "--hf-repo", folder),
    )
    done = python("-m", "moshi_mlx.run_helium", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hello there")
    assert "tokens, " in done.stderr
    assert (tmp_path / "saved.safetensors").is_file()


def test_run_tts_and_run_helium_say_the_same_every_time(tmp_path):
    request = {"turns": ["hello there"], "voices": ["voice_a.wav"], "id": "x"}
    (tmp_path / "in.txt").write_text(json.dumps(request) + "\n")
    spoken = []
    for out in ("a", "b", "c"):
        flags = ("--hf-repo", TTS, "--voice-repo", TTS, "--out-folder", tmp_path / out)
        more = ("--seed", 5) if out == "c" else ()
        done = python("-m", "moshi_mlx.run_tts", *flags, *more, tmp_path / "in.txt")
        assert done.returncode == 0, done.stderr
        spoken.append((tmp_path / out / "x.wav").read_bytes())
    assert spoken[0] == spoken[1] != spoken[2]
    folder = writing(tmp_path / "helium")
    texts = {
        python("-m", "moshi_mlx.run_helium", "--hf-repo", folder).stdout for _ in "ab"
    }
    assert len(texts) == 1 and texts != {""}


def test_run_heliums_own_loop_reads_the_prompt_causally(tmp_path):
    from moshi_mlx.checkpoint.build import load_lm
    from moshi_mlx.checkpoint.info import CheckpointInfo

    model = load_lm(CheckpointInfo.find(writing(tmp_path / "helium")))
    sampler = Sampler(temp=0)
    token, written = mx.array([[1, 40, 41, 42]]), []
    for _ in range(6):
        logits = model(token)
        token, _ = sampler(logits[:, -1])
        written.append(token.item())
        token = token[None]
    whole = mx.array([[1, 40, 41, 42, *written[:-1]]])
    for cache in model.transformer_cache:
        cache.reset()
    expected = np.array(model(whole))[0, 3:].argmax(axis=-1)
    assert written == expected.tolist()
