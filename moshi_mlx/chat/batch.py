"""Several conversations on one model, stepped together.

A step of a large model costs little more for four conversations than for one: most of
it is reading the weights. Rows of the batch begin, pause and end on their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..modules.conditioner import ConditionTensor
from ..utils.sampling import Sampler
from .moshi import Moshi
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
        self.codec = batch.moshi.make_codec()
        self.reader = batch.moshi.reader()

    def step(self, frame: Frame) -> Reply:
        """Hear ``frame [1920]`` and answer, alone."""
        return self.batch.step([self], [frame])[0]

    def encode(self, frame: Frame) -> NDArray[np.int32]:
        other = self.batch.moshi.lm.cfg.other_codebooks
        return self.codec.encode_step(frame[None, None])[0, :other, 0]

    def reply(self, text_token: int, own: NDArray[np.int32] | None) -> Reply:
        text = self.reader.read(text_token)
        if own is None or (own < 0).any():
            return Reply(None, text, text_token, None)
        pcm = self.codec.decode_step(own[None, :, None])[0, 0]
        return Reply(pcm, text, text_token, own)


class Batch:
    """Conversations with one model, at most ``rows`` at a time.

    Belongs to the thread that owns MLX.

    Args:
        moshi: the model.
        rows: how many.
        cfg_coef: guidance (Hibiki); default: the model's.

    Raises: ConfigError for a model that holds no conversation.
    """

    def __init__(self, moshi: Moshi, rows: int = 1, cfg_coef: float | None = None):
        cfg = moshi.lm.cfg
        if cfg.transformer.cross_attention or not cfg.other_codebooks:
            raise ConfigError(
                f"{moshi.name} is a {moshi.info.model_type} model and does not listen: "
                "serve a Moshi or a Hibiki."
            )
        if cfg_coef is None:
            cfg_coef = float(moshi.info.lm_gen_config.get("cfg_coef", 1.0))
        self.moshi = moshi
        self.rows = rows
        self._gen = RowGen(moshi.lm, rows, cfg_coef)
        self._ct = _for_rows(moshi.conditions(cfg_coef), rows)
        self._taken: list[RowSession | None] = [None] * rows

    def open(self, wishes: Wishes) -> RowSession:
        """A new conversation.

        Raises: ConfigError when all rows are taken.
        """
        if None not in self._taken:
            raise ConfigError(f"all {self.rows} conversations are taken: wait for one.")
        row = self._taken.index(None)
        session = RowSession(self, row)
        self._gen.begin(row, wishes.sampling(self.moshi))
        self._taken[row] = session
        return session

    def close(self, session: RowSession) -> None:
        """End a conversation; closing it again does nothing."""
        if self._taken[session.row] is session:
            self._taken[session.row] = None

    def warmup(self) -> None:
        """Run a few frames and forget them, so that the first is as fast as any."""
        session = self.open(Wishes(seed=0))
        frame = np.zeros(session.codec.frame_size, np.float32)
        for _ in range(self.moshi.lm.cfg.max_delay + 2):
            session.step(frame)
        self.close(session)

    def step(
        self, sessions: Sequence[RowSession], frames: Sequence[Frame]
    ) -> list[Reply]:
        """One frame ``[1920]`` of each of some conversations, and their answers."""
        new = [session for session in sessions if not session.started]
        if new:
            silence = np.zeros_like(frames[0])
            self._step(new, [session.encode(silence) for session in new])
            for session in new:
                session.started = True
        heard = [s.encode(f) for s, f in zip(sessions, frames, strict=True)]
        return self._step(sessions, heard)

    def _step(
        self, sessions: Sequence[RowSession], heard: Sequence[NDArray[np.int32]]
    ) -> list[Reply]:
        codes = np.zeros((self.rows, len(heard[0])), np.int32)
        active = [False] * self.rows
        for session, mine in zip(sessions, heard, strict=True):
            codes[session.row] = mine
            active[session.row] = True
        everyone = None if all(active) else active
        text, _ = self._gen.step(mx.array(codes), self._ct, active=everyone)
        audio = self._gen.last_audio_tokens() if self._gen.main_codebooks else None
        words = np.array(text)[:, 0]
        own = None if audio is None else np.array(audio, dtype=np.int32)
        return [
            s.reply(int(words[s.row]), None if own is None else own[s.row])
            for s in sessions
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
