"""Quantise a model in several ways, and measure what each does to its predictions.

python examples/quantise_and_compare.py [RECIPE ...]       q4 mixed q8

The demo is stored in 4 bits, so it is first brought back to full precision. For a model
that is in full precision already, `moshi-mlx quantize MODEL --compare q4,mixed,q8` does
all of this in one line.
"""

import sys

import mlx.core as mx
from mlx.utils import tree_flatten

import moshi_mlx
from moshi_mlx.bench.sequences import sequences, shipped_recordings
from moshi_mlx.checkpoint.build import open_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quality import compare, predict
from moshi_mlx.checkpoint.quantize import nbytes, quantize
from moshi_mlx.checkpoint.recipes import recipe_named
from moshi_mlx.models import Lm


def full_precision() -> Lm:
    """The demo's network with ordinary layers in place of the quantised ones."""
    info = CheckpointInfo.find("demo")
    stored = open_lm(info)
    weights = dict(tree_flatten(stored.parameters()))
    for path, layer in stored.named_modules():
        if "scales" in layer:
            packed = [weights.pop(f"{path}.{part}") for part in ("weight", "scales")]
            packed.append(weights.pop(f"{path}.biases"))
            how = {"group_size": layer.group_size, "bits": layer.bits}
            weights[f"{path}.weight"] = mx.dequantize(*packed, **how)
    lm = Lm(info.lm_config)
    lm.load_weights([(name, w.astype(mx.float32)) for name, w in weights.items()])
    return lm


def main(recipes: list[str]) -> None:
    moshi = moshi_mlx.load("demo")
    moshi.lm = full_precision()
    # The model answers a recording; then all are given that same sequence.
    answered = sequences(moshi, shipped_recordings()[:1])
    expected = predict(moshi.lm, answered)
    print(f"full precision: {nbytes(moshi.lm) / 1e6:.1f} MB")
    for name in recipes:
        lm = full_precision()
        quantize(lm, recipe=recipe_named(name))
        found = compare(expected, predict(lm, answered))
        print(
            f"{name:>6}: {nbytes(lm) / 1e6:.1f} MB, text KL {found.text.kl:.6f} nats, "
            f"same likeliest word {100 * found.text.top1:.1f} %"
        )


if __name__ == "__main__":
    main(sys.argv[1:] or ["q4", "mixed", "q8"])
