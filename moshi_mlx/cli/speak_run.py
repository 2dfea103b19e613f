"""What `moshi-mlx speak` does once its model is loaded: one text, or many scripts."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .console import RawPrinter, make_log, progress


def speak_one(
    tts: Any,
    source: Any,
    voices: list[str] | None,
    speech: dict[str, Any],
    files: tuple[Path | None, Path | None, tuple[str | None] | None],
) -> dict[str, Any]:
    """Say one text; returns what came of it.

    Args:
        files: sound file, file of words, and (loudspeaker,) to play on.
    """
    from ..audio.files import WavWriter
    from ..engines.tts import DEFAULT_VOICE
    from ..engines.tts.texts import spoken, write_words
    from ..live.devices import Player

    out, words, play = files
    rate = int(tts.mimi.sample_rate)
    session = tts.session(voices or [DEFAULT_VOICE], **speech)
    dialogue = len(voices or []) > 1
    first_s, samples, sinks = None, 0, []
    with ExitStack() as stack:
        if words is not None:  # also of what was said before Ctrl-C
            stack.callback(lambda: session.words and write_words(words, session.words))
        started = time.perf_counter()
        for pcm in spoken(session, source, dialogue):
            if first_s is None:
                first_s = time.perf_counter() - started
                if out is not None:  # a text that cannot be said overwrites nothing
                    sinks.append(stack.enter_context(WavWriter(out, 1, rate)).write)
                if play is not None:
                    sinks.append(stack.enter_context(Player(*play)).play)
            samples += len(pcm)
            for sink in sinks:
                sink(pcm)
        wall_s = time.perf_counter() - started
    summary = {
        "output": None if out is None else str(out),
        "words": [vars(word) for word in session.words],
        "audio_s": round(samples / rate, 3),
        "wall_s": round(wall_s, 3),
        "first_sound_s": round(first_s or 0.0, 3),
        "times_real_time": round(samples / rate / wall_s, 2),
    }
    RawPrinter().log(
        "info",
        f"{summary['audio_s']:.1f} s of speech in {wall_s:.1f} s "
        f"({summary['times_real_time']} x real time), the first sound after "
        f"{summary['first_sound_s']:.2f} s",
    )
    return summary


def speak_all(
    tts: Any,
    text: str,
    folder: Path,
    batch_size: int,
    settings: tuple[float, int, bool, int | None, dict[str, Any]],
) -> dict[str, Any]:
    """Say the scripts of a JSONL text; those that fail are named by line."""
    from ..audio.files import make_folder
    from ..engines.tts.scripts import Failure, Reader, Request, read_requests

    found = list(read_requests(text))
    requests = [r for r in found if isinstance(r, Request)]
    failures = [f for f in found if isinstance(f, Failure)]
    make_folder(folder)
    reader = Reader(tts, folder, *settings)
    written: list[str] = []
    with progress("speaking", len(requests)) as advance:
        for result in reader.say(requests, batch_size):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                written.append(str(result))
            advance(1)
    for path in written:
        print(make_log("info", f"saved {path}"), file=sys.stderr)
    for failure in sorted(failures, key=lambda f: f.line):
        line = f"line {failure.line}: {failure.reason}"
        print(make_log("error", line), file=sys.stderr)
    return {"outputs": written, "failures": [vars(failure) for failure in failures]}
