"""Word errors of the STT by kind and voice, and how well it finds pauses.

    python measure_stt.py --model nano-stt --rows stt.json

With the environment of ``moshi_mlx``. The shards are those of ``speech.py test``
(``free``: the assistant's voice, ``unseen``, ``shifted``, ``answer``), of ``speech.py
questions`` (the domain, by the same unseen voices) and of ``strangers.py``. Pauses are
measured by the first head: 0.5 s of silence after the last word. Told is by how much it
is found late (or, with a minus, early), and in how many sentences within 0.3 s.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from compare import Errors
from shards import SAMPLE_RATE, utterances

import moshi_mlx
from moshi_mlx.engines.stt import Pauses

LEAD_S, TAIL_S, PAUSE_S, FOUND = 0.5, 2.0, 0.5, 0.5
AT_ONCE = 16


def pause_error(events: list, end_s: float) -> float:
    """Seconds by which the pause after ``end_s`` is found late; infinite if never."""
    wanted, after = end_s + PAUSE_S, [e for e in events if e.time_s > end_s]
    found = [e.time_s for e in after if e.probabilities[0] > FOUND]
    return found[0] - wanted if found else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    option = parser.add_argument
    option("--model", default="demo")
    option("--measure", type=Path, default=Path("measure"), help="folder of the shards")
    option("--shards", default="test,questions,strangers")
    option("--every", type=int, default=1, help="hear only every so manieth sentence")
    option("--rows", type=Path, help="file for what was heard of each sentence")
    args = parser.parse_args()
    stt, errors, late, rows = moshi_mlx.load_stt(args.model), Errors(), [], []
    for name in args.shards.split(","):
        sentences = list(utterances(args.measure / name))[:: args.every]
        for start in range(0, len(sentences), AT_ONCE):
            part = sentences[start : start + AT_ONCE]
            pads = round(LEAD_S * SAMPLE_RATE), round(TAIL_S * SAMPLE_RATE)
            sounds = [np.pad(one.pcm, pads) for one in part]
            events = [[] for _ in part]

            def notice(row: int, event: object, into: list = events) -> None:
                if isinstance(event, Pauses):
                    into[row].append(event)

            heard = stt.transcribe_all(sounds, on_event=notice)
            for one, found, noticed in zip(part, heard, events, strict=True):
                about, kind = one.about, f"{name} {one.about['kind']}"
                errors.add(about["text"], found.text, kind, f"{kind} {about['voice']}")
                if about["words"] and stt.pause_lengths_s:
                    late.append(pause_error(noticed, LEAD_S + about["words"][-1][1]))
                rows.append({"kind": kind, "text": about["text"], "heard": found.text})
            if args.rows:
                args.rows.write_text(json.dumps(rows, indent=0))
    print(errors)
    if late:
        near = np.mean(np.abs(late) <= 0.3)
        print(f"pauses: {near:.1%} within 0.3 s, median {np.median(late):+.2f} s late")


if __name__ == "__main__":
    main()
