"""The work of `moshi-mlx chat` once its options are read: load, talk, sum up."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .console import RawPrinter
from .outputs import print_json

if TYPE_CHECKING:
    from ..bench.speed import Speed
    from ..checkpoint.kinds import Ability
    from ..documents.recording import Recording
    from ..engines.duplex.engine import Moshi
    from ..engines.line import Session
    from ..engines.thread import ModelThread
    from ..live.conversation import Conversation
    from ..live.screen import Screen
    from ..live.sound import SoundOptions
    from ..live.talk import Outcome
    from ..utils.trace import Trace
    from .loading import ModelFiles


class Loader:
    """Loads and times the model, on the model thread; keeps messages for the user."""

    def __init__(
        self,
        name: str,
        codec: str | None,
        files: "ModelFiles",
        ability: "Ability" = "listens",
        codec_dtype: str = "float32",
    ):
        self.name = name
        self._ability: Ability = ability
        self.notices: list[str] = []
        self.speed: Speed | None = None
        self._codec = codec
        self._codec_dtype = codec_dtype
        self._files = files

    def __call__(self) -> "Moshi":
        from ..bench.speed import advice, measure, with_faster_codec
        from ..checkpoint.info import CheckpointInfo
        from ..engines.duplex.load import load_moshi

        info = CheckpointInfo.find(self.name, **self._files)
        info.kind.check(self._ability, self.name)
        moshi = load_moshi(
            info=info,
            codec=self._codec or "native",
            quantize=self._files.get("bits"),
            codec_dtype=self._codec_dtype,
        )
        self.speed = measure(moshi)
        if self._codec is None:
            moshi, self.speed, notice = with_faster_codec(moshi, self.speed)
            self.notices += [notice] if notice else []
        slow = advice(self.speed, moshi)
        self.notices += [slow] if slow else []
        return moshi


class Run:
    """One conversation, from the first word to the summary."""

    def __init__(
        self,
        thread: "ModelThread",
        loader: Loader,
        about: dict[str, object],
        record: Path | None,
        trace: "Trace",
        as_json: bool,
    ):
        self._thread = thread
        self._loader = loader
        self._about = about
        self._record = record
        self._trace = trace
        self._json = as_json
        self._text: list[str] = []

    def __call__(
        self,
        make: "Callable[[], Session]",
        sound: "SoundOptions",
        max_seconds: float | None,
        max_frames: int | None,
    ) -> "Outcome":
        from ..documents.recording import Recording
        from ..live.conversation import Conversation
        from ..live.talk import Talk

        recording = None
        if self._record is not None:
            recording = Recording.in_folder(self._record, about=self._about)
        talk = Talk(self._screen(), max_seconds, max_frames)

        def on_text(piece: str) -> None:
            self._text.append(piece)
            talk.on_text(piece)

        conversation = Conversation(
            self._thread,
            make,
            sound,
            on_text if self._json else talk.on_text,
            talk.on_notice,
            talk.on_end,
            recording,
            self._trace,
        )
        for notice in self._loader.notices:
            talk.on_notice(notice)
        try:
            outcome = talk.run(conversation)
        finally:
            if recording is not None:
                self._report(recording, conversation)
        self._sum_up(outcome, recording)
        return outcome

    def _screen(self) -> "Screen":
        from rich.console import Console

        from ..live.screen import LiveScreen, PlainScreen

        if self._json:
            return PlainScreen(sys.stderr)
        console = Console()
        if console.is_terminal and not console.is_dumb_terminal:
            return LiveScreen(self._loader.name, console)
        return PlainScreen()

    def _report(self, recording: "Recording", conversation: "Conversation") -> None:
        from ..documents.recording import read_restarts, read_words
        from ..documents.report import write_report

        path = recording.path
        write_report(
            path.with_suffix(".html"),
            path,
            title=f"A conversation with {self._loader.name}",
            pieces=read_words(path.with_suffix(".json")),
            frame_ms=list(conversation.step_ms),
            stages=self._trace.summary(),
            facts=self._about,
            restarts=read_restarts(path.with_suffix(".json")),
        )

    def _sum_up(self, outcome: "Outcome", recording: "Recording | None") -> None:
        s = outcome.snapshot
        figures = {**self._about, **s.to_dict()}
        if self._json:
            figures["text"] = "".join(self._text).strip()
            figures["recording"] = str(recording.path) if recording else None
            print_json("chat", figures)
            return
        printer = RawPrinter()
        printer.log(
            "info",
            "{elapsed_s:.0f} s, {frames} frames; ".format(**figures)
            + f"lag p50 {s.lag_p50:.0f}, p95 {s.lag_p95:.0f} ms; {s.dropped.total} "
            f"frames dropped; {s.gaps} gaps; seed {self._about['seed']}",
        )
        if recording is not None:
            printer.log("info", f"recorded in {recording.path}, with text and report")
