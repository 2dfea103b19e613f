"""Residual quantisation from tables that are computed once."""

import mlx.core as mx

from ..modules.quantization import ResidualVectorQuantization, half_norms, nearest
from .twin import form


@form(ResidualVectorQuantization)
class FastResidualVectorQuantization(ResidualVectorQuantization):
    """The codebooks' vectors, joined, and what ``nearest`` wants of each."""

    def made_ready(self) -> None:
        joined = mx.stack([book.embedding for book in self.books])
        views, norms = list(joined), list(half_norms(joined))
        mx.eval(joined, views, norms)  # lazy arrays could not cross to another thread
        self._tables = list(zip(views, norms, strict=True))
        self._joined = joined.flatten(0, 1)
        mx.eval(self._joined)

    def encode(self, x: mx.array, n: int) -> mx.array:
        codes: list[mx.array] = []
        for embedding, norms in self._tables[:n]:
            codes.append(nearest(x, embedding, norms))
            if len(codes) < n:
                x = x - embedding[codes[-1]]
        return mx.stack(codes, axis=1)

    def decode(self, codes: mx.array) -> mx.array:
        size = self._tables[0][0].shape[0]
        first_rows = mx.arange(0, codes.shape[1] * size, size)[:, None]
        return self._joined[codes + first_rows].sum(axis=1)
