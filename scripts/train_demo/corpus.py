"""Codes of all speech, which the language models learn from.

Speech by ``own`` voices is encoded as it is, all other is damaged: ``others`` once,
``kokoro`` three times. Every shard becomes one of codes; what is there already is left
as it is. To its ``about`` are added ``end`` (the frame in which the speech ends),
``lead`` (frames before it), ``fresh`` (it begins with the stream) and, for answers,
``wrong``: the share of words that Whisper does not understand through the codec.
"""

import argparse
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from codec import decode, encode, load_mimi
from damage import Rng, damage
from ear import Ear, Errors
from moshi.models.compression import MimiModel
from shards import FRAME, GRID, SAMPLE_RATE, SILENCE, Utterance, of_shard, save, whole
from voices import VOICES

LEAD, TAIL = 6, 12  # frames around an utterance
WARM = 16  # frames before them, dropped once they have warmed the codec up
FRESH = 0.4  # share of the damaged utterances that begin with the stream, and stay so
CLEAN = ("silence", *VOICES)  # all other voices are damaged
RENDITIONS = 3  # of Kokoro's


def placed(one: Utterance, rng: Rng) -> tuple[np.ndarray, int, Utterance]:
    """An utterance, at a random place within its frame, perhaps damaged.

    Returns: sound ``[S]``, how many frames to drop from its codes, and the utterance
    with its phones and times from the first frame that is left.
    """
    bad = one.about["voice"] not in CLEAN
    fresh = bad and rng.random() < FRESH
    lead = int(rng.integers(0, 13)) if fresh else LEAD
    warm = 0 if fresh else WARM
    start = lead * FRAME + int(rng.integers(0, FRAME // GRID)) * GRID
    end = -(-(start + len(one.sound)) // FRAME)
    x = np.zeros((warm + end + TAIL) * FRAME, np.float32)
    x[warm * FRAME + start :][: len(one.sound)] = one.pcm
    phones = np.full((end + TAIL) * 4, SILENCE, np.int8)
    phones[start // GRID :][: len(one.phones)] = one.phones
    t = start / SAMPLE_RATE
    about = dict(one.about, end=end, lead=lead, fresh=fresh)
    about["words"] = [(a + t, b + t) for a, b in one.about["words"]]
    row = Utterance(one.sound, phones.reshape(-1, 4).T, about)
    return damage(x, rng) if bad else x, warm, row


def background(rng: Rng) -> Iterator[Utterance]:
    """Silence, then noise of several levels."""
    for i in range(30):
        level = 10 ** rng.uniform(0, 2.5) * (i > 0)
        noise = rng.standard_normal(10 * SAMPLE_RATE) * level
        about = {"voice": "noise" if i > 5 else "silence", "text": "", "words": []}
        phones = np.full(len(noise) // GRID, SILENCE, np.int8)
        yield Utterance(noise.astype(np.int16), phones, about)


def judge(mimi: MimiModel, rows: list[Utterance]) -> None:
    """Note the share of wrong words; 1 for the voices that are not judged."""
    ear = Ear()
    for row in rows:
        row.about["wrong"] = 1.0
        if row.about["voice"] == "heart":
            heard = ear(decode(mimi, row.sound))
            row.about["wrong"] = Errors().add(row.about["text"], heard)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--speech", type=Path, default=Path("speech"), help="folder of shards")
    option("--out", type=Path, default=Path("codes"))
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    mimi = load_mimi(Path("codec"))
    names = [shard.name for shard in sorted(args.speech.iterdir()) if whole(shard)]
    for name in ("background_0", *names):
        if whole(out := args.out / name):
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name == "background_0":
            rows = list(background(rng))
        else:
            times = RENDITIONS if name.startswith("kokoro") else 1
            rows = of_shard(args.speech / name) * times
        rows = (placed(row, rng) for row in rows)
        codes = [row._replace(sound=encode(mimi, x)[:, cut:]) for x, cut, row in rows]
        if name.startswith("own_answers"):
            judge(mimi, codes)
        save(out, codes)


if __name__ == "__main__":
    main()
