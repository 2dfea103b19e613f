"""One conversation: the user's frame in, Moshi's frame and text out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio.samples import as_float
from ...codec.base import Codec
from ...models.generate import LmGen
from ...models.snapshot import Fits, Snapshot
from ...modules.conditioner import ConditionTensor
from ...utils.text import PieceReader
from ...utils.trace import Trace


@dataclass(frozen=True)
class Reply:
    """What one frame of 80 ms brought.

    Attributes:
        pcm: float32 ``[1920]`` at 24 kHz; None in the first frames of a model whose
            streams are delayed by more than one step, and for one that does not speak.
        text: words or parts of words said with this step, often empty.
        text_token: the text token behind it.
        tokens: own codes int32 ``[own]`` of ``pcm``, None where there is none.
    """

    pcm: NDArray[np.float32] | None
    text: str
    text_token: int
    tokens: NDArray[np.int32] | None


class DuplexSession:
    """A conversation with state of its own; any number may share one model.

    Threads that talk at once each need a session of their own.

    The model hears nothing of the very first frame it is given, so the session gives it
    one more: ``first`` says which.

    Args:
        gen: fresh generation state, batch size 1.
        codec: fresh codec state.
        reader: of text tokens.
        ct: summed condition, or None.
        cross_attention_src: condition to attend to, or None.
        first: "twice" gives the first frame two times, which suits a file; "silence"
            gives a frame of silence before it, which suits a microphone.
        trace: where stage timings go.

    Raises: ValueError for a ``first`` of another name.
    """

    def __init__(
        self,
        gen: LmGen,
        codec: Codec,
        reader: PieceReader,
        ct: ConditionTensor | None = None,
        cross_attention_src: mx.array | None = None,
        first: str = "twice",
        trace: Trace | None = None,
    ):
        if first not in ("twice", "silence"):
            raise ValueError(f"first={first!r} is unknown: use 'twice' or 'silence'.")
        self.gen = gen
        self.codec = codec
        self.trace = Trace() if trace is None else trace
        self._reader = reader
        self._conditions = ct, cross_attention_src
        self._first = first
        self._started = False
        self._free = Lock()  # two steps at once would mix up the state of both

    @property
    def frame_size(self) -> int:
        """Samples per frame."""
        return self.codec.frame_size

    @property
    def steps(self) -> int:
        """Frames heard."""
        return max(self.gen.step_idx - 1, 0)

    def step(self, frame: NDArray[np.float32]) -> Reply:
        """Hear ``frame [frame_size]`` at the codec's rate, and answer.

        Args:
            frame: float32 from -1 to 1, or int16 or int32, which are scaled to that.

        Raises: ValueError for a frame of another length, and for samples that are NaN
            or infinite: one of them would deafen the codec for its whole window.
            AudioError for samples of another kind. RuntimeError where another thread is
            in the middle of a step.
        """
        frame = as_float(frame)
        if not np.isfinite(frame).all():
            raise ValueError(
                "session.step got samples that are not finite: give float32 from -1 "
                "to 1."
            )
        if frame.shape != (self.frame_size,):
            raise ValueError(
                f"session.step got an array of shape {list(frame.shape)}: give one "
                f"frame, float32 [{self.frame_size}] (see moshi_mlx.audio.frames)."
            )
        with self._alone():
            return self._hear(frame)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._free.acquire(blocking=False):
            raise RuntimeError(
                "session.step was called while another thread is in it: step a session "
                "in one thread, and begin one for each."
            )
        try:
            yield
        finally:
            self._free.release()

    @property
    def fits(self) -> Fits:
        """What must be alike where a snapshot is continued."""
        return self.gen.fits

    def snapshot(self) -> Snapshot:
        """The conversation as it is now, to be saved or restored.

        Its settings (temperatures, guidance, conditions) are not part of it: continue
        in a session that was made with the same ones.

        Raises: ConfigError for the rust codec, which cannot tell its state.
        """
        with self._alone():
            codec = self.codec.snapshot()
            state = {
                "gen": self.gen.snapshot().state,
                "codec": codec.state,
                "reader": self._reader.state,
                "started": self._started,
            }
            return Snapshot("conversation", {**self.fits, **codec.fits}, state)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue a conversation: what follows is what followed the snapshot.

        Raises: ConfigError for a snapshot of another model or other settings, and for
            the rust codec.
        """
        with self._alone():
            snapshot.check("conversation", self.fits)
            state, fits = snapshot.state, snapshot.fits
            self.codec.restore(Snapshot("codec", fits, state["codec"]))
            self.gen.restore(Snapshot("generation", fits, state["gen"]))
            self._reader.state = state["reader"]
            self._started = state["started"]

    def _hear(self, frame: NDArray[np.float32]) -> Reply:
        if not self._started and self._first == "silence":
            self.step_codes(self._encode(np.zeros_like(frame)))
        with self.trace.stage("frame"):
            codes = self._encode(frame)
            if not self._started:
                self.step_codes(codes)
            return self.step_codes(codes)

    def step_codes(self, codes: NDArray[np.int32]) -> Reply:
        """Like ``step``, for the codes ``[other]`` of a frame: a single call."""
        self._started = True
        with self.trace.stage("step"):
            token, _ = self.gen.step(mx.array(codes)[None], *self._conditions)
            text_token = int(token.item())  # type: ignore[arg-type]
        text = self._reader.read(text_token)
        tokens = self.gen.last_audio_tokens() if self.gen.main_codebooks else None
        if tokens is None:
            return Reply(None, text, text_token, None)
        own = np.array(tokens[0], dtype=np.int32)
        return Reply(self._decode(own), text, text_token, own)

    def _encode(self, frame: NDArray[np.float32]) -> NDArray[np.int32]:
        with self.trace.stage("encode"):
            codes = self.codec.encode_step(frame[None, None])
        return codes[0, : self.gen.model.cfg.other_codebooks, 0]

    def _decode(self, own: NDArray[np.int32]) -> NDArray[np.float32] | None:
        if (own < 0).any():
            return None
        with self.trace.stage("decode"):
            return self.codec.decode_step(own[None, :, None])[0, 0]
