"""Candle's quantised Moshi in GGUF: the weights exact, every token the reference's."""

import json
import struct
from functools import cache
from pathlib import Path

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.errors import CheckpointError
from moshi_mlx.models.lm import Lm
from moshi_mlx.utils.gguf import gguf_header, read_gguf
from tests.checkpoint.folders import load, write
from tests.tiny import DATA, assert_close, greedy

GGUF = DATA / "gguf"
FILES = ["model.q8.gguf", "model.q8.f32_embeddings.gguf"]
Q4 = "model.q4.gguf"  # see scripts/make_gguf_assets.py


def golden(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    return arrays


def dequantised(arrays: dict[str, mx.array], name: str) -> mx.array:
    """A tensor of a GGUF file as numbers, by its name in the file."""
    stem = name.removesuffix("weight").rstrip("._")
    if f"{stem}.scales" not in arrays:
        return arrays[name]
    w, scales = arrays[f"{stem}.weight"], arrays[f"{stem}.scales"]
    bits = w.shape[-1] // scales.shape[-1]  # 32 weights to a group
    return mx.dequantize(w, scales, arrays[f"{stem}.biases"], 32, bits)


@cache
def model(file: str) -> Lm:
    return load(GGUF / file)


@pytest.mark.parametrize(
    "file, values",
    [
        (FILES[0], "dequantised.safetensors"),
        (FILES[1], "dequantised.safetensors"),
        (Q4, "dequantised.q4.safetensors"),  # by ggml's code; Q4_1, F16, BF16 as well
    ],
)
def test_every_number_is_exactly_the_file_s(file, values):
    arrays, wanted = read_gguf(GGUF / file), golden(GGUF / values)
    quantised = [name for name in wanted if f"{name[:-7]}.scales" in arrays]
    assert len(quantised) >= 8
    for name, w in wanted.items():
        assert mx.array_equal(dequantised(arrays, name).astype(w.dtype), w), name


def test_a_model_in_q4_computes_with_exactly_those_numbers(tmp_path):
    arrays = read_gguf(GGUF / Q4)
    names = list(gguf_header(GGUF / Q4))
    plain = {n: dequantised(arrays, n).astype(mx.float32) for n in names}
    config = json.loads((GGUF / "config.json").read_text())
    reference = load(write(tmp_path, plain, config))
    codes = golden(GGUF / "io.safetensors")["forced_codes"]
    found, wanted = (lm.teacher_forced(codes) for lm in (model(Q4), reference))
    assert_close(found.text_logits, wanted.text_logits, 1e-5)
    assert found.audio_logits is not None and wanted.audio_logits is not None
    assert_close(found.audio_logits, wanted.audio_logits, 1e-5)


@pytest.mark.parametrize("file", FILES)
def test_every_token_and_text_logit_is_the_reference_s(file):
    io, lm = golden(GGUF / "io.safetensors"), model(file)
    logits: list[mx.array] = []
    said: list[mx.array] = []
    gen = greedy(
        lm,
        on_text_logits_hook=lambda x: logits.append(mx.array(x)),
        on_audio_hook=lambda x: said.append(mx.array(x)),
    )
    for t in range(io["user_codes"].shape[2]):
        text, _ = gen.step(io["user_codes"][:, :, t])
        assert text.item() == io["step_text_tokens"][0, t].item()
    assert_close(mx.concatenate(logits, axis=1), io["step_text_logits"], 1e-4)
    assert mx.array_equal(mx.concatenate(said, axis=2), io["step_audio_tokens"])


def test_a_whole_given_sequence_has_the_reference_s_logits():
    io = golden(GGUF / "io.safetensors")
    out = model(FILES[0]).teacher_forced(io["forced_codes"])
    assert out.audio_logits is not None
    assert_close(out.text_logits, io["forced_text_logits"], 1e-4)
    assert_close(out.audio_logits, io["forced_audio_logits"], 1e-4)


def test_a_folder_finds_its_gguf_file():
    assert CheckpointInfo.find(GGUF).moshi_weights == [GGUF / FILES[0]]


def empty(folder: Path, width: int) -> Path:
    """A file with a quantised matrix of no rows."""
    name = b"emb.weight"
    entry = struct.pack("<Q", len(name)) + name
    entry += struct.pack("<IQQIQ", 2, width, 0, 8, 0)
    path = folder / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry + bytes(32))
    return path


def test_an_axis_that_mlx_cannot_count_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"shape .0, 2147483648. in Q8_0"):
        read_gguf(empty(tmp_path, 2**31))


def test_a_quantised_tensor_without_rows_is_read(tmp_path):
    path = empty(tmp_path, 64)
    arrays = read_gguf(path)
    assert {k: w.shape for k, w in arrays.items()} == {
        **{"emb.weight": (0, 16), "emb.scales": (0, 2), "emb.biases": (0, 2)}
    }
