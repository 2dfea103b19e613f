"""Does it answer what it is asked, in text and in speech? -> eval_lm.json

    python measure_lm.py --temp 0.5 --temp-text 0.3

Every question is asked by voices, or in renditions, that training has not heard; and a
silent user must be greeted exactly once. Rows per question go to eval_SPLIT.json.
"""

import argparse
import difflib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from align import words_of
from encode import PAD, encode_all, user_audio
from export import load_checkpoint
from intents import GREETING, NAMES, TEXTS
from moshi.models.compression import MimiModel
from moshi.models.lm import LMGen, LMModel
from recogniser import Recogniser, speech_region
from sentencepiece import SentencePieceProcessor
from shards import DATA, FRAME, Utterance, load
from torch import Tensor

SILENT_S, SILENT_RUNS = 12, 16


@dataclass(frozen=True)
class Subject:
    """The model under test and how it samples."""

    mimi: MimiModel
    lm: LMModel
    tokenizer: SentencePieceProcessor
    temp: float
    temp_text: float

    def reply(self, user_codes: Tensor, seed: int = 0) -> Tensor:
        """``[B, 8, T]`` to text and audio tokens ``[B, 9, T - 1]``."""
        torch.manual_seed(seed)
        gen = LMGen(
            self.lm, temp=self.temp, temp_text=self.temp_text, top_k=250, top_k_text=25
        )
        with gen.streaming(len(user_codes)):
            steps = [gen.step(frame) for frame in user_codes.split(1, -1)]
        return torch.cat([step for step in steps if step is not None], -1)

    def read(self, text_tokens: Tensor) -> str:
        return self.tokenizer.decode([t for t in text_tokens.tolist() if t > PAD])


def nearest(text: str) -> str:
    """The answer that is most like a text."""

    def likeness(answer: str) -> float:
        pair = words_of(answer), words_of(text)
        return difflib.SequenceMatcher(None, *pair).ratio()

    return max(TEXTS, key=likeness)


def judge(subject: Subject, items: list[Utterance], batch: int) -> list[dict[str, str]]:
    """Ask all questions, in batches: what was asked, said and heard."""
    rng = np.random.default_rng(1)
    sounds = []
    for item in items:
        level, lead = int(rng.integers(0, 5)), int(rng.integers(6, 20))
        sounds.append(user_audio(item, rng, level, lead=lead, tail=75)[0])
    codes = encode_all(subject.mimi, sounds, 8)
    recogniser, rows = Recogniser(TEXTS), []
    for start in range(0, len(items), batch):
        part = codes[start : start + batch]
        t = max(c.shape[1] for c in part)
        padded = [np.pad(c, ((0, 0), (0, t - c.shape[1])), "edge") for c in part]
        users = torch.from_numpy(np.stack(padded).astype(np.int64))
        tokens = subject.reply(users)
        sound = subject.mimi.decode(tokens[:, 1:])[:, 0].numpy()
        for row, item in enumerate(items[start : start + batch]):
            wanted = TEXTS[NAMES.index(item.meta["intent"])]
            text = subject.read(tokens[row, 0])
            heard = recogniser(speech_region(sound[row]))
            asked = {"question": item.meta["text"], "voice": item.meta["voice"]}
            rows.append(asked | {"wanted": wanted, "text": text, "heard": heard})
    return rows


def summary(rows: list[dict[str, str]]) -> dict[str, float]:
    """Shares of the questions."""
    counts = {
        "text_exact": [words_of(r["text"]) == words_of(r["wanted"]) for r in rows],
        "text_intent": [bool(r["text"]) and _close(r) == r["wanted"] for r in rows],
        "speech": [r["heard"] == words_of(r["wanted"]) for r in rows],
        "speech_matches_text": [
            bool(r["text"]) and r["heard"] == words_of(_close(r)) for r in rows
        ],
        "silent": [not r["text"] for r in rows],
    }
    shares = {name: round(sum(c) / len(rows), 3) for name, c in counts.items()}
    return {"n": len(rows)} | shares


def _close(row: dict[str, str]) -> str:
    return nearest(row["text"])


def greeted(subject: Subject) -> float:
    """Share of runs in which a silent user hears the greeting once and nothing else."""
    silence = np.zeros(SILENT_S * 25 // 2 * FRAME, np.float32)
    codes = torch.from_numpy(encode_all(subject.mimi, [silence])[0].astype(np.int64))
    tokens = subject.reply(codes[None].repeat(SILENT_RUNS, 1, 1))
    said = [words_of(subject.read(row[0])) for row in tokens]
    return said.count(words_of(GREETING)) / SILENT_RUNS


def load_subject(model: Path, temp: float, temp_text: float) -> Subject:
    info = load_checkpoint(model)
    lm = info.get_moshi(dtype=torch.float32).eval()
    return Subject(info.get_mimi(), lm, info.get_text_tokenizer(), temp, temp_text)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("nano-moshi"))
    parser.add_argument("--temp", type=float, default=0.5)
    parser.add_argument("--temp-text", type=float, default=0.3)
    parser.add_argument("--n", type=int, default=193, help="questions of each set")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    subject = load_subject(args.model, args.temp, args.temp_text)
    size = sum(p.numel() for p in subject.lm.parameters())
    result: dict[str, object] = {"parameters_M": size / 1e6}
    for split in ("heldout_prosody", "heldout_voice"):
        items = load(DATA / f"users_{split}_0.npz")[: args.n]
        rows = judge(subject, items, args.batch)
        Path(f"eval_{split}.json").write_text(json.dumps(rows, indent=0))
        result[split] = summary(rows)
        print(split, result[split], flush=True)
    result["silent_user_greets_once"] = greeted(subject)
    print(json.dumps(result))
    Path("eval_lm.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
