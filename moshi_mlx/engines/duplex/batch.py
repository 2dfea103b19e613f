"""Conversations that share a model's steps, or a single one.

A step of a large model takes little longer for four conversations than for one: most of
the time goes into reading the weights. Rows of the batch start, pause and end on their
own.
"""

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Protocol

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm
from ...checkpoint.info import CheckpointInfo
from ...checkpoint.kinds import ModelKind
from ...codec import Codec
from ...errors import ConfigError
from ...models.lm import Lm
from ...modules.conditioner import ConditionTensor
from ...utils.text import PieceReader
from ...utils.trace import Trace
from ..closing import Closing
from ..owner import Owner
from ..residency import Residency, count_sessions
from .persona import Start
from .reply import Reply
from .sampling import Sampling
from .session import DuplexSession, First, step_together
from .stepper import Stepper


class Talker(Protocol):
    """The parts of ``Moshi`` that a batch uses."""

    name: str
    info: CheckpointInfo
    kind: ModelKind
    lm: Lm
    make_codec: Callable[[], Codec]
    owner: Owner
    adapters: tuple[str, ...]

    @property
    def residency(self) -> Residency | None: ...
    def reader(self) -> PieceReader: ...
    def conditions(self, cfg_coef: float) -> ConditionTensor | None: ...
    def blank_image(self) -> mx.array | None: ...
    def start(
        self,
        persona: str | None = None,
        voice: str | Path | None = None,
        say_first: str | None = None,
    ) -> Start | None: ...


