"""Which of a closed set of sentences is this? (pocketsphinx, chance is below 2%)"""

from collections.abc import Iterable

import numpy as np
from align import listen, make_decoder, to_16k, words_of


class Recogniser:
    """Hears the given sentences and no others."""

    def __init__(self, sentences: Iterable[str]):
        self._decoder = make_decoder()
        body = " | ".join(sorted({words_of(sentence) for sentence in sentences}))
        grammar = f"#JSGF V1.0; grammar g; public <s> = {body};"
        self._decoder.add_jsgf_string("g", grammar)
        self._decoder.activate_search("g")

    def __call__(self, pcm: np.ndarray) -> str:
        """The words in float ``pcm [S]`` at 24 kHz; "" where none fits."""
        sound = np.pad(pcm.astype(np.float32), 4800)
        peak = np.abs(sound).max()
        sound = sound / peak * 20000 if peak > 0 else sound
        sound = sound + np.random.default_rng(0).standard_normal(len(sound)) * 3
        listen(self._decoder, to_16k(sound).tobytes())
        heard = self._decoder.hyp()
        return heard.hypstr if heard else ""


def speech_region(pcm: np.ndarray, threshold: float = 0.02) -> np.ndarray:
    """The part around the loud 10 ms blocks, with 0.1 s on each side."""
    starts = range(0, len(pcm), 240)
    loud = np.array([np.abs(pcm[i : i + 240]).max() for i in starts]) > threshold
    if not loud.any():
        return pcm[:0]
    first, last = loud.argmax() * 240, (len(loud) - loud[::-1].argmax()) * 240
    return pcm[max(0, first - 2400) : last + 2400]
