"""The order of windows: a function of the seed and the place alone.

So a training that continues after an interruption, or runs in several processes, need
not remember what it has drawn.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


class Order:
    """An endless order of the windows of several sources.

    Each source is used up without repetition, and then again in another order. The
    weights decide which source comes next.

    Args:
        sizes: windows of each source.
        weights: how often each source is drawn; they are normalised.
        seed: another seed gives another order.
        shuffled: false keeps the order of the windows.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        seed: int,
        shuffled: bool = True,
    ):
        self.sizes = list(sizes)
        self._seed = seed
        self._shuffled = shuffled
        total = sum(weights)
        self._shares = [weight / total for weight in weights]
        self._rng = np.random.default_rng([seed, 0])
        self._drawn = np.zeros(0, np.int64)  # sources, from the first place
        self._permutation = lru_cache(maxsize=8)(self._new_permutation)

    def __getitem__(self, place: int) -> tuple[int, int]:
        """Source and window of a place, counted from 0."""
        if len(self.sizes) == 1:
            return 0, self._window(0, place)
        while place >= len(self._drawn):
            more = self._rng.choice(len(self.sizes), 4096, p=self._shares)
            self._drawn = np.concatenate([self._drawn, more])
        source = int(self._drawn[place])
        before = int((self._drawn[:place] == source).sum())
        return source, self._window(source, before)

    def _window(self, source: int, number: int) -> int:
        epoch, place = divmod(number, self.sizes[source])
        return int(self._permutation(source, epoch)[place])

    def _new_permutation(self, source: int, epoch: int) -> np.ndarray:
        if not self._shuffled:
            return np.arange(self.sizes[source])
        rng = np.random.default_rng([self._seed, 1, source, epoch])
        return rng.permutation(self.sizes[source])
