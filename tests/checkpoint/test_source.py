"""What people name as a checkpoint, and files that are not what they should be."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

import moshi_mlx
from moshi_mlx.audio import read
from moshi_mlx.checkpoint.build import load_lm, load_tokenizer
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.source import Source
from moshi_mlx.cli.main import main
from moshi_mlx.errors import CheckpointError, MoshiError
from moshi_mlx.utils.blobs import sha256
from tests.checkpoint.folders import write, write_with_codec
from tests.tiny import BASE, pytorch_weights


def folder_with(folder: Path, **data: object) -> Path:
    """A folder that holds a config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(data))
    return folder


HUB_PAGES = {
    "https://huggingface.co/owner/model": None,
    "http://hf.co/owner/model/": None,
    "https://huggingface.co/owner/model?library=mlx": None,
    "https://www.huggingface.co/owner/model/tree/v2": "v2",
    "https://huggingface.co/owner/model/blob/main/model.safetensors": "main",
    "https://huggingface.co/owner/model/resolve/main/config.json": "main",
    "models--owner--model": None,
}


@pytest.mark.parametrize("address, revision", HUB_PAGES.items())
def test_an_address_of_the_hub_is_its_repository(address, revision):
    assert Source.named(address) == Source(repo="owner/model", revision=revision)


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/owner/model",
        "https://huggingface.co/datasets/owner/model",
        "https://huggingface.co/owner",
        "https://huggingface.co",
    ],
)
def test_other_addresses_are_said_to_be_no_model(address):
    with pytest.raises(CheckpointError, match="is no address of a model on the hub"):
        CheckpointInfo.find(address)


def test_the_demo_is_in_the_package():
    demo = Source.named("demo").folder
    assert demo == Path(moshi_mlx.__file__).parent / "demo"


def test_a_family_is_told_by_its_files(tmp_path):
    folder = folder_with(tmp_path, **BASE)
    alone = Source(folder=folder)
    assert alone.sibling("stt") is alone
    for kind in ("stt", "tts"):
        (folder / f"{kind}.json").write_text("{}")
    member = alone.sibling("stt")
    assert member == Source(folder=folder, config="stt.json")
    assert member.sibling("tts") is member
    far = Source(repo="owner/model")
    assert far.sibling("stt") is far


def test_a_folder_of_the_hubs_cache_is_its_newest_download(tmp_path):
    cache = tmp_path / "models--owner--model"
    for commit in ("a" * 40, "b" * 40):
        folder_with(cache / "snapshots" / commit, **BASE)
    assert Source.named(str(cache)).folder == cache / "snapshots" / ("b" * 40)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    assert Source.named(str(cache)).folder == cache / "snapshots" / ("a" * 40)
    (tmp_path / "models--x--y" / "snapshots").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no download was finished"):
        CheckpointInfo.find(tmp_path / "models--x--y")


def test_weights_in_parts_need_no_index_but_all_parts(tmp_path):
    folder = folder_with(tmp_path, **BASE)
    for number in (2, 1, 3):
        (folder / f"model-{number:05}-of-00003.safetensors").write_bytes(b"x")
    names = [path.name for path in CheckpointInfo.find(folder).moshi_weights]
    assert names == [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    (folder / names[1]).unlink()
    with pytest.raises(CheckpointError, match=r"lacks model-00002-of-00003\.saf"):
        _ = CheckpointInfo.find(folder).moshi_weights


def test_a_folder_without_config_whose_weights_are_another_models_is_named(tmp_path):
    folder = write(tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(MoshiError, match=r"config\.json"):
        load_lm(CheckpointInfo.find(folder))


def test_a_clone_without_lfs_is_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    folder = folder_with(tmp_path, **BASE, tokenizer_name="t.model")
    for name in ("model.safetensors", "t.model", "voice.wav"):
        (folder / name).write_bytes(pointer)
    info = CheckpointInfo.find(folder)
    for load in (load_lm, load_tokenizer, lambda _: read(folder / "voice.wav")):
        with pytest.raises(MoshiError, match=r"is a Git LFS pointer.*'git lfs pull'"):
            load(info)


def in_cache(tmp_path: Path, weights: dict[str, mx.array], name: str) -> Path:
    """A model as the hub's cache keeps it, its weights in a blob of that name."""
    folder = write_with_codec(tmp_path / "models--o--m" / "snapshots" / ("a" * 40))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (tmp_path / "models--o--m" / "blobs").mkdir()
    blob, file = (
        tmp_path / "models--o--m" / "blobs" / name,
        folder / "model.safetensors",
    )
    file.rename(blob)
    file.symlink_to(blob)
    return folder


def test_weights_that_are_not_the_hubs_are_told(tmp_path, capsys):
    weights = pytorch_weights(BASE)
    weights["out_norm.alpha"] = weights["out_norm.alpha"] * mx.nan
    folder = in_cache(tmp_path, weights, "0" * 64)
    with pytest.raises(CheckpointError, match=r"checksum differs: .*/blobs/0000"):
        load_lm(CheckpointInfo.find(folder))
    assert main(["info", str(folder), "--verify"]) == 1
    assert "its checksum differs" in capsys.readouterr().err
    blob = tmp_path / "models--o--m" / "blobs" / ("0" * 64)
    blob.rename(blob.with_name(sha256(blob)))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(next(blob.parent.iterdir()))
    with pytest.raises(CheckpointError, match="NaN"):  # it came as it is
        load_lm(CheckpointInfo.find(folder))


def test_weights_that_are_zero_over_a_large_part_are_told(tmp_path, caplog):
    weights = pytorch_weights(BASE)
    load_lm(CheckpointInfo.find(write(tmp_path / "whole", weights)))
    assert "are zero" not in caplog.text
    names = sorted(weights)[: len(weights) // 2]
    weights |= {name: mx.zeros_like(weights[name]) for name in names}
    load_lm(CheckpointInfo.find(write(tmp_path / "half", weights)))
    assert "% of them are zero, as where a download" in caplog.text
