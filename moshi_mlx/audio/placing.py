"""Put what follows damage in a lossless file back to its time.

Symphonia leaves out the frames of a FLAC file that it cannot read and goes on with the
next ones, so what follows would come too early, and twice where the next piece begins.
"""

import itertools
from collections.abc import Callable

import numpy as np

PROBE = 64  # samples that tell a place
_MOST_PLACES = 1000  # to compare one probe with
_ROUNDING = 2  # samples: times are given in seconds


def in_place(pcm: np.ndarray, at: int, probe: np.ndarray) -> bool:
    """Whether samples ``[C, S]`` are from a place on what was read from there alone."""
    there = pcm[:, at : at + PROBE]
    return bool((there == probe[:, : there.shape[1]]).all())


def placed(
    pcm: np.ndarray, step: int, wanted: int, read: Callable[[int], np.ndarray]
) -> tuple[np.ndarray, int]:
    """Samples at their times, and how many of them are silence instead.

    Args:
        pcm: what can be read of a stretch ``[C, S]``, and of what follows it.
        step: samples between two places that are looked at.
        wanted: length of the stretch.
        read: the file's samples ``[C, S]`` from a place in the stretch on.
    """
    out, lost, at = np.zeros((len(pcm), wanted), np.float32), 0, 0
    marks = [*range(0, wanted, step), wanted]
    for start, stop in itertools.pairwise(marks):
        found = _find(pcm, read(start), at)
        size = stop - start
        after = found if found is None else _find(pcm, read(stop), found + size)
        ends = stop == wanted and after is None
        if found is None or (after is None and not ends):
            lost += size
        elif after is None or abs(after - found - size) <= _ROUNDING:
            part = pcm[:, found : found + size]
            out[:, start : start + part.shape[1]] = part
            lost += size - part.shape[1]
        else:
            lost += size
        at = (at if found is None else found) + size
    return out, lost


def _find(pcm: np.ndarray, probe: np.ndarray, expected: int) -> int | None:
    """Where the samples of ``probe`` are, nearest to a place; None if nowhere."""
    probe = probe[:, :PROBE]
    size = probe.shape[1]
    if size < PROBE:
        return None
    first = np.flatnonzero(pcm[0, : pcm.shape[1] - size + 1] == probe[0, 0])
    first = first[np.argsort(np.abs(first - expected), kind="stable")]
    for place in first[:_MOST_PLACES].tolist():
        if (pcm[:, place : place + size] == probe).all():
            return int(place)
    return None
