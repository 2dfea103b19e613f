"""What the codec's sound is compared by: magnitudes and log-mel energies."""

import math
from functools import cache

import numpy as np
import torch
from scipy.signal import firwin
from shards import FRAME, SAMPLE_RATE
from torch import Tensor
from torch.nn import functional as F

EPS = 2e-3  # some 54 dB under the loudest bins: quieter detail is not worth capacity
SIZES = (2048, 1024, 512, 256)  # of the transforms, in samples
MELS = {1024: 80, 512: 60, 256: 30}  # bands, for the transforms that have them
MEL_SIZE, MEL_HOP = 512, 240  # samples: what the heads are to predict, every 10 ms
BANDS = MELS[MEL_SIZE]
MELS_PER_FRAME = FRAME // MEL_HOP


@cache
def mel_matrix(n_fft: int, device: torch.device) -> Tensor:
    """Triangular filters ``[bands, n_fft // 2 + 1]``, HTK scale, 40 Hz to 10 kHz, rows
    that sum to 1."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (40, 10_000))
    edges = 700 * (10 ** (np.linspace(low, high, MELS[n_fft] + 2) / 2595) - 1)
    hz = np.arange(n_fft // 2 + 1) * SAMPLE_RATE / n_fft
    widths = np.diff(edges)
    up = (hz - edges[:-2, None]) / widths[:-1, None]
    down = (edges[2:, None] - hz) / widths[1:, None]
    filters = np.maximum(0, np.minimum(up, down))
    away = np.abs(hz - edges[1:-1, None]) / (SAMPLE_RATE / n_fft)
    filters += 1e-3 * np.exp(-away)  # no empty row at the low end
    rows = filters.sum(1, keepdims=True)
    return torch.from_numpy((filters / rows).astype(np.float32)).to(device)


def magnitude(x: Tensor, n: int, hop: int, center: bool = True) -> Tensor:
    """Of sound ``[B, S]``: ``[B, n // 2 + 1, T]``."""
    window = torch.hann_window(n, device=x.device)
    spectrum = torch.stft(x, n, hop, window=window, center=center, return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)
    return (power + 1e-8).sqrt() / math.sqrt(n)


def log_distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a + EPS).log() - (b + EPS).log()).abs().mean()


def spectral_losses(found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """Distances of two sounds ``[B, S]`` at several resolutions: linear and logarithmic
    magnitudes, and log-mel energies."""
    linear, log, mel = [], [], []
    for n in SIZES:
        a, b = (magnitude(x, n, n // 4) for x in (found, wanted))
        linear.append((a - b).abs().mean())
        log.append(log_distance(a, b))
        if n in MELS:
            filters = mel_matrix(n, found.device)
            mel.append(log_distance(filters @ a, filters @ b))
    return {
        "lin": 4 * sum(linear) / len(linear),
        "log": sum(log) / len(log),
        "mel": 2 * sum(mel) / len(mel),
    }


def buzz(x: Tensor) -> Tensor:
    """Of sound ``[B, S]``: how far the lines of its envelope at 75, 100, 125... Hz
    stand out, in nats. They come from the strides of the decoder."""
    taps = firwin(65, (2500, 9000), pass_zero=False, fs=SAMPLE_RATE)[None, None]
    high = F.conv1d(x[:, None], torch.tensor(taps).to(x))[:, 0]
    envelope = (high.square() + 1e-9).sqrt().unfold(-1, 9600, 4800)
    mean = envelope.mean(-1, keepdim=True)
    changes = (envelope / (mean + 1e-4) - 1) * (mean > 3e-4)
    spectrum = torch.fft.rfft(changes * torch.hann_window(9600, device=x.device))
    power = torch.view_as_real(spectrum).square().sum(-1).mean((0, 1))
    lines = torch.arange(30, 4800, 10)  # of bins of 2.5 Hz
    near = torch.tensor([-6, -5, -4, -3, 3, 4, 5, 6])
    others = power[lines[:, None] + near].mean(1)
    return F.relu((power[lines] / (others + 1e-6) + 1e-3).log()).mean()


@torch.no_grad()
def log_mel(x: Tensor, per_column: int) -> Tensor:
    """Sound ``[B, S]`` to ``[B, per_column * 60, S / 240 / per_column]``."""
    frames = x.shape[-1] // FRAME
    x = F.pad(x, (MEL_SIZE // 2, MEL_SIZE // 2))
    mel = mel_matrix(MEL_SIZE, x.device) @ magnitude(x, MEL_SIZE, MEL_HOP, False)
    mel = (mel + EPS).log()[..., : frames * MELS_PER_FRAME]
    mel = mel.unflatten(2, (-1, per_column))  # [B, bands, columns, in each]
    return mel.permute(0, 3, 1, 2).flatten(1, 2)
