"""What programs do with the codec: Kyutai's mimi_mlx.py, csm-mlx, voice servers.

They build ``mimi_202407(32)``; here a small codec takes its place.
"""

import json
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moshi_mlx.models.mimi
from moshi_mlx.models import MimiConfig
from moshi_mlx.models.mimi import Mimi
from moshi_mlx.modules import ConvTranspose1d, EuclideanCodebook
from tests.tiny import DATA, assert_close

FOLDER = DATA / "mimi"
FRAME = 1920


def config(num_codebooks: int = 8) -> MimiConfig:
    data = json.loads((FOLDER / "mimi_config.json").read_text())
    return MimiConfig.from_config_dict(data, num_codebooks)


def file() -> str:
    return str(FOLDER / "mimi_released_names.safetensors")


@pytest.fixture(scope="module")
def golden() -> dict[str, mx.array]:
    arrays = mx.load(str(FOLDER / "io.safetensors"))
    assert isinstance(arrays, dict)
    return arrays


def test_mimi_mlx_converts_a_whole_file(golden):
    model = moshi_mlx.models.mimi.Mimi(config())
    model.load_pytorch_weights(file(), strict=True)
    codes = model.encode(golden["pcm"])
    pcm_out = model.decode(codes)
    assert mx.array_equal(codes, golden["codes"])
    assert_close(pcm_out, golden["decoded"], 1e-4)
    assert np.array(pcm_out[0]).shape == (1, codes.shape[-1] * FRAME)


def test_mimi_mlx_converts_frame_by_frame(golden):
    model = moshi_mlx.models.mimi.Mimi(config())
    model.load_pytorch_weights(file(), strict=True)
    pcm_in = golden["pcm"]
    pieces = []
    for start in range(0, pcm_in.shape[-1], FRAME):
        end = start + FRAME
        if end >= pcm_in.shape[-1]:
            break
        codes = model.encode_step(pcm_in[..., start:end])
        pieces.append(model.decode_step(codes))
    pcm_out = mx.concat(pieces, axis=-1)
    assert_close(pcm_out, golden["decoded"][..., : pcm_out.shape[-1]], 1e-4)


@pytest.mark.parametrize("num_codebooks", [1, 4, 8])
def test_csm_mlx_tokenizes_and_decodes(golden, num_codebooks):
    mimi = Mimi(config(num_codebooks))
    mimi.load_pytorch_weights(file())
    audio = golden["pcm"][0, 0]
    tokens = mimi.encode(mx.expand_dims(mx.expand_dims(audio, 0), 0))[0]
    assert mx.array_equal(tokens, golden["codes"][0, :num_codebooks])
    rows = mx.concat([tokens, mx.zeros((tokens.shape[0], 1))], axis=1)
    frame = mx.zeros((rows.shape[1], num_codebooks + 1), dtype=mx.int64)
    frame[:, :-1] = rows.swapaxes(0, 1)
    assert mx.array_equal(frame[:-1, :-1].T, tokens)

    # Its language model samples one uint32 row [1, K] after another.
    samples = [tokens[:, t][None].astype(mx.uint32) for t in range(tokens.shape[1])]
    sound = mimi.decode(mx.stack(samples).transpose(1, 2, 0)).squeeze(0).squeeze(0)
    assert sound.shape == (tokens.shape[1] * FRAME,)
    if num_codebooks == 8:
        assert_close(sound[None, None], golden["decoded"], 1e-4)


def test_a_server_keeps_two_codecs_and_resets_the_streaming_one(golden):
    whole, stream = Mimi(config()), Mimi(config())
    for mimi in (whole, stream):
        mimi.load_pytorch_weights(file())
        mimi.warmup()
    assert (whole.sample_rate, whole.frame_rate) == (24_000, 12.5)
    sound = mx.array(np.array(golden["pcm"])[:, :, : 3 * FRAME])
    first = stream.encode_step(sound)
    assert mx.array_equal(first, golden["codes"][..., :3])
    later = stream.encode_step(sound)
    assert not mx.array_equal(later, first)  # the stream went on
    for reset in (stream.reset_state, stream.reset_all):
        reset()
        assert mx.array_equal(stream.encode_step(sound), first)
    codes = mx.array(np.asarray(first).astype(np.uint32))
    assert_close(stream.decode_step(codes), golden["decoded"][..., : 3 * FRAME], 1e-4)
    assert mx.array_equal(whole.encode(golden["pcm"]), golden["codes"])


def test_weights_may_be_set_one_by_one(golden):
    # As Kyutai's own loader did, and copies of it in other programs still do.
    loaded, mimi = Mimi(config()), Mimi(config())
    loaded.load_pytorch_weights(file())
    mimi.warmup()  # what is computed from weights is there when others come
    told = []

    def update(module: nn.Module, name: str, _: object) -> bool:
        if isinstance(module, EuclideanCodebook) and name == "initialized":
            told.append(module.update_in_place())
        if isinstance(module, ConvTranspose1d) and name == "weight":
            told.append(module.update_in_place())
        return True

    weights: Any = tree_flatten(loaded.parameters())
    mimi.load_weights(weights, strict=False)
    mimi.filter_and_map(update)
    assert len(told) > 8
    assert mx.array_equal(mimi.encode(golden["pcm"]), golden["codes"])
    assert_close(mimi.decode(golden["codes"]), golden["decoded"], 1e-4)


def test_weights_that_are_not_the_codecs_are_let_through_when_not_strict(
    golden, tmp_path
):
    weights = mx.load(file())
    assert isinstance(weights, dict)
    weights["lm.something_else"] = mx.zeros(3)
    path = str(tmp_path / "more.safetensors")
    mx.save_safetensors(path, weights)
    mimi = Mimi(config())
    _ = mimi.load_pytorch_weights(path, strict=False)
    assert mx.array_equal(mimi.encode(golden["pcm"]), golden["codes"])
