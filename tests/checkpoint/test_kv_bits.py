"""Keys and values in 8 bits: what the demo predicts with them, and what they weigh."""

import json

import mlx.core as mx
import pytest

import moshi_mlx
from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.cost import cache_bytes
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quality import Streams, compare, predict
from moshi_mlx.cli.main import main
from moshi_mlx.errors import ConfigError
from moshi_mlx.models.config import LmConfig
from moshi_mlx.models.generate import LmGen
from moshi_mlx.modules.quantized_kv import QuantizedKVCache
from tests.questions import QUESTIONS
from tests.tiny import BASE


def conversation() -> Streams:
    """All questions with PyTorch's answers in a row: several windows of 125 steps."""
    parts = []
    for question in QUESTIONS:
        said, heard = question.tokens["output"], question.tokens["user_codes"]
        parts.append(mx.concatenate([said, heard[:, :, : said.shape[2]]], axis=1))
    return Streams(mx.concatenate(parts, axis=2))


@pytest.mark.parametrize("bits, text, audio", [(8, 1e-5, 1e-6), (4, 1e-3, 1e-4)])
def test_the_demo_predicts_nearly_the_same_past_its_window(bits, text, audio):
    long = conversation()
    info = CheckpointInfo.find("demo")
    context = info.lm_config.transformer.context
    assert long.codes.shape[2] > 3 * context
    full = predict(load_lm(info), [long])
    packed = predict(load_lm(CheckpointInfo.find("demo", kv_bits=bits)), [long])
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


def test_heads_that_are_too_narrow_are_refused(capsys):
    cfg = LmConfig.from_config_dict(BASE)
    with pytest.raises(ConfigError, match="heads 8 wide"):
        cfg.with_kv_bits(8)
    assert cfg.with_kv_bits(None) is cfg
    for command in (["info", "demo"], ["bench", "--model", "demo"]):
        assert main([*command, "--kv-bits", "3"]) == 1
        assert "cannot be kept in 3 bits: use 4 or 8" in capsys.readouterr().err
