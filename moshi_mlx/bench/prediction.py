"""How long a frame should take on Apple's chips: computed, not run.

The same model as in ``moshi-mlx info``: kernels, bytes and waits (checkpoint.kernels),
and one attainable share of the published bandwidth (checkpoint.bandwidth).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..checkpoint.bandwidth import Reach, reach
from ..checkpoint.build import outline_codec
from ..checkpoint.cost import cost
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.kernels import kernels
from ..checkpoint.outline import outline
from ..checkpoint.quantize import apply, is_quantized, nbytes, plan
from ..models.config import LmConfig
from ..models.lm import Lm
from ..models.mimi import Mimi, mimi_202407
from .synthetic import SIZES, check_size, recipe_of


@dataclass(frozen=True)
class Prediction:
    """The result for one model.

    Attributes:
        model, bits: as they were asked for.
        kernels: per frame; None for a model whose kernels were not counted.
        nbytes: bytes that a frame reads.
        chips: the result for each chip.
    """

    model: str
    bits: str
    kernels: int | None
    nbytes: int
    chips: list[Reach]

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "bits": self.bits,
            "kernels": self.kernels,
            "bytes": self.nbytes,
            "frame_ms_computed": {
                found.chip.name: found.frame_ms and list(found.frame_ms)
                for found in self.chips
            },
        }


def predict_checkpoint(info: CheckpointInfo) -> Prediction:
    """For a checkpoint; none of its weights are read."""
    lm, _ = outline(info)
    codec = nbytes(outline_codec(info)) if lm.n_q else 0
    return _prediction(info.name, "as stored", lm, codec)


def predict_sizes(
    sizes: Sequence[str], bits: Sequence[str], kv_bits: int | None = None
) -> Iterator[Prediction]:
    """For random models, see ``synthetic_lm``."""
    for size in sizes:
        check_size(size)
        for name in bits:
            recipe = recipe_of(name)
            lm = Lm(LmConfig.from_config_dict(SIZES[size]).with_kv_bits(kv_bits))
            lm.set_dtype(mx.bfloat16)
            if recipe is not None:
                apply(lm, plan(lm, recipe).layers)
            books = max(lm.dep_q, lm.cfg.other_codebooks, 1)
            codec = nbytes(Mimi(mimi_202407(books)))
            yield _prediction(size, name, lm, codec)


def _prediction(model: str, bits: str, lm: Lm, codec: int) -> Prediction:
    read = cost(lm).step_bytes + codec
    count = kernels(lm, quantised=is_quantized(lm), codec=bool(codec))
    return Prediction(model, bits, count, read, reach(read, count))
