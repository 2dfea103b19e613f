"""How much of speech survives the codec.

    python measure_codec.py --codec codec [--third] [--codebooks 8]
    python measure_codec.py --codec codec --shard measure/strangers --kinds human,joe

Whisper tiny.en listens before and after, and the phone heads of training are asked
about speakers and sentences they never heard.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from codec import KINDS, Heads, latents, load_mimi
from compare import distance, plain
from ear import Ear
from shards import FRAME, IGNORE, UNIT, Utterance, utterances

LEAD = 6  # frames of silence before an utterance
MOST = {"joe": 30}  # utterances of a kind


class Codec:
    """What one codec leaves of speech."""

    def __init__(self, folder: Path, codebooks: int):
        self.mimi, self.heads = load_mimi(folder, codebooks), Heads().eval()
        self.heads.load_state_dict(torch.load(folder / "heads.pt"))

    @torch.no_grad()
    def __call__(self, utterance: Utterance) -> tuple[np.ndarray, int, int]:
        """Sound through the codec; how many labels have a phone, how many are right."""
        x = utterance.pcm
        frames = -(-len(x) // FRAME) + LEAD
        padded = torch.zeros(1, 1, frames * FRAME)
        padded[0, 0, LEAD * FRAME : LEAD * FRAME + len(x)] = torch.from_numpy(x)
        codes = self.mimi.quantizer.encode(latents(self.mimi, padded)[1])
        sound = self.mimi.decode(codes)[0, 0].numpy()[LEAD * FRAME :][: len(x)]
        logits = self.heads.full(self.mimi.quantizer.decode(codes))[0, :, LEAD:]
        guess = logits.view(4, KINDS, -1).argmax(1).T.reshape(-1).numpy()
        at = ((np.arange(len(guess)) + 0.5) * FRAME / 4 / UNIT).astype(int)
        goal = utterance.phones[at.clip(0, len(utterance.phones) - 1)]
        real = (goal != 0) & (goal != IGNORE)
        return sound, int(real.sum()), int((goal == guess)[real].sum())


def measure(codec: Codec | None, ear: Ear, rows: list[Utterance]) -> tuple[dict, list]:
    """Shares in %, and the first sentences with what was heard."""
    exact = units = right = 0
    voices, heard = defaultdict(lambda: np.zeros(2, int)), []
    for row in rows:
        sound, n, found = codec(row) if codec else (row.pcm, 0, 0)
        text, wanted = ear(sound), plain(row.about["text"])
        wrong = min(distance(wanted, plain(text)), len(wanted))  # the ear can babble
        voices[row.about["voice"]] += wrong, len(wanted)
        exact, units, right = exact + (not wrong), units + n, right + found
        heard.append((row.about["text"], text))
    total = sum(voices.values())
    shares = {name: round(100 * e / n, 1) for name, (e, n) in voices.items()}
    result = {
        "n": len(rows),
        "exact": round(100 * exact / len(rows), 1),
        "word_errors": round(100 * total[0] / total[1], 1),
        "phones": round(100 * right / max(1, units), 1),
    }
    return result | {"by_voice": shares}, heard[:3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--codec", type=Path, default=Path("codec"))
    option("--shard", type=Path, default=Path("measure/test"))
    option("--kinds", default="answer,free,shifted,unseen", help="or voices")
    option("--codebooks", type=int, default=8)
    option("--third", action="store_true", help="every third sentence only")
    option("--original", action="store_true", help="the ear on the sound itself")
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = None if args.original else Codec(args.codec, args.codebooks)
    ear, every = Ear(), list(utterances(args.shard))
    for kind in args.kinds.split(","):
        rows = [u for u in every if kind in (u.about["kind"], u.about["voice"])]
        rows = rows[: MOST.get(kind)][:: 3 if args.third else 1]
        result, heard = measure(codec, ear, rows)
        print(json.dumps({"kind": kind} | result), heard, flush=True)


if __name__ == "__main__":
    main()
