"""A small model's random adapters, in a folder of Kyutai's form."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from moshi_mlx.finetune.trainable import add_adapters, add_embeddings
from tests.tiny import BASE, DATA, lm

CARD = json.loads((DATA / "tts" / "config.json").read_text())
SIZES = {"text_card": CARD["text_card"], "card": 64}  # as the golden codec needs them


def random_adapters(
    folder: Path, rank: int, seed: int, tables: bool = False, **options: Any
) -> Path:
    """Adapters that change what the model of ``SIZES`` says.

    Args:
        tables: whether they change its embeddings, too.
        options: of ``add_adapters``.
    """
    model = lm(**SIZES)
    found = add_adapters(model, rank=rank, seed=seed, **options)
    if tables:
        add_embeddings(model, found)
    mx.random.seed(seed)
    arrays = {n: 0.3 * mx.random.normal(w.shape) for n, w in found.arrays.items()}
    folder.mkdir()
    mx.save_safetensors(str(folder / "lora.safetensors"), arrays)
    (folder / "config.json").write_text(
        json.dumps({**BASE, **SIZES, "lora_scaling": 2.0 if seed == 1 else 0.7})
    )
    return folder
