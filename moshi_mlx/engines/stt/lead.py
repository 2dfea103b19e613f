"""What a recogniser hears before the sound itself, taken in one pass.

A model is given some silence first. What it writes meanwhile is its own choice, so its
text cannot be forced and believed. But it can be guessed: a model writes padding in
silence. The guess is forced, all calls are read at once, and what the model would have
chosen in each of them is compared with it. Where the guess is wrong the row begins
again, call by call: tokens are the same either way.
"""

from collections.abc import Mapping, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...models.generate import LmGen
from .reader import PAD


def read_leads(
    gen: LmGen, leads: Mapping[int, Sequence[NDArray[np.int32] | mx.array]]
) -> tuple[list[int], int]:
    """Let new rows hear the codes ``[K]`` that they begin with.

    The first frame is given twice, as nothing is heard of it the first time: then the
    text is the model's own.

    Args:
        gen: draws the likeliest token.
        leads: of some rows that have heard nothing.

    Returns: the rows that have heard as many frames as each lead has, writing padding,
        and that number. The others are new again.
    """
    count = min((len(codes) for codes in leads.values()), default=0)
    if count < 2 or count + 1 > gen.room:
        return [], 0
    rows = list(leads)
    heard = np.zeros((gen.batch_size, gen.streams.other, count), np.int32)
    for row, codes in leads.items():
        heard[row] = np.stack([np.array(c, np.int32) for c in codes[:count]], axis=1)
    active = [row in leads for row in range(gen.batch_size)]
    gen.step(mx.array(heard[..., 0]), active=active)
    gen.force(text=np.full((len(rows), count), PAD), rows=rows)
    predicted = gen.prefill(heard, active=active, predict=True)
    gen.stop_forcing(rows)
    text = np.array(predicted)
    right = [row for row in rows if (text[row] == PAD).all()]
    wrong = [row for row in rows if row not in right]
    if wrong:
        gen.reset(wrong)
    return right, count
