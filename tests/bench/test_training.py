"""`bench --task finetune`: what it measures is there, and is plausible."""

import json

import pytest

from moshi_mlx.bench import synthetic, training
from moshi_mlx.cli.main import main

TINY = {**synthetic.SIZES["10M"], "num_layers": 1, "dim": 64, "num_heads": 1}
TINY |= {"depformer_dim": 64, "depformer_num_heads": 1, "depformer_num_layers": 1}


def test_training_speed_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(training.SIZES, "10M", TINY)
    monkeypatch.setattr(training, "TRAINING_STEPS", 1)
    args = ["bench", "--task", "finetune", "--size", "10M", "--bits", "q4, 16"]
    assert main([*args, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [told["bits"] for told in results] == [4, 16]
    for told in results:
        assert told["rank"] == 16
        assert told["tokens_per_second"] > 0 and told["step_s"] > 0
        assert told["peak_bytes"] > 0 and told["computed_bytes"] > 0


def test_what_cannot_be_timed_is_told(capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--task", "finetune", "--size", "3M"]) == 1
    assert "size '3M' is unknown" in capsys.readouterr().err
    assert main(["bench", "--task", "finetune", "--bits", "4,5"]) == 1
    assert "cannot be trained over" in capsys.readouterr().err
    assert main(["bench", "--task", "finetune,stt"]) == 1
    assert "--task 'finetune' is unknown" in capsys.readouterr().err
