"""A model's replies to windows of a user's side, in tokens."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from .. import fast
from ..checkpoint.kinds import SamplingDefaults
from ..models.generate import LmGen
from ..models.lm import Lm
from ..models.prompt import Frames, read_prompt
from ..modules.conditioner import ConditionTensor
from ..utils.sampling import Sampler


def replies(
    lm: Lm,
    heard: np.ndarray,
    sampling: SamplingDefaults,
    seed: int | Sequence[int],
    condition: ConditionTensor | None = None,
    prompt: Frames | None = None,
) -> np.ndarray:
    """Text and own codes ``[B, 1 + own, T]`` of a model's replies to users.

    They are aligned as in training: the model chose frame t after it had heard the
    frames before t.

    Args:
        heard: the users' codes, ``[B, other, T]``.
        sampling: how tokens are drawn.
        seed: of the random numbers; one for all rows, or one per row.
        condition: the model's condition.
        prompt: what comes before the first frame, if there is a single row.
    """
    lm.eval()
    gen = LmGen(
        lm,
        text_sampler=Sampler(sampling.temp_text, top_k=sampling.top_k_text),
        audio_sampler=Sampler(sampling.temp, top_k=sampling.top_k),
        batch_size=len(heard),
        seed=seed,
    )
    frames, late, text_late = heard.shape[2], lm.cfg.max_delay, lm.cfg.text_delay
    heard = np.concatenate([heard, np.repeat(heard[:, :, -1:], late, axis=2)], axis=2)
    if prompt is None:  # the first call reads initial tokens, whatever it is given
        text, _ = gen.step(mx.array(heard[:, :, 0]), condition)
    else:
        text = read_prompt(gen, prompt)
    texts, own = [], []
    for t in range(frames + late):
        texts.append(text)
        if lm.dep_q and t >= late:
            own.append(gen.last_audio_tokens())
        text, _ = gen.step(mx.array(heard[:, :, t]), condition)
    found = mx.concatenate(texts[text_late : text_late + frames], axis=1)[:, None]
    if own:
        found = mx.concatenate([found, mx.stack(own, axis=2)], axis=1)
    tokens = np.array(found, np.int32)
    lm.hide_cache()
    fast.forget(lm)  # it contains copies of weights that training will change
    lm.train()
    return tokens
