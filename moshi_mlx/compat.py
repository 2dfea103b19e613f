"""The parts that only programs written for moshi_mlx 0.3.0 use.

Those programs read and replace caches on the model itself, call the model with them,
and tell layers that weights were set. Our own code keeps the state of a stream outside
the networks and never uses any of this. It is all here, so that the networks stay
readable. (``RotatingKVCache(keep=...)`` and ``TransformerConfig.max_seq_len`` are parts
of signatures, and stay there.)
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .utils.sampling import Sampler

Caches = list[Any]  # of ``LayerCache``, one per layer
Hook = Callable[[mx.array], None]


class MimiOf030:
    """0.3.0's ``Mimi``: the caches of its only stream, now the default one."""

    def reset_all(self: Any) -> None:
        """Start the default stream again."""
        self.reset_state()

    @property
    def encoder_cache(self: Any) -> Caches:
        """Keys and values of the default stream's encoder; empty before it starts."""
        if self._state is None:
            return self.encoder_transformer.make_cache()
        return self._state.encoder.caches

    @property
    def decoder_cache(self: Any) -> Caches:
        """The same for its decoder."""
        if self._state is None:
            return self.decoder_transformer.make_cache()
        return self._state.decoder.caches


class LmGenOf030:
    """0.3.0's ``LmGen``: a table of all tokens, with ``max_steps`` columns."""

    @property
    def gen_sequence(self: Any) -> mx.array:
        """Tokens ``[B, 1 + n_q, steps]``, without delays; -2 marks missing ones.

        Programs wait for it after a step. A conversation has no end here, so only the
        newest columns are kept, and writing into the table has no effect.
        """
        streams = self.streams
        ring = np.array(streams.tokens)
        columns = ring.shape[2]
        steps = max(self.max_steps or 0, self.step_idx + 1)
        found = np.full((*ring.shape[:2], steps), self.ungenerated_token, np.int32)
        for row, calls in enumerate(streams.offsets):
            for k, delay in enumerate(streams.delays):
                own = k < streams.own  # the tokens of call s are in column s + 1
                newest = calls if own else calls - 1 + delay
                late = 1 if k == 0 else delay + own
                for column in range(max(newest - columns + 1, 0), newest + 1):
                    step = column - late
                    if 0 <= step < calls:
                        found[row, k, step] = ring[row, k, column % columns]
        return mx.array(found)

    @gen_sequence.setter
    def gen_sequence(self: Any, value: mx.array) -> None:
        """Programs set an empty table to start again."""
        if mx.any(value != self.ungenerated_token).item():
            raise ValueError(
                "gen_sequence was set to a table with tokens in it: give tokens with "
                "force()."
            )
        self.reset()


class StreamingAdd(nn.Module):
    """The sum of two streams whose pieces differ in length: the longer one waits.

    Nothing here uses it; 0.3.0's codec did. Pieces are ``[..., T]``.
    """

    def __init__(self):
        super().__init__()
        self.reset_state()

    def reset_state(self) -> None:
        """Drop what waits."""
        self._waiting: dict[str, mx.array] = {}

    def step(self, lhs: mx.array, rhs: mx.array) -> mx.array:
        """The sum of everything that both streams have delivered so far."""
        pieces = {"lhs": lhs, "rhs": rhs}
        for side, before in self._waiting.items():
            pieces[side] = mx.concatenate([before, pieces[side]], axis=-1)
        ready = min(piece.shape[-1] for piece in pieces.values())
        self._waiting = {
            side: piece[..., ready:]
            for side, piece in pieces.items()
            if piece.shape[-1] > ready
        }
        return pieces["lhs"][..., :ready] + pieces["rhs"][..., :ready]


class UpdateInPlace:
    """A layer that 0.3.0's programs tell when they have set its weights."""

    def update_in_place(self) -> None:
        """Does nothing: what is derived from weights is updated automatically."""


