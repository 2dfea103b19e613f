"""How a model finishes after a recording has ended: see ``kinds.EndRule``.

Source of Hibiki's: kyutai-labs/moshi, moshi/run_inference.py; of Hibiki-Zero's:
kyutai-labs/hibiki-zero, hibiki_zero/inference.py.
"""

from collections.abc import Iterator
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...audio.framing import rms
from ...audio.samples import Pcm
from ...checkpoint.kinds import EndRule

FRAME_RATE = 12.5  # frames per second
QUIET_RMS = 0.004  # full scale is 1; below it, nobody speaks
QUIET_S = 2.0  # without sound or words: the answer is over


class ReplyLike(Protocol):
    """The parts of a session's reply that an ending uses."""

    @property
    def pcm(self) -> Pcm | None: ...
    @property
    def text(self) -> str: ...


R = TypeVar("R", bound=ReplyLike)
R_co = TypeVar("R_co", bound=ReplyLike, covariant=True)


class Finishing(Protocol[R_co]):
    """The parts of a session that an ending uses."""

    frame_size: int

    @property
    def sign_of_the_end(self) -> NDArray[np.int32]: ...
    @property
    def has_ended(self) -> bool: ...

    def step(self, frame: Pcm) -> R_co: ...
    def step_codes(self, codes: NDArray[np.int32]) -> R_co: ...
    def encode(self, frame: Pcm) -> NDArray[np.int32]: ...


def finish(session: Finishing[R], ending: EndRule, seconds: float) -> Iterator[R]:
    """The replies after a recording's last frame, until the model has finished.

    Args:
        seconds: longest time to wait, unless the ending has its own.
    """
    seconds = seconds if ending.tail_s is None else ending.tail_s
    silence = np.zeros(session.frame_size, np.float32)
    if ending.rule == "own":
        yield from _until_it_says_so(session, silence, seconds, ending.silent_start)
    elif ending.rule == "quiet":
        yield from _until_quiet(session, silence, seconds)
    else:
        for _ in range(int(seconds * FRAME_RATE)):
            yield session.step(silence)


def _until_quiet(session: Finishing[R], silence: Pcm, seconds: float) -> Iterator[R]:
    """Silence until nothing has been said for a while."""
    quiet = 0
    for _ in range(round(seconds * FRAME_RATE)):
        if quiet >= QUIET_S * FRAME_RATE:
            return
        reply = session.step(silence)
        loud = reply.pcm is not None and rms(reply.pcm) > QUIET_RMS
        quiet = 0 if reply.text or loud else quiet + 1
        yield reply


def _until_it_says_so(
    session: Finishing[R], silence: Pcm, seconds: float, zero: bool
) -> Iterator[R]:
    """A frame that says that the input has ended, then silence until the output has.

    The output has ended when the text's end comes out with its sound, ``max_delay``
    steps after it was chosen. An end that comes out before the input's is too early,
    and ignored. Hibiki-Zero also hears silence in the frame of the end, and says
    nothing with its own end.
    """
    for step in range(round(seconds * FRAME_RATE)):
        if zero and not step:
            session.encode(silence)
        end = session.sign_of_the_end
        reply = session.step(silence) if step else session.step_codes(end)
        ended = session.has_ended
        if not (ended and zero):
            yield reply
        if ended:
            return
