"""What programs do with Moshi: Kyutai's local_mlx.py, test_mlx.py, run_inference.py,
quantize_mlx.py.

Each call sequence runs on a small model whose every token PyTorch has computed. The
codec's tokens are given as rustymimi gives them: uint32 NumPy arrays.
"""

import json
from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

import moshi_mlx
from moshi_mlx import models, utils
from tests.golden import golden
from tests.tiny import BASE, DATA, GREEDY, pytorch_weights
from tests.tiny import load as load_tiny

MOSHI, HIBIKI = "lm_duplex", "lm_hibiki"
STEPS = 30


def config(name: str) -> models.LmConfig:
    data = json.loads((DATA / name / "config.json").read_text())
    return moshi_mlx.models.LmConfig.from_config_dict(data)


@pytest.fixture(scope="module")
def moshi_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The golden Moshi with MLX names, as in Kyutai's -mlx- repositories."""
    path = tmp_path_factory.mktemp("moshi") / "model.safetensors"
    golden(MOSHI).lm.save_weights(str(path))
    return str(path)


@pytest.fixture
def model(moshi_file: str) -> models.Lm:
    lm = moshi_mlx.models.Lm(config(MOSHI))
    lm.set_dtype(mx.bfloat16)  # the file's tensors, float32 here, replace all
    lm.load_weights(moshi_file, strict=True)
    lm.warmup()
    return lm


def generator(model: models.Lm) -> models.LmGen:
    return moshi_mlx.models.LmGen(
        model=model,
        max_steps=5,  # it limited 0.3.0; nothing is limited now
        text_sampler=moshi_mlx.utils.Sampler(temp=0),
        audio_sampler=moshi_mlx.utils.Sampler(temp=0),
        check=False,
    )


def heard(name: str) -> Iterator[np.ndarray]:
    """The user's frames as ``rustymimi.Tokenizer.encode_step`` returns them."""
    codes = np.array(golden(name).io["user_codes"]).astype(np.uint32)
    extra = np.full((1, 3, 1), 7, np.uint32)  # a codec may give more codebooks
    for t in range(STEPS):
        yield np.concatenate([codes[..., t : t + 1], extra], axis=1)


def assert_golden(name: str, text: list[int], audio: list[np.ndarray]) -> None:
    io = golden(name).io
    assert text == np.array(io["step_text_tokens"])[0, :STEPS].tolist()
    wanted = np.array(io["step_output"])[0, 1:, :STEPS]
    wanted = wanted[:, (wanted != -2).all(axis=0)]
    assert len(audio) == wanted.shape[1]
    assert np.array_equal(np.concatenate(audio).T, wanted)


def test_local_mlx_talks_through_a_stream_tokenizer(model):
    gen = generator(model)
    text, audio = [], []
    for encoded in heard(MOSHI):
        data = encoded[0]  # StreamTokenizer.get_encoded: [K, 1]
        data = mx.array(data).transpose(1, 0)[:, :4]
        text_token = gen.step(data)
        text.append(text_token[0].item())
        audio_tokens = gen.last_audio_tokens()
        if audio_tokens is not None:
            audio.append(np.array(audio_tokens).astype(np.uint32))
    assert_golden(MOSHI, text, audio)


def test_test_mlx_gives_its_frames_with_a_time_axis(model):
    gen = generator(model)
    text, audio = [], []
    for encoded in heard(MOSHI):
        tokens = mx.array(encoded).transpose(0, 2, 1)[:, :, :4]
        text_token = gen.step(tokens)  # [1, 1, 4]
        text.append(text_token[0].item())
        audio_tokens = gen.last_audio_tokens()
        if audio_tokens is not None:
            frame = np.array(audio_tokens[:, :, None]).astype(np.uint32)
            audio.append(frame[:, :, 0])
    assert_golden(MOSHI, text, audio)


@pytest.mark.parametrize("cfg_coef", [1.0, 3.0])
def test_run_inference_translates_under_a_condition(cfg_coef):
    lm_config = config(HIBIKI)
    model = models.Lm(lm_config)
    model.set_dtype(mx.bfloat16)
    file = str(DATA / HIBIKI / "model.safetensors")
    model.load_pytorch_weights(file, lm_config, strict=True)
    provider = model.condition_provider
    assert provider is not None
    ct = provider.condition_tensor("description", "very_good")
    model.warmup(ct)
    gen = models.LmGen(
        model=model,
        max_steps=STEPS,
        text_sampler=utils.Sampler(top_k=25, temp=0),
        audio_sampler=utils.Sampler(top_k=250, temp=0),
        cfg_coef=cfg_coef,
        check=False,
    )
    audio = []
    for encoded in heard(HIBIKI):
        tokens = mx.array(encoded).transpose(0, 2, 1)[:, :, : lm_config.other_codebooks]
        text_token = gen.step(tokens[0], ct)
        assert text_token[0].item() in range(lm_config.text_out_vocab_size)
        audio_tokens = gen.last_audio_tokens()
        if audio_tokens is not None:
            audio.append(np.array(audio_tokens))
    io = golden(HIBIKI).io
    wanted = io["step_output"] if cfg_coef == 1 else io["cfg3_output"]
    wanted = np.array(wanted)[0, 1:, :STEPS]
    wanted = wanted[:, (wanted != -2).all(axis=0)]
    assert np.array_equal(np.concatenate(audio).T, wanted)


@pytest.mark.parametrize("bits", [4, 8])
def test_quantize_mlx_writes_a_file_that_loads_quantised(bits, tmp_path):
    original, out = str(tmp_path / "whole.safetensors"), str(tmp_path / "q.safetensors")
    load_tiny(BASE, pytorch_weights(BASE)).save_weights(original)

    lm_config = moshi_mlx.models.LmConfig.from_config_dict(BASE)
    model = moshi_mlx.models.Lm(lm_config)
    model.set_dtype(mx.bfloat16)
    model.load_weights(original, strict=True)
    nn.quantize(model, bits=bits, group_size=32)
    model.save_weights(out)

    # ... which local.py reads back with -q.
    again = moshi_mlx.models.Lm(lm_config)
    again.set_dtype(mx.bfloat16)
    nn.quantize(again, bits=bits, group_size=32)
    again.load_weights(out, strict=True)
    saved = mx.load(out)
    assert isinstance(saved, dict)
    assert saved["transformer.layers.0.self_attn.in_proj.scales"].shape == (96, 1)
    assert saved["text_emb.weight"].dtype == mx.uint32
    tokens = mx.array([[1, 2, 3]])
    first, second = (models.LmGen(m, 1, GREEDY, GREEDY) for m in (model, again))
    for _ in range(5):
        assert mx.array_equal(first.step(tokens)[0], second.step(tokens)[0])
    # A missing token is no input, in a quantised table too.
    assert mx.array_equal(again.text_emb(mx.array([[-1]])), mx.zeros((1, 1, 32)))
