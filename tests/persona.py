"""A small random PersonaPlex with a codec and a tokenizer."""

from pathlib import Path
from typing import Any

import mlx.core as mx

from moshi_mlx.checkpoint.moshi_7b import MOSHI_7B
from tests.checkpoint.folders import write_with_codec

# As wide as the golden voices, with six streams a side, for the codec of the tests.
SIZE = {
    **{"dim": 48, "num_heads": 3, "num_layers": 2, "context": 100},
    **{"depformer_dim": 32, "depformer_num_heads": 2, "depformer_num_layers": 1},
    **{"depformer_dim_feedforward": 96, "model_type": "personaplex"},
    **{"n_q": 12, "dep_q": 12, "delays": [0] + 2 * [0, *[1] * 5]},
    **{"foreseen_codebooks": 6, "hidden_scale": 4.5, "text_card": 96, "card": 64},
}


def give_voices(folder: Path, *names: str) -> None:
    """Put voices of these names into a folder of ``personaplex_folder``."""
    (folder / "voices").mkdir()
    for name in names:
        codes = mx.zeros((SIZE["foreseen_codebooks"], 8), mx.int32)
        file = folder / "voices" / f"{name}.safetensors"
        mx.save_safetensors(str(file), {"codes": codes})


def personaplex_folder(path: Path, **changes: Any) -> Path:
    return write_with_codec(path, **{**MOSHI_7B, **SIZE, **changes})
