"""What a recogniser hears before the sound itself, read in one pass.

A model first hears some silence. The text that it writes meanwhile is its own choice,
so it cannot simply be forced. But it can be guessed, because a model writes padding in
silence. The guess is forced, all calls run at once, and it is compared with what the
model would have chosen in each call. If the guess is wrong, the row starts again, call
by call: the tokens are the same either way.
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
    """Let new rows hear the codes ``[K]`` that they start with.

    The first frame is given twice, because it is not heard the first time: then the
    text is the model's own.

    Args:
        gen: takes the likeliest token.
        leads: for some rows that have heard nothing.

    Returns: the rows that have heard as many frames as each lead has and wrote
        padding, and that number. The others are new again.
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
