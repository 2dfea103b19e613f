"""Turn the speech into nano Mimi's codes, with the answers' text beside them.

    python encode.py --codec codec --repeat 2    -> data/codes.npz, data/tokenizer.model
    python encode.py --codec codec --append data/users_train_more_3.npz

In codes.npz: ``answers [9, T]`` (text and codes of all answers, in the order of
``intents.NAMES``), ``silence [8]``, ``noise_bank [levels, 8, T]``; and of each split of
the users ``SPLIT [8, T]`` and ``SPLIT_meta [N, 3]`` (intent, noise level, frame where
the speech ends). ``answer_bounds`` and ``SPLIT_bounds`` cut them into utterances.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from align import read_alignment, words_of
from intents import NAMES, TEXTS
from moshi.models import loaders
from moshi.models.compression import MimiModel
from shards import DATA, FRAME, SAMPLE_RATE, Utterance, load, user_shards

PAD, EPAD = 3, 0  # text tokens: nothing is said; a word begins in the next frame
NOISE = [0.0, 10**-4.0, 10**-3.5, 10**-3.0, 10**-2.6]  # amplitudes behind the user
# Frames of background kept before and after an utterance, and more before, dropped
# once they have warmed the codec up.
LEAD, TAIL, WARM = 4, 10, 12
SILENCE = 100  # frames
BANK = 500  # frames of noise alone, per level
SPLITS = ("train", "heldout_prosody", "heldout_voice")

Table = dict[str, np.ndarray]


def load_mimi(folder: Path) -> MimiModel:
    config = json.loads((folder / "mimi_config.json").read_text())
    return loaders.get_mimi(folder / "mimi.safetensors", config, num_codebooks=8)


@torch.no_grad()
def encode_all(
    mimi: MimiModel, sounds: list[np.ndarray], batch: int = 16
) -> list[np.ndarray]:
    """Codes int16 ``[8, T]`` of floats ``[S]``, each in whole frames.

    Sounds of like length are padded to one batch, which is safe: the codec is causal.
    """
    order = sorted(range(len(sounds)), key=lambda i: len(sounds[i]))
    codes = [np.empty((8, 0), np.int16)] * len(sounds)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        x = torch.zeros(len(rows), 1, max(len(sounds[i]) for i in rows))
        for row, i in enumerate(rows):
            x[row, 0, : len(sounds[i])] = torch.from_numpy(sounds[i])
        found = mimi.encode(x).numpy().astype(np.int16)
        for row, i in enumerate(rows):
            codes[i] = found[row, :, : len(sounds[i]) // FRAME]
    return codes


def user_audio(
    utterance: Utterance,
    rng: np.random.Generator,
    level: int,
    lead: int = LEAD + WARM,
    tail: int = TAIL,
) -> tuple[np.ndarray, int]:
    """An utterance in background noise, at a random gain and place within its frame.

    Returns: float ``[S]``, and the frame in which the speech ends.
    """
    x = utterance.pcm * 10 ** rng.uniform(-0.6, 0.05)
    start = lead * FRAME + int(rng.integers(0, FRAME))
    end = -(-(start + len(x)) // FRAME)
    out = np.zeros((end + tail) * FRAME, np.float32)
    out[start : start + len(x)] = x
    noise = rng.standard_normal(len(out)).astype(np.float32)
    return out + noise * NOISE[level], end


def train_tokenizer(size: int) -> sentencepiece.SentencePieceProcessor:
    corpus = DATA / "text.txt"
    corpus.write_text("\n".join(TEXTS * 4 + [w for t in TEXTS for w in t.split()]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(DATA / "tokenizer"),
        vocab_size=size,
        model_type="unigram",
        pad_id=PAD,
        unk_id=EPAD,
        bos_id=1,
        eos_id=2,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(str(DATA / "tokenizer.model"))


def word_starts(utterance: Utterance, found: dict[str, Any] | None) -> list[float]:
    """Seconds at which the words of a text start: as aligned, else by their letters."""
    words = utterance.meta["text"].replace("-", " ").split()
    if found and [words_of(w) for w in words] == [w[0] for w in found["words"]]:
        return [max(0.0, word[1]) for word in found["words"]]
    letters = np.cumsum([0] + [len(word) + 1 for word in words])
    return list(letters[:-1] / letters[-1] * len(utterance.wav) / SAMPLE_RATE)


def text_frames(
    tokenizer: sentencepiece.SentencePieceProcessor,
    words: list[str],
    starts: list[float],
    frames: int,
) -> np.ndarray:
    """Text stream ``[frames]`` of an answer: a word's pieces from one frame before it
    starts, EPAD before them, PAD elsewhere."""
    row = np.full(frames, PAD, np.int16)
    t = 0
    for word, start in zip(words, starts, strict=True):
        frame = max(t, LEAD - 1 + int(start * SAMPLE_RATE / FRAME))
        if frame > t or t == 0:
            row[frame - 1] = EPAD
        pieces = tokenizer.encode(word)
        t = frame + len(pieces)
        row[frame:t] = pieces[: max(0, frames - frame)]
    return row


def add_answers(table: Table, mimi: MimiModel, vocabulary: int) -> None:
    """Every answer, with silence around it and its text."""
    tokenizer = train_tokenizer(vocabulary)
    shard = DATA / "moshi.npz"
    utterances = load(shard)
    alignment = read_alignment(shard) or [None] * len(utterances)
    sounds, texts = [], []
    for utterance, found in zip(utterances, alignment, strict=True):
        if utterance.meta["kind"] != "answer":
            continue
        frames = LEAD + -(-len(utterance.wav) // FRAME) + TAIL
        x = np.zeros((WARM + frames) * FRAME, np.float32)
        x[(WARM + LEAD) * FRAME :][: len(utterance.wav)] = utterance.pcm
        sounds.append(x)
        words = utterance.meta["text"].replace("-", " ").split()
        starts = word_starts(utterance, found)
        texts.append(text_frames(tokenizer, words, starts, frames))
    codes = [c[:, WARM:] for c in encode_all(mimi, sounds)]
    rows = [np.concatenate([t[None], c]) for t, c in zip(texts, codes, strict=True)]
    table["answers"] = np.concatenate(rows, 1)
    table["answer_bounds"] = np.cumsum([0] + [c.shape[1] for c in codes])


def add_background(table: Table, mimi: MimiModel, rng: np.random.Generator) -> None:
    """What silence settles to, and noise without speech."""
    silence = np.zeros(SILENCE * FRAME, np.float32)
    table["silence"] = encode_all(mimi, [silence])[0][:, -1]
    banks = [rng.standard_normal(BANK * FRAME).astype(np.float32) * a for a in NOISE]
    table["noise_bank"] = np.stack(encode_all(mimi, banks, 1))


def add_users(
    table: Table,
    split: str,
    shards: list[Path],
    mimi: MimiModel,
    rng: np.random.Generator,
    repeat: int,
) -> None:
    """Append the utterances of some shards, each ``repeat`` times, to a split."""
    sounds, meta = [], []
    for shard in shards:
        for utterance in load(shard):
            for _ in range(repeat):
                level = int(rng.integers(0, len(NOISE)))
                x, end = user_audio(utterance, rng, level)
                sounds.append(x)
                intent = NAMES.index(utterance.meta["intent"])
                meta.append((intent, level, end - WARM))
    codes = [c[:, WARM:] for c in encode_all(mimi, sounds)]
    if split in table:
        bounds = table[f"{split}_bounds"]
        old = np.split(table[split], bounds[1:-1], axis=1)
        codes, meta = old + codes, [*map(tuple, table[f"{split}_meta"]), *meta]
    table[split] = np.concatenate(codes, 1)
    table[f"{split}_meta"] = np.array(meta, np.int16)
    table[f"{split}_bounds"] = np.cumsum([0] + [c.shape[1] for c in codes])
    print(split, len(codes), "utterances", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--codec", type=Path, default=Path("codec"), help="folder of stage 1")
    option("--append", type=Path, help="only add this shard to the training split")
    option(
        "--repeat", type=int, default=1, help="renditions of each training utterance"
    )
    option("--vocab", type=int, default=400, help="text tokens, at most")
    option("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mimi, path = load_mimi(args.codec), DATA / "codes.npz"
    table: Table = {}
    if args.append:
        table = dict(np.load(path))
        rng = np.random.default_rng(len(table["train_meta"]))
        add_users(table, "train", [args.append], mimi, rng, args.repeat)
    else:
        rng = np.random.default_rng(0)
        add_answers(table, mimi, args.vocab)
        add_background(table, mimi, rng)
        for split in SPLITS:
            repeat = args.repeat if split == "train" else 1
            add_users(table, split, user_shards(split), mimi, rng, repeat)
    np.savez_compressed(path, **table)


if __name__ == "__main__":
    main()
