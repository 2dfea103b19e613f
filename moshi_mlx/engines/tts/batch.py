"""Live speeches that share a speaking model's steps: rows that come and go."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np

from ...audio.samples import Pcm
from ...codec import NativeCodec
from ...documents.words import Word
from ...errors import ConfigError, MoshiError
from ...models.snapshot import Snapshot
from ...modules.conditioner import ConditionAttributes
from ...utils.sampling import new_seed
from ..live_batch import LiveBatch, LiveRow
from ..row_codec import make_row_codec
from .live_voice import LiveVoice, Spoken
from .model import SpeechModel
from .row import SpeechRow
from .run import SpeechRun
from .wording import Wording

READ_CHARS = 4096  # of a row's text per step, a thousand times as much as a step says
KEPT_PREFIXES = 8  # recordings that are kept ready


@dataclass(frozen=True)
class _Prepared:
    """A recording that was read: a state to continue from."""

    gen: Snapshot
    codec: Snapshot
    steps: int
    frames: int
    row: dict = field(repr=False)


class TTSRow(LiveRow["TTSBatch"]):
    """One live speech; made by ``TTSBatch.open``.

    Attributes:
        inbox: pieces of its text, cut anywhere; None ends it. Any thread may append.
    """

    inbox: deque[str | None]

    def __init__(self, batch: "TTSBatch", row: int, voice: LiveVoice):
        super().__init__(batch, row)
        self.voice = voice
        self.wording = Wording(batch.tts, batch.padding_between)
        self.frames = 0  # that the model has said, including a recording's
        self.error: MoshiError | None = None
        self.read_chars = 0  # of the text
        self._told = 0  # words

    def take(self) -> None:
        """Read text that has arrived; ``said`` reports its errors.

        A step reads a bounded amount: otherwise a book that comes at once would delay
        everybody else while it is split into words.
        """
        left = READ_CHARS
        while self.inbox and self.error is None and left > 0:
            text = self.inbox.popleft()
            if text is not None:
                self.read_chars += min(len(text), left)
                if len(text) > left:
                    self.inbox.appendleft(text[left:])
                    text = text[:left]
                left -= len(text)
            if self.wording.finished:
                continue
            try:
                new = self.wording.finish() if text is None else self.wording.feed(text)
                self._speech.add(new)
            except MoshiError as error:
                self.error = error

    @property
    def may_step(self) -> bool:
        """Whether a step says something."""
        if self.error is not None:
            return False
        if self.wording.finished:
            return not self.batch.run.ended(self.row)
        return self.wording.may_step(self._speech.state)

    def said(self, pcm: Pcm | None) -> Spoken:
        """The result of a step."""
        if self.error is not None:
            return Spoken(ended=True, error=self.error)
        ended = self.wording.finished and self.batch.run.ended(self.row)
        new: Sequence[Word] = ()
        taken = len(self._speech.state.transcript)
        known = taken if self._speech.state.end_step is not None else taken - 1
        if known > self._told:
            state, offset = self._speech.state, self._speech.offset
            words = self.wording.words(state, offset, self.voice.steps)
            new, self._told = words[self._told : known], known
        more = self.may_step or bool(self.inbox)
        return Spoken(pcm, new, more and not ended, ended)

    @property
    def _speech(self) -> SpeechRow:
        return self.batch.run.rows[self.row]


class TTSBatch(LiveBatch[TTSRow, Spoken]):
    """Live speeches of one model, each as if it were alone; see ``LiveBatch``.

    In a step it takes all text of each row's inbox, and speaks a frame of each row that
    has enough.

    Args:
        tts: the model and its settings.
        rows: number of rows.
        guidance: see ``SpeechSession``; the same for all rows.
        padding_between: see ``ScriptReader``.
        joint_codec: see ``Batch``.
    """

    def __init__(
        self,
        tts: SpeechModel,
        rows: int,
        guidance: float = 2.0,
        padding_between: int = 1,
        joint_codec: bool | None = None,
    ):
        super().__init__(tts.owner, rows, "speak", tts.residency)
        self.tts = tts
        self.padding_between = padding_between
        self._learnt = guidance if tts.valid_cfg_conditionings else None
        self._coef = 1.0 if self._learnt else guidance
        self._prefixes: OrderedDict[str, _Prepared] = OrderedDict()
        self.run = tts.owner.run(lambda: self._make_run(rows, self._no_voice()))
        self._codec = tts.owner.run(
            lambda: make_row_codec(
                lambda: NativeCodec(tts.mimi), rows, joint_codec, tts.lm
            )
        )

    def voice(self, name: str | Path) -> LiveVoice:
        """A voice by name or file, see ``SpeechModel.get_voice_path``.

        It may have to be downloaded: call it from a thread that can wait.

        Raises: CheckpointError, AudioError or ConfigError for a voice that cannot be
            used.
        """
        path = self.tts.get_voice_path(str(name))
        if self.tts.multi_speaker:
            attributes = self.tts.make_condition_attributes([path], self._learnt)
            return LiveVoice(attributes, key=str(path))
        return self.voice_of_codes(self.tts.get_prefix(path), str(path))

    def voice_of_embedding(self, embedding: mx.array) -> LiveVoice:
        """A voice from an embedding ``[1, D, T]``, as Kyutai's servers send it.

        Raises: CheckpointError for one of another model.
        """
        attributes = self.tts.make_condition_attributes([embedding], self._learnt)
        return LiveVoice(attributes)

    def voice_of_codes(self, prefix: mx.array, key: str = "") -> LiveVoice:
        """A voice from codes ``[1 + n_q, P]``, see ``SpeechModel.get_prefix``.

        Raises: ConfigError for a model that continues no recordings.
        """
        if self.tts.multi_speaker:
            raise ConfigError(
                "this model takes voices that were made for it: choose one by name."
            )
        return LiveVoice(self._no_voice(), prefix, key)

    def open(self, voice: LiveVoice, seed: int | None = None) -> TTSRow:
        """Start a new speech.

        Raises: NoPlace if all rows are taken.
        """
        self._check_open("batch.open")
        chosen = new_seed() if seed is None else seed
        return self.owner.run(lambda: self._begin(voice, chosen))

    def _no_voice(self) -> ConditionAttributes:
        return self.tts.make_condition_attributes([], self._learnt)

    def _make_run(
        self,
        rows: int,
        attributes: ConditionAttributes,
        prefix: mx.array | None = None,
    ) -> SpeechRun:
        conditioned = attributes.text or attributes.tensor
        run = SpeechRun(
            self.tts,
            [[] for _ in range(rows)],
            [attributes] * rows if conditioned else [],
            None if prefix is None else [prefix] * rows,
            cfg_is_no_prefix=self._learnt is None,
            cfg_is_no_text=self._learnt is None,
            cfg_coef=self._coef,
            seed=0,
            keep_log=False,
            apart=True,
        )
        if prefix is None and self._learnt is None and not self.tts.multi_speaker:
            run.gen.guidance.masked_until = [0] * rows
        for b in range(rows):
            run.rest(b)
        return run

    def _begin(self, voice: LiveVoice, seed: int) -> TTSRow:
        b = self._free()
        self._fit(voice, alone=not self.taken)
        row = self._taken[b] = self._new(b, voice, seed)
        return row

    def change(self, row: TTSRow, voice: LiveVoice) -> None:
        """Give a speech that has not started another voice."""

        def renew() -> None:
            self._fit(voice, alone=self.taken == 1)
            new = self._new(row.row, voice, new_seed())
            row.voice, row.frames = voice, new.frames

        self.owner.run(renew)

    def _fit(self, voice: LiveVoice, alone: bool) -> None:
        """Give all rows a voice of this length if nobody else speaks: shorter ones
        would have to be filled up and masked."""
        if alone and self.run.lengths != {voice.frames}:
            self.run = self._make_run(self.rows, voice.attributes)

    def _new(self, b: int, voice: LiveVoice, seed: int) -> TTSRow:
        row = TTSRow(self, b, voice)
        conditioned = voice.attributes.text or voice.attributes.tensor
        self.run.begin(b, [], voice.attributes if conditioned else None, None, seed)
        self._codec.begin(b)
        if voice.prefix is not None:
            self._continue(b, row, voice, seed)
        self.run.rest(b)
        return row

    def _continue(self, b: int, row: TTSRow, voice: LiveVoice, seed: int) -> None:
        """Make row ``b`` one that has just said the voice's recording."""
        ready = self._prefixes.get(voice.key)
        if ready is None:
            ready = self._read(voice)
        if voice.key:
            self._prefixes[voice.key] = ready
            self._prefixes.move_to_end(voice.key)
            while len(self._prefixes) > KEPT_PREFIXES:
                self._prefixes.popitem(last=False)
        gen = self.run.gen
        gen.restore(ready.gen, b)
        gen.noise.reseed(b, seed)
        gen.noise.skip(b, ready.steps)
        if (until := gen.guidance.masked_until) is not None:
            until[b] = voice.steps + self.tts.delay_steps
        self.run.rows[b].kept = ready.row
        self._codec.restore(b, ready.codec)
        row.frames = ready.frames

    def _read(self, voice: LiveVoice) -> _Prepared:
        """Read a recording once, in a run of its own."""
        alone = self._make_run(1, voice.attributes, voice.prefix)
        alone.rows[0].resting = False
        codec, frames = NativeCodec(self.tts.mimi), 0
        while alone.in_prefix:
            codes = alone.read_prefix()
            if codes is not None:
                mx.eval(self.tts.mimi.decode_step(codes, codec.state))
                frames += codes.shape[2]
        return _Prepared(
            alone.gen.snapshot(0),
            codec.snapshot(0),
            alone.rows[0].offset,
            frames,
            alone.rows[0].kept,
        )

    def _step(self, rows: Sequence[TTSRow]) -> list[Spoken]:
        here = [row for row in rows if not row.closed]
        for row in here:
            row.take()
        moving = {row.row: row for row in here if row.may_step}
        sound: dict[int, Pcm] = {}
        if moving:
            for b, speech in enumerate(self.run.rows):
                speech.resting = b not in moving
            sound = self._sound(moving, self.run.step())
            self.steps += 1
        return [
            Spoken(ended=True) if row.closed else row.said(sound.get(row.row))
            for row in rows
        ]

    def _sound(
        self, moving: dict[int, TTSRow], codes: mx.array | None
    ) -> dict[int, Pcm]:
        if codes is None:
            return {}
        heard = [b for b in moving if self.run.sounds(b)]
        sound = self._codec.decode(codes, heard) if heard else {}
        for b in heard:
            moving[b].frames += 1
        return {
            b: np.clip(np.array(pcm), -1, 1)
            for b, pcm in sound.items()
            if moving[b].frames > moving[b].voice.steps
        }

    def warmup(self) -> float:
        """Step all rows until they sound, and discard it; returns seconds of a step."""
        voice = LiveVoice(self._no_voice())
        rows = [self.open(voice, seed=0) for _ in range(self.rows)]
        for row in rows:
            row.inbox.extend(["a a a a a a a a", None])
        times = []
        for _ in range(self.tts.delay_steps + self.run.gen.max_delay + 6):
            times.append(self.timed_step(rows))
        for row in rows:
            row.close()
        self.steps = 0
        return median(times[-4:])

    def _rest(self, b: int) -> None:
        self.run.rest(b)

    def _drop(self) -> None:
        super()._drop()
        del self.run, self._codec
        self._prefixes.clear()
