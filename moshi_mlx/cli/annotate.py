"""`moshi-mlx annotate`: recordings with their words, ready for `finetune`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .console import make_log, status
from .outputs import print_json

if TYPE_CHECKING:
    import numpy as np

    from ..documents.words import Word
    from ..finetune import annotate as work

EXAMPLES = """
moshi-mlx annotate recordings
moshi-mlx annotate calls --channel 1 --listens --valid 0.05
"""


def annotate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of recordings.")
    ],
    model: options.RecogniserModel = None,
    adapter: options.Adapter = None,
    listens: Annotated[
        bool,
        typer.Option(
            "--listens",
            help="The recordings are for a model that transcribes: one channel is "
            "enough.",
        ),
    ] = False,
    channel: Annotated[
        int,
        typer.Option(
            "--channel",
            min=0,
            max=1,
            metavar="0|1",
            help="Channel to transcribe: 0 is the left one.",
        ),
    ] = 0,
    valid: Annotated[
        float,
        typer.Option(
            "--valid",
            min=0.0,
            max=0.5,
            metavar="SHARE",
            help="Share of the recordings to evaluate on.",
        ),
    ] = 0.1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing transcripts.")
    ] = False,
    json_: options.Json = False,
) -> None:
    """Transcribe recordings into files beside them, and list them for `finetune`.

    A recording that cannot be learnt from is left out: one that cannot be read, that
    lacks a channel or is silent, whose channels are the same, or in which no words are
    heard. Warnings point out odd levels, clipping and overlapping speech in the others.
    """
    from ..checkpoint.kinds import DEFAULT_STT_REPO
    from ..engines.load import load_stt
    from ..finetune import annotate as work

    files = work.sounds_in(folder)
    name = model or DEFAULT_STT_REPO
    with status(f"loading {name}"):
        stt = load_stt(name, adapter=adapter)

    def hear(pcm: "np.ndarray") -> "list[Word]":
        return list(stt.transcribe(pcm).words)

    found = work.annotate(
        files,
        hear,
        channels=1 if listens else 2,
        channel=channel,
        overwrite=overwrite,
        tell=_told if not json_ else lambda _: None,
    )
    lists = work.write_lists(folder, found, valid, channel if listens else None)
    if json_:
        print_json("annotate", _result(found, lists))
        return
    good = [done for done in found if not done.dropped]
    print(
        f"{len(good)} recordings, {sum(done.duration for done in good) / 60:.1f} min, "
        f"{sum(done.words for done in good)} words; {len(found) - len(good)} dropped; "
        f"listed in {', '.join(map(str, lists))}"
    )


def _told(done: "work.CheckedRecording") -> None:
    """A line for each recording; dropped and odd ones go to standard error."""
    if done.dropped:
        reason = done.dropped.rstrip(".")
        print(make_log("warning", f"{done.path}: dropped, {reason}"), file=sys.stderr)
        return
    print(f"{done.path}: {done.words} words in {done.duration:.1f} s", flush=True)
    for remark in done.remarks:
        print(make_log("info", f"{done.path}: {remark}"), file=sys.stderr)


def _result(
    found: "list[work.CheckedRecording]", lists: list[Path]
) -> dict[str, object]:
    return {
        "recordings": [
            {
                "path": str(done.path),
                "duration_s": done.duration,
                "words": done.words,
                "remarks": done.remarks,
                "dropped": done.dropped,
            }
            for done in found
        ],
        "lists": [str(path) for path in lists],
    }
