"""Residual quantisation from tables that are computed once."""

import mlx.core as mx

from ..modules.quantization import ResidualVectorQuantization, half_norms
from . import ops
from .twin import form


@form(ResidualVectorQuantization)
class FastResidualVectorQuantization(ResidualVectorQuantization):
    """The codebooks' vectors, joined, and the norms that ``nearest`` needs."""

    def made_ready(self) -> None:
        joined = mx.stack([book.embedding for book in self.books])
        count, size, _ = joined.shape
        self._first_rows = mx.arange(0, count * size, size)[:, None]
        views, norms = list(joined), list(half_norms(joined))
        mx.eval(joined, views, norms)  # lazy arrays cannot move to another thread
        self._tables = list(zip(views, norms, strict=True))
        self._joined = joined.flatten(0, 1)
        mx.eval(self._joined, self._first_rows)

    def encode(self, x: mx.array, n: int) -> mx.array:
        codes: list[mx.array] = []
        for embedding, norms in self._tables[:n]:
            codes.append(mx.argmax(ops.linear(x, embedding, norms), axis=-1))
            if len(codes) < n:
                x = x - embedding[codes[-1]]
        return mx.stack(codes, axis=1).astype(mx.int32)

    def decode(self, codes: mx.array) -> mx.array:
        rows = codes + self._first_rows[: codes.shape[1]]
        return self._joined[rows].sum(axis=1)
