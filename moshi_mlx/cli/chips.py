"""Which Apple chips can run a model live, for people: in lines, or as a table."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .outputs import Json

if TYPE_CHECKING:
    from rich.table import Table

Rows = list[Json]
# Of checkpoint/bandwidth.py; "tight" would take more than 70 % of a bandwidth.
VERDICTS = {"yes": "fast enough", "tight": "tight (over 70 %)", "no": "too slow"}


def summary(rows: Rows) -> "Table":
    """A line for each verdict that occurs."""
    from rich.table import Table

    lines = Table.grid(padding=(0, 2))
    for verdict, words in VERDICTS.items():
        if names := names_of(rows, verdict):
            lines.add_row(f"  {words}", ", ".join(names))
    return lines


def names_of(rows: Rows, verdict: str) -> list[str]:
    """Chips with a verdict; variants of a chip that agree are named once.

    Returns ["all"] if every chip has it.
    """
    mine = [row["chip"] for row in rows if row["live"] == verdict]
    if len(mine) == len(rows):
        return ["all"]
    versions = Counter(_family(row["chip"]) for row in rows)
    agreeing = Counter(map(_family, mine))
    whole = {name for name, count in agreeing.items() if count == versions[name]}
    names = (_family(chip) if _family(chip) in whole else chip for chip in mine)
    return list(dict.fromkeys(names))


def _family(chip: str) -> str:
    """ "M3 Max" for "M3 Max (30-core GPU)"."""
    return chip.split(" (")[0]


def table(rows: Rows) -> "Table":
    """Every chip, with its bandwidth and the source of the figure."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    found = Table("chip", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("GB/s", "ms a frame", "live"):
        found.add_column(column, justify="right")
    found.add_column("source of GB/s")
    for row in rows:
        gb, verdict = f"{row['gb_per_s']:g}", VERDICTS[row["live"]]
        frame = milliseconds(row["frame_ms"])
        found.add_row(row["chip"], gb, frame, verdict, row["source"])
    return found


def milliseconds(frame_ms: Sequence[float] | None) -> str:
    """Shortest and longest time of a frame, as "56-61"; "?" for an unknown one."""
    if frame_ms is None:
        return "?"
    fast, slow = frame_ms
    return f"{fast:.0f}-{slow:.0f}"
