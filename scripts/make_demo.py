"""Make the small Moshi that ships in the package from its PyTorch checkpoint.

    python scripts/make_demo.py CHECKPOINT [moshi_mlx/demo]

The language model is quantised to 8 bits where its layers allow it, the codec is stored
in 16 bits; the recipe of the checkpoint itself is in scripts/train_demo.
"""

import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from moshi_mlx.checkpoint.build import load_lm, load_mimi
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import Choice, apply, plan
from moshi_mlx.checkpoint.save import save


def _eight_bits(_path: str, layer: nn.Module) -> Choice:
    """8 bits, in groups of 64 where the layer's width allows it, else of 32."""
    width = layer["weight"].shape[-1]
    return Choice(64 if width % 64 == 0 else 32, 8)


def main(source: str, folder: str = "moshi_mlx/demo") -> None:
    """Convert ``source``, a folder in Kyutai's PyTorch format, into ``folder``."""
    info = CheckpointInfo.find(source)
    lm = load_lm(info, as_stored=True)
    planned = plan(lm, _eight_bits)
    apply(lm, planned.layers)
    path = save(
        folder,
        lm,
        info.config,
        mimi=load_mimi(info),
        mimi_config=info.mimi_config,
        mimi_dtype=mx.float16,
        tokenizer=info.tokenizer,
        overwrite=True,
    )
    for name, reason in planned.kept.items():
        print(f"{name} stays as it is: {reason}")
    for file in sorted(Path(path).iterdir()):
        if file.is_file():
            print(f"{file.stat().st_size / 1e6:8.2f} MB  {file.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
