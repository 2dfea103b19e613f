"""Sound in, tokens and sound out, for the rows of a batch: one step of everything.

Used only on the model's thread. It knows rows; sessions know when they start and end.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm
from ...codec import Codec
from ...codec.base import Codes
from ...models.lm import Lm
from ...modules.conditioner import ConditionTensor
from ...utils.trace import Laps, Trace
from ..row_codec import make_row_codec
from .rows import RowGen
from .sampling import Sampling
from .sights import Sights


@dataclass(frozen=True)
class Said:
    """A row's output in a step: a text token, and codes with their sound.

    Attributes:
        codes: int32 ``[own]``; None until the streams' delays have passed.
        pcm: float32 ``[1920]`` of the codes.
        gate: how much of its image it used, 0 to 1; None without one.
    """

    text_token: int
    codes: Codes | None = None
    pcm: Pcm | None = None
    gate: float | None = None


@dataclass
class EncodedFrame:
    """A frame's codes ``[rows, other]``, which the device may still be computing.

    Attributes:
        laps: the time since its encoder started, until the codes are waited for; None
            if the codes were given.
    """

    codes: mx.array
    laps: Laps | None = None

    def wait(self) -> None:
        """Wait for the codes, which ends the stage "encode"."""
        if self.laps is not None:
            mx.eval(self.codes)
            self.laps.until_now("encode")
            self.laps = None


class Stepper:
    """Language model and codec of ``rows`` conversations.

    Args:
        lm: the language model.
        make_codec: makes a codec with fresh state.
        rows: conversations side by side.
        cfg_coef: guidance, the same for all rows.
        ct: the condition of one row; under guidance ``[condition; null]``.
        joint_codec: see ``make_row_codec``.
        trace: gets the time of each stage.
    """

    def __init__(
        self,
        lm: Lm,
        make_codec: Callable[[], Codec],
        rows: int,
        cfg_coef: float,
        ct: ConditionTensor | None,
        joint_codec: bool | None,
        trace: Trace,
    ):
        self.rows = rows
        self.trace = trace
        self.make_codec = make_codec
        self.gen = RowGen(lm, rows, cfg_coef)
        self.codec = make_row_codec(make_codec, rows, joint_codec, lm)
        self.sights = Sights(rows)
        self._other = lm.cfg.other_codebooks
        self._ct = None
        if ct is not None:  # all rows, then under guidance all their nulls
            self._ct = ConditionTensor(mx.repeat(ct.tensor, rows, axis=0))

    def begin(self, row: int, sampling: Sampling, adapter: int = 0) -> None:
        """Make ``row`` a new conversation; the others continue.

        Args:
            sampling: filled in, see ``Sampling.filled``.
            adapter: the number of its adapter; 0 for none.
        """
        self.gen.begin(row, sampling, adapter)
        self.codec.begin(row)
        self.sights.show(row, None)

    def close(self) -> None:
        """Free all state."""
        del self.gen, self.codec

    def encode(self, frames: Mapping[int, Pcm]) -> EncodedFrame:
        """Start to encode the next frame ``[1920]`` of some rows, without waiting."""
        laps = self.trace.laps()
        heard = EncodedFrame(self.codec.encode(frames)[:, : self._other], laps)
        if self.trace.apart:
            heard.wait()
        return heard

    def given(self, row: int, codes: Codes) -> EncodedFrame:
        """Codes ``[other]`` of one row."""
        heard = np.zeros((self.rows, self._other), np.int32)
        heard[row] = codes
        return EncodedFrame(mx.array(heard))

    def step(self, rows: Collection[int], heard: EncodedFrame) -> dict[int, Said]:
        """The replies of some rows to what they have heard.

        Everything is handed to the device before anything is waited for: the step while
        the encoder may still run, and the decoder before the text is known. Then codes,
        tokens and sound are waited for in the order in which they come, and the stages
        are timed that way: "encode" lasts until the codes are there, "step" until the
        tokens are, "decode" until the sound is. Together they are the frame. With
        ``Trace(apart=True)`` each stage waits for the one before it.
        """
        laps = heard.laps or self.trace.laps()
        active = [row in rows for row in range(self.rows)]
        text, _ = self.gen.step(
            heard.codes,
            self._ct,
            self.sights.now(self.gen.streams.offsets),
            active=None if all(active) else active,
        )
        gate = self._start_gate()
        audio = self.gen.last_audio_tokens() if self.gen.main_codebooks else None
        if self.trace.apart:
            mx.eval(text, audio, gate)
            laps.until_now("step")
        speaking = [] if audio is None else self._speaking(rows, audio)
        sound: dict[int, mx.array] = {}
        if audio is not None and speaking:
            sound = self.codec.decode(audio, speaking)
        heard.wait()
        mx.eval(text, audio, gate)
        if not self.trace.apart:
            laps.until_now("step")
        if sound:
            mx.eval(sound)
            laps.until_now("decode")
        tokens = np.array(text)[:, 0]
        own = None if audio is None else np.array(audio, dtype=np.int32)
        gates = None if gate is None else np.array(gate)
        return {
            row: Said(
                int(tokens[row]),
                None if own is None else own[row],
                np.array(sound[row]) if row in sound else None,
                float(gates[row])
                if gates is not None and self.sights.sees(row)
                else None,
            )
            for row in rows
        }

    def _speaking(self, rows: Collection[int], audio: mx.array) -> list[int]:
        """The rows whose latest codes ``[rows, own]`` are sound: none of them is -1.

        This needs checking only after given frames.
        """
        streams = self.gen.streams
        complete = [row for row in rows if streams.completes(row)]
        if all(streams.is_spoken(row) for row in complete):
            return complete
        known = np.array(audio)
        return [row for row in complete if (known[row] >= 0).all()]

    def _start_gate(self) -> mx.array | None:
        """How much of its image each row used ``[rows]``; None without images."""
        if (gate := self.gen.gate) is None:
            return None
        gate = gate.astype(mx.float32)
        mx.async_eval(gate)
        return gate
