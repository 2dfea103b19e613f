"""Codes of everything that the language models learn from, and their tokenizer.

    python corpus.py tokenizer background answers questions     # what Moshi needs
    python corpus.py speech heard lines                         # what STT and TTS need
    python corpus.py heard --count 3000 --seed 117 --part _a    # more, in its own file

``answers`` (three voices), ``background``; ``questions`` (of intents, by anybody,
damaged); ``speech`` (free sentences by the three voices, clean), ``lines`` (questions
and answers by them) and ``heard`` (free, by anybody, damaged). Each file holds ``codes
[8, T]`` of all utterances, their ``bounds``, ``phones [4, T]`` and ``meta`` as JSON:
text, words (start, end in seconds from the first frame), voice, intent, and the frame
in which the speech ends. What is there already is left as it is.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from codec import encode_all, load_mimi
from codec_data import GRID, UNKNOWN
from damage import damage
from ear import plain
from intents import INTENTS, NAMES, TEXTS, reworded
from shards import FRAME, IGNORE, LOUDNESS, SAMPLE_RATE, UNIT, Spoken, utterances, whole
from texts import QUESTIONS, Sentences, asked
from voices import FLITE, VOICES, Hibari, espeak, flite, random_voice

PAD, NEW_WORD = 3, 0  # text tokens, as in Kyutai's models; 1 and 2 are the speakers
LEAD, TAIL = 6, 12  # frames around an utterance
WARM = 16  # frames before them, dropped once they have warmed the codec up
FRESH = 0.4  # share of the damaged utterances that begin with the stream, and stay so
TIMES = 3  # renditions of each of Kokoro's
BEFORE = ["Okay", "So", "Well", "Hey", "Hey Moshi", "Moshi", "Now", "Please", "And"]
AFTER = ["please", "Moshi", "now", "my friend", "then"]
HELD_OUT = {" ".join(plain(q)) for i in INTENTS.values() for q in i.held_out}


def train_tokenizer(out: Path, size: int) -> None:
    sentences = Sentences(99)
    lines = [sentences() for _ in range(30_000)] + (TEXTS + QUESTIONS) * 20
    (out / "text.txt").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(out / "text.txt"),
        model_prefix=str(out / "tokenizer"),
        vocab_size=size,
        model_type="unigram",
        unk_id=NEW_WORD,
        bos_id=1,
        eos_id=2,
        pad_id=PAD,
        character_coverage=1.0,
        byte_fallback=False,
        minloglevel=2,
    )


class Builder:
    """Utterances in, codes out."""

    def __init__(self, codec: Path, seed: int):
        self.mimi, self.rng = load_mimi(codec), np.random.default_rng(seed)
        self.sounds: list[np.ndarray] = []
        self.cuts: list[int] = []
        self.codes: list[np.ndarray] = []
        self.phones: list[np.ndarray] = []
        self.meta: list[dict] = []

    def add(self, said: Spoken, bad: bool, **more: object) -> None:
        """An utterance, at a random place within its frame; ``bad``: damaged."""
        rng, fresh = self.rng, bad and self.rng.random() < FRESH
        lead = int(rng.integers(0, 13)) if fresh else LEAD
        warm = 0 if fresh else WARM
        start = lead * FRAME + int(rng.integers(0, FRAME // GRID)) * GRID
        end = -(-(start + len(said.wav)) // FRAME)
        x = np.zeros((warm + end + TAIL) * FRAME, np.float32)
        x[warm * FRAME + start :][: len(said.wav)] = said.wav
        kinds = np.zeros((end + TAIL) * 4, np.int16)
        at = ((np.arange(len(said.wav) // GRID) + 0.5) * GRID / UNIT).astype(int)
        if len(said.phones):
            labels = said.phones[at.clip(0, len(said.phones) - 1)].astype(np.int16)
            kinds[start // GRID :][: len(at)] = np.where(
                labels == IGNORE, UNKNOWN, labels
            )
        self.sounds.append(damage(x, rng) if bad else x)
        self.cuts.append(warm)
        self.phones.append(kinds.reshape(-1, 4).T)
        moved = [
            (a + start / SAMPLE_RATE, b + start / SAMPLE_RATE) for a, b in said.words
        ]
        about = {"words": moved, "end": end, "lead": lead, "fresh": fresh}
        self.meta.append(more | about)
        if len(self.sounds) == 256:
            self._encode()

    def _encode(self) -> None:
        found = encode_all(self.mimi, self.sounds)
        self.codes += [c[:, cut:] for c, cut in zip(found, self.cuts, strict=True)]
        self.sounds, self.cuts = [], []

    def save(self, path: Path) -> None:
        self._encode()
        bounds = np.cumsum([0] + [c.shape[1] for c in self.codes])
        codes, phones = np.concatenate(self.codes, 1), np.concatenate(self.phones, 1)
        meta = json.dumps(self.meta)
        np.savez(path, codes=codes, bounds=bounds, phones=phones, meta=meta)
        print(path, len(self.codes), "utterances", round(bounds[-1] / 750, 1), "min")
        self.codes, self.phones, self.meta = [], [], []


class Corpus:
    """Makes the files; each method says what belongs into one."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.hibari, self.builder = Hibari(args.speech), Builder(args.codec, args.seed)
        self.rng = self.builder.rng
        known = ((n, asked(q)) for n, i in INTENTS.items() for q in i.known)
        self.intent = {text: NAMES.index(name) for name, text in known}

    def say(self, text: str, voice: str, bad: bool, **more: object) -> None:
        """By a voice of the TTS, by flite, or by a random speaker."""
        if voice == "espeak":
            said = espeak(text, self.rng)
        elif voice == "old":
            how = str(self.rng.choice(FLITE))
            said = flite(text, how, self.rng.uniform(0.8, 1.2), self.hibari.phones)
        else:
            how = VOICES[voice] if voice in VOICES else random_voice(self.rng)
            said = self.hibari(text, how, self.rng)
        wav = said.wav * LOUDNESS / (np.sqrt((said.wav**2).mean()) * 1.5)
        said = said._replace(wav=wav.clip(-1, 1))
        self.builder.add(said, bad, text=text, voice=voice, **more)

    def background(self) -> None:
        """Silence, then noise of several colours and levels."""
        for i in range(30):
            level = 10 ** self.rng.uniform(-4.5, -2) * (i > 0)
            noise = self.rng.standard_normal(10 * SAMPLE_RATE) * level
            said = Spoken(noise.astype(np.float32), np.zeros(0), [])
            self.builder.add(said, i > 5, text="")

    def answers(self) -> None:
        for name in VOICES:
            for number, text in enumerate(TEXTS):
                self.say(text, name, False, intent=number)

    def questions(self) -> None:
        """Every known wording equally often, some with a word around; then Kokoro's."""
        kinds, shares = ["other", "old", "espeak"], [0.74, 0.1, 0.16]
        for i in range(self.args.count):
            text = QUESTIONS[i % len(QUESTIONS)]
            voice = str(self.rng.choice(kinds, p=shares))
            self.say(self._around(text), voice, True, intent=self.intent[text])
        self._natural("ask_*")

    def ways(self) -> None:
        """Wordings by pattern, each once, by anybody but Kokoro."""
        rng, done = random.Random(self.args.seed), set(HELD_OUT)
        while len(done) < len(HELD_OUT) + self.args.count:
            name = rng.choice(NAMES[1:])
            known = INTENTS[name].known
            words = rng.choice(known) if rng.random() < 0.15 else reworded(name, rng)
            key = " ".join(plain(words))
            if key in done:
                continue
            done.add(key)
            text = self._around(asked(words)) if rng.random() < 0.3 else asked(words)
            voice = rng.choices(["other", "old", "espeak"], [0.8, 0.06, 0.14])[0]
            self.say(text, voice, True, intent=NAMES.index(name))

    def _around(self, text: str) -> str:
        """Some questions begin or end as people's do; none becomes a held-out one."""
        chance, own = self.rng.random(), text
        if chance < 0.2:
            text = f"{self.rng.choice(BEFORE)}, {text[0].lower()}{text[1:]}"
        elif chance < 0.3:
            text = f"{text[:-1]}, {self.rng.choice(AFTER)}{text[-1]}"
        return own if " ".join(plain(text)) in HELD_OUT else text

    def speech(self) -> None:
        sentences = Sentences(10 * self.args.seed + 6)
        for i in range(self.args.count):
            self.say(sentences(), ["heart", "heart", "low", "high"][i % 4], False)

    def lines(self) -> None:
        """What the domain says: every known wording once, every answer eight times."""
        voices = ["heart", "heart", "heart", "low", "heart", "heart", "heart", "high"]
        for i, text in enumerate(QUESTIONS):
            self.say(self._around(text) if i % 3 == 0 else text, voices[i % 8], False)
        for voice in voices:
            for text in TEXTS:
                self.say(text, voice, False)

    def heard(self) -> None:
        sentences = Sentences(10 * self.args.seed + 7)
        for _ in range(self.args.count):
            self.say(sentences(), "other", True)
        self._natural("ko*_*")

    def _natural(self, shards: str) -> None:
        """Kokoro's, in the first file only: further parts are of new sentences."""
        for shard in filter(whole, sorted(self.args.speech.glob(shards))):
            for utterance in () if self.args.part else utterances(shard):
                about = utterance.about
                said = Spoken(utterance.pcm, utterance.phones, about["words"])
                more = {"text": about["text"], "voice": about["voice"]}
                more["intent"] = self.intent.get(about["text"], -1)
                for _ in range(TIMES):
                    self.builder.add(said, True, **more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    files = ["background", "answers", "questions", "ways", "speech", "heard", "lines"]
    option("what", nargs="+", choices=["tokenizer", *files])
    option("--codec", type=Path, default=Path("codec"))
    option("--speech", type=Path, default=Path("speech"), help="folder of shards")
    option("--out", type=Path, default=Path("codes"))
    option("--vocabulary", type=int, default=1500)
    option("--count", type=int, default=4000, help="sentences, besides Kokoro's")
    option("--seed", type=int, default=5)
    option("--part", default="", help="ending of the file's name, for more of a kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(exist_ok=True)
    corpus = Corpus(args)
    for name in args.what:
        ending = "tokenizer.model" if name == "tokenizer" else f"{name}{args.part}.npz"
        if (args.out / ending).exists():
            continue
        if name == "tokenizer":
            train_tokenizer(args.out, args.vocabulary)
        else:
            getattr(corpus, name)()
            corpus.builder.save(args.out / ending)


if __name__ == "__main__":
    main()
