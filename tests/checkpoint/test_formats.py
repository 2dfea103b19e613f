"""Files are told apart by their content; what is no checkpoint is named."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint.formats import format_of, widen_int8
from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils.tensor_files import read_header, read_tensors
from tests.tiny import BASE, assert_close, pytorch_shapes


def saved(path: Path) -> Path:
    weights = {"a": mx.arange(1000.0), "b": mx.ones((3, 4), mx.bfloat16)}
    mx.save_safetensors(str(path), weights)
    return path


def test_the_header_tells_names_types_and_shapes(tmp_path):
    header = read_header(saved(tmp_path / "w.safetensors"))
    assert (header["a"].dtype, header["a"].shape, header["a"].nbytes) == (
        "F32",
        (1000,),
        4000,
    )
    assert (header["b"].dtype, header["b"].shape) == ("BF16", (3, 4))


def test_tensors_come_whatever_the_file_is_called(tmp_path):
    path = saved(tmp_path / "w.safetensors").rename(tmp_path / "weights.bin")
    assert mx.array_equal(read_tensors(path)["a"], mx.arange(1000.0))


@pytest.mark.parametrize("kept", [4, 40, 200, 3000])
def test_a_file_cut_short_is_refused(tmp_path, kept):
    path = saved(tmp_path / "w.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cut short|not a safetensors file"):
        read_tensors(path)


def test_how_much_of_a_cut_file_is_there_is_said(tmp_path):
    path = tmp_path / "w.safetensors"
    mx.save_safetensors(str(path), {"a": mx.zeros(500_000)})
    path.write_bytes(path.read_bytes()[:1_200_000])
    with pytest.raises(CheckpointError, match=r"1\.2 of 2\.0 MB are there: download"):
        read_tensors(path)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is empty"),
        (b"GGUF\x03\x00\x00\x00 and more of it", "is cut short|damaged GGUF header"),
        (b"PK\x03\x04 a torch.save", "is a PyTorch pickle"),
        (b"\x80\x02} a pickle", "is a Python pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"RIFF....WAVEfmt a sound, not weights", "is not a safetensors file"),
        (b"\x09\0\0\0\0\0\0\0{not json", "damaged header"),
        (b"\x0e\0\0\0\0\0\0\0" + b'{"a": {"b":1}}', "damaged header"),
    ],
)
def test_foreign_files_are_named(tmp_path, content, sentence):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no weights file .*nothing"):
        read_tensors(tmp_path / "nothing")


def test_types_that_mlx_lacks_are_named(tmp_path):
    path = tmp_path / "w.safetensors"
    header = b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_tensors(path)


@pytest.mark.parametrize(
    "names, expected",
    [
        (pytorch_shapes(BASE), "pytorch"),
        (pytorch_shapes({**BASE, "norm": "layer_norm"}), "pytorch"),
        (["emb.0.weight", "depformer.0.linear_in.weight"], "candle"),
        (["text_emb.weight", "audio_embs.0.weight", "out_norm.weight"], "mlx"),
        (["text_emb.weight", "transformer.layers.0.self_attn.in_proj.weight"], "mlx"),
        (["model.embed_tokens.weight", "model.norm.weight"], "transformers"),
        (
            ["decoder.model.embed_tokens.weight", "depth_decoder.lm_heads.weight"],
            "transformers, Moshi",
        ),
        (
            ["model.embed_tokens.embed_tokens.weight", "codec_model.x.weight"],
            "transformers, speech to text",
        ),
    ],
)
def test_formats_are_told_by_their_names(names, expected):
    assert format_of(names, "x").name == expected


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("encoder.model.0.conv.conv.weight", "a Mimi codec, not a language model"),
        ("encoder.init_conv1d.conv.weight", "a Mimi codec, not a language model"),
        (
            "quantizer.semantic_residual_vector_quantizer.input_proj.weight",
            "a Mimi codec, .*: use it with moshi-mlx codec",
        ),
        ("lm_head.weight", r"no Moshi language model but lm_head\.weight"),
    ],
)
def test_other_models_are_named(name, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        format_of([name], "the weights of x")


def test_int8_matrices_come_back_within_half_a_step():
    """Rounded as bitsandbytes does: by row, the largest value becomes 127."""
    rng = np.random.default_rng(0)
    original = rng.standard_normal((6, 32)).astype(np.float32)
    largest = np.abs(original).max(axis=1)
    rounded = np.round(original * 127 / largest[:, None]).astype(np.int8)
    weights = {
        "m.weight": mx.array(rounded),
        "m.weight_scb": mx.array(largest),
        "norm.alpha": mx.ones(3),
    }
    found = widen_int8(weights, mx.float32)
    assert found.keys() == {"m.weight", "norm.alpha"}
    error = np.abs(np.array(found["m.weight"]) - original)
    assert (error <= largest[:, None] / 127 / 2 + 1e-6).all()
    assert_close(found["m.weight"], mx.array(original), 0.01)
    assert widen_int8(weights, mx.bfloat16)["m.weight"].dtype == mx.bfloat16
