"""Run a live conversation until somebody or something ends it."""

import contextlib
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from .conversation import Conversation, Figures
from .devices import DEAD_MICROPHONE
from .keys import END, keys
from .screen import Screen

Event = tuple[str, object]

_REFRESH_S = 0.25  # of the figures; text is shown as it comes
_VOLUME_STEP, _MOST_VOLUME = 0.1, 2.0


@dataclass(frozen=True)
class Outcome:
    """How a conversation ended.

    Attributes:
        snapshot: its figures.
        exit_code: for the process: 0, or 128 plus the signal's number.
    """

    snapshot: Figures
    exit_code: int


class Talk:
    """The user's side of a conversation: text and figures out, keys and signals in.

    Args:
        screen: the screen to show it on.
        max_seconds: ends the conversation after this time; None for no limit.
        max_frames: ends it after this many frames; None for no limit.
    """

    def __init__(
        self,
        screen: Screen,
        max_seconds: float | None = None,
        max_frames: int | None = None,
    ):
        self.screen = screen
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._max_seconds = max_seconds
        self._max_frames = max_frames
        self._warned = False

    # Callbacks for a Conversation; may be called from any thread.

    def on_text(self, piece: str) -> None:
        self.events.put(("text", piece))

    def on_notice(self, sentence: str) -> None:
        self.events.put(("notice", sentence))

    def on_end(self, error: Exception) -> None:
        self.events.put(("error", error))

    def run(self, conversation: Conversation) -> Outcome:
        """Run the conversation, show it, stop it. Raises: the error that ended it."""
        with _signals(self.events.put), keys(lambda k: self.events.put(("key", k))):
            try:
                conversation.start()
                code = self._loop(conversation)
                snapshot = conversation.snapshot()
            finally:
                conversation.stop()
                with contextlib.suppress(OSError):  # a closed terminal shows nothing
                    self.screen.close()
        return Outcome(snapshot, code)

    def _loop(self, conversation: Conversation) -> int:
        shown_at = 0.0
        while True:
            try:
                kind, data = self.events.get(timeout=_REFRESH_S)
            except queue.Empty:
                kind, data = "", None
            code = self._handle(kind, data, conversation)
            if code is not None:
                return code
            now = time.perf_counter()
            if now - shown_at < _REFRESH_S:
                continue
            shown_at = now
            snapshot = conversation.snapshot()
            self._warn(snapshot)
            self.screen.update(snapshot)
            if self._is_over(snapshot):
                return 0

    def _is_over(self, snapshot: Figures) -> bool:
        seconds, frames = self._max_seconds, self._max_frames
        return (seconds is not None and snapshot.elapsed_s >= seconds) or (
            frames is not None and snapshot.frames >= frames
        )

    def _warn(self, snapshot: Figures) -> None:
        if snapshot.mic_is_dead and not snapshot.muted and not self._warned:
            self._warned = True
            self.screen.notice(DEAD_MICROPHONE)

    def _handle(
        self, kind: str, data: object, conversation: Conversation
    ) -> int | None:
        """Act on an event; returns an exit code if it ends the conversation."""
        if kind == "text":
            self.screen.text(str(data))
        elif kind == "notice":
            self.screen.notice(str(data))
        elif kind == "restart":
            self.screen.restart("A new conversation.")
        elif kind == "error" and isinstance(data, Exception):
            raise data
        elif kind == "signal" and isinstance(data, int):
            return 128 + data
        elif kind == "key":
            return self._press(str(data), conversation)
        return None

    def _press(self, key: str, conversation: Conversation) -> int | None:
        sound = conversation.sound
        if key == "q":
            return 0
        if key == END:
            return 128 + signal.SIGHUP
        if key == "m":
            sound.muted = not sound.muted
        elif key == "r":
            conversation.restart(lambda: self.events.put(("restart", None)))
        elif key in "+=-":
            step = -_VOLUME_STEP if key == "-" else _VOLUME_STEP
            sound.volume = round(min(max(sound.volume + step, 0.0), _MOST_VOLUME), 2)
        self.screen.update(conversation.snapshot())
        return None


@contextlib.contextmanager
def _signals(put: Callable[[Event], None]) -> Iterator[None]:
    """Turn signals into events; a second Ctrl-C ends the program at once."""

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        put(("signal", number))
        signal.signal(number, before[number])

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet_c_libraries() -> Iterator[None]:
    """Keep output of PortAudio and ALSA off the terminal; Python's own errors stay."""
    sys.stderr.flush()
    kept, before = os.dup(2), sys.stderr
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        with os.fdopen(os.dup(kept), "w", buffering=1) as stderr:
            os.dup2(nothing, 2)
            sys.stderr = stderr
            yield
    finally:
        sys.stderr = before
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
