"""A command run in a terminal made of software, and its screen as an SVG file."""

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import pyte
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.color import ColorParseError
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

COLUMNS = 92
TALL = 400  # rows of a screen that nothing scrolls out of
LIVE = 24  # rows of a program that paints the whole screen
# Rich names a font on a server of somebody else's; the pictures load nothing.
TEMPLATE = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
NAMES = {"brown": "yellow", "default": "default"}  # pyte's words for Rich's


def record(
    command: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    rows: int = TALL,
    seconds: float | None = None,
    keys: bytes = b"",
) -> pyte.Screen:
    """Run ``command`` in ``folder``; returns its screen.

    Args:
        env: variables beside this process's own.
        rows: height of the terminal.
        seconds: after so long the screen is taken and the program stopped; None waits
            for its end.
        keys: what is typed to stop it.

    Raises: CalledProcessError if a program that should end by itself fails.
    """
    screen = pyte.Screen(COLUMNS, rows)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, COLUMNS, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, "TERM": "xterm-256color", **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    end = None if seconds is None else time.monotonic() + seconds
    while end is None or time.monotonic() < end:
        if not select.select([ours], [], [], 0.1)[0]:
            continue
        try:
            stream.feed(os.read(ours, 65536))
        except OSError:  # the program has closed its terminal
            break
    if process.poll() is None and end is not None:
        os.write(ours, keys)
        _drain(ours, process)
    os.close(ours)
    code = process.wait()
    if code and end is None:
        shown = "\n".join(screen.display).rstrip()
        raise subprocess.CalledProcessError(code, command, shown)
    return screen


def _drain(ours: int, process: "subprocess.Popen[bytes]") -> None:
    """Read on, unseen, until the program has ended."""
    while process.poll() is None:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                os.read(ours, 65536)
            except OSError:
                return


def draw(screen: pyte.Screen, path: Path, typed: str) -> None:
    """Write the screen as SVG, under the line that was typed."""
    text = Text.assemble(("$ ", "green"), (typed, "bold"), "\n")
    last = max((y for y, row in screen.buffer.items() if _written(row)), default=0)
    for y in range(last + 1):
        cells = [screen.buffer[y][x] for x in range(screen.columns)]
        line = Text()
        for style, run in groupby(cells, _style):
            line.append("".join(cell.data for cell in run), style)
        line.rstrip()
        text.append_text(line).append("\n")
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor"
    )
    console.print(text, end="", no_wrap=True, crop=True)
    svg = console.export_svg(
        title="moshi-mlx",
        theme=SVG_EXPORT_THEME,
        code_format=TEMPLATE,
        unique_id=path.stem,
    )
    path.write_text(svg, encoding="utf-8")


def _written(row: Mapping[int, pyte.screens.Char]) -> bool:
    return any(char.data.strip() for char in row.values())


def _style(char: pyte.screens.Char) -> Style:
    def color(name: str) -> str | None:
        if re.fullmatch(r"[0-9a-f]{6}", name):
            return f"#{name}"
        if name.startswith("bright"):
            name = f"bright_{NAMES.get(name[6:], name[6:])}"
        name = NAMES.get(name, name)
        return None if name == "default" else name

    try:
        return Style(
            color=color(char.fg),
            bgcolor=color(char.bg),
            bold=char.bold,
            italic=char.italics,
            underline=char.underscore,
            reverse=char.reverse,
        )
    except ColorParseError:
        return Style(bold=char.bold)
