"""The screen of a live conversation: the text as it flows, and its figures."""

import sys
import textwrap
import time
from typing import Protocol, TextIO

import numpy as np

from ..documents.looks import MOSHI, YOU
from .conversation import Figures

PARAGRAPH_S = 1.5  # without text: the next text starts a line
_SLOW_MS = 160  # a lag that people notice
_FLOOR_DB = -60.0  # left end of a meter
_KEYS = "m mute · r restart · + - volume {volume:.0f} % · q quit"


class Screen(Protocol):
    """Where a conversation is shown."""

    def text(self, piece: str) -> None: ...

    def notice(self, sentence: str) -> None: ...

    def restart(self, sentence: str) -> None: ...

    def update(self, snapshot: Figures) -> None: ...

    def close(self) -> None: ...


class PlainScreen:
    """Text as it comes, for pipes, files and screen readers; the rest to stderr."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None):
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._last_s: float | None = None

    def text(self, piece: str) -> None:
        now = time.monotonic()
        if self._last_s is None:
            piece = piece.lstrip(" ")
        elif now - self._last_s > PARAGRAPH_S:
            piece = "\n" + piece.lstrip(" ")
        self._last_s = now
        self._out.write(piece)
        self._out.flush()

    def notice(self, sentence: str) -> None:
        print(sentence, file=self._err, flush=True)

    def restart(self, sentence: str) -> None:
        """End the old conversation's line, and print that another starts."""
        self.close()
        self._last_s = None
        self.notice(sentence)

    def update(self, snapshot: Figures) -> None:
        """Plain text stays as it is."""

    def close(self) -> None:
        if self._last_s is not None:
            self._out.write("\n")
            self._out.flush()


class LiveScreen:
    """The text above, meters and figures in the last lines of the terminal.

    Complete lines of text go into the terminal's own history.

    Args:
        model: name shown.
        console: a ``rich.console.Console``; by default one on stdout.
    """

    def __init__(self, model: str, console: object = None):
        from rich.console import Console
        from rich.live import Live

        self._console = console if isinstance(console, Console) else Console()
        self._model = model
        self._line = ""
        self._last_s = 0.0
        self._snapshot: Figures | None = None
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def text(self, piece: str) -> None:
        now = time.monotonic()
        if self._line and now - self._last_s > PARAGRAPH_S:
            self._finish()
        self._last_s = now
        self._line = (self._line + piece.replace("\n", " ")).lstrip(" ")
        width = max(10, self._console.width - 1)
        *whole, self._line = textwrap.wrap(
            self._line, width, drop_whitespace=False
        ) or [""]
        for line in whole:
            self._print(line.rstrip(" "))
        self._line = self._line.lstrip(" ") if whole else self._line
        self._draw()

    def notice(self, sentence: str) -> None:
        """Print a line above the line in progress, which may end within a word."""
        from rich.text import Text

        self._console.print(Text(sentence, style="yellow"), highlight=False)
        self._draw()

    def restart(self, sentence: str) -> None:
        """Print the sentence below the old conversation, above the new one."""
        self._finish()
        self.notice(sentence)

    def update(self, snapshot: Figures) -> None:
        self._snapshot = snapshot
        self._draw()

    def close(self) -> None:
        self._finish()
        self._live.update("")
        self._live.stop()

    def _finish(self) -> None:
        """The current line is complete."""
        if self._line:
            self._print(self._line)
            self._line = ""

    def _print(self, line: str) -> None:
        from rich.text import Text

        self._console.print(Text(line), highlight=False)

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        rows = [Text(self._line), Text("")]
        if self._snapshot is not None:
            plain = not (self._console.encoding or "").lower().startswith("utf")
            rows += status_lines(
                self._snapshot, self._model, self._console.width - 1, plain
            )
        for row in rows:  # they fit: looking for breaks takes a third of the time
            row.no_wrap = True
        self._live.update(Group(*rows), refresh=True)


def status_lines(snapshot: Figures, model: str, width: int, plain: bool) -> list:
    """Meters, figures and keys as ``rich`` texts no wider than ``width``.

    Args:
        plain: whether the terminal shows only ASCII.
    """
    from rich.text import Text

    s = snapshot
    marks = "#-" if plain else "█░"
    wide = width >= 60
    cells = min(24, (width - 18) // 2 if wide else width - 8)
    you, moshi = Text(), Text()
    you.append("muted " if s.muted else "you   ", "bold yellow" if s.muted else "bold")
    you.append(meter(s.heard_level, cells, marks), YOU)
    moshi.append("moshi ", "bold")
    moshi.append(meter(s.played_level, cells, marks), MOSHI)
    meters = [Text("  ").join([you, moshi])] if wide else [you, moshi]
    bad = "bold red"
    facts = [
        Text(clock(s.elapsed_s)),
        Text(
            f"lag {s.lag_p50:.0f} ms (p95 {s.lag_p95:.0f})",
            bad if s.lag_p95 > _SLOW_MS else "",
        ),
        Text(f"model {s.step_p50:.0f} ms (p95 {s.step_p95:.0f})"),
        Text(f"buffer {s.jitter:.0f} ms"),
        Text(f"{s.dropped.total} dropped", bad if s.dropped.total else ""),
        Text(f"{s.memory_mib:.0f} MiB"),
        Text(model),
    ]
    if s.echo_delay is not None:
        facts.insert(-2, Text(f"echo {s.echo_delay:.0f} ms"))
    if s.paused:
        facts.insert(0, Text("no device", bad))
    elif s.mic_is_dead:
        facts.insert(0, Text("the microphone gives pure silence", "yellow"))
    keys = [
        Text(key, "dim") for key in _KEYS.format(volume=100 * s.volume).split(" · ")
    ]
    dot = " - " if plain else " · "
    return [*meters, *flow(facts, width, dot), *flow(keys, width, dot)]


def flow(items: list, width: int, dot: str) -> list:
    """``rich`` texts in lines no wider than ``width``, ``dot`` between them."""
    lines = []
    for item in items:
        item.truncate(width, overflow="crop" if dot.isascii() else "ellipsis")
        if lines and len(lines[-1]) + len(dot) + len(item) <= width:
            lines[-1] = lines[-1].copy().append(dot).append_text(item)
        else:
            lines.append(item)
    return lines


def meter(level: float, cells: int, marks: str = "█░") -> str:
    """A bar of ``cells`` characters for an rms level, -60 dB to full scale."""
    db = 20 * np.log10(max(level, 1e-9))
    full = round(cells * min(1.0, max(0.0, 1 - db / _FLOOR_DB)))
    return marks[0] * full + marks[1] * (cells - full)


def clock(seconds: float) -> str:
    """Time in the usual form: 0:05, 12:34, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
