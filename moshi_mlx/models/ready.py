"""The fast forms of whole networks: language model, depth transformer, codec.

They stand for their networks in ``fast.ready`` from the import of ``moshi_mlx.models``
on; those of the layers that they are made of are in ``moshi_mlx.fast``.
"""

from functools import partial

import mlx.core as mx
import mlx.nn as nn

from ..fast import form
from ..fast.compiled import Compiled, Stage
from ..fast.joined import JoinedEmbedding, JoinedLinear
from ..fast.transformer import FastTransformer
from ..modules.embedding import QuantizedScaledEmbedding, ScaledEmbedding
from ..modules.kv_cache import KVCache
from .depformer import Choose, DepFormer, DepFormerSlice
from .lm import Lm
from .mimi import MOST_COMPILED, Mimi

TABLES = (ScaledEmbedding, QuantizedScaledEmbedding)


def _compile(stack: nn.Module, positions: int) -> None:
    """Compile calls of so few positions, if the stack is ours."""
    if isinstance(stack, FastTransformer):
        stack.compile_up_to(positions)


@form(Lm)
class FastLm(Lm):
    """Audio embeddings joined; steps of one position compiled."""

    def made_ready(self) -> None:
        self.hide_cache()  # or the copy would hold on to a stream's state
        _compile(self.transformer, 1)
        self._joined = JoinedEmbedding()

    def embed_audio(self, audio: mx.array) -> mx.array:
        return self._joined(self.audio_embs, audio)


@form(DepFormer)
class FastDepFormer(DepFormer):
    """Inputs of all steps joined; each step compiled, with its cache as arrays.

    The shapes of a step are the same in every frame, and all its state lives within the
    frame. So its graph is built once and replayed, whatever is drawn from its logits.
    """

    def made_ready(self) -> None:
        self._compiled = Compiled()
        self._joined = JoinedLinear()
        sets = range(max(self.input_sets, default=-1) + 1)
        self._firsts = [self.slices[self.input_sets.index(s)].linear_in for s in sets]

    def __call__(
        self,
        hidden: mx.array,
        text: mx.array,
        choose: Choose,
        steps: int | None = None,
        drawn: bool = True,
    ) -> list[mx.array]:
        inputs = self._joined(self._firsts, hidden)
        self._compiled.begin()
        cache: list[mx.array] = []
        token, tokens = text, []
        for k, part in enumerate(self.slices[:steps]):
            plain = drawn and k > 0 and isinstance(part.emb, TABLES)  # never -1
            told = part.emb.lookup(token) if plain else part.emb(token)
            step = self._compiled(k, partial(_step, part))
            logits, *cache = step(inputs[self.input_sets[k]] + told, *cache)
            token = choose(k, logits)
            tokens.append(token)
        return tokens


def _step(part: DepFormerSlice, x: mx.array, *cache: mx.array) -> tuple[mx.array, ...]:
    """One codebook: logits ``[B, 1, card]``, then the frame's cache.

    Args:
        x: input ``[B, 1, d]`` of the step.
        cache: keys and values of the steps before, per layer; none at step 0.
    """
    layers = part.transformer.make_frame_cache()
    for layer, keys, values in zip(layers, cache[::2], cache[1::2], strict=False):
        frame = layer.self_attn
        assert isinstance(frame, KVCache)
        frame.keys, frame.values = keys, values
    logits = part.logits(part.transformer(x, layers))
    filled = [array for layer in layers for array in layer.self_attn.state]
    return logits, *(array for array in filled if array is not None)


@form(Mimi)
class FastMimi(Mimi):
    """Convolutions compiled as one stage each way; transformers between attentions."""

    def made_ready(self) -> None:
        self.reset_state()  # or the copy would hold on to a stream's state
        positions = MOST_COMPILED * self.cfg.resample_stride
        for stack in (self.encoder_transformer, self.decoder_transformer):
            _compile(stack.transformer, positions)
        samples = MOST_COMPILED * self.frame_size
        self["encoder"] = Stage(self.encoder, samples)
        self["decoder"] = Stage(self.decoder, positions)
