"""Sound in, tokens and sound out, for the rows of a batch: one step of everything.

Used on the model's thread only. It knows rows; sessions know when they begin and end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm
from ...codec import Codec
from ...codec.base import Codes
from ...models.lm import Lm
from ...modules.conditioner import ConditionTensor
from ...utils.trace import Trace
from ..row_codec import make_row_codec
from .rows import RowGen
from .sampling import Sampling
from .sights import Sights


@dataclass(frozen=True)
class Said:
    """What a row said in a step: a text token, and codes with their sound.

    Attributes:
        codes: int32 ``[own]``; None until the streams' delays have passed.
        pcm: float32 ``[1920]`` of the codes.
        gate: how much of its image it let in, 0 to 1; None without one.
    """

    text_token: int
    codes: Codes | None = None
    pcm: Pcm | None = None
    gate: float | None = None


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
        self.codec = make_row_codec(make_codec, rows, joint_codec)
        self.sights = Sights(rows)
        self._other = lm.cfg.other_codebooks
        self._ct = None
        if ct is not None:  # all rows, then under guidance all their nulls
            self._ct = ConditionTensor(mx.repeat(ct.tensor, rows, axis=0))

    def begin(self, row: int, sampling: Sampling, adapter: int = 0) -> None:
        """Make ``row`` a new conversation; the others continue.

        Args:
            sampling: filled, see ``Sampling.filled``.
            adapter: the number of its adapter; 0 for none.
        """
        self.gen.begin(row, sampling, adapter)
        self.codec.begin(row)
        self.sights.show(row, None)

    def close(self) -> None:
        """Let go of all state."""
        del self.gen, self.codec

    def encode(self, frames: Mapping[int, Pcm]) -> dict[int, Codes]:
        """Codes ``[other]`` of the next frame ``[1920]`` of some rows."""
        with self.trace.stage("encode"):
            heard = self.codec.encode(frames)
        return {row: codes[: self._other] for row, codes in heard.items()}

    def step(self, heard: Mapping[int, Codes]) -> dict[int, Said]:
        """What some rows say to the codes ``[other]`` that each has heard."""
        with self.trace.stage("step"):
            codes = np.zeros((self.rows, self._other), np.int32)
            for row, mine in heard.items():
                codes[row] = mine
            active = [row in heard for row in range(self.rows)]
            text, _ = self.gen.step(
                mx.array(codes),
                self._ct,
                self.sights.now(self.gen.streams.offsets),
                active=None if all(active) else active,
            )
            tokens = np.array(text)[:, 0]
        gates = self._gates()
        audio = self.gen.last_audio_tokens() if self.gen.main_codebooks else None
        if audio is None:
            return {row: Said(int(tokens[row]), gate=gates.get(row)) for row in heard}
        own = np.array(audio, dtype=np.int32)
        whole = {row: own[row] for row in heard if (own[row] >= 0).all()}
        sound: dict[int, Pcm] = {}
        if whole:
            with self.trace.stage("decode"):
                sound = self.codec.decode(whole)
        return {
            row: Said(int(tokens[row]), own[row], sound.get(row), gates.get(row))
            for row in heard
        }

    def _gates(self) -> dict[int, float]:
        """How much each row that sees an image let in of it."""
        if self.gen.gate is None:
            return {}
        gates = np.array(self.gen.gate.astype(mx.float32))
        return {
            row: float(gates[row]) for row in range(self.rows) if self.sights.sees(row)
        }
