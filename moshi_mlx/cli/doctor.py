"""`moshi-mlx doctor`: what could keep Moshi from running here."""

from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated

import typer

from . import options
from .outputs import print_json

EXAMPLES = """
moshi-mlx doctor
moshi-mlx doctor --model kyutai/moshiko-mlx-q4
moshi-mlx doctor --json --no-sound
"""
_MARKS = {"ok": ("green", "ok"), "warning": ("yellow", "!"), "error": ("red", "x")}


def doctor(
    model: options.TimedModel = None,
    sound: Annotated[
        bool,
        typer.Option(
            "--sound/--no-sound",
            help="Listen to the microphone for a second, and open the speaker.",
        ),
    ] = True,
    json_: options.Json = False,
) -> None:
    """Check Python, MLX, memory, sound devices and codec, and time a few frames.

    Estimates which version of Moshi 7B runs in real time here, from a few of its
    layers: nothing is downloaded. --model loads a model and times it. The exit code
    is 1 if something is missing that a conversation needs.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from ..bench.health import check
    from ..live.talk import quiet_c_libraries

    console = Console()
    findings = []
    watched = console.is_terminal and not json_
    with quiet_c_libraries(), console.status("looking") if watched else nullcontext():
        for finding in check(model or "demo", sound):
            findings.append(finding)
            if not json_:
                style, mark = _MARKS[finding.state]
                row = Table.grid(padding=(0, 1))
                row.add_column(width=2)
                row.add_column(width=14)
                row.add_column()
                row.add_row(
                    Text(mark, style), Text(finding.what, "bold"), Text(finding.text)
                )
                console.print(Padding(row, (0, 0)))
    if json_:
        print_json("doctor", {"findings": [asdict(finding) for finding in findings]})
    if any(finding.state == "error" for finding in findings):
        raise typer.Exit(1)
