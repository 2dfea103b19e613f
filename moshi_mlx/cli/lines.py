"""What a listener reports, as lines on the screen and as what is kept of it."""

from typing import Any

from .console import RawPrinter


class Lines:
    """Words as they come; a turn is a line."""

    def __init__(self) -> None:
        self._printer = RawPrinter()
        self._begun = False
        self._turn_ends_s: float | None = None  # its last words may still come
        self._shown = ""  # of the newest word

    def print_event(self, _row: int, event: Any) -> None:
        from ..engines.stt import EndOfTurn, Stalled, Word, WordBegun

        if isinstance(event, WordBegun):
            if self._turn_ends_s is not None and event.start_s >= self._turn_ends_s:
                self.end()
            self._printer.print_token(f" {event.text}" if self._begun else event.text)
            self._begun, self._shown = True, event.text
        elif isinstance(event, Word):
            self._printer.print_token(event.text.removeprefix(self._shown))
        elif isinstance(event, EndOfTurn):
            self._turn_ends_s = event.time_s
        elif isinstance(event, Stalled):
            stall = f"sound but no words until {event.time_s:.0f} s"
            self._printer.log("warning", stall)

    def end(self) -> None:
        """Begin a new line."""
        if self._begun:
            self._printer.print_token("\n")
        self._begun, self._turn_ends_s = False, None


class Kept:
    """What was noticed in each sound so far.

    Args:
        count: sounds.
        lines: are shown it, where there are any.
    """

    def __init__(self, count: int, lines: Lines | None):
        self._lines = lines
        self._events: list[list[Any]] = [[] for _ in range(count)]

    def notice(self, row: int, event: Any) -> None:
        from ..engines.stt import EndOfTurn, Word

        if isinstance(event, Word | EndOfTurn):
            self._events[row].append(event)
        if self._lines is not None:
            self._lines.print_event(row, event)

    def transcripts(self, duration_s: float = 0.0) -> list[Any]:
        """So far; a sound is at least as long as what was noticed in it."""
        from ..engines.stt import Transcript, Word

        found = []
        for events in self._events:
            ends = [event.end_s for event in events if isinstance(event, Word)]
            found.append(Transcript.of(events, max([duration_s, *ends])))
        return found
