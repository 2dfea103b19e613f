"""What `moshi-mlx doctor` says about this very machine."""

import json

import pytest

from moshi_mlx.bench import health
from moshi_mlx.cli.main import main
from tests.sound_devices.pulse import Pulse

Capture = pytest.CaptureFixture[str]


def findings(capsys: Capture, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    code = main(["doctor", "--json", *options])
    found = json.loads(capsys.readouterr().out)["findings"]
    return code, {finding["what"]: finding for finding in found}


def test_a_machine_with_sound_is_found_fit_for_the_demo(pulse: Pulse, capsys: Capture):
    code, found = findings(capsys)
    assert code == 0
    assert found["PortAudio"]["state"] == "ok"
    assert found["speaker"]["state"] == "ok"
    # A null sink's silence is what a Mac gives a program that may not listen.
    assert found["microphone"]["state"] == "warning"
    assert "pure silence" in found["microphone"]["text"]
    assert "ms a frame of 80" in found["model demo"]["text"]
    for bits in ("q4", "q8", "bf16"):
        assert "about" in found[f"Moshi 7B {bits}"]["text"]


def test_a_machine_without_sound_is_told_so(
    pulse: Pulse, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    from moshi_mlx.audio.device import refresh

    monkeypatch.setenv("PULSE_SERVER", "unix:/nowhere")
    monkeypatch.setattr(health, "_seven_b", lambda: iter(()))  # timed above
    refresh()
    code, found = findings(capsys)
    assert code == 1
    assert found["microphone"]["state"] == "error"
    assert "no microphone" in found["microphone"]["text"]


def test_a_model_that_is_not_there_is_an_error(capsys: Capture, monkeypatch):
    monkeypatch.setattr(health, "_seven_b", lambda: iter(()))
    code, found = findings(capsys, "--no-sound", "--model", "/no/such/folder")
    assert code == 1
    assert found["model /no/such/folder"]["state"] == "error"
