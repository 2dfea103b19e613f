"""Headers of safetensors files are checked before MLX maps a byte."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.errors import CheckpointError
from moshi_mlx.utils import tensor_files
from moshi_mlx.utils.tensor_files import check_numbers, read_header, read_tensors


def written(path: Path, entries: dict[str, Any], data: bytes = bytes(64)) -> Path:
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def entry(begin: Any, end: Any, shape: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "entries, words",
    [
        ({"a": entry(0, 16, [4]), "b": entry(12, 28, [4])}, "'b' overlaps another"),
        ({"a": entry(0, 16, [4]), "b": entry(0, 16, [4])}, "overlaps another"),
        ({"a": entry(0, 16, [5])}, "another size than its shape"),
        ({"a": entry(0, 16, [2**31, 2**31])}, "another size than its shape"),
        ({"a": entry(16, 0, [4])}, "makes no sense"),
        ({"a": entry(-16, 0, [4])}, "not a list of sizes"),
        ({"a": entry(0, 16, [-4])}, "not a list of sizes"),
        ({"a": entry(0, 16, [True, 4])}, "not a list of sizes"),
        ({"a": entry(0, 16, [2.0, 2])}, "not a list of sizes"),
        ({"a": entry(0, 16, "4")}, "not a list of sizes"),
        ({"a": entry(0, 4, [1] * 9)}, "not a list of sizes"),
        ({"a": entry(0, 2**60, [2**58])}, "not a list of sizes"),
        ({"a": entry(0, 16, [4], dtype=["F32"])}, "makes no sense"),
        ({"a": {"dtype": "F32", "shape": [1]}}, "without 'data_offsets'"),
        ({"a": 1}, "no such form"),
    ],
)
def test_headers_that_make_no_sense_are_damaged(tmp_path, entries, words):
    path = written(tmp_path / "w.safetensors", entries)
    for read in (read_header, read_tensors):
        with pytest.raises(CheckpointError, match=f"damaged header .*{words}"):
            read(path)


def test_a_header_of_very_many_tensors_is_refused_before_it_is_read(
    tmp_path, monkeypatch
):
    path = written(tmp_path / "w.safetensors", {n: entry(0, 0, [0]) for n in "abc"})
    assert len(read_tensors(path)) == 3
    monkeypatch.setattr(tensor_files, "MOST_TENSORS", 2)
    with pytest.raises(CheckpointError, match="it names 3 tensors"):
        read_tensors(path)


WIDTHS = {
    8: ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"),
    16: ("U16", "I16", "F16", "BF16"),
    32: ("U32", "I32", "F32"),
    64: ("U64", "I64", "F64", "C64"),
}


@pytest.mark.parametrize(
    "dtype, bits", [(name, bits) for bits, names in WIDTHS.items() for name in names]
)
def test_the_size_of_every_type_is_known(tmp_path, dtype, bits):
    path = written(tmp_path / "w.safetensors", {"a": entry(0, bits, [2, 4], dtype)})
    assert read_header(path)["a"].nbytes == bits
    path = written(path, {"n" * 99: entry(0, bits - 1, [2, 4], dtype)})
    with pytest.raises(CheckpointError, match=r"tensor 'n{80}' has another size"):
        read_header(path)


def test_eight_axes_are_the_most(tmp_path):
    path = tmp_path / "w.safetensors"
    assert read_header(written(path, {"a": entry(0, 4, [1] * 8)}))["a"].nbytes == 4


def test_a_file_that_lacks_a_byte_is_cut_short(tmp_path):
    path = written(tmp_path / "w.safetensors", {"a": entry(0, 2_560_000, [640_000])})
    path.write_bytes(path.read_bytes()[:-64] + bytes(2_559_999))
    with pytest.raises(CheckpointError, match=r"cut short, 2\.6 of 2\.6 MB are there"):
        read_header(path)
    path.write_bytes(path.read_bytes()[:900_000])
    with pytest.raises(CheckpointError, match=r"cut short, 0\.9 of 2\.6 MB are there"):
        read_header(path)


def test_a_file_that_is_only_a_header_is_damaged(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((1).to_bytes(8, "little") + b"{")
    with pytest.raises(CheckpointError, match="damaged header"):
        read_header(path)


def test_a_name_that_stands_twice_is_damage(tmp_path):
    one = json.dumps(entry(0, 16, [4]))
    header = f'{{"a": {one}, "a": {one}}}'.encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(CheckpointError, match="names 'a' twice"):
        read_header(path)


def test_a_header_longer_than_any_is_not_read(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + b"{" + bytes(100))
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        read_header(path)


def test_tensors_without_elements_and_gaps_are_allowed(tmp_path):
    entries = {"a": entry(4, 12, [2]), "b": entry(8, 8, [0, 3])}
    found = read_header(written(tmp_path / "w.safetensors", entries))
    assert found["b"].nbytes == 0 and found["a"].shape == (2,)


def test_numbers_of_eight_bits_are_numbers_not_bytes(tmp_path):
    values = [1.0, -0.5, 448.0, 0.0]
    stored = np.array(mx.to_fp8(mx.array(values))).tobytes()
    entries = {"a": entry(0, 4, [4], "F8_E4M3")}
    weights = read_tensors(written(tmp_path / "w.safetensors", entries, stored))
    assert weights["a"].dtype == mx.bfloat16
    assert weights["a"].tolist() == values
    entries = {"a": entry(0, 4, [4], "F8_E5M2")}
    with pytest.raises(CheckpointError, match="MLX has no type 'F8_E5M2'"):
        read_tensors(written(tmp_path / "v.safetensors", entries))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_a_single_nan_is_found_and_named(dtype):
    good = mx.random.normal((300, 70)).astype(dtype)
    bad = mx.concatenate([good, mx.full((1, 70), float("nan"), dtype)])
    check_numbers([("x.weight", good), ("n", mx.arange(3)), ("e", mx.zeros(0))], "it")
    with pytest.raises(CheckpointError, match=r"it: y\.weight holds .*NaN"):
        check_numbers([("x.weight", good), ("y.weight", bad)], "it")
