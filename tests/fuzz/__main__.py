"""``scripts/fuzz``: every kind of mutated input in full, and its figures."""

import argparse
import faulthandler
import logging
import sys
import tempfile
from pathlib import Path

import mlx.core as mx

from tests.fuzz import checkpoints, protocols, sounds
from tests.fuzz.harness import Try, fuzz
from tests.fuzz.streams import StreamTarget

# What is tried, and how often in full.
KINDS: dict[str, tuple[Try, int]] = {
    kind: (attempt, 10_000) for kind, attempt in checkpoints.KINDS.items()
}
KINDS |= {kind: (attempt, 10_000) for kind, attempt in protocols.PARSERS.items()}
KINDS |= {kind: (attempt, 2_000) for kind, attempt in sounds.SOUNDS.items()}


STREAMS = "websocket streams"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}, {STREAMS}")
    parser.add_argument("-n", "--cases", type=int, help="instead of the full number")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    unknown = set(given.kinds) - {*KINDS, STREAMS}
    if unknown:
        parser.error(f"unknown kinds {sorted(unknown)}: there are {[*KINDS, STREAMS]}")
    faulthandler.enable(sys.stderr)
    logging.disable(logging.WARNING)
    mx.set_default_device(mx.cpu)
    for kind in given.kinds or [*KINDS, STREAMS]:
        target = StreamTarget() if kind == STREAMS else None
        attempt, full = (target.attempt, 10_000) if target else KINDS[kind]
        with tempfile.TemporaryDirectory(prefix="moshi-fuzz-") as folder:
            cases = full if given.cases is None else given.cases
            try:
                print(fuzz(kind, attempt, cases, Path(folder), given.seed), flush=True)
            finally:
                if target is not None:
                    target.close()


main()
