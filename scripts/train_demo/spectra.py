"""What the codec's sound is compared by: magnitudes and log-mel energies."""

import math

import numpy as np
import torch
from shards import FRAME, SAMPLE_RATE
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 2e-3  # some 54 dB under the loudest bins: quieter detail is not worth capacity
SIZES = (2048, 1024, 512, 256)  # of the transforms, in samples
BANDS = {1024: 80, 512: 60, 256: 30}  # mel bands, for the transforms that have them
MEL_HOP = 240  # samples: 10 ms
MELS_PER_FRAME = FRAME // MEL_HOP


def mel_matrix(n_fft: int, n_mels: int) -> Tensor:
    """Triangular filters ``[n_mels, n_fft // 2 + 1]``, HTK scale, 40 Hz to 10 kHz, rows
    that sum to 1."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (40, 10_000))
    edges = 700 * (10 ** (np.linspace(low, high, n_mels + 2) / 2595) - 1)
    hz = np.arange(n_fft // 2 + 1) * SAMPLE_RATE / n_fft
    widths = np.diff(edges)
    up = (hz - edges[:-2, None]) / widths[:-1, None]
    down = (edges[2:, None] - hz) / widths[1:, None]
    filters = np.maximum(0, np.minimum(up, down))
    away = np.abs(hz - edges[1:-1, None]) / (SAMPLE_RATE / n_fft)
    filters += 1e-3 * np.exp(-away)  # no empty row at the low end
    rows = filters.sum(1, keepdims=True)
    return torch.from_numpy((filters / rows).astype(np.float32))


class SpectralLoss(nn.Module):
    """Distance of two sounds ``[B, S]`` at several resolutions: linear and logarithmic
    magnitudes, and log-mel energies."""

    def __init__(self, device: str):
        super().__init__()
        self.windows = {n: torch.hann_window(n, device=device) for n in SIZES}
        self.filters = {n: mel_matrix(n, m).to(device) for n, m in BANDS.items()}

    def magnitude(self, x: Tensor, n: int) -> Tensor:
        spectrum = torch.stft(x, n, n // 4, window=self.windows[n], return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (power + 1e-8).sqrt() / math.sqrt(n)

    def forward(self, found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        linear, log, mel = [], [], []
        for n in SIZES:
            a = self.magnitude(found, n)
            with torch.no_grad():
                b = self.magnitude(wanted, n)
            linear.append((a - b).abs().mean())
            log.append(_log_distance(a, b))
            if n in self.filters:
                mel.append(_log_distance(self.filters[n] @ a, self.filters[n] @ b))
        return {
            "lin": 4 * sum(linear) / len(linear),
            "log": sum(log) / len(log),
            "mel": 2 * sum(mel) / len(mel),
        }


def _log_distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a + EPS).log() - (b + EPS).log()).abs().mean()


class LogMel(nn.Module):
    """What the training-only mel heads are to predict: 60 bands every 10 ms."""

    BANDS = 60
    SIZE = 512

    def __init__(self, device: str):
        super().__init__()
        self.window = torch.hann_window(self.SIZE, device=device)
        self.filters = mel_matrix(self.SIZE, self.BANDS).to(device)

    @torch.no_grad()
    def forward(self, x: Tensor, per_column: int) -> Tensor:
        """Sound ``[B, S]`` to ``[B, per_column * 60, S / 240 / per_column]``."""
        x = F.pad(x, (self.SIZE // 2, self.SIZE // 2))
        spectrum = torch.stft(
            x,
            self.SIZE,
            MEL_HOP,
            window=self.window,
            center=False,
            return_complex=True,
        )
        mel = self.filters @ (spectrum.abs() / math.sqrt(self.SIZE))
        frames = (x.shape[-1] - self.SIZE) // FRAME
        mel = (mel + EPS).log()[..., : frames * MELS_PER_FRAME]
        b, bands, t = mel.shape
        mel = mel.view(b, bands, t // per_column, per_column)
        return mel.permute(0, 3, 1, 2).reshape(b, per_column * bands, -1)
