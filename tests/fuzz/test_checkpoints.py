"""Mutated checkpoints are refused in words; ``scripts/fuzz`` tries many more."""

import pytest

from tests.fuzz.checkpoints import KINDS
from tests.fuzz.harness import fuzz

CASES = 200


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_of_strangers_are_loaded_or_refused_in_a_sentence(tmp_path, kind):
    figures = fuzz(kind, KINDS[kind], CASES, tmp_path)
    assert figures.cases == CASES
    assert figures.refused > CASES // 4, "the mutations are too mild"
