"""Make the documentation's pictures: every command run with the demo, its screen drawn.

    .venv/bin/python scripts/pictures [NAME...]     all, or docs/pictures/NAME.svg

Needs what .ci/run installs (PulseAudio for `chat`, Chromium for `page`), and a machine
with nothing else to do: the times in the pictures are those of the run.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
from browser import photograph  # noqa: E402
from models import TRAIN, in_place  # noqa: E402
from terminal import LIVE, draw, record  # noqa: E402

import moshi_mlx  # noqa: E402

if TYPE_CHECKING:
    from pyte import Screen

PICTURES = ROOT / "docs" / "pictures"
QUESTIONS = Path(moshi_mlx.__file__).parent / "demo" / "questions"
BIN = Path(sys.executable).parent  # not resolved: a virtual environment's own

# What is typed, by the picture's name. Each runs in a folder that holds question.wav,
# and what models.py puts there for the names in braces.
LINES = {
    "help": "moshi-mlx --help",
    "chat": "moshi-mlx chat --model demo --temp 0 --device-buffer 200",
    "respond": "moshi-mlx respond --model demo question.wav reply.wav --seed 1",
    "info": "moshi-mlx info demo",
    "doctor": "moshi-mlx doctor",
    "bench": "moshi-mlx bench --model demo",
    "transcribe": "moshi-mlx transcribe question.wav --model {stt}",
    "speak": "moshi-mlx speak Hello. --model {tts} -o hello.wav",
    "voices": "moshi-mlx voices --model {speaker} --voice-repo {voices}",
    "codec": "moshi-mlx codec encode question.wav --model demo --codebooks 8",
    "annotate": "moshi-mlx annotate {talks} --model {stt} --listens",
    "finetune": f"moshi-mlx finetune --model demo --data {{recordings}} {TRAIN}",
    "fuse": "moshi-mlx fuse --model demo --adapter-path {adapters} --save-path mine",
    "quantize": "moshi-mlx quantize {hibiki} hibiki-q8 --recipe q8g32",
    "convert": "moshi-mlx convert {hibiki} hibiki-mlx",
}
SERVE = "moshi-mlx serve --model demo --port 0 --no-browser"
SOUND = ("chat", "doctor")  # these want a microphone and a loudspeaker
ASKED_S = 8.0  # into `chat`, when the question is spoken
TAKEN_S = 17.0  # when its picture is taken
RATE = 24_000  # Hz


def main() -> None:
    names = sys.argv[1:] or [*LINES, "page"]
    os.environ["PATH"] = f"{BIN}:{os.environ['PATH']}"
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            shutil.copy(QUESTIONS / "planet.wav", folder / "question.wav")
            if name == "page":
                photograph(SERVE.split(), folder / "question.wav", folder, PICTURES)
            else:
                line = in_place(folder, LINES[name])
                if line is None:
                    print(f"{name}: left out, the demo has no such model")
                    continue
                screen = (_with_sound if name in SOUND else _alone)(name, line, folder)
                draw(screen, PICTURES / f"{name}.svg", line)
        print(name)


def _alone(_name: str, line: str, folder: Path) -> "Screen":
    return record(line.split(), folder)


def _with_sound(name: str, typed: str, folder: Path) -> "Screen":
    """Somebody asks, and the loudspeaker answers: both are PulseAudio's."""
    from tests.sound_devices.pulse import Pulse

    pulse = Pulse()
    line = typed.split()
    try:
        question = moshi_mlx.audio.read(folder / "question.wav", RATE)[0]
        before, after = int(ASKED_S * RATE), int(TAKEN_S * RATE)
        room = np.random.default_rng(0).normal(0, 5e-5, before + after)  # a quiet one
        room[before : before + len(question)] += question
        pulse.say(room.astype(np.float32), wait=False)
        if name == "doctor":
            return record(line, folder, env=pulse.env)
        return record(
            line, folder, env=pulse.env, rows=LIVE, seconds=TAKEN_S, keys=b"q"
        )
    finally:
        pulse.close()


if __name__ == "__main__":
    main()
