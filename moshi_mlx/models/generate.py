"""Generation: one frame of tokens in, one frame of tokens out, endlessly."""

from collections.abc import Sequence

import mlx.core as mx

from ..compat import Hook, LmGenOf030
from ..modules.attention import Condition
from ..modules.conditioner import ConditionTensor
from ..utils.sampling import Sampler, TokenSampler, draw, noise_size, penalise_repeats
from .depth import SpokenCodes, sample_frame
from .generation_state import AUDIO_CONTEXT
from .given import Given
from .guidance import Guidance
from .lm import Lm
from .prefill import Prefill


class LmGen(LmGenOf030, Prefill):
    """A conversation, or a batch of independent ones, over an ``Lm``'s weights.

    The frame given in a call is used in that call; streams with a delay of d steps are
    used d calls later. In the very first call every stream holds its initial token, so
    frame 0 is never heard (give it twice if it matters). The text returned by a call
    was sampled in that call. The audio returned by ``last_audio_tokens`` has no delays,
    and is complete ``max_delay`` calls later.

    All state belongs to this object, so several generators may share a model. Memory is
    bounded, and the number of steps is not.

    Args:
        model: the weights.
        max_steps: accepted for programs of moshi_mlx 0.3.0; has no effect.
        text_sampler, audio_sampler: how tokens are drawn: a ``Sampler`` by default.
        batch_size: number of rows B.
        cfg_coef: classifier-free guidance: logits are ``null + coef * (cond - null)``.
        check: validate the tokens of every call (waits for the device).
        on_text_hook: may edit the sampled text ``[B, 1]`` in place.
        on_audio_hook: may edit the sampled audio ``[B, own, 1]`` in place.
        on_text_logits_hook: may edit the text logits ``[B, 1, V]`` in place.
        cfg_is_masked_until: per row, hide the null half's input until this step.
        cfg_is_no_text: hide text from the null half, and do not guide the text.
        seed: one for all rows, or one per row; by default drawn from MLX's generator.
        repetition_penalty: above 1, the last ``repetition_context`` text tokens (except
            padding) become less likely.
        audio_repetition_penalty: above 1, codes of the last
            ``audio_repetition_context`` frames become less likely, each in its own
            codebook.
        audio_steps: how many of the model's own codebooks to generate; the rest are -1.
        kv_bits: bits of the key-value cache, 8 or 4; the model's config
            decides by default.
        reserve: allocate the key-value cache of the whole context now, so that no step
            of a live conversation waits for it to grow.
        both_sides: also generate the other side's codes, if the model predicts them
            (PersonaPlex). They come after its own, and ``force`` may give them too.

    Source: kyutai-labs/moshi, models/lm.py:LMGen.
    """

    def __init__(
        self,
        model: Lm,
        max_steps: int | None = None,
        text_sampler: TokenSampler | None = None,
        audio_sampler: TokenSampler | None = None,
        batch_size: int = 1,
        cfg_coef: float = 1.0,
        check: bool = False,
        on_text_hook: Hook | None = None,
        on_audio_hook: Hook | None = None,
        *,
        on_text_logits_hook: Hook | None = None,
        cfg_is_masked_until: Sequence[int] | None = None,
        cfg_is_no_text: bool = False,
        seed: int | Sequence[int] | None = None,
        repetition_penalty: float = 1.0,
        repetition_context: int = 64,
        audio_repetition_penalty: float = 1.0,
        audio_repetition_context: int = 30,
        audio_steps: int | None = None,
        kv_bits: int | None = None,
        reserve: bool = False,
        both_sides: bool = False,
    ):
        guidance = Guidance(
            model, cfg_coef, masked_until=cfg_is_masked_until, no_text=cfg_is_no_text
        )
        model.hide_cache()  # or a deleted generator would keep its memory
        super().__init__(
            model,
            batch_size,
            guidance,
            seed,
            repetition_penalty,
            repetition_context,
            kv_bits,
            reserve,
            both_sides,
        )
        self.max_steps = max_steps
        self.text_sampler = Sampler() if text_sampler is None else text_sampler
        self.audio_sampler = Sampler() if audio_sampler is None else audio_sampler
        self.audio_repetition_penalty = audio_repetition_penalty
        self.audio_repetition_context = audio_repetition_context
        self.check = check
        self.on_text_hook = on_text_hook
        self.on_audio_hook = on_audio_hook
        self.on_text_logits_hook = on_text_logits_hook
        self.audio_steps = audio_steps
        model.expose_cache(self.cache)
        model.ready()

    def step(
        self,
        other_audio_tokens: mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        *,
        active: Sequence[bool] | None = None,
        own_audio_tokens: mx.array | None = None,
    ) -> tuple[mx.array, mx.array]:
        """Take one frame of the other side, and generate one.

        Args:
            other_audio_tokens: ``[B, other]``, the other side's frame (codebooks beyond
                ``other`` are dropped; ``other`` may be 0).
            ct: summed condition, ``[B, D]`` or ``[B, 1, D]``; with guidance 2B rows
                ``[condition; null]``, or B rows, and the null half is added.
            cross_attention_src: condition to attend to, ``[B, S, D]``; same rule.
            active: rows that take part; the others pause.
            own_audio_tokens: ``[B, own]``, used instead of running the depth
                transformer.

        Returns: text ``[B, 1]`` sampled in this call, after hooks, and the temporal
            transformer's output ``[B, 1, D]`` (2B rows under guidance).
        Raises: ValueError for tokens of another shape, and with ``check`` for values
            outside the vocabulary.
        """
        text, hidden = self._step(
            other_audio_tokens, ct, cross_attention_src, active, own_audio_tokens
        )
        self._evaluate(text, hidden)
        return text, hidden

    def _step(
        self,
        other_audio_tokens: mx.array,
        ct: ConditionTensor | None,
        cross_attention_src: Condition | None,
        active: Sequence[bool] | None,
        own_audio_tokens: mx.array | None,
    ) -> tuple[mx.array, mx.array]:
        """Like ``step``, without evaluating anything."""
        active = None if active is None else list(active)
        self.streams.hear(other_audio_tokens, active, check=self.check)
        text_in, audio_in = self.streams.input(active)
        guide = self.guidance.prepare(ct, cross_attention_src, self.batch_size)
        text_in, audio_in = self.guidance.inputs(
            text_in, audio_in, self.streams.offsets
        )
        hidden = self._network.hidden(
            text_in,
            audio_in,
            self.cache,
            guide.ct,
            guide.cross,
            self.guidance.rows(active),
        )
        given = self.streams.given_now(active)
        text_noise, audio_noise = self._noise(active)
        text = self._text(hidden, text_noise, active, given)
        if own_audio_tokens is not None:
            audio = own_audio_tokens.astype(mx.int32)[..., None]
            audio = self._edited(audio, given)
        elif self.main_codebooks:
            audio = self._audio(hidden, text, audio_noise, given)
        else:
            audio = mx.zeros((self.batch_size, 0, 1), mx.int32)
        self.streams.say(text, audio[..., 0], active)
        if self._spoken_lately() is not None:
            self._remember_codes(audio[..., 0], active)
        completed = self.streams.output()
        self._completed = None if completed is None else completed[:, 1:]
        return text, hidden

    def _evaluate(self, *outputs: mx.array) -> None:
        """Start computing all results of a call at once, without waiting."""
        completed = () if self._completed is None else (self._completed,)
        mx.async_eval(*outputs, *completed, self.streams.tokens)

    def step_with_extra_heads(
        self,
        other_audio_tokens: mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        *,
        active: Sequence[bool] | None = None,
    ) -> tuple[mx.array, list[mx.array]]:
        """Like ``step``, with each extra head's probabilities ``[B, 1, dim]``."""
        text, hidden = self._step(
            other_audio_tokens, ct, cross_attention_src, active, None
        )
        heads = self._network.extra_heads
        found = [mx.softmax(head(hidden), axis=-1) for head in heads]
        self._evaluate(text, *found)
        return text, found

    def last_audio_tokens(self) -> mx.array | None:
        """Own audio ``[B, own]`` that the latest call completed, without delays.

        None before call ``max_delay``, and if a value is the initial token. Rows of a
        batch that have not got so far, or that paused, are -2.
        """
        tokens = self._completed
        if tokens is None:
            return None
        edited = self.on_audio_hook is not None or self.check
        initial = self.model.cfg.audio_padding_token
        if edited and mx.any(tokens == initial).item():
            return None
        return tokens

    @property
    def tokens(self) -> mx.array:
        """The newest columns of all streams, with delays, for inspection."""
        return self.streams.tokens

    def _noise(
        self, active: list[bool] | None
    ) -> tuple[mx.array | None, mx.array | None]:
        """Noise ``[B, 1, ...]`` of the text and of all codebooks, drawn at once."""
        text, audio = self._sizes(0)
        size = text + audio * self._steps
        if not size:
            return None, None
        drawn = self.noise.draw(size, active)[:, None]
        return drawn[..., :text] if text else None, drawn[..., text:] if audio else None

    def _sizes(self, row: int) -> tuple[int, int]:  # noqa: ARG002 (rows are alike)
        """How many values a row's text and each of its codebooks need."""
        cfg = self.model.cfg
        text = noise_size(self.text_sampler, cfg.text_out_vocab_size)
        return text, noise_size(self.audio_sampler, cfg.audio_vocab_size - 1)

    @property
    def _steps(self) -> int:
        return self.main_codebooks if self.audio_steps is None else self.audio_steps

    def _text(
        self,
        hidden: mx.array,
        noise: mx.array | None,
        active: list[bool] | None,
        given: Given | None,
    ) -> mx.array:
        """Text ``[B, 1]``: sampled, unless it was given for all rows."""
        if given is None or not given.text_is_known:
            text = self._drawn_text(hidden, noise)
            if self.on_text_hook is not None:
                self.on_text_hook(text)
            text = text if given is None else given.text_or(text)
        else:
            text = given.text_or(mx.zeros((self.batch_size, 1), mx.int32))
        self._remember(text, active)
        return text

    def _drawn_text(self, hidden: mx.array, noise: mx.array | None) -> mx.array:
        logits = self._network.text_logits(hidden).astype(mx.float32)
        logits = self.guidance.text_logits(logits)
        if self._penalises:
            logits = self._penalised(logits)
        if self.on_text_logits_hook is not None:
            self.on_text_logits_hook(logits)
        return draw(self.text_sampler, logits, noise)

    def _predict(self, hidden: mx.array, active: list[bool] | None) -> mx.array:
        noise, _ = self._noise(active)
        return self._drawn_text(hidden, noise)

    def _penalised(self, logits: mx.array) -> mx.array:
        silent = self.model.cfg.silent_text
        return penalise_repeats(logits, self._said, self.repetition_penalty, silent)

    def _audio(
        self,
        hidden: mx.array,
        text: mx.array,
        noise: mx.array | None,
        given: Given | None,
    ) -> mx.array:
        """Own codes ``[B, own, 1]``; -1 for codebooks that are not generated.

        The depth transformer runs only for codes that are not known.
        """
        steps = self._steps if given is None else min(self._steps, given.unknown_codes)
        if not steps and given is not None:
            return given.codes_or(
                mx.full((self.batch_size, self.main_codebooks, 1), -1)
            )
        size = 0 if noise is None else noise.shape[-1] // self._steps
        audio = sample_frame(
            self._network.depformer,
            hidden,
            text,
            None if noise is None else noise[..., : steps * size],
            self.audio_sampler,
            self.guidance,
            steps,
            None if given is None else given.codes[:, :steps],
            self._spoken_lately(),
        )
        missing = self.main_codebooks - steps
        if missing:
            audio = mx.pad(audio, [(0, 0), (0, missing), (0, 0)], constant_values=-1)
        return self._edited(audio, given)

    def _spoken_lately(self) -> SpokenCodes | None:
        """Codes that become less likely; None if there are none."""
        if self.audio_repetition_penalty == 1.0:
            return None
        count = min(self.audio_repetition_context, AUDIO_CONTEXT)
        factor = mx.full((self.batch_size, 1, 1), self.audio_repetition_penalty)
        return SpokenCodes(self._spoken[..., AUDIO_CONTEXT - count :], factor)

    def _edited(self, audio: mx.array, given: Given | None) -> mx.array:
        """Codes after the hook, with the given ones in place."""
        if self.on_audio_hook is not None and self.main_codebooks:
            self.on_audio_hook(audio)
        return audio if given is None else given.codes_or(audio)
