"""One batch of speeches, step by step: the machine decides what the model reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ...compat import Hook
from ...errors import ConfigError
from ...models.generate import LmGen
from ...modules.conditioner import ConditionAttributes
from .machine import Entry, State
from .model import SpeechModel
from .row import SpeechRow
from .row_conditions import frames_of, fused

TOP_K, TOP_K_TEXT = 250, 25  # as PyTorch's LMGen


class SpeechRun:
    """``B`` speeches that are generated together; a row's tokens are its own.

    Args:
        tts: the model and its settings.
        all_entries: words of each row; ``states[b].entries`` takes more later.
        attributes: conditions of each row; an empty sequence means no conditions.
        prefixes: per row, codes ``[1 + K, P]`` (text first) of speech that the row
            continues.
        cfg_is_no_prefix: under guidance, hide the prefix from the null half.
        cfg_is_no_text: under guidance, hide the text from it.
        cfg_coef: guidance, the model's own setting by default.
        seed: of all rows, or one per row.
        keep_log: whether ``logged`` is kept, which grows with the speech.
        apart: a row with a shorter voice than others says what it says alone. Without
            it, what fills the row up is heard as in PyTorch.
        on_text_hook, on_audio_hook: see ``LmGen``; they run after the machine.
    """

    def __init__(
        self,
        tts: SpeechModel,
        all_entries: Sequence[Sequence[Entry]],
        attributes: Sequence[ConditionAttributes],
        prefixes: Sequence[mx.array] | None = None,
        cfg_is_no_prefix: bool = True,
        cfg_is_no_text: bool = True,
        *,
        cfg_coef: float | None = None,
        seed: int | Sequence[int] | None = None,
        keep_log: bool = True,
        apart: bool = False,
        on_text_hook: Hook | None = None,
        on_audio_hook: Hook | None = None,
    ):
        rows = len(all_entries)
        self.tts = tts
        self.rows = [
            SpeechRow(tts.machine.new_state(entries)) for entries in all_entries
        ]
        self._hooks = on_text_hook, on_audio_hook
        self._keep_log, self._apart = keep_log, apart
        masked_until = None
        if prefixes is not None:
            if len(prefixes) != rows:
                raise ConfigError(
                    f"{len(prefixes)} prefixes were given for {rows} scripts: give one "
                    "each."
                )
            for b, prefix in enumerate(prefixes):
                self._take_prefix(b, prefix)
            if cfg_is_no_prefix:
                masked_until = [p.shape[-1] + tts.delay_steps for p in prefixes]
        self._coef = tts.cfg_coef if cfg_coef is None else cfg_coef
        self._attributes = list(attributes)
        self._conditions = fused(tts, attributes, rows, self._coef, apart)
        lm = tts.lm
        self.gen = LmGen(
            lm,
            None,
            tts.sampler(TOP_K_TEXT),
            tts.sampler(TOP_K),
            batch_size=rows,
            cfg_coef=self._coef,
            on_text_hook=self._on_text,
            on_text_logits_hook=self._on_logits if tts.padding_bonus else None,
            cfg_is_masked_until=masked_until,
            cfg_is_no_text=cfg_is_no_text,
            seed=seed,
            audio_steps=tts.n_q if tts.n_q < lm.dep_q else None,
            reserve=True,
        )
        delays = mx.array(lm.delays[: lm.dep_q])[None, :, None]
        self._first_steps = delays + tts.delay_steps  # of each codebook
        self._last_first_step = max(lm.delays[: lm.dep_q]) + tts.delay_steps
        self._nothing_heard = mx.full((rows, lm.n_q - lm.dep_q), -1)
        self._nothing_said = mx.full((rows, lm.dep_q), -1)

    @property
    def lengths(self) -> set[int]:
        """Frames of the rows' voices."""
        return set(map(frames_of, self._attributes)) or {0}

    @property
    def states(self) -> list[State]:
        """Of the machine, by row."""
        return [row.state for row in self.rows]

    @property
    def state(self) -> dict[str, Any]:
        """The whole state of the speeches; may be set to that of another run with the
        same model, voices and guidance."""
        return {"gen": self.gen.state, "rows": [row.kept for row in self.rows]}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        self.gen.state = state["gen"]
        for row, kept in zip(self.rows, state["rows"], strict=True):
            row.kept = kept

    @property
    def logged(self) -> list[list[tuple[int, int]]]:
        """Per row, (predicted, read) text of each step."""
        return [row.logged for row in self.rows]

    @property
    def offset(self) -> int:
        """Steps of the row that has taken most."""
        return max(row.offset for row in self.rows)

    @property
    def done(self) -> bool:
        """Whether every row has ended and its sound is out."""
        ends = [state.end_step for state in self.states]
        if any(end is None for end in ends):
            return False
        last = max(end for end in ends if end is not None)
        return self.offset >= last + self.tts.delay_steps + self.tts.final_padding

    def ended(self, b: int) -> bool:
        """Whether row ``b`` has said everything, or was given up."""
        row, tts = self.rows[b], self.tts
        if row.offset >= tts.max_gen_length:
            return True
        end = row.state.end_step
        return end is not None and row.offset >= end + tts.delay_steps + (
            tts.final_padding
        )

    def sounds(self, b: int) -> bool:
        """Whether the latest step made a frame of row ``b``."""
        row = self.rows[b]
        first = self.tts.delay_steps + self.gen.max_delay
        return not row.resting and row.offset > first

    def begin(
        self,
        b: int,
        entries: Sequence[Entry],
        attributes: ConditionAttributes | None = None,
        prefix: mx.array | None = None,
        seed: int | None = None,
    ) -> None:
        """Say something else in row ``b``; the other rows continue unchanged.

        Args:
            attributes: with as many voice frames as those of the other rows.
            seed: see ``LmGen.reset``; the rest as for all rows.
        """
        self.rows[b] = SpeechRow(self.tts.machine.new_state(entries))
        if prefix is not None:
            self._take_prefix(b, prefix)
            if (until := self.gen.guidance.masked_until) is not None:
                until[b] = prefix.shape[-1] + self.tts.delay_steps
        if attributes is not None:
            self._attributes[b] = attributes
            self._conditions = fused(
                self.tts, self._attributes, len(self.rows), self._coef, self._apart
            )
        self.gen.reset([b], seed)

    def rest(self, b: int) -> None:
        """Let row ``b`` pause."""
        self.rows[b].resting = True

    def step(self) -> mx.array | None:
        """Codes ``[B, K]`` of the next frame of sound; None before the first one.

        Frame i of a row is the sound of its text step i; for rows without sound (see
        ``sounds``) it has no meaning.
        """
        tts, moving = self.tts, [row for row in self.rows if not row.resting]
        silent = all(row.offset < tts.delay_steps for row in moving)
        early = any(
            row.offset < self._last_first_step or row.audio_prefix is not None
            for row in moving
        )
        self.gen.on_audio_hook = self._on_audio if early else self._hooks[1]
        self.gen.step(
            self._nothing_heard,
            *self._conditions,
            active=None if len(moving) == len(self.rows) else self._active(),
            # Nothing to say: no depth transformer.
            own_audio_tokens=self._nothing_said if silent else None,
        )
        for row in moving:
            row.offset += 1
        if not any(self.sounds(b) for b in range(len(self.rows))):
            return None
        frame = self.gen.last_audio_tokens()
        return None if frame is None else frame[:, : tts.n_q]

    def read_prefix(self, rows: Sequence[int] | None = None) -> mx.array | None:
        """Take the first steps at once, as many as have their text in all prefixes.

        Tokens and log are the same as with stepping; hooks miss these steps.

        Args:
            rows: rows that take these steps, all by default; the others pause.

        Returns: the frames of sound of these steps ``[rows, K, T]``, which are the
            prefixes' own; None if there are none.
        """
        tts, gen = self.tts, self.gen
        rows = range(len(self.rows)) if rows is None else rows
        reading = [self.rows[b] for b in rows]
        steps = min(len(row.text_prefix) for row in reading)
        silence = np.full((tts.lm.dep_q, steps), -1, np.int32)
        silent = np.arange(steps) < tts.delay_steps
        text, own = [], []
        for row in reading:
            text.append([row.text_prefix.popleft() for _ in range(steps)])
            delayed = np.array(row.audio_prefix)
            codes = [d + np.arange(steps) for d in tts.lm.delays[: tts.lm.dep_q]]
            aligned = np.take_along_axis(delayed, np.stack(codes), axis=1)
            own.append(np.where(silent, silence, aligned))
            row.offset = steps
        active = [b in rows for b in range(len(self.rows))]
        gen.force(text, own, rows)
        predicted = gen.prefill(
            mx.repeat(self._nothing_heard[..., None], steps, axis=2),
            *self._conditions,
            active=None if all(active) else active,
            predict=self._keep_log,
        )
        gen.stop_forcing(rows)
        if predicted is not None:
            for b, row, said in zip(rows, reading, text, strict=True):
                row.logged += zip(_integers(predicted[b]), said, strict=True)
        frames = np.stack(own)[:, : tts.n_q, tts.delay_steps : steps - gen.max_delay]
        return mx.array(frames) if frames.shape[2] else None

    def reads_at_once(self, rows: Sequence[int] | None = None) -> bool:
        """Whether ``read_prefix`` may take the next steps of rows that start: each has
        a prefix, no hook of a program needs to see them, and they fit."""
        rows = range(len(self.rows)) if rows is None else rows
        lengths = [len(self.rows[b].text_prefix) for b in rows]
        most = self.tts.max_gen_length
        if self.offset:
            most = min(most, self.gen.room)
        fit = min(lengths) > 0 and max(lengths) <= most
        return fit and self._hooks == (None, None)

    @property
    def in_prefix(self) -> bool:
        """Whether a row's text is still that of its prefix."""
        return any(row.text_prefix for row in self.rows)

    def _active(self) -> list[bool]:
        return [not row.resting for row in self.rows]

    def _take_prefix(self, b: int, prefix: mx.array) -> None:
        """Queue a prefix's text; delay its codes like the model's own."""
        lm, ids = self.tts.lm, self.tts.machine.token_ids
        if prefix.ndim != 2 or prefix.shape[0] != 1 + lm.n_q:
            raise ConfigError(
                f"prefix {b} has the shape {list(prefix.shape)}: give codes "
                f"[{1 + lm.n_q}, frames], text first (see get_prefix)."
            )
        length = prefix.shape[-1]
        delays = [d + self.tts.delay_steps for d in lm.delays[: lm.dep_q]]
        shape = (lm.dep_q, length + max(delays))
        forced = mx.full(shape, ids.ungenerated, dtype=mx.int32)
        for k, delay in enumerate(delays):
            forced[k, delay : delay + length] = prefix[1 + k]
        self.rows[b].text_prefix.extend(_integers(prefix[0]))
        self.rows[b].audio_prefix = forced

    def _on_logits(self, logits: mx.array) -> None:
        pad = self.tts.machine.token_ids.pad
        logits[..., pad] = logits[..., pad] + self.tts.padding_bonus

    def _on_text(self, text: mx.array) -> None:
        """The machine: replaces the prediction by the text to be read."""
        out = _integers(text[:, 0])
        for b, row in enumerate(self.rows):
            if row.resting:
                continue
            if row.text_prefix:
                token = row.text_prefix.popleft()
            else:
                token, _ = self.tts.machine.process(row.offset, row.state, out[b])
            if self._keep_log:
                row.logged.append((out[b], token))
            out[b] = token
        text[:] = mx.array(out, dtype=text.dtype)[:, None]
        if self._hooks[0] is not None:
            self._hooks[0](text)

    def _on_audio(self, audio: mx.array) -> None:
        """Nothing is said before a codebook's first step; a prefix is said
        unchanged."""
        ids = self.tts.machine.token_ids
        offsets = mx.array([row.offset for row in self.rows])[:, None, None]
        tokens = mx.where(offsets < self._first_steps, ids.zero, audio)
        for b, row in enumerate(self.rows):
            if row.audio_prefix is None or row.resting:
                continue
            column = row.audio_prefix[:, row.offset][:, None]
            tokens[b] = mx.where(column == ids.ungenerated, tokens[b], column)
            if row.offset + 1 == row.audio_prefix.shape[1]:
                row.audio_prefix = None
        audio[:] = tokens
        if self._hooks[1] is not None:
            self._hooks[1](audio)


def _integers(tokens: mx.array) -> list[int]:
    """``tokens [T]`` as Python ints."""
    return np.array(tokens).tolist()
