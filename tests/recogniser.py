"""An ear of its own: which of nano Moshi's answers does a sound carry, if any?

pocketsphinx with a grammar of all the answers. It shares nothing with the models, so it
judges a reply by what a listener would hear, not by its tokens.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from moshi_mlx.audio.framing import SAMPLE_RATE
from moshi_mlx.audio.resample import resample
from scripts.train_demo.intents import TEXTS_1

if TYPE_CHECKING:
    from pocketsphinx import Decoder

_RATE = 16_000  # Hz: what the acoustic model was trained on
_PEAK = 20_000  # of 32767: the level at which it hears best
_LOUD = 0.02  # of full scale: quieter is background
_MARGIN = 0.1  # s kept before and after the sound
_SILENCE = 0.2  # s put around it: the decoder's phones begin and end in silence
_MISSING_WORDS = {"fsh": "F SH", "moshi": "M OW SH IY"}  # from its dictionary


def words(text: str) -> str:
    """A sentence as its words are compared: lower case, without punctuation."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


ANSWERS = {words(text): text for text in TEXTS_1}


@cache
def _decoder() -> "Decoder":
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=_RATE, lm=None, loglevel="FATAL")
    for word, phones in _MISSING_WORDS.items():
        decoder.add_word(word, phones, True)
    sentences = " | ".join(sorted(ANSWERS))
    decoder.add_jsgf_string("all", f"#JSGF V1.0; grammar g; public <s> = {sentences};")
    decoder.activate_search("all")
    return decoder


def _spoken(pcm: np.ndarray) -> np.ndarray:
    """From the first loud sample to the last, with a margin; empty if none is."""
    (loud,) = np.nonzero(np.abs(pcm) > _LOUD)
    if not loud.size:
        return pcm[:0]
    margin = int(_MARGIN * SAMPLE_RATE)
    return pcm[max(0, loud[0] - margin) : loud[-1] + margin]


def hear(pcm: np.ndarray) -> str | None:
    """The one answer that is spoken in float32 ``pcm [S]`` at 24 kHz.

    Returns the answer as written in the list of intents, or None where nothing is
    spoken, or no whole answer. It knows no other sentences, so speech that is none of
    the answers may still be taken for one: what counts is hearing the right one.
    """
    sound = _spoken(pcm)
    if not sound.size:
        return None
    sound = np.pad(sound, int(_SILENCE * SAMPLE_RATE))
    sound = resample(sound[None], SAMPLE_RATE, _RATE)[0]
    sound *= _PEAK / np.abs(sound).max()
    # Digital silence has no spectrum: the model wants the noise of a room.
    sound += np.random.default_rng(0).standard_normal(sound.size) * 3
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(
        sound.clip(-32768, 32767).astype(np.int16).tobytes(), False, True
    )
    decoder.end_utt()
    heard = decoder.hyp()
    return ANSWERS.get(heard.hypstr) if heard else None
