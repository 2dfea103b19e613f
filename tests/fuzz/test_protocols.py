"""Mutated messages of clients are read or refused; `scripts/fuzz` tries 10,000."""

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.protocols import PARSERS

CASES = 200


@pytest.mark.parametrize("kind", PARSERS)
def test_mutated_messages_are_read_or_refused_in_a_sentence(tmp_path, kind):
    figures = fuzz(kind, PARSERS[kind], CASES, tmp_path)
    assert figures.cases == CASES and CASES // 8 < figures.refused < CASES
