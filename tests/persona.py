"""A small random PersonaPlex with a codec and a tokenizer."""

from pathlib import Path
from typing import Any

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


def personaplex_folder(path: Path, **changes: Any) -> Path:
    return write_with_codec(path, **{**MOSHI_7B, **SIZE, **changes})
