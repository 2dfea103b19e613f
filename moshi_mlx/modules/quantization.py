"""Residual vector quantisation: latents to codes and back.

Each codebook of a chain quantises the residual of the ones before it. The first
codebook ("semantic") and the others ("acoustic") are two chains over the same latent.
Layout is NLC; codes are ``[B, K, T]``.
"""

import mlx.core as mx
import mlx.nn as nn

from ..compat import UpdateInPlace
from .conv import Conv1d

EPSILON = 1e-5  # least usage of a code: unused codes stay finite


def nearest(x: mx.array, embedding: mx.array, norms: mx.array) -> mx.array:
    """Index of the row of ``embedding`` nearest to each ``x``; the first one if tied.

    ``|x - e|^2 = |x|^2 - 2 (x.e - |e|^2 / 2)``, so the bracket is largest there.
    ``norms`` are ``-|e|^2 / 2``.
    """
    scores = mx.addmm(norms, x, embedding.T)
    return mx.argmax(scores, axis=-1).astype(mx.int32)


def half_norms(embedding: mx.array) -> mx.array:
    """``-|e|^2 / 2`` of every row."""
    return -0.5 * embedding.square().sum(axis=-1)


class EuclideanCodebook(UpdateInPlace, nn.Module):
    """One table of codes, stored as the sums and counts that training leaves.

    Shape: ``encode [..., D] -> [...]`` int32; ``decode [...] -> [..., D]`` float32.
    """

    def __init__(self, dim: int, codebook_size: int):
        super().__init__()
        self.initialized = mx.zeros(1)
        self.embedding_sum = mx.zeros((codebook_size, dim))
        self.cluster_usage = mx.zeros(codebook_size)

    @property
    def embedding(self) -> mx.array:
        """The codes' vectors ``[codebook_size, D]``, computed on each access."""
        usage = mx.maximum(self["cluster_usage"].astype(mx.float32), EPSILON)
        return self["embedding_sum"].astype(mx.float32) / usage[:, None]

    def encode(self, x: mx.array) -> mx.array:
        return nearest(x, self.embedding, half_norms(self.embedding))

    def decode(self, codes: mx.array) -> mx.array:
        return self.embedding[codes]


class VectorQuantization(nn.Module):
    """Holds a codebook as ``codebook``, the name it has in published files."""

    def __init__(self, dim: int, codebook_size: int):
        super().__init__()
        self.codebook = EuclideanCodebook(dim, codebook_size)


class ResidualVectorQuantization(nn.Module):
    """A chain of codebooks.

    Shape: ``encode [B, T, D], n -> [B, n, T]``; ``decode [B, n, T] -> [B, T, D]``.
    """

    def __init__(self, nq: int, dim: int, codebook_size: int):
        super().__init__()
        self.layers = [VectorQuantization(dim, codebook_size) for _ in range(nq)]

    @property
    def books(self) -> list[EuclideanCodebook]:
        return [layer.codebook for layer in self.layers]

    def encode(self, x: mx.array, n: int) -> mx.array:
        codes: list[mx.array] = []
        for book in self.books[:n]:
            codes.append(book.encode(x))
            x = x - book.decode(codes[-1])
        return mx.stack(codes, axis=1)

    def decode(self, codes: mx.array) -> mx.array:
        books = self.books[: codes.shape[1]]
        parts = [book.decode(codes[:, k]) for k, book in enumerate(books)]
        return sum(parts[1:], parts[0])


class ResidualVectorQuantizer(nn.Module):
    """A chain with a projection from the latent, and one back to it."""

    def __init__(self, dim: int, input_dim: int, output_dim: int, nq: int, bins: int):
        super().__init__()
        self.input_proj = Conv1d(input_dim, dim, 1, bias=False)
        self.output_proj = Conv1d(dim, output_dim, 1, bias=False)
        self.vq = ResidualVectorQuantization(nq, dim, bins)

    def encode(self, x: mx.array, n: int) -> mx.array:
        return self.vq.encode(self.input_proj(x).astype(mx.float32), n)

    def decode(self, codes: mx.array) -> mx.array:
        dtype = self.output_proj.weight.dtype
        return self.output_proj(self.vq.decode(codes).astype(dtype))


class SplitResidualVectorQuantizer(nn.Module):
    """The semantic codebook and the chain of acoustic ones, over the same latent.

    Args:
        dim: width of the codebooks.
        input_dim: width of the latent (None is ``dim``).
        output_dim: width of the quantised latent (None is ``dim``).
        nq: codebooks of both chains together.
        bins: codes of a codebook.

    Shape: ``encode [B, T, input_dim] -> [B, K, T]`` int32; ``decode [B, K, T] -> [B, T,
        output_dim]`` for any K from 1 to ``nq``.
    Source: arXiv:2410.00037, section 3.3; kyutai-labs/moshi, quantization/vq.py.
    """

    def __init__(
        self,
        dim: int,
        input_dim: int | None,
        output_dim: int | None,
        nq: int,
        bins: int,
    ):
        super().__init__()
        input_dim, output_dim = input_dim or dim, output_dim or dim
        self.nq = nq
        self.rvq_first = ResidualVectorQuantizer(dim, input_dim, output_dim, 1, bins)
        if nq > 1:
            self.rvq_rest = ResidualVectorQuantizer(
                dim, input_dim, output_dim, nq - 1, bins
            )

    def encode(self, x: mx.array, num_codebooks: int | None = None) -> mx.array:
        """Codes of the first ``num_codebooks``; the others are not computed."""
        n = self.nq if num_codebooks is None else num_codebooks
        self._check(n)
        codes = self.rvq_first.encode(x, 1)
        if n == 1:
            return codes
        return mx.concatenate([codes, self.rvq_rest.encode(x, n - 1)], axis=1)

    def decode(self, codes: mx.array) -> mx.array:
        self._check(codes.shape[1])
        y = self.rvq_first.decode(codes[:, :1])
        return y if codes.shape[1] == 1 else y + self.rvq_rest.decode(codes[:, 1:])

    def _check(self, n: int) -> None:
        if not 1 <= n <= self.nq:
            raise ValueError(
                f"{n} codebooks were asked for, and the quantizer has {self.nq}: give "
                "1 "
                f"to {self.nq}."
            )
