"""A recording in, an answer out: heard frame by frame, as it would be live."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ...audio.framing import SAMPLE_RATE, Framer, rms
from ...checkpoint.eos import EOS
from .engine import Moshi
from .session import DuplexSession, Reply

FRAME_RATE = 12.5  # frames a second
QUIET_RMS = 0.004  # full scale is 1; below it, nobody speaks
QUIET_S = 2.0  # of silence and no word: the answer is over
HIBIKI_TAIL_S = 60.0  # a translation that has not ended by then never will


@dataclass(frozen=True)
class Exchange:
    """One frame: what was heard and what came back."""

    heard: NDArray[np.float32]
    reply: Reply


def respond(
    session: DuplexSession,
    frames: Iterator[NDArray[np.float32]],
    moshi: Moshi,
    tail_s: float = 10.0,
) -> Iterator[Exchange]:
    """Feed a recording's frames to a session and let it finish.

    Args:
        session: a fresh one of ``moshi``, with ``first="twice"``.
        frames: float32 ``[1920]`` each, see ``moshi_mlx.audio.frames``.
        tail_s: silence given after the recording at most, in seconds; it ends sooner
            where nothing is said any more. Hibiki and speech to text have their own.
    """
    kind = moshi.info.model_type
    silence = np.zeros(session.frame_size, np.float32)
    if kind == "stt":
        yield from _transcribe(session, frames, moshi)
        return
    if kind == "hibiki":
        yield from _translate(session, frames, moshi, silence)
        return
    for frame in frames:
        yield Exchange(frame, session.step(frame))
    yield from _let_finish(session, silence, tail_s)


def _let_finish(
    session: DuplexSession, silence: NDArray[np.float32], tail_s: float
) -> Iterator[Exchange]:
    """Silence until Moshi has been quiet for a while."""
    quiet = 0
    for _ in range(round(tail_s * FRAME_RATE)):
        if quiet >= QUIET_S * FRAME_RATE:
            return
        reply = session.step(silence)
        loud = reply.pcm is not None and rms(reply.pcm) > QUIET_RMS
        quiet = 0 if reply.text or loud else quiet + 1
        yield Exchange(silence, reply)


def _translate(
    session: DuplexSession,
    frames: Iterator[NDArray[np.float32]],
    moshi: Moshi,
    silence: NDArray[np.float32],
) -> Iterator[Exchange]:
    """Hibiki: the recording, a frame of end-of-input, silence until it has ended.

    It has ended when its text's end comes out with the sound, ``max_delay`` steps after
    it was chosen; an end that comes out before the input's is too early, and ignored.
    Hibiki-Zero, which knows no description of good translations, begins with frames of
    silence, hears silence in the frame of end-of-input too, and says nothing with its
    own end. Source: kyutai-labs/hibiki-zero, hibiki_zero/inference.py.
    """
    cfg = moshi.lm.cfg
    zero = moshi.lm.condition_provider is None
    chosen: deque[int] = deque(maxlen=cfg.max_delay + 1)
    if zero:
        codec = moshi.make_codec()
        for _ in range(cfg.max_delay):
            codes = codec.encode_step(silence[None, None])[0, : cfg.other_codebooks, 0]
            chosen.append(session.step_codes(codes).text_token)
    for frame in frames:
        reply = session.step(frame)
        chosen.append(reply.text_token)
        yield Exchange(frame, reply)
    end = np.full(cfg.other_codebooks, cfg.audio_padding_token, np.int32)
    for step in range(round(HIBIKI_TAIL_S * FRAME_RATE)):
        if zero and not step:
            session.codec.encode_step(silence[None, None])
        reply = session.step(silence) if step else session.step_codes(end)
        chosen.append(reply.text_token)
        ended = len(chosen) > cfg.max_delay and chosen[0] == EOS
        if not (ended and zero):
            yield Exchange(silence, reply)
        if ended:
            return


def _transcribe(
    session: DuplexSession,
    frames: Iterator[NDArray[np.float32]],
    moshi: Moshi,
) -> Iterator[Exchange]:
    """Speech to text: silence before and after, to the sample, as it was trained.

    The silence before need not be whole frames: the recording's are cut anew.
    """
    stt, framer = moshi.info.stt_config, Framer(session.frame_size)
    before_s = stt.get("audio_silence_prefix_seconds", 0.0)
    after_s = stt.get("audio_delay_seconds", 0.0) + 1.0
    before, after = (
        np.zeros(int(s * SAMPLE_RATE), np.float32) for s in (before_s, after_s)
    )
    for pcm in chain([before], frames, [after]):
        for frame in framer.push(pcm):
            yield Exchange(frame, session.step(frame))
