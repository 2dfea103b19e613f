"""The depth transformer: the codebooks of one frame, one after another.

It is a transformer over the codebooks of a frame, not a feed-forward network: step k
attends to steps 0 .. k through a key-value cache that is new in every frame, with
weights of its own per step (or per entry of a schedule). Its input at step k is the
temporal transformer's output plus the token chosen at step k - 1 (for k = 0, the text).
Source: arXiv:2410.00037, section 3.4; kyutai-labs/moshi, models/lm.py.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn

from ..modules.embedding import ScaledEmbedding
from ..modules.norm import make_norm
from ..modules.transformer import Transformer
from .config import LmConfig

F = TypeVar("F", bound=Callable[..., mx.array])
Choose = Callable[[int, mx.array], mx.array]  # step, logits [B, 1, card] -> token


class DepFormerSlice(nn.Module):
    """The parts that one step of the frame uses: embedding, projections and layers."""

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
        """``[B, 1, d] -> [B, 1, card]``."""
        return self.linear_out(self.norm(x) if "norm" in self else x)


class DepFormer(nn.Module):
    """All steps of a frame.

    Args:
        cfg: the model's config; ``cfg.depformer.num_slices`` may be 0 (no own audio).
    """

    def __init__(self, cfg: LmConfig):
        super().__init__()
        dep = cfg.depformer
        self.slices = [DepFormerSlice(cfg, step) for step in range(dep.num_slices)]
        # steps with the same number have the same input projection
        self.input_sets = tuple(dep.input_set(step) for step in range(dep.num_slices))

    def __call__(
        self,
        hidden: mx.array,
        text: mx.array,
        choose: Choose,
        steps: int | None = None,
        drawn: bool = True,  # noqa: ARG002 (the fast form uses it)
    ) -> list[mx.array]:
        """Run the first ``steps`` (default: all) codebooks of a frame.

        Args:
            hidden: the temporal transformer's output ``[B, 1, D]``.
            text: text token of the frame ``[B, 1]``.
            choose: returns the token ``[B, 1]`` that the next step reads, given the
                step and its logits ``[B, 1, card]``.
            drawn: whether all of those are sampled, so none is -1.

        Returns: the results of ``choose``, one per step.
        """
        cache = self.slices[0].transformer.make_frame_cache()
        token, tokens = text, []
        for k, part in enumerate(self.slices[:steps]):
            x = part.linear_in(hidden) + part.emb(token)
            token = choose(k, part.logits(part.transformer(x, cache)))
            tokens.append(token)
        return tokens

    def compiled(self, key: Hashable, function: F) -> F:  # noqa: ARG002
        """``function``; the fast form compiles what is done with its logits."""
        return function

    def teacher_forced(self, hidden: mx.array, codes: mx.array) -> mx.array:
        """Logits ``[B, K, T, card]`` of given frames, all T at once.

        Args:
            hidden: the temporal transformer's output ``[B, T, D]``.
            codes: what each step reads, ``[B, K, T]``: the text of the frame, then its
                own codes except the last; -1 adds nothing.
        """
        b, t, d = hidden.shape
        frames = codes.swapaxes(1, 2).reshape(b * t, -1)
        hidden = hidden.reshape(b * t, 1, d)
        cache = self.slices[0].transformer.make_frame_cache()
        found = []
        for k, part in enumerate(self.slices):
            x = part.linear_in(hidden) + part.emb(frames[:, k : k + 1])
            logits = part.logits(part.transformer(x, cache))
            found.append(logits.reshape(b, t, -1))
        return mx.stack(found, axis=1)
