"""The depth transformer: the codebooks of one frame, one after another.

It is a transformer over the codebooks of a frame, not a feed-forward network: step k
attends to steps 0 .. k through a key-value cache that is new in every frame, with
weights of its own per step (or per entry of a schedule). Its input at step k is the
temporal transformer's output plus the token chosen at step k - 1 (the text at k = 0).
Source: arXiv:2410.00037, section 3.4; kyutai-labs/moshi, models/lm.py.
"""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..modules import ops
from ..modules.embedding import ScaledEmbedding
from ..modules.joined import JoinedLinear
from ..modules.kv_cache import KVCache
from ..modules.norm import make_norm
from ..modules.transformer import Transformer
from .config import LmConfig


class DepFormerSlice(nn.Module):
    """What one step of the frame uses: its embedding, projections and layers."""

    def __init__(self, cfg: LmConfig, step: int):
        super().__init__()
        dep = cfg.depformer
        dim = dep.transformer.d_model
        self.emb = ScaledEmbedding(
            cfg.audio_vocab_size if step else cfg.text_in_vocab_size,
            dim,
            low_rank=dep.low_rank_embeddings,
            demux_second_stream=cfg.demux_second_stream and step == 0,
            norm=cfg.norm_emb,
        )
        self.linear_in = nn.Linear(cfg.transformer.d_model, dim, bias=False)
        self.linear_out = nn.Linear(dim, cfg.audio_vocab_size - 1, bias=cfg.bias_proj)
        self.transformer = Transformer(dep.slice_transformer(step))
        if dep.norm is not None:
            self.norm = make_norm(dep.norm, dim)

    def logits(self, x: mx.array) -> mx.array:
        return ops.project(self.norm(x) if "norm" in self else x, self.linear_out)


class DepFormer(nn.Module):
    """All steps of a frame.

    Args:
        cfg: the model's config; ``cfg.depformer.num_slices`` may be 0 (no own audio).
    """

    def __init__(self, cfg: LmConfig):
        super().__init__()
        dep = cfg.depformer
        self.slices = [DepFormerSlice(cfg, step) for step in range(dep.num_slices)]
        self._in_set = tuple(dep.input_set(step) for step in range(dep.num_slices))
        self._first_of_set = tuple(
            self._in_set.index(s) for s in range(max(self._in_set, default=-1) + 1)
        )
        self._joined_in = JoinedLinear()

    def __call__(
        self,
        hidden: mx.array,
        text: mx.array,
        choose: Callable[[int, mx.array], mx.array],
        steps: int | None = None,
        sampled: bool = True,
        run: Callable[..., tuple[mx.array, ...]] | None = None,
    ) -> list[mx.array]:
        """Run the first ``steps`` (default: all) codebooks of a frame.

        Args:
            hidden: the temporal transformer's output ``[B, 1, D]``.
            text: text token of the frame ``[B, 1]``.
            choose: given the step and its logits ``[B, 1, card]``, the token ``[B, 1]``
                that the next step is told.
            sampled: whether those tokens are drawn, so that none is -1.
            run: computes like ``step``, which is the default.

        Returns: what ``choose`` returned, per step.
        """
        run = self.step if run is None else run
        firsts = [self.slices[i].linear_in for i in self._first_of_set]
        inputs = self._joined_in(firsts, hidden)
        cache: list[mx.array] = []
        token, tokens = text, []
        for k, part in enumerate(self.slices[:steps]):
            told = part.emb.lookup(token) if k and sampled else part.emb(token)
            logits, *cache = run(k, inputs[self._in_set[k]] + told, *cache)
            token = choose(k, logits)
            tokens.append(token)
        return tokens

    def step(self, k: int, x: mx.array, *cache: mx.array) -> tuple[mx.array, ...]:
        """One codebook: logits ``[B, 1, card]``, then the frame's cache.

        Args:
            x: input ``[B, 1, d]`` of step k.
            cache: keys and values of the steps before, per layer; none at step 0.
        """
        transformer = self.slices[k].transformer
        layers = transformer.make_frame_cache()
        for layer, keys, values in zip(layers, cache[::2], cache[1::2], strict=False):
            frame = layer.self_attn
            assert isinstance(frame, KVCache)
            frame.keys, frame.values = keys, values
        logits = self.slices[k].logits(transformer(x, layers))
        filled = [array for layer in layers for array in layer.self_attn.state]
        return logits, *(array for array in filled if array is not None)
