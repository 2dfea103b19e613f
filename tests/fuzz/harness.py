"""Fuzzing: a kind of input is mutated again and again, and must be refused in words.

A case may succeed or raise a ``MoshiError``. Any other exception, more than ``HANG_S``
in one case, or more than ``GROWTH`` of memory over all of them is a find.
"""

import random
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from moshi_mlx.errors import MoshiError

HANG_S = 2.0
GROWTH = 300 * 2**20  # bytes

# Tries one case, made with the generator, in a folder that is its own.
Try = Callable[[random.Random, Path], None]


@dataclass
class Figures:
    """What came of the cases of one kind."""

    kind: str
    cases: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    growth: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.cases:,} cases, {self.refused:,} refused, slowest "
            f"{self.slowest_s:.2f} s, memory {self.growth / 2**20:+.0f} MiB"
        )


def fuzz(kind: str, attempt: Try, cases: int, folder: Path, seed: int = 0) -> Figures:
    """Try ``cases`` cases; raises AssertionError, with the case's number, at a find."""
    figures = Figures(kind)
    folder.mkdir(parents=True, exist_ok=True)
    before = _peak()
    for number in range(cases):
        began_at = time.process_time()
        try:
            attempt(random.Random(f"{seed} {kind} {number}"), folder)
        except MoshiError as error:
            figures.refused += 1
            assert "\n" not in str(error).strip(), f"{kind} {number}: two lines"
            assert len(str(error)) < 1000, f"{kind} {number}: a long message"
        except Exception as error:
            raise AssertionError(f"{kind} case {number} of seed {seed}") from error
        took = time.process_time() - began_at
        figures.cases += 1
        figures.slowest_s = max(figures.slowest_s, took)
        assert took < HANG_S, f"{kind} case {number} of seed {seed} took {took:.1f} s"
    figures.growth = _peak() - before
    assert figures.growth < GROWTH, f"{kind}: memory grew by {figures.growth:,} bytes"
    return figures


def _peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
