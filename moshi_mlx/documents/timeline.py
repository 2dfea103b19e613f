"""The picture in a report: waveforms, words and latency over one time axis, as SVG."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import floor

import numpy as np

from .transcript import Timed, short_clock, words

_WIDTH = 1100  # pixels, minimum
_WIDEST = 16_000
_READABLE = 96  # pixels per second that keep most words apart
_WORDS_FROM = 60  # pixels per second; below, words would overlap
_COLUMN = 3  # pixels from bar to bar
_AXIS, _LANE, _ROW, _CHART = 26, 84, 19, 96  # heights
_LETTER = 7.3  # pixels per letter, approximately
_TICKS_S = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
_TICK_WIDTH = 70  # pixels between ticks, minimum


def timeline(
    peaks: np.ndarray,
    duration_s: float,
    pieces: Iterable[Timed],
    frame_ms: Sequence[float],
    limit_ms: float,
    restarts: Sequence[float] = (),
) -> str:
    """An ``<svg>`` as wide as the conversation is long.

    Args:
        peaks: loudness of both sides, 0 to 1, ``[2, N]``, evenly over the duration.
        duration_s: duration of the conversation.
        pieces: the text.
        frame_ms: milliseconds of each frame.
        limit_ms: how long a frame lasts; longer ones stand out.
        restarts: seconds at which new conversations start.
    """
    duration_s = max(duration_s, 0.1)
    rate = min(max(_WIDTH / duration_s, _READABLE), _WIDEST / duration_s)
    width = duration_s * rate
    gain = 1 / max(0.05, float(peaks.max(initial=0)))
    parts = []
    for side, name in enumerate(["You", "Moshi"]):
        top, kind = _AXIS + side * _LANE, name.lower()
        parts.append(_wave(peaks[side] * gain, width, top, kind))
        parts.append(f'<text class="lane {kind}" x="4" y="{top + 12}">{name}</text>')
    y = _AXIS + 2 * _LANE
    if rate >= _WORDS_FROM:
        placed, rows = _words(words(pieces), rate, y)
        parts += placed
        y += rows * _ROW
    if frame_ms:
        parts += _latency(frame_ms, limit_ms, rate, width, y + _ROW)
        y += _ROW + _CHART
    height = y + 8
    grid = "".join(_grid(duration_s, rate, height))
    parts += [_restart(start_s * rate, height) for start_s in restarts]
    return (
        f'<svg width="{width:.0f}" height="{height}" data-rate="{rate:.4f}" '
        f'role="img" aria-label="Both voices over time">{grid}{"".join(parts)}'
        f'<line id="head" y1="{_AXIS - 6}" y2="{height}"/></svg>'
    )


def _grid(duration_s: float, rate: float, height: float) -> Iterator[str]:
    wide_enough = (step for step in _TICKS_S if step * rate >= _TICK_WIDTH)
    step = next(wide_enough, _TICKS_S[-1])
    decimals = 1 if step < 1 else 0
    last_s = duration_s - _TICK_WIDTH / 2 / rate  # room for its label
    for i in range(1, floor(last_s / step) + 1):
        x = i * step * rate
        yield f'<path class="grid" d="M{x:.1f} {_AXIS - 6}V{height}"/>'
        yield f'<text x="{x:.1f}" y="12" text-anchor="middle">'
        yield f"{short_clock(i * step, decimals)}</text>"


def _restart(x: float, height: float) -> str:
    return (
        f'<path class="restart" d="M{x:.1f} {_AXIS - 6}V{height}"/>'
        f'<text class="lane" x="{x + 4:.1f}" y="{height - 4}">new conversation</text>'
    )


def _wave(loudness: np.ndarray, width: float, top: float, kind: str) -> str:
    """Bars around the middle of a lane."""
    columns = _columns(loudness, int(width / _COLUMN))
    middle, reach = top + _LANE / 2, _LANE / 2 - 8
    bars = "".join(
        f"M{(i + 0.5) * _COLUMN:g} {middle - h:.1f}V{middle + h:.1f}"
        for i, h in enumerate(np.maximum(0.4, columns * reach))
    )
    return f'<path class="{kind}" stroke-width="2" stroke-linecap="round" d="{bars}"/>'


def _columns(values: np.ndarray, count: int) -> np.ndarray:
    """The largest of ``values`` in each of ``count`` equal parts."""
    if not len(values):
        return np.zeros(count)
    edges = np.linspace(0, len(values), count + 1).astype(int)
    starts = np.minimum(edges[:-1], len(values) - 1)
    return np.maximum.reduceat(values, starts)


def _words(said: list[Timed], rate: float, top: float) -> tuple[list[str], int]:
    """Words below their time, in as many rows as keep them apart, and that number."""
    ends: list[float] = []  # where each row is free again
    parts = []
    for word in said:
        x = word.start_s * rate
        free = (row for row, end in enumerate(ends) if end <= x)
        row = next(free, len(ends))
        if row == len(ends):
            ends.append(0)
        ends[row] = x + (len(word.text) + 1) * _LETTER
        y = top + 14 + row * _ROW
        times = f'data-from="{word.start_s:.3f}" data-to="{word.end_s + 0.3:.3f}"'
        parts.append(
            f'<path class="stem" d="M{x:.1f} {top - 4}V{y + 2}"/>'
            f'<text class="word" x="{x + 3:.1f}" y="{y}" {times}>'
            f"{escape(word.text)}</text>"
        )
    return parts, len(ends)


def _latency(
    frame_ms: Sequence[float], limit_ms: float, rate: float, width: float, top: float
) -> list[str]:
    """A bar for each frame, and a line at the limit for late ones."""
    values = np.asarray(frame_ms, dtype=float)
    step = rate * limit_ms / 1000
    if step < _COLUMN:  # more frames than pixels: the slowest of neighbours
        values = _columns(values, max(1, int(len(values) * step / _COLUMN)))
        step = len(frame_ms) * step / len(values)
    tallest = min(values.max(), 4 * limit_ms)
    scale = (_CHART - 8) / max(1.15 * limit_ms, tallest)
    base = top + _CHART
    tops = base - np.minimum(values, tallest) * scale
    thick = max(1.0, min(step - 1.5, 12))

    def bars(kind: str, chosen: np.ndarray) -> str:
        path = "".join(
            f"M{(i + 0.5) * step:.1f} {base}V{tops[i]:.1f}"
            for i in np.flatnonzero(chosen)
        )
        return f'<path class="{kind}" stroke-width="{thick:.1f}" d="{path}"/>'

    limit_y = base - limit_ms * scale
    return [
        f'<text class="lane" x="4" y="{top - 4}">Computing each frame</text>',
        bars("ok", values <= limit_ms),
        bars("late", values > limit_ms),
        f'<path class="limit" d="M0 {limit_y:.1f}H{width:.0f}"/>',
        f'<text x="4" y="{limit_y - 5:.1f}">{limit_ms:.0f} ms</text>',
    ]
