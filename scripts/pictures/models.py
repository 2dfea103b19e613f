"""What the pictures' commands need beside the demo: recordings, and small models.

Where the demo has no model of a kind, a small random one takes its place: its screen is
that of a real run, and its words mean nothing.
"""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from moshi_mlx.serve.models import family
from tests.family import listening, translating, writing
from tests.finetune.made import listed, recording
from tests.speech import TTS

WORDS = [("hello", 0.3, 0.7), ("there", 0.8, 1.2), ("friend", 1.4, 1.9)]


def in_place(folder: Path, line: str) -> str:
    """The line to type, when what it needs lies in ``folder``."""
    for name, make in MADE.items():
        if f"{{{name}}}" in line:
            line = line.replace(f"{{{name}}}", make(folder))
    return line


def _stt(folder: Path) -> str:
    return family("demo", "stt") or listening(folder / "listener").name


def _tts(folder: Path) -> str:
    if name := family("demo", "tts"):
        return name
    return shutil.copytree(TTS, folder / "speaker").name


def _voices(folder: Path) -> str:
    """A folder of voices, called as Kyutai's are."""
    made = folder / "voices"
    made.mkdir()
    for name in ("calm", "happy", "whisper"):
        voice = f"ex03_{name}_001_channel1.wav.1e68beda@240.safetensors"
        shutil.copy(TTS / "voice_a.wav.1e68beda@240.safetensors", made / voice)
    return made.name


def _recordings(folder: Path) -> str:
    """Three recordings with words, one of them to evaluate on."""
    made = folder / "recordings"
    lines = [recording(made, f"talk{n}", 6.0, WORDS, seed=n) for n in range(3)]
    listed(made / "train.jsonl", *lines[:2])
    listed(made / "valid.jsonl", lines[2])
    return made.name


def _talks(folder: Path) -> str:
    """Recordings of which nobody has written the words down."""
    _recordings(folder)
    for path in (folder / "recordings").glob("*.json*"):
        path.unlink()
    return "recordings"


def _adapters(folder: Path) -> str:
    command = f"moshi-mlx finetune --model demo --data {_recordings(folder)} {TRAIN}"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return "adapters"


TRAIN = "--rank 4 --window 4 --batch-size 1 --iters 6 --steps-per-report 2"
MADE: dict[str, Callable[[Path], str]] = {
    "stt": _stt,
    "tts": _tts,
    "voices": _voices,
    "hibiki": lambda folder: translating(folder / "hibiki").name,
    "helium": lambda folder: writing(folder / "helium").name,
    "recordings": _recordings,
    "talks": _talks,
    "adapters": _adapters,
}
