"""Memory and work are computed before a training, and what cannot fit is refused."""

import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune import estimate as module
from moshi_mlx.finetune.estimate import Estimate, estimate
from moshi_mlx.finetune.settings import TrainSettings
from tests import tiny

GB = 1_000_000_000


def test_memory_and_work_follow_the_settings():
    lm, once = tiny.lm(), TrainSettings(window=4.0, grad_accumulation_steps=1)
    needs = estimate(lm, 1000, once)
    assert needs.state == 16_000 and needs.weights > 0
    rows = estimate(lm, 1000, once.with_values({"batch_size": 3}))
    assert rows.activations == 3 * needs.activations
    assert rows.flops == pytest.approx(3 * needs.flops)
    more = estimate(lm, 1000, once.with_values({"grad_accumulation_steps": 2}))
    assert more.state == 20_000 and more.flops == pytest.approx(2 * needs.flops)
    assert more.activations == needs.activations
    again = estimate(lm, 1000, once.with_values({"grad_checkpoint": True}))
    assert again.activations < needs.activations and again.flops > needs.flops
    full = estimate(lm, 1000, once.with_values({"fine_tune_type": "full"}))
    assert full.flops > needs.flops


def test_what_cannot_fit_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "machine_memory", lambda: 16 * GB)
    Estimate(5 * GB, GB, 2 * GB, 1.0, 1).check(TrainSettings())
    heavy, settings = Estimate(15 * GB, GB, 9 * GB, 1.0, 1), TrainSettings(window=10.0)
    with pytest.raises(ConfigError, match=r"about 25\.0 GB .* has 16\.0 GB") as told:
        heavy.check(settings)
    assert str(told.value).endswith(
        "add --grad-checkpoint, or start from a model in 4 bits."
    )
    long = TrainSettings(window=60.0, batch_size=8, grad_checkpoint=True)
    with pytest.raises(ConfigError) as told:
        Estimate(4 * GB, GB, 30 * GB, 1.0, 1).check(long)
    assert str(told.value).endswith(
        "lower --batch-size to 1, with more --grad-accumulation-steps, or halve "
        "--window to 30."
    )
