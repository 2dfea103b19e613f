"""Folders reach the hub whole, with a card; refusals become one sentence."""

from collections.abc import Iterator

import pytest

from moshi_mlx.checkpoint.card import licence_of, model_card
from moshi_mlx.checkpoint.cost import cost
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import Quantization, describe, quantize
from moshi_mlx.checkpoint.source import Source
from moshi_mlx.checkpoint.upload import upload
from moshi_mlx.errors import CheckpointError
from tests.checkpoint.folders import load, write
from tests.checkpoint.uploads import UploadHub
from tests.tiny import BASE
from tests.tiny import lm as tiny_lm
from tests.utils.hub_server import set_constant


@pytest.fixture
def hub(monkeypatch) -> Iterator[UploadHub]:
    hub = UploadHub()
    set_constant("ENDPOINT", hub.url, monkeypatch)
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield hub
    hub.close()


def test_a_folder_is_pushed_whole(hub, tmp_path):
    folder = write(tmp_path)
    (folder / "README.md").write_text("card")
    (folder / "model.safetensors.part").write_text("begun")
    url = upload(folder, "me/mine", private=True)
    assert url.endswith("/me/mine")
    assert hub.created[0]["name"] == "mine"
    assert hub.created[0].get("private") or hub.created[0]["visibility"] == "private"
    sent = {"config.json", "model.safetensors", "README.md"}
    assert hub.files == {name: (folder / name).read_bytes() for name in sent}


@pytest.mark.parametrize("status, sentence", [(403, "does not let you"), (401, "let")])
def test_a_refusal_says_what_to_do(hub, tmp_path, status, sentence):
    hub.refuse = status
    with pytest.raises(CheckpointError, match=f"{sentence}.*hf auth login"):
        upload(write(tmp_path), "me/mine")


def test_a_hub_out_of_reach(hub, tmp_path, monkeypatch):
    nobody = hub.url.rpartition(":")[0] + ":9"
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", nobody)
    with pytest.raises(CheckpointError, match=r"out of reach.*folder is at"):
        upload(write(tmp_path), "me/mine")


def test_a_name_that_is_none(tmp_path):
    with pytest.raises(CheckpointError, match="write OWNER/NAME"):
        upload(write(tmp_path), "mine")


def test_the_card_says_where_from_and_how_stored(tmp_path):
    info = CheckpointInfo("kyutai/x", Source(repo="kyutai/x"), BASE)
    lm = tiny_lm()
    quantize(lm, 4)
    info.source = Source(folder=write(tmp_path))
    (tmp_path / "README.md").write_text(
        "---\ntags: [a]\nlicense: cc-by-4.0\n---\n# x\n"
    )
    assert licence_of(info) == "cc-by-4.0"
    card = model_card(info, describe(lm), cost(lm), "me/x-q4", ["- text KL 0.1"])
    head, _, body = card.removeprefix("---\n").partition("\n---\n")
    assert "license: cc-by-4.0" in head and "base_model" not in head
    assert "# x-q4" in body and "4 bits in groups of 32" in body
    assert "--model me/x-q4" in body and "text KL" in body


def test_the_card_names_the_base(tmp_path, monkeypatch):
    lm = load(write(tmp_path), bits=4)
    monkeypatch.setattr(Source, "first", lambda _self, _names: None)
    info = CheckpointInfo("kyutai/x", Source(repo="kyutai/x"), BASE)
    card = model_card(info, describe(lm), cost(lm), "me/x")
    assert "base_model: kyutai/x\nbase_model_relation: quantized\n" in card
    assert "license" not in card
    whole = model_card(info, Quantization(), cost(tiny_lm()), "me/x")
    assert "relation" not in whole and "- not quantised" in whole
