"""Output on a terminal: log lines, flowing text in a frame, progress.

``make_log``, ``Printer`` and ``RawPrinter`` keep the signatures of moshi_mlx 0.3.0.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from ..errors import ConfigError

_LEVELS = {"info": "1;34", "warning": "1;31", "error": "1;31"}  # ANSI colours
_SPINNER = "|/-\\"
_SPINNER_COLORS = ("32", "33", "31", "32")
_SPINNER_CALLS = 5  # calls of print_pending for one turn of the spinner
_LAG = " [LAG]"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # may be in the name of a file
_RED = "31"


def colorize(text: str, color: str) -> str:
    """``text`` in an ANSI colour."""
    return f"\033[{color}m{text}\033[0m"


def use_color(stream: TextIO) -> bool:
    """Whether to use colour on ``stream``: it is a terminal, and NO_COLOR is not
    set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def make_log(level: str, msg: str, stream: TextIO | None = None) -> str:
    """One log line; its level has a colour if ``stream`` (stderr) shows colour.

    Args:
        level: info, warning or error.
    """
    if level not in _LEVELS:
        raise ConfigError(f"'{level}' is not a log level: use {', '.join(_LEVELS)}.")
    head = f"{level.capitalize()}:"
    if use_color(stream or sys.stderr):
        head = colorize(head, _LEVELS[level])
    return f"{head} {_CONTROL.sub(lambda found: repr(found[0])[1:-1], msg)}"


class _LogLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        if record.levelno < logging.WARNING:
            level = "info"
        print(make_log(level, record.getMessage()), file=sys.stderr)


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Show the library's log as lines of ours; a second call sets the level."""
    logger = logging.getLogger(__name__.split(".")[0])
    logger.setLevel(level)
    if not any(isinstance(handler, _LogLines) for handler in logger.handlers):
        logger.addHandler(_LogLines())


class RawPrinter:
    """Text as it comes, for pipes and files; everything else goes to stderr.

    Args:
        flush_left: leave out the space before the first word.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        err_stream: TextIO | None = None,
        *,
        flush_left: bool = False,
    ):
        self.stream = stream or sys.stdout
        self.err_stream = err_stream or sys.stderr
        self._at_start = flush_left

    def print_header(self) -> None:
        """Plain text has no frame."""

    def print_token(self, token: str) -> None:
        if token and self._at_start:
            token, self._at_start = token.lstrip(), False
        self.stream.write(token)
        self.stream.flush()

    def log(self, level: str, msg: str) -> None:
        print(make_log(level, msg, self.err_stream), file=self.err_stream)

    def print_lag(self) -> None:
        """Say that the model has fallen behind."""
        lag = colorize(_LAG, _RED) if use_color(self.err_stream) else _LAG
        self.err_stream.write(lag)
        self.err_stream.flush()

    def print_pending(self) -> None:
        """Plain text has no spinner."""


class Printer:
    """Flowing text in a frame, wrapped at words; one instance owns the current line.

    Args:
        max_cols: characters of text in a line.
        stream: where the text goes.
        err_stream: where log lines go.
    """

    def __init__(
        self,
        max_cols: int = 80,
        stream: TextIO | None = None,
        err_stream: TextIO | None = None,
    ):
        self.max_cols = max_cols
        self.stream = stream or sys.stdout
        self.err_stream = err_stream or sys.stderr
        self._line: list[tuple[str, str | None]] = []  # pieces with their colour
        self._pending_calls = 0
        self._pending_shown = False

    def print_header(self) -> None:
        """The upper border."""
        self.stream.write(f" {'-' * (self.max_cols + 2)}\n| ")
        self.stream.flush()

    def print_token(self, token: str, color: str | None = None) -> None:
        """Append a piece of text; a word that no longer fits moves to the next line."""
        self._clear_pending()
        while self._width + len(token) > self.max_cols:
            token = self._wrap(token)
        self._add(token, color)
        self.stream.flush()

    def log(self, level: str, msg: str) -> None:
        """A log line under the text so far."""
        self._clear_pending()
        if self._line:
            self._line.clear()
            self.stream.write("\n")
        self.stream.flush()
        print(make_log(level, msg, self.err_stream), file=self.err_stream)

    def print_lag(self) -> None:
        """Say that the model has fallen behind."""
        self.print_token(_LAG, _RED)

    def print_pending(self) -> None:
        """Turn the spinner at the end of the text."""
        turn = self._pending_calls // _SPINNER_CALLS % len(_SPINNER)
        self._pending_calls += 1
        self._clear_pending()
        self.stream.write(colorize(_SPINNER[turn], _SPINNER_COLORS[turn]) + "\b")
        self.stream.flush()
        self._pending_shown = True

    @property
    def _width(self) -> int:
        return sum(len(text) for text, _ in self._line)

    def _add(self, text: str, color: str | None) -> None:
        self._line.append((text, color))
        self.stream.write(text if color is None else colorize(text, color))

    def _clear_pending(self) -> None:
        if self._pending_shown:
            self.stream.write(" \b")
            self._pending_shown = False

    def _wrap(self, token: str) -> str:
        """End the line; returns the part of the current word that goes to the next."""
        word = token
        if not token.startswith(" "):
            kept = self._without_last_word()
            if kept is None:  # the word is longer than a line: cut it
                room = self.max_cols - self._width
                self._add(token[:room], None)
                word = token[room:]
            else:
                word = "".join(text for text, _ in self._line[kept:]) + token
                taken = self._width - sum(len(text) for text, _ in self._line[:kept])
                self._line = self._line[:kept]
                self.stream.write("\b" * taken + " " * taken + "\b" * taken)
        self.stream.write(f"{' ' * (self.max_cols - self._width)} |\n| ")
        self._line.clear()
        return word.lstrip(" ")

    def _without_last_word(self) -> int | None:
        """The number of pieces before the unfinished word; None if it fills the line.

        A coloured piece is a mark, never a part of a word.
        """
        for i in reversed(range(len(self._line))):
            text, color = self._line[i]
            if color is not None:
                return i + 1
            if text.startswith(" "):
                return i
        return None


AnyPrinter = Printer | RawPrinter


@contextmanager
def status(message: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr during something of unknown length; terminals only.

    Yields a function that takes another message. The first one also says what the first
    start on a machine compiles.
    """
    from rich.console import Console

    from ..linux_cpu import first_start

    console = Console(stderr=True)
    if console.is_terminal and (compiles := first_start()):
        message = f"{message} ({compiles})"
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(message) as shown:
        yield shown.update


@contextmanager
def progress(message: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on stderr (terminals only); yields a function that takes the amount done.

    Args:
        message: what is going on.
        total: the total amount, in any unit.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    hidden = not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(message, total=total)
        yield lambda done: bar.advance(task, done)
