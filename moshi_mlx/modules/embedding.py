"""Token embeddings: with a zero token, low-rank, or of two multiplexed streams."""

import mlx.core as mx
import mlx.nn as nn

PARTS = ("weight", "scales", "biases")  # of a plain or quantised table or matrix
ZERO_TOKEN = -1  # its embedding is exactly zero, and it is never sampled


def zero_where_no_token(tokens: mx.array, y: mx.array) -> mx.array:
    """``y [..., D]`` with zeros where ``tokens [...]`` is the zero token."""
    return mx.where((tokens == ZERO_TOKEN)[..., None], mx.zeros((), y.dtype), y)


class ScaledEmbedding(nn.Module):
    """Rows of a table; ``-1`` gives zeros, before and after quantisation.

    Args:
        num_embeddings: rows V.
        dim: width of the result.
        low_rank: width of the table, if smaller; a matrix maps it to ``dim``.
        demux_second_stream: tokens are pairs ``(second + 1) * V + first``; each half
            has a matrix of its own, and a second of -1 adds nothing.
        norm: LayerNorm on the rows.

    Shape: tokens ``[...] -> [..., D]``.
    Source: kyutai-labs/moshi, models/lm_utils.py:ScaledEmbedding.
    """

    def __init__(
        self,
        num_embeddings: int,
        dim: int,
        low_rank: int | None = None,
        demux_second_stream: bool = False,
        norm: bool = False,
    ):
        super().__init__()
        width = low_rank or dim
        self.num_embeddings = num_embeddings
        self.weight = mx.random.normal((num_embeddings, width), scale=width**-0.5)
        if low_rank is not None:
            self.low_rank = nn.Linear(low_rank, dim, bias=False)
        if demux_second_stream:
            self.out1 = nn.Linear(width, dim, bias=False)
            self.out2 = nn.Linear(width, dim, bias=False)
        if norm:
            self.norm = nn.LayerNorm(width, 1e-5)

    @property
    def plain(self) -> bool:
        """Whether the table's rows are the embeddings, with nothing after them."""
        return not any(name in self for name in ("low_rank", "out1", "norm"))

    def lookup(self, tokens: mx.array) -> mx.array:
        """Embeddings of tokens, none of which is -1."""
        if "out1" in self:
            first = self["weight"][tokens % self.num_embeddings]
            second = tokens // self.num_embeddings - 1
            extra = self.out2(self["weight"][mx.maximum(second, 0)])
            return self.out1(first) + zero_where_no_token(second, extra)
        y = self["weight"][tokens]
        if "norm" in self:
            y = self.norm(y)
        return self.low_rank(y) if "low_rank" in self else y

    def __call__(self, tokens: mx.array) -> mx.array:
        return zero_where_no_token(tokens, self.lookup(mx.maximum(tokens, 0)))

    def to_quantized(
        self,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
    ) -> "QuantizedScaledEmbedding":
        """Called by ``nn.quantize``."""
        quantised = QuantizedScaledEmbedding.from_embedding
        return quantised(self, group_size, bits, mode)  # type: ignore[arg-type]


class QuantizedScaledEmbedding(nn.QuantizedEmbedding):
    """``ScaledEmbedding`` with a quantised table."""

    plain = True

    def lookup(self, tokens: mx.array) -> mx.array:
        return super().__call__(tokens)

    def __call__(self, x: mx.array) -> mx.array:
        return zero_where_no_token(x, self.lookup(mx.maximum(x, 0)))
