"""Files of ``torch.save``: tensors are read, and nothing else that pickles may do."""

import io
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.checkpoint import torch_file
from moshi_mlx.checkpoint.torch_file import read_torch
from moshi_mlx.errors import CheckpointError
from tests.tiny import DATA

VOICES = DATA / "personaplex"


def packed(folder: Path, pickled: bytes, **more: bytes) -> Path:
    path = folder / "voice.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("voice/data.pkl", pickled)
        for name, data in more.items():
            archive.writestr(f"voice/data/{name.removeprefix('_')}", data)
    return path


def test_tensors_are_those_that_safetensors_hold():
    wanted: Any = mx.load(str(VOICES / "voice.safetensors"))
    found = read_torch(VOICES / "voice.pt")
    assert found.keys() == wanted.keys() == {"embeddings", "cache"}
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert mx.array_equal(found[name], tensor)
    rounded = read_torch(VOICES / "voice_bf16.pt")["embeddings"]
    assert mx.array_equal(rounded, wanted["embeddings"].astype(mx.bfloat16))


def test_strides_and_offsets_are_followed(tmp_path):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    rebuild += b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ"
    view = b"K\x01K\x03K\x02\x86K\x01K\x03\x86\x89ccollections\nOrderedDict\n)RtR."
    numbers = np.arange(8, dtype=np.float32).tobytes()
    found = read_torch(packed(tmp_path, b"\x80\x02" + rebuild + view, _0=numbers))
    assert found.tolist() == [[1, 4], [2, 5], [3, 6]]
    negative = b"K\x01J\xff\xff\xff\xffK\x02"
    for wrong in (b"K\x09K\x03K\x02", b"K\x01K\x0aK\x02", negative):
        pickled = b"\x80\x02" + rebuild + wrong + view[6:]
        path = packed(tmp_path, pickled, _0=numbers)
        with pytest.raises(CheckpointError, match="a tensor"):
            read_torch(path)


def test_a_newer_zip_and_a_name_of_two_lines_get_one_sentence(tmp_path):
    data = bytearray(packed(tmp_path, pickle.dumps([], 2)).read_bytes())
    data[data.rindex(b"PK\x01\x02") + 6] = 148  # the version that is needed to read it
    with pytest.raises(CheckpointError, match=r"zip file version 14\.8"):
        read_torch("voice.pt", bytes(data))
    one = b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    one += b"X\x01\x00\x00\x00\nX\x03\x00\x00\x00cpuK\x08tQ."
    with pytest.raises(CheckpointError) as refused:
        read_torch(packed(tmp_path, one))
    assert "\n" not in str(refused.value)


def test_a_stride_that_no_machine_can_count_is_refused(tmp_path):
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    rebuild += b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ"
    huge = b"\x8a\x09" + (2**70).to_bytes(9, "little")
    view = b"K\x00K\x01\x85" + huge + b"\x85\x89ccollections\nOrderedDict\n)RtR."
    numbers = np.arange(8, dtype=np.float32).tobytes()
    with pytest.raises(CheckpointError, match="not a file of tensors"):
        read_torch(packed(tmp_path, b"\x80\x02" + rebuild + view, _0=numbers))


def test_members_that_lie_over_each_other_do_not_fill_the_memory(tmp_path, monkeypatch):
    path = packed(tmp_path, pickle.dumps([], 2), _0=bytes(1000))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")  # the last member's entry: its sizes
    data[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(CheckpointError, match="its members have more than 64 MiB"):
        read_torch("voice.pt", bytes(data))


def test_tensors_that_share_their_numbers_do_not_fill_the_memory(tmp_path, monkeypatch):
    one = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
    one += b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x08tQ"
    one += b"K\x00M\xe8\x03\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    numbers = np.arange(1000, dtype=np.float32).tobytes()
    path = packed(tmp_path, b"\x80\x02" + 3 * one + b"\x87.", _0=numbers)
    assert [tensor.shape for tensor in read_torch(path)] == [(1000,)] * 3
    monkeypatch.setattr(torch_file, "MAX_FILE", 10_000)
    with pytest.raises(CheckpointError, match="its tensors have more than"):
        read_torch(path)


class Evil:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "value", [len, 1.5, {1: 2}, b"x", {1}, Path("a"), Evil(Path("never"))]
)
def test_what_is_no_tensor_or_container_is_refused(tmp_path, protocol, value):
    if isinstance(value, Evil):
        value = Evil(tmp_path / "called")
    path = packed(tmp_path, pickle.dumps({"embeddings": value}, protocol))
    with pytest.raises(CheckpointError, match="not a file of tensors"):
        read_torch(path)
    assert not (tmp_path / "called").exists()


def test_other_files_get_one_sentence(tmp_path):
    for name, data in (("a.pt", b""), ("b.pt", b"RIFF"), ("c.pt", b"\x80\x02}.")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match="not a file of tensors"):
            read_torch(tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_torch(tmp_path / "none.pt")
    packed_tight = io.BytesIO()
    with zipfile.ZipFile(packed_tight, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("v/data.pkl", b"\x80\x02}.")
    (tmp_path / "d.pt").write_bytes(packed_tight.getvalue())
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch(tmp_path / "d.pt")


def test_damaged_pickles_are_refused_or_give_containers_and_tensors(tmp_path):
    """A thousand, each with some bytes changed, lost or added."""
    with zipfile.ZipFile(VOICES / "voice.pt") as archive:
        whole = archive.read("voice/data.pkl")
        numbers = {k: archive.read(f"voice/data/{k}") for k in "01"}
    rng, read = random.Random(0), 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(data))
            change = rng.randrange(3)
            data[at : at + (change > 0)] = bytes([rng.randrange(256)] * (change < 2))
        path = packed(tmp_path, bytes(data), _0=numbers["0"], _1=numbers["1"])
        try:
            only_values(read_torch(path))
            read += 1
        except CheckpointError:
            pass
    assert 10 < read < 990, "else the changes test nothing"


def only_values(value: Any, seen: tuple[int, ...] = ()) -> None:
    if id(value) in seen:
        return
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for inner in value:
            only_values(inner, (*seen, id(value)))
    elif isinstance(value, mx.array):
        mx.eval(value)
    else:
        assert value is None or type(value) in (str, int, bool)


def test_a_file_without_an_end_is_not_read_to_it():
    with pytest.raises(CheckpointError, match="it has more than 64 MiB"):
        read_torch("/dev/zero")