class LmOf030:
    """0.3.0's ``Lm``: caches that are attributes, and calls that use them.

    Mixed into our ``Lm``, which provides ``hidden``, ``text_logits`` and ``ready``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Let programs replace the caches.

        The first is exposed; the depth transformer's has nothing to keep.
        """
        if name == "transformer_cache":
            self.expose_cache(value)
        elif name != "depformer_cache":
            super().__setattr__(name, value)

    @property
    def transformer_cache(self: Any) -> Caches:
        """State of the newest ``LmGen`` on these weights, or else of direct calls."""
        if "_exposed" not in self.__dict__:
            self.expose_cache(self.transformer.make_rot_cache())
        return self.__dict__["_exposed"]

    @property
    def depformer_cache(self: Any) -> Caches:
        """State of the depth transformer between frames: a new, empty one each time,
        since nothing is kept. Programs reset it."""
        slices = self.depformer.slices
        return slices[0].transformer.make_frame_cache() if slices else []

    def expose_cache(self, cache: Caches) -> None:
        """Use ``cache`` for ``transformer_cache`` and direct calls."""
        self.__dict__["_exposed"] = cache  # not an item: no child of the module

    def hide_cache(self) -> None:
        """Drop the exposed cache: a new one is made on the next access."""
        self.__dict__.pop("_exposed", None)

    def forward_text(
        self: Any, token_ids: mx.array, cross_attention_src: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Hidden ``[B, T, D]`` and logits of text ``[B, T]``, on the exposed cache."""
        network, cache = self.ready(), self.transformer_cache
        hidden = network.hidden(
            token_ids, None, cache, cross_attention_src=cross_attention_src
        )
        return hidden, network.text_logits(hidden)

    def __call__(
        self, token_ids: mx.array, cross_attention_src: mx.array | None = None
    ) -> mx.array:
        """Text logits ``[B, T, V]``, on the exposed cache."""
        return self.forward_text(token_ids, cross_attention_src)[1]

    def sample(
        self: Any,
        text_token_ids: mx.array,
        audio_token_ids: list[mx.array],
        text_sampler: Sampler,
        audio_sampler: Sampler,
        ct: Any = None,
        cross_attention_src: mx.array | None = None,
        cfg_coef: float = 1.0,
        on_text_hook: Hook | None = None,
        on_audio_hook: Hook | None = None,
    ) -> tuple[mx.array, mx.array | None]:
        """One step with the exposed cache, without delays or guidance: see ``LmGen``.

        Args:
            text_token_ids: ``[B, 1]``.
            audio_token_ids: ``[1, B]`` or ``[B, 1]`` per audio stream, own ones first.

        Returns: text ``[B, 1]`` and own audio ``[B, dep_q, 1]`` (None if there is no
            depth transformer).
        Raises: ValueError for a ``cfg_coef`` other than 1.
        """
        if cfg_coef != 1:
            raise ValueError(
                f"sample got cfg_coef {cfg_coef}: it has no guidance, LmGen has."
            )
        network, b = self.ready(), text_token_ids.shape[0]
        audio = [tokens.reshape(b, 1) for tokens in audio_token_ids]
        hidden = network.hidden(
            text_token_ids,
            mx.stack(audio, axis=1) if audio else None,
            self.transformer_cache,
            ct,
            cross_attention_src,
        )
        text, _ = text_sampler(network.text_logits(hidden).astype(mx.float32))
        if on_text_hook is not None:
            on_text_hook(text)
        if not self.dep_q:
            return text, None

        def choose(_step: int, logits: mx.array) -> mx.array:
            return audio_sampler(logits.astype(mx.float32))[0]

        own = mx.stack(network.depformer(hidden, text, choose), axis=1)
        if on_audio_hook is not None:
            on_audio_hook(own)
        return text, own

    def warmup(self: Any, ct: Any = None) -> None:
        """Run two steps and discard them, so that the first real one is as fast as the
        others.

        The first derives what is needed from the weights, the second compiles.
        """
        exposed = self.transformer_cache
        self.expose_cache(self.transformer.make_rot_cache())
        zero, cross = mx.zeros((1, 1), mx.int32), None
        if self.cfg.transformer.cross_attention:
            cross = mx.zeros((1, 1, self.cfg.transformer.d_model))
        for _ in range(2):
            audio = [zero] * self.cfg.audio_codebooks
            text, own = self.sample(zero, audio, Sampler(), Sampler(), ct, cross)
            mx.eval(text, own)
        self.expose_cache(exposed)
