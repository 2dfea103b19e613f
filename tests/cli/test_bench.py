"""`moshi-mlx bench`: every setting once, as table, JSON and page."""

import json

import mlx.core as mx
import pytest

from moshi_mlx.bench import synthetic
from moshi_mlx.bench.sweep import available_devices
from moshi_mlx.cli.main import main
from tests.tiny import BASE


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    monkeypatch.setitem(synthetic.SIZES, "10M", BASE)


def test_every_setting_is_measured_once(capsys, tmp_path):
    page = tmp_path / "b.html"
    args = ["--size", "10M", "--bits", "16,q4", "--batch", "1,2", "--codec", "none"]
    rest = ["--device", "cpu", "--frames", "5", "--growth", "--plot", str(page)]
    assert main(["bench", *args, *rest, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = [(r["model"], r["bits"], r["batch"]) for r in told["results"]]
    assert found == [("10M", bits, batch) for bits in ("16", "q4") for batch in (1, 2)]
    assert "mlx" in told["machine"]
    assert [p["position"] for p in told["growth_ms"]["10M q4 cpu"]][-1] == 56
    assert page.read_text().count("<svg") == 3
    assert mx.default_device() == mx.Device(mx.cpu)


def test_a_checkpoint_with_its_codec(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    args = ["bench", "--model", "demo", "--frames", "5", "--device", "cpu"]
    assert main(args) == 0
    shown = capsys.readouterr()
    assert "demo 4 cpu native x1" in shown.out and "x live" in shown.out
    assert main(["bench", "--model", "demo", "--codec", "rust", "--device", "cpu"]) == 1
    assert "needs a released Mimi file" in capsys.readouterr().err


def test_packed_keys_and_values_are_named_and_no_figure_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setitem(synthetic.SIZES, "10M", {**BASE, "num_heads": 1})
    args = ["--size", "10M", "--codec", "none", "--frames", "5", "--device", "cpu"]
    assert main(["bench", *args, "--kv-bits", "8", "--growth"]) == 0
    shown = capsys.readouterr().out
    assert "10M 16 kv8 cpu none x1" in shown and "\u2026" not in shown


@pytest.mark.parametrize(
    "args, word",
    [
        (["--size", "3B"], "size '3B' is unknown"),
        (["--size", "10M", "--bits", "7"], "recipe 'q7' is unknown"),
        (["--size", "10M", "--batch", "0"], "--batch '0' is not a batch size"),
        (["--size", "10M", "--codec", "opus"], "--codec 'opus' is unknown"),
        (["--size", "10M", "--device", "tpu"], "--device 'tpu' is unknown"),
        (["--size", "10M", "--codec", "none,rust"], "rust codec needs the weights"),
        (["--size", "10M,3B", "--codec", "none"], "size '3B' is unknown"),
        (["--size", "10M", "--bits", "16,foo", "--codec", "none"], "'foo' is unknown"),
        (["--size", "10M", "--plot", "nodir/b.html"], "there is no folder nodir"),
    ],
)
def test_mistakes_are_one_line(capsys, args, word):
    assert main(["bench", *args]) == 1
    told = capsys.readouterr().err
    assert word in told and "x1" not in told  # before anything is timed


def test_the_cpu_is_always_there():
    assert available_devices()[-1] == "cpu"


def test_a_prediction_runs_nothing_and_grows_with_the_bits(capsys):
    told = ["bench", "--size", "7B", "--bits", "16,q4", "--predict", "--json"]
    assert main(told) == 0
    full, small = json.loads(capsys.readouterr().out)["predictions"]
    assert full["bytes"] > 2 * small["bytes"] > 4e9
    for chip, (fast, slow) in full["frame_ms_computed"].items():
        assert small["frame_ms_computed"][chip][0] < fast < slow
    assert main(["bench", "--model", "demo", "--predict"]) == 0
    assert "not measured" in capsys.readouterr().out
