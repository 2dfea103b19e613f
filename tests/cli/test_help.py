"""What --help says: defaults, models that fit, and no types of flags."""

from typing import Any

import pytest
import typer

from moshi_mlx.cli import main

# Without one of these, nothing is done. (Or the help begins with "Also".)
EXTRAS = {
    *(
        "--adapter",
        "--data",
        "--quantize",
        "--stt",
        "--allow-origin",
        "--bits",
        "--both",
        "--compare",
        "--expect",
        "--format",
    ),
    *("--kv-bits", "--out", "--play", "--plot", "--prompt", "--prompt-file"),
    *("--record", "--recording", "--report", "--save-quantized", "--size", "--ssl"),
    *("--static", "--task", "--trace", "--trusted-proxy", "--upload", "--words"),
    *("--top-k", "--voice", "--voice-map", "--adapter", "--image", "--data"),
    *("--config", "--fine-tune-type", "--resume-adapter-file", "--save-adapter"),
    "--quantize",
}
NO_DEMO = ["translate", "complete"]  # no part of the demo translates or writes


def test_paragraphs_are_broken_by_the_terminal_alone():
    help = main._flowing("One.\n\n    Two lines\n    of text.\n")
    assert help == "One.\n\nTwo lines of text."


def options(name: str) -> list[Any]:
    app = typer.Typer()
    main._add(app, name)
    command = typer.main.get_command(app)
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", main.available())
def test_every_option_tells_its_default(name: str):
    for option in options(name):
        asks = EXTRAS.intersection(option.opts) or getattr(option, "is_flag", False)
        help = option.help or ""
        told = option.default is not None or "Default: " in help or "Also " in help
        assert asks or told, option.opts


@pytest.mark.parametrize("name", NO_DEMO)
def test_a_command_that_cannot_run_the_demo_does_not_offer_it(name: str):
    [model] = [option for option in options(name) if "--model" in option.opts]
    assert "demo" not in (model.metavar or "")


def test_flags_show_no_type(capsys: pytest.CaptureFixture[str]):
    assert main.main(["--help"]) == 0
    assert "<bool>" not in capsys.readouterr().out


@pytest.mark.parametrize("name", main.available())
def test_80_columns_cut_no_word_of_the_help(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage" in text and "…" not in text


def test_the_help_names_an_option_first_and_its_aliases_behind(
    capsys: pytest.CaptureFixture[str],
):
    assert main.main(["respond", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("│ --model  ") for line in lines)
    text = " ".join(line.strip("│ ") for line in lines)
    assert "Also --hf-repo." in " ".join(text.split())
    assert "92233720" not in text
