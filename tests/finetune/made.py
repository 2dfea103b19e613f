"""Small recordings with words, for the tests beside."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from moshi_mlx.audio.files import write_wav


def sound(seconds: float, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, ``[C, S]``."""
    rng = np.random.default_rng(seed)
    size = round(seconds * 24_000)
    swell = 0.3 * np.sin(np.arange(size) / 9000 + np.arange(channels)[:, None]) ** 2
    return (rng.standard_normal((channels, size)) * swell).astype(np.float32)


def recording(
    folder: Path,
    name: str,
    seconds: float,
    words: list[tuple[str, float, float]] | None = (),  # type: ignore[assignment]
    channels: int = 2,
    seed: int = 0,
    **entry: Any,
) -> dict[str, Any]:
    """Write NAME.wav and NAME.json; its line for a jsonl file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_wav(folder / f"{name}.wav", sound(seconds, channels, seed))
    found = None
    if words is not None:
        found = [[text, [start, end], "SPEAKER_MAIN"] for text, start, end in words]
    (folder / f"{name}.json").write_text(json.dumps({"alignments": found}))
    return {"path": f"{name}.wav", "duration": seconds, **entry}


def listed(file: Path, *entries: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return file
