"""Small listening models: an echo that writes the codes it hears, and a random one."""

from collections.abc import Sequence
from functools import cache

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from moshi_mlx.engines.stt import STTModel, Word
from moshi_mlx.engines.stt.rows import Frame, Rows
from moshi_mlx.models import Lm, LmConfig
from tests import speech

CARD = 97  # codes, and text tokens, of the echo
HEADS = 4
PAUSING = 96  # a code that is written as padding and sounds like a pause
VOCABULARY = ["hello", "there", "how", "are", "you", "today", "it", "is", "paris"]

CONFIG = {
    "dim": CARD,
    "text_card": CARD,
    "n_q": 2,
    "dep_q": 0,
    "card": CARD,
    "num_heads": 1,
    "num_layers": 1,
    "hidden_scale": 1,
    "causal": True,
    "context": 40,
    "gating": "none",
    "norm": "rms_norm_f32",
    "positional_embedding": "none",
    "delays": [0, 0, 0],
    "extra_heads_num_heads": HEADS,
}


@cache
def echo(heads: int = HEADS) -> Lm:
    """Writes the first codebook's code as text token; no memory."""
    config = LmConfig.from_config_dict({**CONFIG, "extra_heads_num_heads": heads})
    lm = Lm(config)
    lm.update(tree_map(mx.zeros_like, lm.parameters()))
    written = np.eye(CARD, dtype=np.float32)
    written[3, PAUSING] = 2.0
    lm.out_norm.weight = mx.ones(CARD)
    lm.audio_embs[0].weight = mx.array(np.eye(CARD + 1, CARD, dtype=np.float32))
    lm.text_linear.weight = mx.array(written)
    for head in lm.extra_heads:
        scores = np.zeros((6, CARD), np.float32)
        scores[0] = -1.0
        scores[0, PAUSING] = 3.0
        head.weight = mx.array(scores)
    mx.eval(lm.parameters())  # shared by threads: each has streams of its own
    return lm


def frames(codes: Sequence[int], start: int = 0, loud: bool = False) -> list[Frame]:
    """A sound in which the echo hears the given tokens."""
    return [
        Frame(np.array([code, 0], np.int32), i * 0.08, (i + 1) * 0.08, loud)
        for i, code in enumerate(codes, start)
    ]


@cache
def listener(delay_s: float = 0.5, prefix_s: float = 0.0, heads: int = HEADS):
    """The echo behind a real codec: writes gibberish, but always the same."""
    config = {
        "stt_config": {
            "audio_delay_seconds": delay_s,
            "audio_silence_prefix_seconds": prefix_s,
        }
    }
    mimi = speech.speaker().mimi
    return STTModel(echo(heads), mimi, speech.tokenizer(), config)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Float32 ``[S]`` at 24 kHz."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.2, round(seconds * 24000)).astype(np.float32)


def sentence(*words: str, pause: int = 25) -> list[int]:
    """Tokens of words, and of the pause after them."""
    tokens: list[int] = []
    for word in words:
        tokens += [0, *speech.tokenizer().encode(word), 3]
    return [*tokens, *[PAUSING] * pause]


def listen(rows: Rows, *sounds: list[int], loud: bool = False) -> list[list]:
    for row, codes in zip(rows.rows, sounds, strict=True):
        row.waiting.extend(frames(codes, loud=loud))
    events: list[list] = [[] for _ in sounds]
    while rows.waiting:
        for mine, new in zip(events, rows.step(), strict=True):
            mine += new
    for b, mine in enumerate(events):
        mine += rows.finish(b)
    return events


def words(events: list) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]


def long_talk(pause: int, minutes: float = 1.0) -> tuple[list[int], list[str]]:
    rng = np.random.default_rng(1)
    codes: list[int] = []
    said: list[str] = []
    while len(codes) < minutes * 750:
        chosen = list(rng.choice(VOCABULARY, 6))
        codes += sentence(*chosen, pause=pause)
        said += chosen
    return codes, said
