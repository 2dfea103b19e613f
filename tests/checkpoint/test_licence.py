"""Licences that restrict the use of weights are told once, and by `info`."""

import json
import re

import pytest

from moshi_mlx.checkpoint import licence
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.licence import restricted_licence, stated_licence
from moshi_mlx.checkpoint.licence import tell_licence as tell
from moshi_mlx.checkpoint.source import Source
from moshi_mlx.cli.main import main
from tests.checkpoint.folders import write
from tests.tiny import BASE


def on_hub(name: str, **config: object) -> CheckpointInfo:
    return CheckpointInfo(name, Source(repo=name), {**BASE, **config})


@pytest.mark.parametrize(
    "name, words",
    [
        ("nvidia/personaplex-7b-v1", "NVIDIA's Open Model License"),
        ("kyutai/personaplex-rl-seamless", "CC BY-NC 4.0, .*NVIDIA"),
        ("kyutai/moshika-rl-seamless", "CC BY-NC 4.0, not for commercial use"),
        ("nu-dialogue/j-moshi-ext", "CC BY-NC 4.0"),
        ("kyutai/moshika-vis-mlx", "Gemma"),
        ("kyutai/hibiki-zero-3b-pytorch-bf16", "CC BY-NC-SA"),
    ],
)
def test_restricted_weights_are_known_by_their_names(name, words):
    assert re.search(words, restricted_licence(on_hub(name)) or "")


@pytest.mark.parametrize(
    "name, kind", [("moshika-rl-seamless", "moshi"), ("personaplex-rl-seamless",) * 2]
)
def test_rl_seamless_is_found_as_the_models_that_it_was_trained_from(
    tmp_path, name, kind
):
    """Neither repository has a config.json that describes its network."""
    (tmp_path / name).mkdir()
    info = CheckpointInfo.find(tmp_path / name)
    assert info.model_type == kind.partition("-")[0] and info.kind.converses
    assert info.config["dim"] == 4096
    assert restricted_licence(info) is not None


@pytest.mark.parametrize("name", ["kyutai/moshiko-mlx-q4", "me/my-moshi", "a/b"])
def test_nothing_is_said_of_others(name):
    assert restricted_licence(on_hub(name)) is None


def test_a_kind_has_its_licence_under_any_name():
    info = on_hub("a/b", model_type="personaplex")
    assert restricted_licence(info) == "NVIDIA's Open Model License"


@pytest.mark.parametrize(
    "card, expected",
    [
        ("---\nlicense: cc-by-nc-4.0\n---\n# x", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: my-terms-nc-1\n---\n", "my-terms-nc-1"),
        ("---\nlicense: cc-by-4.0\n---\n", None),
        ("---\nlicense: mit\n---\n", None),
        ("license: cc-by-nc-4.0", None),
        ("---\ntags: [a]\n---\n", None),
    ],
)
def test_a_folder_s_card_is_read(tmp_path, card, expected):
    folder = write(tmp_path / "model")
    (folder / "README.md").write_text(card)
    assert restricted_licence(CheckpointInfo.find(folder)) == expected


def test_a_card_s_licence_may_be_quoted():
    assert stated_licence('---\nlicense: "cc-by-nc-4.0"\n---\n') == "cc-by-nc-4.0"


def test_it_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(licence, "_told", set())
    for _ in range(3):
        tell(on_hub("kyutai/moshika-rl-seamless"))
    tell(on_hub("kyutai/moshiko-mlx-q4"))
    assert [r.getMessage() for r in caplog.records] == [
        "the weights of kyutai/moshika-rl-seamless are under CC BY-NC 4.0, not for "
        "commercial use: see https://huggingface.co/kyutai/moshika-rl-seamless"
    ]


def test_loading_tells_it(tmp_path, monkeypatch, caplog):
    from moshi_mlx.engines.fetch import fetched
    from tests.checkpoint.folders import write_with_codec

    monkeypatch.setattr(licence, "_told", set())
    folder = write_with_codec(tmp_path / "model")
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    fetched(CheckpointInfo.find(folder))
    assert "are under cc-by-nc-4.0" in caplog.text


def test_info_shows_it(tmp_path, capsys):
    folder = write(tmp_path / "j-moshi")
    assert main(["info", str(folder)]) == 0
    assert "licence of the weights: CC BY-NC 4.0" in capsys.readouterr().out
    assert main(["info", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["restricted_licence"].startswith("CC BY-NC 4.0")
