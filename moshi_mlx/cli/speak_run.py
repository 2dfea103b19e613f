"""The output of `moshi-mlx speak`, for one text or for many."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .console import RawPrinter, make_log, progress
from .outputs import Json
from .shares import my_share

if TYPE_CHECKING:
    from functools import partial

    from ..engines.tts.script_file import Failure
    from ..engines.tts.session import Pcm
    from ..engines.tts.texts import SpokenText


def speak_one(
    speak: "partial[SpokenText]", play: tuple[str | None] | None = None
) -> Json:
    """Speak one text; returns the result.

    Args:
        speak: ``TTSModel.speak`` with the text and everything else but ``on_frame``.
        play: (loudspeaker,) to play on.
    """
    from ..live.devices import Player

    with ExitStack() as stack:
        player: Player | None = None

        def heard(pcm: "Pcm") -> None:
            nonlocal player
            if play is not None and player is None:  # only once there is sound
                player = stack.enter_context(Player(*play))
            if player is not None:
                player.play(pcm)

        done = speak(on_frame=heard)
    RawPrinter().log(
        "info",
        f"{done.audio_s:.1f} s of speech in {done.wall_s:.1f} s "
        f"({done.times_real_time:.2f} x real time), the first sound after "
        f"{done.first_sound_s:.2f} s",
    )
    return {
        "output": None if done.path is None else str(done.path),
        "words": [vars(word) for word in done.words],
        "audio_s": round(done.audio_s, 3),
        "wall_s": round(done.wall_s, 3),
        "first_sound_s": round(done.first_sound_s, 3),
        "times_real_time": round(done.times_real_time, 2),
    }


def speak_all(say: "partial[list[Path | Failure]]", data: bytes, folder: Path) -> Json:
    """Speak the scripts of a JSONL file; failed ones are named by line.

    Args:
        say: ``TTSModel.say_scripts`` with everything but scripts, folder and
            ``on_result``.
    """
    from ..audio.files import make_folder
    from ..engines.tts.script_file import Failure, read_scripts

    scripts = my_share(list(read_scripts(data)))
    make_folder(folder)
    written: list[str] = []
    failures: list[Failure] = []
    with progress("speaking", len(scripts)) as advance:

        def result(done: "Path | Failure") -> None:
            if isinstance(done, Failure):
                failures.append(done)
            else:
                written.append(str(done))
            advance(1)

        say(scripts, folder, on_result=result)
    for path in written:
        print(make_log("info", f"saved {path}"), file=sys.stderr)
    for failure in sorted(failures, key=lambda f: f.line):
        line = f"line {failure.line}: {failure.reason}"
        print(make_log("error", line), file=sys.stderr)
    return {"outputs": written, "failures": [vars(failure) for failure in failures]}
