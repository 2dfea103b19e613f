"""Answers to recordings, heard frame by frame as in a live conversation."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...audio.framing import SAMPLE_RATE, Framer
from ...audio.inputs import SoundLike
from ...audio.long import frames
from ...audio.resample import resample
from ...audio.samples import Pcm, as_finite
from ...checkpoint.kinds import ModelKind
from ...codec import Codec
from ...errors import AudioError
from .endings import FRAME_RATE
from .response import Exchange
from .session import DuplexSession

Heard = SoundLike | NDArray[Any] | Iterable[Pcm]


class Answering(Protocol):
    """The parts of ``Moshi`` that an answer uses."""

    kind: ModelKind
    make_codec: Callable[[], Codec]


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
