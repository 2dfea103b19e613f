"""Answers to recordings, heard frame by frame as in a live conversation."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...audio.framing import SAMPLE_RATE, Framer
from ...audio.inputs import SoundLike
from ...audio.long import frames
from ...audio.resample import resample
from ...audio.samples import Pcm, as_finite
from ...audio.save import write_sound
from ...checkpoint.kinds import ModelKind
from ...codec import Codec
from ...documents.report import write_report
from ...documents.transcript import Timed, words
from ...documents.words import Word
from ...errors import AudioError
from .endings import FRAME_RATE
from .reply import Reply
from .session import DuplexSession

Heard = SoundLike | NDArray[Any] | Iterable[Pcm]
NO_SOUND = "the response kept no sound: make it with keep_sound=True."


class Answering(Protocol):
    """The parts of ``Moshi`` that an answer uses."""

    kind: ModelKind
    make_codec: Callable[[], Codec]


@dataclass(frozen=True)
class Exchange:
    """One frame: what was heard and what came back."""

    heard: Pcm
    reply: Reply


def heard_frames(sound: Heard, sample_rate: int, called: str) -> Iterator[Pcm]:
    """Frames ``[1920]`` of any kind of sound; the last one is padded with silence.

    Args:
        sample_rate: of an array, in Hz.
        called: the function that errors name.
    """
    if isinstance(sound, np.ndarray):
        if sound.ndim != 1:
            raise AudioError(
                f"{called} got an array {list(sound.shape)}: give one channel [samples]"
                ", float32 or int16 (of [1, samples] take sound[0])."
            )
        return _cut(resample(as_finite(sound)[None], sample_rate, SAMPLE_RATE)[0])
    if isinstance(sound, Iterator | list | tuple):
        return iter(sound)  # type: ignore[arg-type]
    if isinstance(sound, int | float) or sound is None:
        raise AudioError(
            f"{called} got {sound!r}: give a sound file, its bytes, samples or frames."
        )
    return frames(sound)  # type: ignore[arg-type]


def _cut(pcm: Pcm) -> Iterator[Pcm]:
    framer = Framer()
    yield from framer.push(pcm)
    rest = framer.flush()
    if rest is not None:
        yield rest


def respond(
    session: DuplexSession, heard: Iterator[Pcm], moshi: Answering, tail_s: float = 10.0
) -> Iterator[Exchange]:
    """Feed a recording's frames to a session, and let it finish.

    Args:
        session: a fresh one of ``moshi``, with ``first="twice"``.
        heard: float32 ``[1920]`` each, see ``moshi_mlx.audio.frames``.
        tail_s: longest silence to add after the recording, in seconds; less if the
            model says nothing more. Hibiki and speech to text end by themselves.
    """
    ending = moshi.kind.ending
    if ending.rule == "delay":
        yield from _transcribe(session, heard, ending.before_s, ending.tail_s or 0.0)
        return
    silence = np.zeros(session.frame_size, np.float32)
    if ending.silent_start:
        _start_silent(session, moshi.make_codec, silence)
    for _ in range(round(ending.before_s * FRAME_RATE)):
        session.step(silence)
    for frame in heard:
        yield Exchange(frame, session.step(frame))
    for reply in session.flush(tail_s):
        yield Exchange(silence, reply)


def _start_silent(
    session: DuplexSession, make_codec: Callable[[], Codec], silence: Pcm
) -> None:
    """Frames of silence at Hibiki-Zero's start, which its codec never hears."""

    def encode() -> list[NDArray[np.int32]]:
        codec, delay = make_codec(), session.stepper.gen.max_delay
        return [codec.encode_step(silence[None, None])[0, :, 0] for _ in range(delay)]

    for codes in session.owner.run(encode, live=session.live):
        session.step_codes(codes[: len(session.sign_of_the_end)])


def _transcribe(
    session: DuplexSession, heard: Iterator[Pcm], before_s: float, after_s: float
) -> Iterator[Exchange]:
    """For speech to text: silence before and after, to the sample, as in its training.

    The silence before it need not be whole frames: the recording is framed again.
    """
    framer = Framer(session.frame_size)
    before, after = (
        np.zeros(int(s * SAMPLE_RATE), np.float32) for s in (before_s, after_s)
    )
    for pcm in chain([before], heard, [after]):
        for frame in framer.push(pcm):
            yield Exchange(frame, session.step(frame))


def live_exchanges(session: DuplexSession, blocks: Iterable[Pcm]) -> Iterator[Exchange]:
    """Answers to blocks ``[S]`` of any size as they arrive, for example from a
    microphone."""
    framer = Framer(session.frame_size)
    for block in blocks:
        for frame in framer.push(block):
            yield Exchange(frame, session.step(frame))


class Response:
    """The answer to a recording; it grows while you iterate over it.

    Args:
        session: the session that answers.
        exchanges: of the session.
        model: name of the model.
        keep_sound: keep both sides in memory.
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
        began_at = time.perf_counter()
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
