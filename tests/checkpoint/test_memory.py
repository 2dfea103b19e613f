"""What does not fit is refused; the default is what fits."""

import re

import pytest

from moshi_mlx.checkpoint import memory
from moshi_mlx.checkpoint.memory import check_memory, fitting_moshi, machine_memory
from moshi_mlx.errors import CheckpointError


def test_this_machine_has_between_1_gb_and_100_tb():
    assert 1e9 < machine_memory() < 1e14


def test_weights_that_nearly_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 16_000_000_000)
    check_memory(14_000_000_000, "x", "y")
    sentence = "moshiko needs 15.4 GB of memory and this machine has 16.0 GB: do it."
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        check_memory(15_400_000_000, "moshiko", "do it")


@pytest.mark.parametrize("gb, kind", [(8, "q4"), (16, "q8"), (128, "q8")])
def test_the_default_moshi_fits(gb, kind):
    assert fitting_moshi(gb * 10**9) == f"kyutai/moshiko-mlx-{kind}"
