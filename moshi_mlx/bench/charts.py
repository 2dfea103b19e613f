"""Charts as SVG in one self-contained HTML page: bars and lines, light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from string import Template

from ..documents.looks import looks
from ..errors import ConfigError
from ..utils.whole_files import write_whole

WIDTH, ROW, LABEL, VALUE = 760, 22, 210, 130  # pixels
PLOT_HEIGHT, MARGIN, ABOVE = 220, 56, 12
LEGEND, LEGEND_ROW = 175, 20  # a name's place, four beside each other
COLOURS = 6  # of lines, --c0 to --c5 in looks.css
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
${looks}svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font-size: 13px; }
svg .grid { stroke: var(--line); }
svg .mark { stroke: var(--late); stroke-dasharray: 5 4; }
td { white-space: nowrap; padding-left: .8rem; }
th { padding-left: .8rem; }
th:first-child, td:first-child { padding-left: 0; }
</style>
</head>
<body>
<h1>$title</h1>
<p class="note">$note</p>
$body
</body>
</html>
""")


@dataclass(frozen=True)
class Threshold:
    """A value, with its name, that a dashed line marks if the chart reaches it."""

    value: float
    name: str


def page(title: str, note: str, parts: Sequence[str]) -> str:
    """A whole HTML page of charts and tables."""
    return PAGE.substitute(
        looks=looks(), title=escape(title), note=escape(note), body="\n".join(parts)
    )


def write(path: Path, text: str) -> None:
    """Write a report. Raises: ConfigError if the file cannot be written."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def bars(
    title: str,
    values: Mapping[str, float],
    unit: str = "",
    mark: Threshold | None = None,
    top: float | None = None,
) -> str:
    """One horizontal bar per name, from 0.

    Args:
        top: the value of the longest possible bar, so that charts can be compared.
    """
    top = top or max(values.values(), default=0) or 1.0
    rows = []
    for i, (name, value) in enumerate(values.items()):
        y, long = i * ROW, (WIDTH - LABEL - VALUE) * value / top
        rows.append(
            f'<text x="0" y="{y + 15}">{escape(name)}</text>'
            f'<rect x="{LABEL}" y="{y + 3}" width="{long:.1f}" height="{ROW - 6}" '
            f'rx="2" fill="var(--c0)"/>'
            f'<text x="{LABEL + long + 6:.1f}" y="{y + 15}">{short(value)} '
            f"{escape(unit)}</text>"
        )
    tall = len(values) * ROW + 4
    if mark is not None and mark.value <= top:
        x = LABEL + (WIDTH - LABEL - VALUE) * mark.value / top
        rows.append(
            f'<path class="mark" d="M{x:.1f} 0V{tall}"/><text x="{x:.1f}" '
            f'y="{tall + 14}" text-anchor="middle">{escape(mark.name)}</text>'
        )
        tall += ROW
    return _figure(title, tall, rows)


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_name: str,
    y_name: str,
    mark: Threshold | None = None,
) -> str:
    """One line per name through points ``(x, y)``; both axes start at 0."""
    points = [point for line in series.values() for point in line]
    right = max((x for x, _ in points), default=0) or 1.0
    top = 1.1 * max((y for _, y in points), default=0) or 1.0
    wide, base = WIDTH - MARGIN - 10, PLOT_HEIGHT - 30
    parts = []
    for value in ticks(top):
        y = base * (1 - value / top)
        parts.append(f'<path class="grid" d="M{MARGIN} {y:.1f}H{WIDTH - 10}"/>')
        parts.append(
            f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{short(value)}</text>"
        )
    for value in ticks(right):
        x = MARGIN + wide * value / right
        parts.append(
            f'<text x="{x:.1f}" y="{base + 18}" text-anchor="middle">'
            f"{short(value)}</text>"
        )
    if mark is not None and mark.value <= top:
        y = base * (1 - mark.value / top)
        parts.append(
            f'<path class="mark" d="M{MARGIN} {y:.1f}H{WIDTH - 10}"/><text '
            f'x="{MARGIN + 6}" y="{y - 4:.1f}">{escape(mark.name)}</text>'
        )
    for i, (name, line) in enumerate(series.items()):
        colour = f"var(--c{i % COLOURS})"
        places = " ".join(
            f"{MARGIN + wide * x / right:.1f},{base * (1 - y / top):.1f}"
            for x, y in line
        )
        parts.append(
            f'<polyline points="{places}" fill="none" stroke="{colour}" '
            f'stroke-width="2"/>{_legend(i, name, colour, base + 36)}'
        )
    axes = f"{title} ({y_name} over {x_name})"
    rows = ceil(len(series) / 4)
    return _figure(axes, PLOT_HEIGHT + 4 + LEGEND_ROW * rows, parts, ABOVE)


def _legend(i: int, name: str, colour: str, top: float) -> str:
    x, y = MARGIN + LEGEND * (i % 4), top + LEGEND_ROW * (i // 4)
    return (
        f'<rect x="{x}" y="{y}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{x + 15}" y="{y + 10}">{escape(name)}</text>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        '<section class="card"><div class="scroll">'
        f"<table><tr>{top}</tr>{body}</table></div></section>"
    )


def ticks(top: float) -> list[float]:
    """Round numbers from 0 to ``top``, four to ten of them."""
    step = 10 ** floor(log10(top))
    step = next(step / part for part in (1, 2, 5) if top * part / step >= 4 or part > 4)
    return [i * step for i in range(ceil(top / step)) if i * step <= top]


def short(value: float) -> str:
    """Three significant digits, without trailing zeros."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figure(title: str, height: float, parts: Sequence[str], above: int = 0) -> str:
    name, tall = escape(title), f"{height + above:.0f}"
    return (
        f'<section class="card"><h2>{name}</h2>'
        f'<svg viewBox="0 {-above} {WIDTH} {tall}" width="{WIDTH}" '
        f'role="img" aria-label="{name}">{"".join(parts)}</svg></section>'
    )
