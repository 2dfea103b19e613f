"""Mutated sound files are read or refused in words; `scripts/fuzz` tries more."""

import warnings

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.sounds import SOUNDS

CASES = 200


@pytest.mark.parametrize("kind", SOUNDS)
def test_mutated_sounds_are_read_or_refused_in_a_sentence(tmp_path, kind, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = fuzz(kind, SOUNDS[kind], CASES, tmp_path)
    assert figures.cases == CASES and 0 < figures.refused < CASES
    err = capfd.readouterr().err
    assert "Traceback" not in err and "panicked" not in err
