"""The chat command's options, and the old name of it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from moshi_mlx.bench import health
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


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives PortAudio devices of so many (inputs, outputs)."""

    def install(*channels: tuple[int, int]) -> None:
        found = [
            {
                "name": f"device {number}",
                "hostapi": 0,
                "max_input_channels": inputs,
                "max_output_channels": outputs,
                "default_samplerate": 48000.0,
            }
            for number, (inputs, outputs) in enumerate(channels)
        ]
        portaudio = SimpleNamespace(
            query_hostapis=lambda: [{"name": "ALSA"}],
            query_devices=lambda: found,
            default=SimpleNamespace(device=(0, 0)),
        )
        monkeypatch.setattr("moshi_mlx.audio.device.portaudio", lambda: portaudio)

    return install


@pytest.mark.parametrize(
    "channels, code, sentence",
    [
        ([(1, 2)], 0, ""),
        ([], 1, "no microphone and no loudspeaker was found"),
        ([(0, 2)], 1, "no microphone was found"),
    ],
)
def test_devices_are_listed_and_those_that_lack_are_named(
    plug, capsys: pytest.CaptureFixture[str], channels, code, sentence
):
    plug(*channels)
    assert main(["chat", "--list-devices"]) == code
    out, err = capsys.readouterr()
    assert ("device 0" in out and "48000 Hz" in out) == bool(channels)
    assert sentence in err and len(err.splitlines()) == (1 if sentence else 0)


@pytest.mark.parametrize(
    "options, code, state", [([], 1, "error"), (["--no-sound"], 0, "warning")]
)
def test_the_doctor_fails_a_machine_without_devices(
    plug, capsys: pytest.CaptureFixture[str], monkeypatch, options, code, state
):
    plug()
    monkeypatch.setattr(health, "_seven_b", lambda: iter(()))  # slow, and tested
    assert main(["doctor", "--json", *options]) == code
    told = json.loads(capsys.readouterr().out)["findings"]
    found = {f["what"]: f for f in told}
    assert found["PortAudio"]["state"] == state
    assert "no microphone and no loudspeaker" in found["PortAudio"]["text"]


def test_a_file_that_cannot_be_written_is_said_before_anything_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(["chat", "--trace", str(tmp_path / "no" / "trace.json")]) == 1
    assert "trace.json cannot be written" in capsys.readouterr().err
    (tmp_path / "talks").touch()
    assert main(["chat", "--record", str(tmp_path / "talks")]) == 1
    assert "talks" in capsys.readouterr().err


@pytest.mark.skipif(
    sys.platform != "linux", reason="not on macOS: it computes on the GPU"
)
def test_doctor_says_what_would_make_a_cpu_faster(monkeypatch: pytest.MonkeyPatch):
    assert "gcc" not in health._mlx().text
    monkeypatch.setattr(health, "use_fast_products", lambda: ())
    found = health._mlx()
    assert found.state == "warning" and "gcc, g++ and pip install" in found.text
