"""The chat command's options, and the old name of it."""

from pathlib import Path

import pytest

from moshi_mlx.cli.main import main
from moshi_mlx.local import default_model


@pytest.mark.parametrize(
    "args, repo",
    [
        ([], "kyutai/moshiko-mlx-bf16"),
        (["-q", "4"], "kyutai/moshiko-mlx-q4"),
        (["-q8"], "kyutai/moshiko-mlx-q8"),
        (["--quantized=8", "--steps", "10"], "kyutai/moshiko-mlx-q8"),
    ],
)
def test_the_old_name_takes_the_old_default(args: list[str], repo: str):
    assert default_model(args) == ["--hf-repo", repo]


@pytest.mark.parametrize("args", [["--hf-repo", "a/b"], ["--model=demo", "-q", "8"]])
def test_a_model_that_is_named_stays(args: list[str]):
    assert default_model(args) == []


def test_the_help_names_the_keys_and_every_old_flag_is_taken(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["chat", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "m mutes" in text and "--half-duplex" in text
    for flag in ("--tokenizer", "--moshi-weight", "--mimi-weight", "--hf-repo"):
        assert flag in text


def test_a_file_that_cannot_be_written_is_said_before_anything_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["chat", "--trace", str(tmp_path / "no" / "trace.json")]) == 1
    assert "trace.json cannot be written" in capsys.readouterr().err
    (tmp_path / "talks").touch()
    assert main(["chat", "--record", str(tmp_path / "talks")]) == 1
    assert "talks" in capsys.readouterr().err
