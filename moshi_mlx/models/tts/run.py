"""One batch of speeches, step by step: the machine between model and text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from ...errors import ConfigError
from ...modules.conditioner import (
    ConditionAttributes,
    ConditionTensor,
    dropout_all_conditions,
)
from ...utils.sampling import Sampler
from ..generate import LmGen
from .machine import Entry

if TYPE_CHECKING:
    from .model import TTSModel

TOP_K, TOP_K_TEXT = 250, 25  # as PyTorch's LMGen
Hook = Callable[[mx.array], None]


class SpeechRun:
    """``B`` speeches that are generated together; a row's tokens are its own.

    Args:
        tts: the model and its settings.
        all_entries: words of each row; ``states[b].entries`` takes more later.
        attributes: conditions of each row; an empty sequence is no condition at all.
        prefixes: per row, codes ``[1 + K, P]`` (text first) of speech that the row
            continues.
        cfg_is_no_prefix: under guidance, hide the prefix from the null half.
        cfg_is_no_text: under guidance, hide the text from it.
        cfg_coef: guidance, the model's own setting by default.
        seed: of all rows, or one per row.
        on_text_hook, on_audio_hook: see ``LmGen``; they run after the machine.
    """

    def __init__(
        self,
        tts: TTSModel,
        all_entries: Sequence[Sequence[Entry]],
        attributes: Sequence[ConditionAttributes],
        prefixes: Sequence[mx.array] | None = None,
        cfg_is_no_prefix: bool = True,
        cfg_is_no_text: bool = True,
        *,
        cfg_coef: float | None = None,
        seed: int | Sequence[int] | None = None,
        on_text_hook: Hook | None = None,
        on_audio_hook: Hook | None = None,
    ):
        rows = len(all_entries)
        self.tts = tts
        self.offset = 0
        self.states = [tts.machine.new_state(entries) for entries in all_entries]
        self.logged: list[list[tuple[int, int]]] = [[] for _ in all_entries]
        self._hooks = on_text_hook, on_audio_hook
        self._text_prefixes: list[deque[int]] = [deque() for _ in all_entries]
        self._audio_prefix: mx.array | None = None
        masked_until = None
        if prefixes is not None:
            self._take_prefixes(prefixes)
            if cfg_is_no_prefix:
                masked_until = [p.shape[-1] + tts.delay_steps for p in prefixes]
        coef = tts.cfg_coef if cfg_coef is None else cfg_coef
        self._conditions = self._prepare(attributes, rows, coef)
        lm = tts.lm
        self.gen = LmGen(
            lm,
            None,
            Sampler(tts.temp, top_k=TOP_K_TEXT),
            Sampler(tts.temp, top_k=TOP_K),
            batch_size=rows,
            cfg_coef=coef,
            on_text_hook=self._on_text,
            on_audio_hook=self._on_audio,
            on_text_logits_hook=self._on_logits if tts.padding_bonus else None,
            cfg_is_masked_until=masked_until,
            cfg_is_no_text=cfg_is_no_text,
            seed=seed,
            audio_steps=tts.n_q if tts.n_q < lm.dep_q else None,
        )
        delays = mx.array(lm.delays[: lm.dep_q])[None, :, None]
        self._first_steps = delays + tts.delay_steps  # of each codebook
        self._last_first_step = max(lm.delays[: lm.dep_q]) + tts.delay_steps
        self._nothing_heard = mx.full((rows, lm.n_q - lm.dep_q), -1)
        self._nothing_said = mx.full((rows, lm.dep_q), -1)

    @property
    def done(self) -> bool:
        """Whether every row has ended and its sound is out."""
        ends = [state.end_step for state in self.states]
        if any(end is None for end in ends):
            return False
        last = max(end for end in ends if end is not None)
        return self.offset >= last + self.tts.delay_steps + self.tts.final_padding

    def step(self) -> mx.array | None:
        """Codes ``[B, K]`` of the next frame of sound; None before the first one.

        Frame i is what is said with text step i.
        """
        tts = self.tts
        silent = self.offset < tts.delay_steps  # nothing to say: no depth transformer
        self.gen.step(
            self._nothing_heard,
            *self._conditions,
            own_audio_tokens=self._nothing_said if silent else None,
        )
        self.offset += 1
        if self.offset > self._last_first_step and self._audio_prefix is None:
            self.gen.on_audio_hook = self._hooks[1]
        if self.offset <= tts.delay_steps + self.gen.max_delay:
            return None
        frame = self.gen.last_audio_tokens()
        return None if frame is None else frame[:, : tts.n_q]

    @property
    def in_prefix(self) -> bool:
        """Whether a row's text is still that of its prefix."""
        return any(self._text_prefixes)

    def _prepare(
        self, attributes: Sequence[ConditionAttributes], rows: int, coef: float
    ) -> tuple[ConditionTensor | None, mx.array | None]:
        """Summed and attended conditions, with their null half under guidance."""
        provider = self.tts.lm.condition_provider
        if coef != 1.0 and self.tts.valid_cfg_conditionings:
            raise ConfigError(
                "this model learnt guidance as a condition: set tts.cfg_coef = 1 and "
                "give the coefficient to make_condition_attributes instead."
            )
        if not attributes or provider is None:
            return None, None
        if len(attributes) != rows:
            raise ConfigError(
                f"{len(attributes)} condition attributes were given for {rows} "
                "scripts: give one each."
            )
        if coef != 1.0:
            attributes = [*attributes, *dropout_all_conditions(attributes)]
        return provider.fuse(attributes)

    def _take_prefixes(self, prefixes: Sequence[mx.array]) -> None:
        """Queue the prefixes' text; delay their codes as the model's own are."""
        lm, ids = self.tts.lm, self.tts.machine.token_ids
        if len(prefixes) != len(self.states):
            raise ConfigError(
                f"{len(prefixes)} prefixes were given for {len(self.states)} scripts: "
                "give one each."
            )
        longest = max(p.shape[-1] for p in prefixes)
        delays = [d + self.tts.delay_steps for d in lm.delays]
        shape = (len(prefixes), lm.dep_q, longest + max(delays))
        forced = mx.full(shape, ids.ungenerated, dtype=mx.int32)
        for b, prefix in enumerate(prefixes):
            if prefix.ndim != 2 or prefix.shape[0] != 1 + lm.n_q:
                raise ConfigError(
                    f"prefix {b} has the shape {list(prefix.shape)}: give codes "
                    f"[{1 + lm.n_q}, frames], text first (see get_prefix)."
                )
            length = prefix.shape[-1]
            self._text_prefixes[b].extend(_integers(prefix[0]))
            for k in range(lm.dep_q):
                forced[b, k, delays[k] : delays[k] + length] = prefix[1 + k]
        self._audio_prefix = forced

    def _on_logits(self, logits: mx.array) -> None:
        pad = self.tts.machine.token_ids.pad
        logits[..., pad] = logits[..., pad] + self.tts.padding_bonus

    def _on_text(self, text: mx.array) -> None:
        """The machine: replaces what was predicted by what is to be read."""
        out = []
        for b, predicted in enumerate(_integers(text[:, 0])):
            if self._text_prefixes[b]:
                token = self._text_prefixes[b].popleft()
            else:
                token, _ = self.tts.machine.process(
                    self.offset, self.states[b], predicted
                )
            self.logged[b].append((predicted, token))
            out.append(token)
        text[:] = mx.array(out, dtype=text.dtype)[:, None]
        if self._hooks[0] is not None:
            self._hooks[0](text)

    def _on_audio(self, audio: mx.array) -> None:
        """Nothing is said before a codebook's first step; a prefix is said as it is."""
        ids = self.tts.machine.token_ids
        tokens = mx.where(self.offset < self._first_steps, ids.zero, audio)
        forced = self._audio_prefix
        if forced is not None:
            column = forced[:, :, self.offset : self.offset + 1]
            tokens = mx.where(column == ids.ungenerated, tokens, column)
            if self.offset + 1 == forced.shape[2]:
                self._audio_prefix = None
        audio[:] = tokens
        if self._hooks[1] is not None:
            self._hooks[1](audio)


def _integers(tokens: mx.array) -> list[int]:
    """``tokens [T]`` as Python's numbers."""
    return np.array(tokens).tolist()
