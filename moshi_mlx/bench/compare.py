"""Recipes side by side: each one quantises the model again and is compared with it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..checkpoint.build import load_mimi, load_tokenizer, open_lm
from ..checkpoint.cost import cost
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.quality import compare, computing, predict
from ..checkpoint.quantize import Choice, Progress, Recipe, is_quantized, quantize
from ..checkpoint.recipes import KINDS, only
from ..codec import make_codec
from ..engines.duplex.engine import Moshi
from ..errors import ConfigError
from ..models.lm import Lm
from .report import Measured
from .sequences import sequences


class Comparison:
    """A model in full precision on some recordings, and others compared with it.

    It holds one model at a time: the full one's predictions are kept, not the model.

    Args:
        info: the checkpoint, in full precision.
        recordings: sound files.

    Raises: ConfigError for a quantised checkpoint.
    """

    def __init__(self, info: CheckpointInfo, recordings: Sequence[Path]):
        self.info = info
        full = computing(open_lm(info, as_stored=True))
        if is_quantized(full):
            raise ConfigError(
                f"{info.name} is quantised already: quality is measured against "
                "full-precision weights, so start from those."
            )
        self.sequences = sequences(_speaker(info, full), recordings)
        self._full = predict(full, self.sequences)

    def measure(
        self, name: str, recipe: Recipe, progress: Progress | None = None
    ) -> Measured:
        """Quantise the checkpoint by a recipe, in memory only, and compare it."""
        lm = open_lm(self.info, as_stored=True)
        quantize(lm, recipe=recipe, progress=progress)
        weight = cost(lm)
        found = predict(computing(lm), self.sequences)
        return Measured(name, weight, compare(self._full, found))

    def measure_kv(self, bits: int) -> Measured:
        """Full precision, except for the keys and values of a conversation."""
        info = replace(self.info, kv_bits=bits)
        lm = open_lm(info, as_stored=True)
        weight = cost(lm)
        found = predict(computing(lm), self.sequences)
        return Measured(f"kv{bits}", weight, compare(self._full, found))

    def sensitivity(
        self, choice: Choice, told: Callable[[str], None] = lambda _: None
    ) -> list[Measured]:
        """Each kind of layer quantised alone, the rest in full precision.

        Args:
            told: called with the kind that is next.
        """
        found = []
        for kind in KINDS:
            told(kind)
            try:
                found.append(self.measure(kind, only(kind, choice)))
            except ConfigError:  # no such layers, or their width does not fit
                continue
        return found


def _speaker(info: CheckpointInfo, lm: Lm) -> Moshi:
    """The model with its codec, to make sequences with."""
    mimi = load_mimi(info, info.num_codebooks)
    codec = lambda: make_codec("native", mimi=mimi)  # noqa: E731
    return Moshi(info, lm, load_tokenizer(info), codec)
