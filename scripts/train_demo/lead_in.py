"""How much silence before a question does Moshi want? The share of right answers.

    python lead_in.py --model demo --shard measure/questions

Asks the same questions with each lead-in, spread over voices and intents, with one
seed. McNemar's exact test says whether a difference from the first lead-in is more than
chance. A model that wants a lead-in says so in its config.json: ``"lead_in_s": 0.6``.
"""

import argparse
import math
from pathlib import Path

from intents import INTENTS, NAMES, VERSION_1
from measure_moshi import ask
from shards import utterances

import moshi_mlx


def by_chance(better: int, worse: int) -> float:
    """Probability of so uneven a split among the questions whose answers changed."""
    n, most = better + worse, max(better, worse)
    tail = sum(math.comb(n, k) for k in range(most, n + 1)) / 2**n
    return min(1.0, 2 * tail)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--model", default="demo")
    option("--shard", type=Path, default=Path("measure/questions"))
    option("--questions", type=int, default=60)
    option("--leads", type=float, nargs="+", default=[0.0, 0.2, 0.6, 1.0])
    option("--intents", type=int, default=VERSION_1, help="the first ones")
    args = parser.parse_args()
    moshi = moshi_mlx.load(args.model)
    names = NAMES[1 : args.intents + 1]
    known = [u for u in utterances(args.shard) if u.about.get("intent") in names]
    step = max(1, len(known) // args.questions)
    asked = known[::step][: args.questions]
    right: dict[float, list[bool]] = {lead: [] for lead in args.leads}
    for utterance in asked:
        wanted = INTENTS[utterance.about["intent"]].answer
        for lead, hits in right.items():
            text, _ = ask(moshi.session(seed=0), utterance.pcm, lead)
            hits.append(text == wanted)
    first = right[args.leads[0]]
    for lead, hits in right.items():
        better = sum(b and not a for a, b in zip(first, hits, strict=True))
        worse = sum(a and not b for a, b in zip(first, hits, strict=True))
        print(
            f"{lead:g} s: {100 * sum(hits) / len(hits):.1f} % of {len(hits)} right; "
            f"{better} better, {worse} worse than {args.leads[0]:g} s "
            f"(p = {by_chance(better, worse):.2f})"
        )


if __name__ == "__main__":
    main()
