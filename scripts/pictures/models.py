"""What the pictures' commands need beside the demo: recordings, voices, a model."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from moshi_mlx.serve.models import family
from tests.family import translating
from tests.finetune.made import listed, recording
from tests.speech import TTS

WORDS = [("hello", 0.3, 0.7), ("there", 0.8, 1.2), ("friend", 1.4, 1.9)]


def in_place(folder: Path, line: str) -> str | None:
    """The line to type, when what it needs lies in ``folder``.

    None if the demo has no model of that kind: random words are no picture.
    """
    for name, make in MADE.items():
        if f"{{{name}}}" in line:
            made = make(folder)
            if made is None:
                return None
            line = line.replace(f"{{{name}}}", made)
    return line


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
    made = folder / "recordings"
    made.mkdir()
    for name in ("first", "second"):
        shutil.copy(folder / "question.wav", made / f"{name}.wav")
    return made.name


def _adapters(folder: Path) -> str:
    command = f"moshi-mlx finetune --model demo --data {_recordings(folder)} {TRAIN}"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return "adapters"


TRAIN = "--window 4 --iters 20 --rank 4"
MADE: dict[str, Callable[[Path], str | None]] = {
    "stt": lambda _: family("demo", "stt"),
    "tts": lambda _: family("demo", "tts"),
    "speaker": lambda folder: shutil.copytree(TTS, folder / "speaker").name,
    "voices": _voices,
    "hibiki": lambda folder: translating(folder / "hibiki").name,
    "recordings": _recordings,
    "talks": _talks,
    "adapters": _adapters,
}
