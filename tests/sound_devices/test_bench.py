"""`moshi-mlx bench --live`: the way through a conversation, on a real sound system."""

import json

import numpy as np
import pytest

from moshi_mlx.audio.device import refresh
from moshi_mlx.bench import live
from moshi_mlx.cli.main import main
from tests.cli.conftest import check
from tests.sound_devices.pulse import Pulse


def test_the_delay_is_the_sum_of_its_parts(
    pulse: Pulse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "SETTLE_S", 1.0)
    args = ["--model", "demo", "--seconds", "3", "--soak", "2"]
    ear = pulse.listen()
    assert main(["bench", "--live", *args, "--json"]) == 0
    assert not ear.stop().any()  # nothing is heard
    told = json.loads(capsys.readouterr().out)
    check(told)
    d = told["delay_ms"]
    assert 1 <= d["clicks"] <= 5
    assert d["frame"] == 80 and d["acoustic"] == 80
    assert d["measured"] > 80 + d["computation"] > 80
    parts = d["frame"] + d["computation"] + d["buffer"] + d["rest"]
    assert parts == pytest.approx(d["measured"], abs=0.3)
    total = d["measured"] + d["acoustic"] + d["microphone"] + d["speaker"]
    assert total == pytest.approx(d["total"], abs=0.3)
    assert set(told["idle_percent"]) >= {"devices alone", "loop"}
    [mark] = told["soak"]
    assert mark["frames"] > 0 and mark["resident_bytes"] > 50 * 2**20


def test_without_sound_it_says_so_before_it_loads_anything(
    pulse: Pulse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PULSE_SERVER", "unix:/nowhere")
    refresh()
    assert main(["bench", "--live", "--model", "/no/such/folder"]) == 1
    assert "no microphone" in capsys.readouterr().err


def test_clicks_are_found_where_they_are():
    block = np.zeros(480, np.float32)
    block[240:264] = 0.8
    times: list[float] = []
    live._note(times, block, 48_000, 1.0)
    live._note(times, block, 48_000, 1.1)  # its echo
    live._note(times, block, 48_000, 2.0)
    assert times == pytest.approx([1.005, 2.005])
    assert live._ways([0.0, 1.0, 2.0], [1.2, 2.3], 0.5) == pytest.approx([200, 300])
