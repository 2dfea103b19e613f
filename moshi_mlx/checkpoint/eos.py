"""Hibiki hears its own end of sentence as padding.

The model may predict EOS while the source still speaks; if it hears padding instead, it
continues. The row of the table is replaced in memory only: saving writes the loaded
one.
Source: kyutai-labs/moshi, models/loaders.py:CheckpointInfo.get_moshi.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn

from ..models.lm import Lm
from ..modules.embedding import PARTS

EOS = 2
STORED = "_stored_eos"  # the attribute of an Lm that keeps the row


def hear_eos_as_padding(lm: Lm) -> None:
    """Make the text embedding of EOS that of padding."""
    table, pad = lm.text_emb, lm.cfg.text_padding_token
    rows = mx.arange(table["weight"].shape[0])
    order = mx.where(rows == EOS, pad, rows)
    stored = {part: table[part] for part in PARTS if part in table}
    kept = {
        part: mx.take(whole, mx.array([EOS]), axis=0) for part, whole in stored.items()
    }
    for part, whole in stored.items():
        table[part] = mx.take(whole, order, axis=0)
        mx.eval(kept[part], table[part])
    object.__setattr__(lm, STORED, kept)  # not a parameter


@contextmanager
def as_stored(lm: nn.Module) -> Iterator[None]:
    """Within this context the table is the checkpoint's own, to be saved or changed."""
    stored = getattr(lm, STORED, None)
    if stored is None or not isinstance(lm, Lm):
        yield
        return
    table = lm.text_emb
    for part, row in stored.items():
        table[part] = mx.concatenate([table[part][:EOS], row, table[part][EOS + 1 :]])
    try:
        yield
    finally:
        hear_eos_as_padding(lm)
