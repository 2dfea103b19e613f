"""Keys and values in 8 bits: what the demo predicts with them, and what they weigh."""

import json
import shutil
from functools import cache
from pathlib import Path

import mlx.core as mx
import pytest

import moshi_mlx
from moshi_mlx.audio.files import write_wav
from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.cost import cache_bytes
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quality import Streams, compare, predict
from moshi_mlx.cli.main import main
from moshi_mlx.errors import ConfigError
from moshi_mlx.models import Lm
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.generate import LmGen
from moshi_mlx.models.lm import LmOutput
from moshi_mlx.modules.quantized_kv import QuantizedKVCache
from tests.family import run, with_codec, writing
from tests.listening import CONFIG, noise
from tests.questions import GOLDEN, PYTORCH, QUESTIONS
from tests.speech import TTS, VOICES
from tests.tiny import BASE


@cache
def conversation() -> tuple[Streams, list[LmOutput]]:
    """All questions with PyTorch's answers in a row, several windows of 125 steps; and
    what its checkpoint predicts in them."""
    parts = []
    for question in GOLDEN:
        said, heard = question.tokens["output"], question.tokens["user_codes"]
        parts.append(mx.concatenate([said, heard[:, :, : said.shape[2]]], axis=1))
    long = Streams(mx.concatenate(parts, axis=2))
    info = CheckpointInfo.find(PYTORCH)
    assert long.codes.shape[2] > 3 * info.lm_config.transformer.context
    return long, predict(load_lm(info), [long])


@pytest.mark.parametrize("bits, text, audio", [(8, 1e-5, 1e-6), (4, 1e-3, 1e-4)])
def test_a_trained_model_predicts_nearly_the_same_past_its_window(bits, text, audio):
    long, full = conversation()
    packed = predict(load_lm(CheckpointInfo.find(PYTORCH, kv_bits=bits)), [long])
    quality = compare(full, packed)
    assert 0 < quality.text.kl < text
    assert quality.audio_kl is not None and 0 < quality.audio_kl < audio
    assert quality.audio_top1 is not None
    assert min(quality.text.top1, quality.audio_top1) > 0.99


def test_a_conversation_keeps_what_was_asked_for_and_its_answer():
    moshi = moshi_mlx.load("demo", kv_bits=8)
    session = moshi.session(seed=0, temp=0, temp_text=0)
    ring = session.gen.cache[0].self_attn
    assert isinstance(ring, QuantizedKVCache) and ring.bits == 8
    question = QUESTIONS[0]
    text = "".join(
        session.step(frame).text for frame in moshi_mlx.audio.frames(question.path)
    )
    assert text.strip() and question.answer.startswith(text.strip())


def commands(folder: Path, wide: bool) -> dict[str, list[object]]:
    """What listens, speaks and writes, with small models whose heads 32 divides, or
    does not."""
    stt = {**CONFIG, "model_type": "stt", "stt_config": {"audio_delay_seconds": 0.5}}
    stt["dim"] = 32 if wide else CONFIG["dim"]
    lm = Lm(LmConfig.from_config_dict(stt))
    lm.save_weights(str(with_codec(folder / "stt", stt) / "model.safetensors"))
    shutil.copytree(TTS, folder / "tts")
    writing(folder / "helium")
    for name in ("tts", "helium"):
        path = folder / name / "config.json"
        config = json.loads(path.read_text())
        if wide:  # two heads of 16 are read as one
            one = ("num_heads", "num_attention_heads", "num_key_value_heads")
            config |= {key: 1 for key in one if key in config}
        path.write_text(json.dumps(config))
    write_wav(folder / "a.wav", noise(1.0))
    speech = ("--voice-repo", TTS, "--voice", "voice_a.wav", "-o", folder / "b.wav")
    return {
        "stt": ["transcribe", folder / "a.wav", "--model", folder / "stt"],
        "tts": ["speak", "hello there", "--model", folder / "tts", *speech],
        "helium": ["complete", "hello", "--model", folder / "helium", "--steps", 4],
    }


@pytest.mark.parametrize("kind", ["stt", "tts", "helium"])
def test_who_listens_speaks_or_writes_can_be_asked_too(kind, tmp_path, capsys):
    assert run(*commands(tmp_path / "wide", True)[kind], "--kv-bits", 8, "--json") == 0
    assert json.loads(capsys.readouterr().out)
    assert run(*commands(tmp_path / "narrow", False)[kind], "--kv-bits", 8) == 1
    assert "cannot be kept in 8 bits" in capsys.readouterr().err


def test_the_family_keeps_what_it_is_asked_to(tmp_path):
    commands(tmp_path, wide=True)
    stt = moshi_mlx.load_stt(tmp_path / "stt", kv_bits=4)
    tts = moshi_mlx.load_tts(tmp_path / "tts", kv_bits=4)
    for model, options in ((stt, ()), (tts, (VOICES["a"],))):
        model.session(*options)
        ring = model.lm.transformer_cache[0].self_attn
        assert isinstance(ring, QuantizedKVCache) and ring.bits == 4


def test_what_long_conversations_weigh_is_told(capsys):
    assert main(["info", "demo", "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory_bytes"]
    assert memory["conversation_kv_bits_8"] / memory["conversation"] == 0.53125
    assert main(["info", "demo", "--kv-bits", "8", "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)["memory_bytes"]
    assert packed["conversation"] == memory["conversation_kv_bits_8"]
    assert main(["info", "demo"]) == 0
    assert "with --kv-bits 8" in capsys.readouterr().out.replace("\n", " ")


def test_what_is_told_is_what_is_held():
    lm = load_lm(CheckpointInfo.find("demo", kv_bits=8))
    gen = LmGen(lm)
    for _ in range(130):
        gen.step(
            mx.zeros((1, 8), mx.int32), own_audio_tokens=mx.zeros((1, 8), mx.int32)
        )
    held = sum(layer.self_attn.nbytes for layer in gen.cache)
    dtype = lm.out_norm["weight"].dtype
    assert held == cache_bytes(lm.cfg.transformer, dtype)
    assert LmGen(lm, reserve=True).nbytes == held


def test_heads_that_are_too_narrow_are_refused(capsys):
    cfg = LmConfig.from_config_dict(BASE)
    with pytest.raises(ConfigError, match="heads 8 wide"):
        cfg.with_kv_bits(8)
    assert cfg.with_kv_bits(None) is cfg
    for command in (["info", "demo"], ["bench", "--model", "demo"]):
        assert main([*command, "--kv-bits", "3"]) == 1
        assert "cannot be kept in 3 bits: use 4 or 8" in capsys.readouterr().err
