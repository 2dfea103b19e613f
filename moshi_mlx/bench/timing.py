"""The time of a frame on this machine, stage by stage, and its memory."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from ..audio import FRAME
from ..audio.framing import FRAME_MS
from ..checkpoint.quantize import nbytes
from ..codec import Codec
from ..models.generate import LmGen
from ..models.lm import Lm
from ..modules.kv_cache import Ring
from ..utils.sampling import Sampler
from ..utils.trace import Timing, Trace, percentile


@dataclass(frozen=True)
class Result:
    """The result of one setting; times in milliseconds.

    Attributes:
        label: what was run: model, bits, device, codec.
        batch: conversations side by side.
        stages: encode, step, decode, frame, and step without depth transformer.
        cold_ms: very first frame; ``first_ms``: first one after a warm-up.
        tokens_hz: text and audio tokens per second, for the whole batch.
        memory: bytes of weights, of the conversations, and peaks while running.
    """

    label: dict[str, str]
    batch: int
    stages: dict[str, Timing]
    cold_ms: float
    first_ms: float
    tokens_hz: float
    memory: dict[str, int]

    @property
    def times_real_time(self) -> float:
        """How many times faster than real time, for each conversation of the batch."""
        return FRAME_MS / self.stages["frame"].p50_ms

    def to_json(self) -> dict[str, Any]:
        stages = {
            name: {"p50_ms": t.p50_ms, "p95_ms": t.p95_ms, "max_ms": t.max_ms}
            for name, t in self.stages.items()
        }
        return {
            **self.label,
            "batch": self.batch,
            "stages": stages,
            "cold_frame_ms": self.cold_ms,
            "first_frame_after_warmup_ms": self.first_ms,
            "times_real_time": self.times_real_time,
            "tokens_per_s": self.tokens_hz,
            "memory_bytes": self.memory,
        }


class Clock:
    """Starts frames when their sound would arrive: every 80 ms."""

    def __init__(self) -> None:
        self._next_s = time.perf_counter()

    def wait(self) -> None:
        """Wait for the next frame; a late one starts at once, and so does its time."""
        now_s = time.perf_counter()
        if now_s < self._next_s:
            time.sleep(self._next_s - now_s)
        self._next_s = max(self._next_s, now_s) + FRAME_MS / 1000


class Loop:
    """A batch of conversations that hear noise.

    Args:
        lm: the model.
        codec: with as many streams; None for a model without its codec.
        batch: number of conversations.
    """

    def __init__(self, lm: Lm, codec: Codec | None, batch: int, seed: int = 0):
        self.lm = lm
        self.codec = codec
        self.batch = batch
        self.gen = LmGen(
            lm,
            text_sampler=Sampler(0.7, top_p=0, top_k=25),
            audio_sampler=Sampler(0.8, top_p=0, top_k=250),
            batch_size=batch,
            seed=seed,
        )
        self._rng = np.random.default_rng(seed)
        self._others = lm.cfg.other_codebooks
        self._cards = lm.cfg.audio_vocab_size - 1

    def frame(self, trace: Trace) -> None:
        """Hear and say one frame."""
        shape = self.batch, 1, FRAME
        pcm = 0.1 * self._rng.standard_normal(shape, dtype=np.float32)
        with trace.stage("frame"):
            if self.codec is None or not self._others:
                codes = self.random_codes()
            else:
                with trace.stage("encode"):
                    codes = self.codec.encode_step(pcm)[:, : self._others, 0]
                codes = np.minimum(codes, self._cards - 1)
            with trace.stage("step"):
                own = self.step(codes)
            if own is not None and self.codec is not None and (own >= 0).all():
                with trace.stage("decode"):
                    self.codec.decode_step(own[:, : self.codec.num_codebooks, None])

    def step(self, codes: np.ndarray) -> np.ndarray | None:
        """One step of the language model, waited for."""
        text, _ = self.gen.step(mx.array(codes))
        own = self.gen.last_audio_tokens() if self.lm.dep_q else None
        mx.eval(text, self.gen.tokens)
        return None if own is None else np.array(own)

    def step_without_depth(self) -> None:
        """The temporal transformer and the text alone."""
        own = mx.zeros((self.batch, self.lm.dep_q), mx.int32)
        codes = mx.array(self.random_codes())
        text, _ = self.gen.step(codes, own_audio_tokens=own)
        mx.eval(text, self.gen.tokens)

    def go_to(self, position: int) -> None:
        """Move the conversations to ``position``, as if that many steps had been
        heard."""
        for layer in self.gen.cache:
            ring = layer.self_attn
            assert isinstance(ring, Ring)
            ring.offsets = [position] * self.batch  # the next step allocates it

    def cache_bytes(self) -> int:
        """Bytes of keys and values held."""
        return sum(layer.self_attn.nbytes for layer in self.gen.cache)

    def random_codes(self) -> np.ndarray:
        """A frame of the other side, ``[B, other]``."""
        shape = self.batch, self._others
        return self._rng.integers(0, self._cards, shape).astype(np.int32)


def measure(
    lm: Lm,
    make_codec: Callable[[int], Codec] | None,
    label: dict[str, str],
    batch: int = 1,
    frames: int = 50,
    paced: bool = False,
) -> Result:
    """Time frames of a batch of new conversations, after a warm-up.

    Args:
        paced: start a frame every 80 ms, as sound arrives, instead of back to back: a
            GPU that rests between two frames lowers its clock.
    """
    codec = None if make_codec is None else make_codec(batch)
    warm = Loop(lm, codec, batch)
    begun = time.perf_counter()
    warm.frame(Trace())
    cold_s = time.perf_counter() - begun
    for _ in range(lm.cfg.max_delay + 2):
        warm.frame(Trace())
    mx.reset_peak_memory()
    loop = Loop(lm, None if make_codec is None else make_codec(batch), batch)
    trace, first = Trace(), Trace()
    loop.frame(first)
    clock = Clock() if paced else None
    for _ in range(frames):
        if clock is not None:
            clock.wait()
        loop.frame(trace)
    if lm.dep_q:
        for _ in range(max(5, frames // 3)):
            with trace.stage("step without depth"):
                loop.step_without_depth()
    stages = trace.summary()
    memory = {
        "weights": nbytes(lm),
        "conversations": loop.cache_bytes(),
        "mlx_peak": mx.get_peak_memory(),
        "process_peak": process_peak(),
    }
    per_frame = batch * (1 + lm.dep_q)
    frame_ms = stages["frame"].p50_ms
    return Result(
        label,
        batch,
        stages,
        cold_ms=1000 * cold_s,
        first_ms=first.summary()["frame"].max_ms,
        tokens_hz=1000 * per_frame / frame_ms,
        memory=memory,
    )


def growth(
    lm: Lm, positions: Sequence[int] | None = None, steps: int = 12
) -> list[tuple[int, float]]:
    """Median milliseconds of an LM step at positions of a long conversation.

    Args:
        positions: by default from the start to eight times the context. Beyond the
            context the window slides, and a step costs the same.
    """
    context = lm.cfg.transformer.context
    if positions is None:
        shares = (0, 0.25, 0.5, 1, 2, 4, 8)
        positions = [round(share * context) for share in shares]
    loop = Loop(lm, None, 1)
    found = []
    for position in positions:
        loop.go_to(position)
        times = []
        for i in range(steps + 2):
            begun = time.perf_counter()
            loop.step(loop.random_codes())
            if i >= 2:  # the first steps may build what the others reuse
                times.append(1000 * (time.perf_counter() - begun))
        found.append((position, percentile(times, 50)))
    return found


def process_peak() -> int:
    """The most memory that this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
