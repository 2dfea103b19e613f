"""An answer to a recording: text, sound, timing, and the files that hold them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...audio.samples import Pcm
from ...audio.save import sound_writer, write_sound
from ...documents.recording import Recording
from ...documents.report import write_report
from ...documents.transcript import LAYOUT, Layout, Timed, srt, vtt, words
from ...documents.word_files import write_words
from ...documents.words import Word
from ...errors import AudioError
from .endings import FRAME_RATE
from .reply import Reply
from .session import DuplexSession

NO_SOUND = "the response kept no sound: make it with keep_sound=True."


@dataclass(frozen=True)
class Exchange:
    """One frame: what was heard and what came back."""

    heard: Pcm
    reply: Reply


class Response:
    """The answer to a recording; it grows while you iterate over it.

    Args:
        session: the session that answers.
        exchanges: of the session.
        model: name of the model.
        keep_sound: keep both sides in memory.

    Attributes:
        began: whether its first frame was asked for.
    """

    def __init__(
        self,
        session: DuplexSession,
        exchanges: Iterator[Exchange],
        model: str,
        keep_sound: bool = True,
    ):
        self.session = session
        self.model = model
        self.seed = session.seed
        self._frame_size = session.frame_size  # the session may be closed later
        self.began = False
        self.frames = 0
        self.wall_s = 0.0
        self.pieces: list[Timed] = []
        self._exchanges = exchanges
        self._keep = keep_sound
        self._heard: list[Pcm] = []
        self._said: list[Pcm | None] = []

    def __repr__(self) -> str:
        return f"<Response of {self.model}: {self.seconds:.1f} s, {self.text!r}>"

    def __iter__(self) -> Iterator[Exchange]:
        self.began, began_at = True, time.perf_counter()
        for exchange in self._exchanges:
            self.add(exchange)
            self.wall_s = time.perf_counter() - began_at
            yield exchange

    def add(self, exchange: Exchange) -> None:
        """Take one frame of both sides."""
        start_s, reply = self.frames / FRAME_RATE, exchange.reply
        self.frames += 1
        if self._keep:
            self._heard.append(exchange.heard)
            self._said.append(reply.pcm)
        if reply.text:
            end_s = start_s + 1 / FRAME_RATE
            self.pieces.append(Timed(reply.text, start_s, end_s))

    @property
    def seconds(self) -> float:
        """The length so far, in seconds."""
        return self.frames / FRAME_RATE

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(piece.text for piece in self.pieces).strip()

    @property
    def words(self) -> list[Word]:
        """Words with their times, in seconds from the start of the recording."""
        return [
            Word(w.text, round(w.start_s, 3), round(w.end_s, 3))
            for w in words(self.pieces)
        ]

    @property
    def pcm(self) -> Pcm:
        """The spoken answer, float32 ``[S]`` at 24 kHz."""
        self._check_kept()
        said = [pcm for pcm in self._said if pcm is not None]
        return np.concatenate(said) if said else np.zeros(0, np.float32)

    @property
    def both(self) -> Pcm:
        """Both sides ``[2, S]``: the recording, and the answer at its time."""
        self._check_kept()
        silence = np.zeros(self._frame_size, np.float32)
        said = [silence if pcm is None else pcm for pcm in self._said]
        heard = [np.pad(h, (0, len(silence) - len(h))) for h in self._heard]
        if not heard:
            return np.zeros((2, 0), np.float32)
        return np.stack([np.concatenate(heard), np.concatenate(said)])

    def _check_kept(self) -> None:
        if not self._keep:
            raise AudioError(NO_SOUND)

    def save(self, path: str | Path) -> None:
        """Write the spoken answer as .wav, .mp3, .opus, .flac or .aac, by the path's
        ending."""
        write_sound(path, self.pcm)

    def write(
        self,
        out: str | Path | None = None,
        *,
        recording: str | Path | None = None,
        report: str | Path | None = None,
        words: str | Path | None = None,
        layout: Layout = LAYOUT,
        source: str | Path | None = None,
        on_exchange: Callable[[Exchange], None] = lambda _: None,
    ) -> None:
        """Run the answer to its end, and write files while it grows.

        After Ctrl-C the files hold everything up to the last frame.

        Args:
            out: sound file of the answer; its name sets the format.
            recording: WAV file of both sides, heard on the left. The text with its
                times goes beside it, as .json, .txt and .srt.
            report: HTML page, see ``report``.
            words: file of the words with their times: .json, .srt, .txt or .vtt.
            layout: of subtitles.
            source: the recording that is answered, to be named in these files.
            on_exchange: called with each frame.

        Raises: AudioError if a file cannot be written, or if a report is wanted and
            the sound is not kept.
        """
        if report is not None:
            self._check_kept()
        about = {} if source is None else {"input": str(source)}
        about |= {"model": self.model, "seed": self.seed}
        with ExitStack() as stack:
            written = stack.enter_context(ExitStack())  # when the sound is closed
            sound = None if out is None else stack.enter_context(sound_writer(out))
            both = None
            if recording is not None:
                both = stack.enter_context(Recording(recording, about=about))
            if report is not None:
                Path(report).unlink(missing_ok=True)  # it belongs to another answer
                written.callback(self._report_of, report, source)
            if words is not None:
                written.callback(lambda: write_words(Path(words), self.words, layout))
            for exchange in self:
                reply = exchange.reply
                if sound is not None and reply.pcm is not None:
                    sound.write(reply.pcm)
                if both is not None:
                    both.add(exchange.heard, reply.pcm, reply.text)
                on_exchange(exchange)

    def _report_of(self, path: str | Path, source: str | Path | None) -> None:
        if self.frames:
            title = source and f"{self.model} answers {Path(source).name}"
            self.report(path, title)

    def report(self, path: str | Path, title: str | None = None) -> None:
        """Write one HTML page: both waveforms, the text at its time, the timing."""
        trace, lead_in_s = self.session.trace, self.session.ending.before_s
        facts: dict[str, object] = {"model": self.model, "seed": self.seed}
        if lead_in_s:
            facts["silence before, left out here"] = f"{lead_in_s:g} s"
        write_report(
            path,
            self.both,
            title=title or f"An answer of {self.model}",
            pieces=self.pieces,
            frame_ms=trace.durations_ms("frame"),
            stages=trace.summary(),
            facts=facts,
        )

    def to_srt(self) -> str:
        """Subtitles in SubRip's format."""
        return srt(self.pieces)

    def to_vtt(self) -> str:
        """Subtitles in WebVTT's format."""
        return vtt(self.pieces)

    def to_dict(self) -> dict[str, Any]:
        """The text, its words and the timing, ready for JSON."""
        return {
            "model": self.model,
            "seed": self.seed,
            "text": self.text,
            "words": [asdict(word) for word in self.words],
            "frames": self.frames,
            "audio_s": round(self.seconds, 3),
            "wall_s": round(self.wall_s, 3),
            "times_real_time": (
                round(self.seconds / self.wall_s, 2) if self.wall_s else 0.0
            ),
            "stages_ms": {
                name: {"p50": round(t.p50_ms, 2), "p95": round(t.p95_ms, 2)}
                for name, t in self.session.trace.summary().items()
            },
        }
