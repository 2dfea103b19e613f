"""Several conversations on one model, stepped together.

A step of a large model costs little more for four conversations than for one: most of
it is reading the weights. Rows of the batch begin, pause and end on their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio.samples import as_float
from ...errors import ConfigError
from ...modules.conditioner import ConditionTensor
from ...utils.sampling import Sampler
from .engine import Moshi
from .row_codec import make_row_codec
from .rows import MAX_REPETITION_CONTEXT, RowGen, Sampling
from .session import Reply

Frame = NDArray[np.float32]


@dataclass(frozen=True)
class Wishes:
    """What somebody wants of a conversation; None leaves it to the model.

    Attributes:
        seed: of the random draws.
        temp, top_k: of the audio.
        temp_text, top_k_text: of the text.
        repetition_penalty: above 1 repeats words less.
        repetition_context: text tokens that the penalty looks back at.
    """

    seed: int
    temp: float | None = None
    top_k: int | None = None
    temp_text: float | None = None
    top_k_text: int | None = None
    repetition_penalty: float = 1.0
    repetition_context: int = 64

    def sampling(self, moshi: Moshi) -> Sampling:
        """With the model's own settings where nothing was wished for."""
        found = moshi.sampling(
            temp=self.temp,
            top_k=self.top_k,
            temp_text=self.temp_text,
            top_k_text=self.top_k_text,
        )
        return Sampling(
            Sampler(found["temp_text"], top_p=0, top_k=found["top_k_text"]),
            Sampler(found["temp"], top_p=0, top_k=found["top_k"]),
            self.seed,
            self.repetition_penalty,
            min(self.repetition_context, MAX_REPETITION_CONTEXT),
        )


class RowSession:
    """One conversation of a ``Batch``; made by ``Batch.open``.

    As a live one it begins with a frame of silence: the model hears nothing of its very
    first frame.
    """

    def __init__(self, batch: "Batch", row: int):
        self.batch = batch
        self.row = row
        self.started = False
        self.reader = batch.moshi.reader()

    def step(self, frame: Frame) -> Reply:
        """Hear ``frame [1920]`` and answer, alone."""
        return self.batch.step([self], [frame])[0]


class Batch:
    """Conversations with one model, at most ``rows`` at a time.

    Belongs to the thread that owns MLX.

    Args:
        moshi: the model.
        rows: how many.
        cfg_coef: guidance (Hibiki); default: the model's.
        joint_codec: step the codec of all rows together. Default: where MLX computes
            on a GPU; a CPU gains nothing by it, and rows that stand still cost time.

    Raises: ConfigError for a model that holds no conversation.
    """

    def __init__(
        self,
        moshi: Moshi,
        rows: int = 1,
        cfg_coef: float | None = None,
        joint_codec: bool | None = None,
    ):
        cfg = moshi.lm.cfg
        if cfg.transformer.cross_attention or not cfg.other_codebooks:
            raise ConfigError(
                f"{moshi.name} is a {moshi.info.model_type} model and does not listen: "
                "serve a Moshi or a Hibiki."
            )
        if cfg_coef is None:
            cfg_coef = float(moshi.info.lm_gen_config.get("cfg_coef", 1.0))
        if joint_codec is None:
            joint_codec = mx.default_device().type == mx.DeviceType.gpu
        self.moshi = moshi
        self.rows = rows
        self._gen = RowGen(moshi.lm, rows, cfg_coef)
        self._ct = _for_rows(moshi.conditions(cfg_coef), rows)
        self._taken: list[RowSession | None] = [None] * rows
        self._codec = make_row_codec(moshi.make_codec, rows, joint_codec)

    def open(self, wishes: Wishes) -> RowSession:
        """A new conversation.

        Raises: ConfigError when all rows are taken.
        """
        if None not in self._taken:
            raise ConfigError(f"all {self.rows} conversations are taken: wait for one.")
        row = self._taken.index(None)
        session = RowSession(self, row)
        self._gen.begin(row, wishes.sampling(self.moshi))
        self._codec.begin(row)
        self._taken[row] = session
        return session

    def close(self, session: RowSession) -> None:
        """End a conversation; closing it again does nothing."""
        if self._taken[session.row] is session:
            self._taken[session.row] = None

    def warmup(self) -> None:
        """Run some frames and forget them, so that the first is as fast as any.

        They use every operation that a long batch uses, since a GPU prepares each when
        it first comes: rows alone and together, at positions and with settings of their
        own, with and without a penalty.
        """
        frame = np.zeros(self._codec.frame_size, np.float32)
        frames = self.moshi.lm.cfg.max_delay + 2
        penalised = Wishes(seed=0, temp=0.9, temp_text=0.9, repetition_penalty=1.1)
        for wishes in (Wishes(seed=0), penalised):
            sessions = [self.open(Wishes(seed=0))]
            for _ in range(frames):
                sessions[0].step(frame)
            sessions += [self.open(wishes) for _ in range(self.rows - 1)]
            for _ in range(frames):
                self.step(sessions, [frame] * self.rows)
            sessions[-1].step(frame)
            for session in sessions:
                self.close(session)

    def step(
        self, sessions: Sequence[RowSession], frames: Sequence[Frame]
    ) -> list[Reply]:
        """One frame ``[1920]`` of each of some conversations, and their answers."""
        frames = [as_float(frame) for frame in frames]
        new = [session for session in sessions if not session.started]
        if new:
            silence = np.zeros_like(frames[0])
            self._step(new, [silence] * len(new))
            for session in new:
                session.started = True
        return self._step(sessions, frames)

    def _step(
        self, sessions: Sequence[RowSession], frames: Sequence[Frame]
    ) -> list[Reply]:
        rows = [session.row for session in sessions]
        active = [row in rows for row in range(self.rows)]
        other = self.moshi.lm.cfg.other_codebooks
        heard = self._codec.encode(dict(zip(rows, frames, strict=True)))
        codes = np.zeros((self.rows, other), np.int32)
        for row, mine in heard.items():
            codes[row] = mine[:other]
        everyone = None if all(active) else active
        text, _ = self._gen.step(mx.array(codes), self._ct, active=everyone)
        audio = self._gen.last_audio_tokens() if self._gen.main_codebooks else None
        words = np.array(text)[:, 0]
        said = {}
        if audio is not None:
            own = np.array(audio, dtype=np.int32)
            said = {row: own[row] for row in rows if (own[row] >= 0).all()}
        sound = self._codec.decode(said) if said else {}
        return [
            Reply(
                sound.get(session.row),
                session.reader.read(int(words[session.row])),
                int(words[session.row]),
                said.get(session.row),
            )
            for session in sessions
        ]


def _for_rows(ct: ConditionTensor | None, rows: int) -> ConditionTensor | None:
    """The same condition for every row; under guidance all rows, then their nulls."""
    if ct is None:
        return None
    return ConditionTensor(mx.repeat(ct.tensor, rows, axis=0))


def step_all(
    sessions: Sequence[RowSession], frames: Sequence[Frame]
) -> Sequence[Reply]:
    """For ``ModelThread(step_all=...)``: sessions of one batch, together."""
    return sessions[0].batch.step(sessions, frames)
