"""Weights in several files, with an index or by their names; pickles beside them."""

import json
from pathlib import Path

import pytest

from moshi_mlx.checkpoint.shards import parts_of_index, pickled, shards_of
from moshi_mlx.errors import CheckpointError


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


def part(number: int, count: int, name: str = "model") -> str:
    return f"{name}-{number:05}-of-{count:05}.safetensors"


def test_parts_come_in_their_order(tmp_path):
    names = [part(number, 12) for number in range(1, 13)]
    folder = folder_of(tmp_path, *reversed(names), "model.safetensors", "notes.txt")
    assert [path.name for path in shards_of(folder)] == names


def test_a_folder_without_parts_has_none(tmp_path):
    names = ("model.safetensors", "model-1-of-2.safetensors", part(1, 2) + ".tmp")
    assert shards_of(folder_of(tmp_path, *names)) == []


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_part_that_is_missing_is_named(tmp_path, missing):
    folder_of(tmp_path, *(part(n, 3) for n in (1, 2, 3) if n != missing))
    words = f"lacks {part(missing, 3)}, one of the 3 files of its weights"
    with pytest.raises(CheckpointError, match=words):
        shards_of(tmp_path)


def test_the_first_of_several_missing_parts_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"lacks {part(2, 4)}, one of the 4"):
        shards_of(folder_of(tmp_path, part(1, 4), part(4, 4)))


def test_a_part_beyond_the_count_is_taken_too(tmp_path):
    found = shards_of(folder_of(tmp_path, part(1, 2), part(2, 2), part(3, 2)))
    assert [path.name for path in found] == [part(1, 2), part(2, 2), part(3, 2)]


def test_of_two_models_the_first_by_name_is_taken(tmp_path):
    folder_of(tmp_path, *(part(n, 2, name) for n in (1, 2) for name in ("b", "a", "c")))
    assert [path.name for path in shards_of(tmp_path)] == [
        part(1, 2, "a"),
        part(2, 2, "a"),
    ]


def test_an_index_names_each_file_once(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    table = {"x": part(2, 2), "y": part(1, 2), "z": part(2, 2)}
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    assert parts_of_index(index) == [part(1, 2), part(2, 2)]


@pytest.mark.parametrize("table", [None, {}, [], "x", {"a": 1}, {"a": "b", "c": None}])
def test_an_index_without_files_is_refused(tmp_path, table):
    index = tmp_path / "index.json"
    index.write_text(json.dumps({"weight_map": table}))
    with pytest.raises(
        CheckpointError, match="has no weight_map from tensors to files"
    ):
        parts_of_index(index)


def test_pickled_weights_are_told_by_their_name(tmp_path):
    assert pickled(folder_of(tmp_path, "model.safetensors", "a.txt")) is None
    folder_of(tmp_path, "b.pth", "c.bin")
    found = pickled(tmp_path)
    assert found is not None and found.name == "b.pth"
