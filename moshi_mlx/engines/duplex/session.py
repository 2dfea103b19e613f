"""One conversation: the user's frame in, Moshi's frame and text out."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from threading import Lock
from typing import Literal, TypeVar

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm, as_float, fault
from ...checkpoint.eos import EOS
from ...checkpoint.kinds import EndRule
from ...codec.base import Codes
from ...errors import ConfigError
from ...models.snapshot import Snapshot
from ...utils.text import PieceReader
from ...utils.trace import Trace
from ..keeping import Keeping
from ..owner import Owner
from .endings import finish
from .reply import Reply
from .rows import RowGen
from .sampling import Sampling
from .sights import IMAGE_START, Sight
from .stepper import EncodedFrame, Stepper

R = TypeVar("R")
First = Literal["twice", "silence"]


class DuplexSession(Keeping):
    """A conversation: one row of a batch, which may be its own.

    It may be called from any thread, by one at a time; for asyncio use ``astep``.

    The model does not hear the very first frame that it gets, so the session adds an
    extra one: ``first`` says which.

    Attributes:
        frame_size: samples of a frame.
        sample_rate: Hz of the frames, in and out.
        steps: number of frames heard.
        live: whether its frames go before work on files.

    Args:
        stepper: the batch's.
        row: of the batch.
        sampling: filled in, see ``Sampling.filled``.
        reader: of text tokens.
        owner: the thread that computes.
        name: of the model.
        ending: how the model is made to finish.
        first: "twice" gives the first frame twice, which suits a file; "silence" gives
            a frame of silence before it, which suits a microphone.
        on_close: frees the row.

    Raises: ConfigError for any other ``first``.
    """

    def __init__(
        self,
        stepper: Stepper,
        row: int,
        sampling: Sampling,
        reader: PieceReader,
        *,
        owner: Owner,
        name: str,
        ending: EndRule,
        first: First = "twice",
        on_close: Callable[["DuplexSession"], None],
    ):
        if first not in ("twice", "silence"):
            raise ConfigError(f"first={first!r} is unknown: use 'twice' or 'silence'.")
        self.stepper = stepper
        self.row = row
        self.sampling = sampling
        self.reader = reader
        self.first = first
        self.live = True
        self.started = False
        self.steps = 0
        self.owner = owner
        self.frame_size = stepper.codec.frame_size  # samples per frame
        self.sample_rate = stepper.codec.sample_rate  # Hz of the frames, in and out
        self._name = name
        self.ending = ending
        self._on_close = on_close
        delay = stepper.gen.max_delay
        self._chosen: deque[int] = deque(maxlen=delay + 1)  # newest text tokens
        self._unsaid = ""  # text chosen before the first frame
        self._alone_in = Lock()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.steps} frames heard"
        return f"<DuplexSession of {self._name}: {state}, seed {self.sampling.seed}>"

    @property
    def seed(self) -> int:
        """Seed of its random numbers: the same seed gives the same answers."""
        assert self.sampling.seed is not None
        return self.sampling.seed

    @property
    def gen(self) -> RowGen:
        """The generator of the whole batch."""
        return self.stepper.gen

    @property
    def trace(self) -> Trace:
        """How long each stage took."""
        return self.stepper.trace

    def step(self, frame: Pcm) -> Reply:
        """Hear one frame ``[frame_size]``, and answer.

        Args:
            frame: float32 from -1 to 1; int16 and int32 are scaled to that.

        Raises: ConfigError for another shape, and for samples that are NaN or infinite
            (a single one would spoil the codec for its whole window). AudioError for
            samples of another type. RuntimeError if another thread is in a step.
        """
        given = self.checked(frame, "session.step")
        return self._alone("session.step", lambda: step_together([self], [given])[0])

    async def astep(self, frame: Pcm) -> Reply:
        """Like ``step``, for asyncio."""
        given = self.checked(frame, "session.astep")
        self._enter("session.astep", "task")
        try:
            return await self.owner.arun(
                lambda: step_together([self], [given])[0], live=self.live
            )
        finally:
            self._alone_in.release()

    def step_codes(self, codes: Codes) -> Reply:
        """Like ``step``, with a frame's codes ``[other]`` instead of its sound."""
        return self._alone("session.step_codes", lambda: self._say(codes))

    def show(self, image: mx.array | None, start: int = IMAGE_START) -> None:
        """Let the model see an image from now on, instead of the previous one.

        Args:
            image: from ``Moshi.encode_image``; None removes the image.
            start: the first step of the conversation that sees it.

        Raises: ConfigError if the model sees no images.
        """
        if self.stepper.gen.model.cfg.vision is None:
            raise ConfigError(f"{self._name} sees no images.")
        sight = None if image is None else Sight(image, start)
        self._alone("session.show", lambda: self.stepper.sights.show(self.row, sight))

    def encode(self, frame: Pcm) -> Codes:
        """Encode a frame to codes ``[other]``, without passing it to the model."""
        given = self.checked(frame, "session.encode")
        return self._alone("session.encode", lambda: self._heard(given))

    def flush(self, seconds: float = 10.0) -> Iterator[Reply]:
        """Let the model finish after the last frame of a recording.

        Moshi hears silence until it has said nothing for two seconds. Hibiki gets a
        sign that the input has ended, and finishes its translation. Speech to text
        hears silence until its last word is out.

        Args:
            seconds: the longest time to wait for Moshi.
        """
        self._check_open("session.flush")
        return self.owner.iterate(lambda: finish(self, self.ending, seconds))

    def aflush(self, seconds: float = 10.0) -> AsyncIterator[Reply]:
        """Like ``flush``, for asyncio: ``async for reply in session.aflush()``."""
        self._check_open("session.aflush")
        return self.owner.aiterate(lambda: finish(self, self.ending, seconds))

    def snapshot(self) -> Snapshot:
        """The conversation's state, to be restored in a session of the same model.

        A conversation from a batch may continue alone, and the other way round.

        Its settings (temperatures, guidance, conditions, an image) are not part of it:
        continue in a session that was made with the same ones.

        Raises: ConfigError for the rust codec, whose state cannot be read.
        """
        return self._alone("session.snapshot", self._keep)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue a conversation from its snapshot.

        Raises: ConfigError for a snapshot of another model or with other settings, and
            for the rust codec.
        """
        self._alone("session.restore", lambda: self._go_on(snapshot))

    def checked(self, frame: Pcm, called: str) -> Pcm:
        """One frame as float32; ``called`` is the function that errors name."""
        frame = as_float(frame)
        if wrong := fault(frame):
            raise ConfigError(
                f"{called} got samples that {wrong}: give float32 from -1 to 1."
            )
        if frame.shape != (self.frame_size,):
            less = " (take frame[0])" if frame.shape == (1, self.frame_size) else ""
            raise ConfigError(
                f"{called} got an array of shape {list(frame.shape)}{less}: give one "
                f"frame, float32 [{self.frame_size}] (see moshi_mlx.audio.frames)."
            )
        return frame

    @property
    def has_ended(self) -> bool:
        """Whether the end of the text comes out with the sound of the newest frame."""
        full = len(self._chosen) == self._chosen.maxlen
        return full and self._chosen[0] == EOS

    @property
    def sign_of_the_end(self) -> Codes:
        """Codes ``[other]`` that say that the input has ended."""
        cfg = self.stepper.gen.model.cfg
        return np.full(cfg.other_codebooks, cfg.audio_padding_token, np.int32)

    def note(self, text_token: int) -> None:
        """Remember a text token that was chosen."""
        self._chosen.append(text_token)

    def begin_after(self, text_token: int) -> None:
        """Start after a prompt, whose last call chose a text token."""
        self.started = True
        self.note(text_token)
        self._unsaid = self.reader.read(text_token)

    def read(self, text_token: int) -> str:
        """The text that a token completes, and what was chosen before the first."""
        text, self._unsaid = self._unsaid + self.reader.read(text_token), ""
        return text

    def _heard(self, frame: Pcm) -> Codes:
        heard = self.stepper.encode({self.row: frame})
        heard.wait()
        return np.array(heard.codes)[self.row]

    def _say(self, codes: Codes) -> Reply:
        self.started = True
        (reply,) = say([self], self.stepper.given(self.row, codes))
        self.note(reply.text_token)
        return reply

    def _keep(self) -> Snapshot:
        gen = self.gen.snapshot(self.row)
        codec = self.stepper.codec.snapshot(self.row)
        state = {
            "gen": gen.state,
            "codec": codec.state,
            "reader": self.reader.state,
            "unsaid": self._unsaid,
            "started": self.started,
            "steps": self.steps,
            "chosen": list(self._chosen),
        }
        return Snapshot("conversation", {**gen.fits, **codec.fits}, state)

    def _go_on(self, snapshot: Snapshot) -> None:
        snapshot.check("conversation", {**self.gen.fits, "rows": 1})
        state, fits = snapshot.state, snapshot.fits
        codec = Snapshot("codec", fits, state["codec"])
        self.stepper.codec.restore(self.row, codec)
        self.gen.restore(Snapshot("generation", fits, state["gen"]), self.row)
        self.reader.state = state["reader"]
        self._unsaid = state.get("unsaid", "")
        self.started, self.steps = state["started"], state["steps"]
        self._chosen.clear()
        self._chosen.extend(state["chosen"])

    def _computed_by(self) -> Owner:
        return self.owner

    def _drop(self) -> None:
        self._on_close(self)

    def _enter(self, called: str, other: str) -> None:
        """Reserve the session for one call."""
        self._check_open(called)
        if not self._alone_in.acquire(blocking=False):
            raise RuntimeError(
                f"{called} was called while another {other} is in it: step a session "
                f"in one {other}, and begin one for each."
            )

    def _alone(self, called: str, function: Callable[[], R]) -> R:
        """The result of ``function`` on the model's thread; a second caller at the same
        time is refused."""
        self._enter(called, "thread")
        try:
            return self.owner.run(function, live=self.live)
        finally:
            self._alone_in.release()


def step_together(
    sessions: Sequence[DuplexSession], frames: Sequence[Pcm]
) -> list[Reply]:
    """The replies of some sessions of one batch to a frame ``[1920]`` each.

    Runs on the model's thread. A new session gets its first frame in its own way.
    """
    stepper = sessions[0].stepper
    new = [session for session in sessions if not session.started]
    before = [session for session in new if session.first == "silence"]
    if before:
        silence = np.zeros_like(frames[0])
        say(before, stepper.encode({session.row: silence for session in before}))
    with stepper.trace.stage("frame"):
        given = {s.row: frame for s, frame in zip(sessions, frames, strict=True)}
        heard = stepper.encode(given)
        twice = [session for session in new if session.first == "twice"]
        if twice:
            say(twice, heard)
        replies = say(sessions, heard)
    for session, reply in zip(sessions, replies, strict=True):
        session.started = True
        session.steps += 1
        session.note(reply.text_token)
    return replies


def say(sessions: Sequence[DuplexSession], heard: EncodedFrame) -> list[Reply]:
    """A single call of the model, for some sessions of one batch."""
    said = sessions[0].stepper.step([s.row for s in sessions], heard)
    return [
        Reply(
            said[session.row].pcm,
            session.read(said[session.row].text_token),
            said[session.row].text_token,
            said[session.row].codes,
            said[session.row].gate,
        )
        for session in sessions
    ]