class Batch(Closing):
    """Conversations with one model, at most ``rows`` at a time.

    It may be called from any thread. For live frames, pass ``batch.step`` to
    ``ModelThread.open`` as ``together``.

    Args:
        moshi: the model.
        rows: the largest number of conversations.
        cfg_coef: guidance strength (Hibiki); the model's by default.
        joint_codec: step the codec of all rows together. By default only on a GPU: a
            CPU gains nothing from it, and paused rows cost time.
        trace: records the time of each stage.

    Raises: ConfigError for a model that does not listen.
    """

    def __init__(
        self,
        moshi: Talker,
        rows: int = 1,
        cfg_coef: float | None = None,
        joint_codec: bool | None = None,
        trace: Trace | None = None,
    ):
        moshi.kind.check("listens", moshi.name)
        if rows < 1:
            raise ConfigError(f"a batch of {rows} rows was asked for: give 1 or more.")
        coef = moshi.kind.sampling.cfg_coef if cfg_coef is None else cfg_coef
        timed = Trace() if trace is None else trace
        self.moshi = moshi
        self.rows = rows
        self.stepper = moshi.owner.run(
            lambda: Stepper(
                *(moshi.lm, moshi.make_codec, rows, coef),
                *(moshi.conditions(coef), joint_codec, timed),
            )
        )
        # weak: a session holds its batch, and frees its row when deleted
        self._rows: list[weakref.ref[DuplexSession] | None] = [None] * rows
        self._free_memory = count_sessions(moshi.residency, self, rows)

    def __repr__(self) -> str:
        taken = sum(session is not None for session in self._taken())
        return f"<Batch of {self.moshi.name}: {taken} of {self.rows} rows taken>"

    @property
    def free(self) -> int:
        """Number of free rows."""
        return self._taken().count(None)

    def open(
        self,
        sampling: Sampling | None = None,
        first: First = "silence",
        start: Start | None = None,
        adapter: str | None = None,
    ) -> DuplexSession:
        """Start a conversation.

        Args:
            sampling: how its tokens are drawn; the model's config decides by default.
            first: see ``DuplexSession``.
            start: what comes before it, made by ``Moshi.start``; by default whatever
                the model needs.
            adapter: the name of an adapter that the model was loaded with; None for
                none.

        Raises: ConfigError if all rows are taken or the adapter is unknown, or
            for an invalid seed.
        """
        self._check_open("batch.open")
        wanted = (sampling or Sampling()).filled(self.moshi.kind.sampling)
        start = self.moshi.start() if start is None else start
        return self.moshi.owner.run(
            lambda: self._begin(wanted, first, start, adapter, self._leave)
        )

    def only(
        self,
        sampling: Sampling | None = None,
        first: First = "twice",
        start: Start | None = None,
        adapter: str | None = None,
    ) -> DuplexSession:
        """Like ``open``, for a batch of one that ends with its conversation."""
        wanted = (sampling or Sampling()).filled(self.moshi.kind.sampling)
        start = self.moshi.start() if start is None else start
        return self.moshi.owner.run(
            lambda: self._begin(
                wanted, first, start, adapter, lambda _: self._release()
            )
        )

    def _begin(
        self,
        sampling: Sampling,
        first: First,
        start: Start | None,
        adapter: str | None,
        on_close: Callable[[DuplexSession], None],
    ) -> DuplexSession:
        taken = self._taken()
        if None not in taken:
            raise ConfigError(f"all {self.rows} conversations are taken: wait for one.")
        row = taken.index(None)
        number = 0 if adapter is None else _number(self.moshi.adapters, adapter)
        session = DuplexSession(
            *(self.stepper, row, sampling, self.moshi.reader()),
            owner=self.moshi.owner,
            name=self.moshi.name,
            ending=self.moshi.kind.ending,
            first=first,
            on_close=on_close,
        )
        self.stepper.begin(row, sampling, number)
        chosen = start and start(self.stepper.gen, row, session.seed)
        if chosen is not None:
            session.begin_after(chosen)
        self._rows[row] = weakref.ref(session)
        return session

    def _taken(self) -> list[DuplexSession | None]:
        """The conversation of each row."""
        return [None if row is None else row() for row in self._rows]

    def _leave(self, session: DuplexSession) -> None:
        if self._taken()[session.row] is session:
            self._rows[session.row] = None

    def step(
        self, sessions: Sequence[DuplexSession], frames: Sequence[Pcm]
    ) -> list[Reply]:
        """Step some conversations with a frame ``[1920]`` each; returns their
        replies.

        Raises: ConfigError for a frame of another size, or another number of them.
        """
        given = self._checked("batch.step", sessions, frames)
        return self.moshi.owner.run(lambda: step_together(sessions, given))

    async def astep(
        self, sessions: Sequence[DuplexSession], frames: Sequence[Pcm]
    ) -> list[Reply]:
        """Like ``step``, for asyncio."""
        given = self._checked("batch.astep", sessions, frames)
        return await self.moshi.owner.arun(lambda: step_together(sessions, given))

    def _checked(
        self, called: str, sessions: Sequence[DuplexSession], frames: Sequence[Pcm]
    ) -> list[Pcm]:
        self._check_open(called)
        if len(sessions) != len(frames):
            raise ConfigError(
                f"{called} got {len(frames)} frames for {len(sessions)} sessions: give "
                "each session its own frame."
            )
        return [s.checked(f, called) for s, f in zip(sessions, frames, strict=True)]

    def warmup(self) -> float:
        """Run some frames and discard them, so that the first real one is not slow;
        returns the seconds of a full step at the start of conversations.

        They use every operation that a long-running batch uses, because a GPU prepares
        each one when it first occurs: rows alone and together, at different positions
        and with different settings, with and without a penalty, with and without an
        image.
        """
        return self.moshi.owner.run(self._warm)

    def _warm(self) -> float:
        times: list[float] = []
        frame = np.zeros(self.stepper.codec.frame_size, np.float32)
        frames = self.stepper.gen.max_delay + 2
        penalised = Sampling(seed=0, temp=0.9, temp_text=0.9, repetition_penalty=1.1)
        for other in (Sampling(seed=0), penalised)[: 1 if self.rows == 1 else 2]:
            sessions = [self.open(Sampling(seed=0))]
            for _ in range(frames):
                times.append(self._timed(sessions, frame))
            if (blank := self.moshi.blank_image()) is not None:
                sessions[0].show(blank, start=0)
                sessions[0].step(frame)
            sessions += [self.open(other) for _ in range(self.rows - 1)]
            for _ in range(frames if self.rows > 1 else 0):
                times.append(self._timed(sessions, frame))
            sessions[-1].step(frame)
            for session in sessions:
                session.close()
        return median(times[-3:])

    def _timed(self, sessions: Sequence[DuplexSession], frame: Pcm) -> float:
        began = perf_counter()
        self.step(sessions, [frame] * len(sessions))
        return perf_counter() - began

    def _computed_by(self) -> Owner:
        return self.moshi.owner

    def _drop(self) -> None:
        for session in self._taken():
            if session is not None:
                session.close()
        self._release()

    def _release(self) -> None:
        self.stepper.close()
        self._free_memory()


def _number(adapters: Sequence[str], name: str) -> int:
    """The number of a named adapter, from 1. Raises: ConfigError if it is unknown."""
    if name not in adapters:
        known = ", ".join(adapters) or "none, there are no adapters with names"
        raise ConfigError(f"the adapter {name[:40]!r} is unknown: use {known}.")
    return 1 + list(adapters).index(name)
