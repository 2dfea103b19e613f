"""What `doctor` finds out without sound devices: sizes, unknown models, estimates."""

import itertools
import json
from types import SimpleNamespace

import pytest

from moshi_mlx.bench import estimate, health
from moshi_mlx.cli.main import main


def test_an_unknown_model_is_refused_before_anything_else(capsys):
    assert main(["doctor", "--json", "--model", "/no/such/folder"]) == 1
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["what"], finding["state"]) == ("model /no/such/folder", "error")


def test_sizes_come_before_the_model_and_numbers_are_numbers(capsys, monkeypatch):
    monkeypatch.setattr(health, "_seven_b", lambda: iter(()))
    monkeypatch.setattr(health, "_sound", lambda _opened: iter(()))
    assert main(["doctor", "--json", "--no-sound"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    names = [finding["what"] for finding in found]
    assert names.index("size of demo") < names.index("model demo")
    numbers = {finding["what"]: finding["numbers"] for finding in found}
    assert 1e6 < numbers["size of demo"]["weights_bytes"] < 1e8
    assert numbers["model demo"]["p50_ms"] > 0
    assert numbers["memory"]["bytes"] > 1e9


def test_a_model_that_would_be_downloaded_is_announced(monkeypatch):
    found = health.CheckpointInfo.find("demo")
    monkeypatch.setattr(
        health, "outline", lambda _: (health.load_moshi("demo").lm, False)
    )
    finding = health._size(found)
    assert finding.state == "warning" and "will be downloaded" in finding.text


@pytest.mark.parametrize("recipe", ["q4", "bf16"])
def test_the_time_of_the_7b_is_that_of_its_weights(recipe: str, monkeypatch):
    """A machine that takes 10 ms a step and 1 ns a weight, with noise on top."""
    read = {1: 1e8, 3: 3e8}
    monkeypatch.setattr(estimate, "_model", lambda layers, _: SimpleNamespace(n=layers))
    monkeypatch.setattr(
        estimate,
        "_timed",
        lambda *models: [(10 + read[m.n] * 1e-6, read[m.n]) for m in models],
    )
    expected = 10 + estimate._reads_of_7b() * 1e-6
    assert estimate.time_step(recipe) == pytest.approx(expected)
    assert estimate._reads_of_7b() == pytest.approx(7.7e9, rel=0.05)


def test_only_the_fastest_runs_count(monkeypatch):
    now = iter([1.0, 9.0, 10.0, 10.002, 11.0, 11.001, 12.0, 13.0])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(estimate, "on_gpu", lambda: True)
    assert estimate._best([lambda: None]) == [pytest.approx(1.0)]


def test_waiting_for_other_programs_does_not_count_on_a_cpu(monkeypatch):
    wall, work = itertools.count(0, 5.0), itertools.count(0, 0.003)
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(estimate.time, "process_time", lambda: next(work))
    monkeypatch.setattr(estimate, "on_gpu", lambda: False)
    assert estimate._best([lambda: None]) == [pytest.approx(3.0)]
    monkeypatch.setattr(estimate, "on_gpu", lambda: True)  # the CPU waits for the GPU
    assert estimate._best([lambda: None]) == [pytest.approx(5000.0)]


@pytest.mark.parametrize("load, state", [(0.3, "ok"), (25.4, "warning")])
def test_a_busy_machine_is_named_before_its_times(load, state, monkeypatch):
    monkeypatch.setattr(health.os, "getloadavg", lambda: (load, 1.0, 1.0))
    monkeypatch.setattr(health.os, "cpu_count", lambda: 2)
    finding = health._load()
    assert finding.state == state and f"load {load} on 2 cores" in finding.text
    assert finding.numbers == {"load": load, "cores": 2}


def test_a_small_model_is_timed_on_this_machine():
    assert estimate.time_codec() > 0


@pytest.mark.parametrize("recipe, gigabytes", [("q4", 4.3), ("q8", 8.2)])
def test_the_7b_has_the_size_that_is_published(recipe: str, gigabytes: float):
    assert estimate.nbytes(recipe) / 1e9 == pytest.approx(gigabytes, rel=0.05)


@pytest.mark.parametrize(
    "chip, enabled, told",
    [
        ("Apple M5 Max", None, True),
        ("Apple M10", "1", True),
        ("Apple M5", "0", False),
        ("Apple M4 Pro", None, False),
        ("Apple A17", None, False),
    ],
)
def test_chips_that_round_products_are_named(monkeypatch, chip, enabled, told):
    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    if enabled is not None:
        monkeypatch.setenv("MLX_ENABLE_TF32", enabled)
    monkeypatch.setattr(estimate, "on_gpu", lambda: True)
    monkeypatch.setattr(health.mx, "device_info", lambda: {"device_name": chip})
    finding = health._mlx()
    assert (finding.state, "MLX_ENABLE_TF32=0" in finding.text) == ("ok", told)
