"""How many of what ``teach.py`` asks does the demo answer rightly? Printed as JSON.

It runs in the environment of ``moshi_mlx``. A reply counts by its text, and by what an
ear of its own hears: pocketsphinx with a grammar of all answers. The rows are kept in
``before.json`` or, with adapters, in ``after.json``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import moshi_mlx
from moshi_mlx.audio.files import read
from moshi_mlx.audio.framing import SAMPLE_RATE

sys.path.insert(0, str(Path(__file__).parents[2]))
from scripts.train_demo.intents import TEXTS
from tests import recogniser  # the ear

LEAD = SAMPLE_RATE // 2  # silence in front of a question


def measure(out: Path, model: str, adapter: Path | None) -> dict[str, object]:
    """Right replies by kind of question: by their text, and heard."""
    rows = json.loads((out / "ask" / "asked.json").read_text())
    for text in [*TEXTS, *(row["wanted"] for row in rows)]:
        recogniser.ANSWERS[recogniser.words(text)] = text
    moshi = moshi_mlx.load(model, adapter=adapter)
    found: dict[str, dict[str, int]] = {}
    name = "after.json" if adapter else "before.json"
    for number, row in enumerate(rows, 1):
        question = read(out / "ask" / row["path"])[0]
        reply = moshi.respond(np.pad(question, (LEAD, 0)), seed=0)
        text = reply.text.strip()
        row |= {"answer": text, "heard": recogniser.hear(reply.pcm)}
        sums = found.setdefault(row["kind"], {"asked": 0, "text": 0, "heard": 0})
        sums["asked"] += 1
        sums["text"] += text == row["wanted"]
        sums["heard"] += row["heard"] == row["wanted"]
        (out / name).write_text(json.dumps(rows[:number], indent=1))
    return {"adapter": str(adapter or ""), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--out", type=Path, required=True)
    option("--model", default="demo")
    option("--adapter", type=Path)
    args = parser.parse_args()
    found = measure(args.out, args.model, args.adapter)
    print(json.dumps({**found, "cpu_s": round(time.process_time())}, indent=1))


if __name__ == "__main__":
    main()
