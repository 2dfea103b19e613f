"""A listener's events, as lines on the screen."""

from typing import TYPE_CHECKING

from .console import RawPrinter

if TYPE_CHECKING:
    from ..engines.stt import Event


class WordLines:
    """Words as they come; each turn is a line."""

    def __init__(self) -> None:
        self._printer = RawPrinter()
        self._begun = False
        self._turn_ends_s: float | None = None  # its last words may still come
        self._shown = ""  # of the newest word

    def print_event(self, event: "Event") -> None:
        """Show an event."""
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
