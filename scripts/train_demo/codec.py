"""nano Mimi 2: an instance of Kyutai's MimiModel, and the heads of its training."""

import json
from pathlib import Path

import numpy as np
import torch
from moshi.models import loaders
from moshi.models.compression import MimiModel
from shards import FRAME, SAMPLE_RATE, UNKNOWN
from spectra import BANDS, MELS_PER_FRAME
from torch import Tensor, nn
from torch.nn import functional as F

DIM = 128
FRAME_RATE = SAMPLE_RATE / FRAME
KINDS = 98  # phones of the synthesisers' alphabet, 0 for silence


class Heads(nn.Module):
    """What only training looks at: phones and spectra, read off the latents."""

    def __init__(self) -> None:
        super().__init__()
        mels = MELS_PER_FRAME * BANDS
        self.latent = nn.Conv1d(DIM, KINDS, 1)  # of 25 latents a second
        self.semantic = nn.Conv1d(DIM, 2 * KINDS, 1)  # two a frame
        self.full = nn.Sequential(
            nn.Conv1d(DIM, 384, 5, padding=2), nn.GELU(), nn.Conv1d(384, 4 * KINDS, 1)
        )  # four a frame, from five frames
        self.mel = nn.Conv1d(DIM, mels, 1)
        self.mel2 = nn.Conv1d(DIM, mels // 2, 1)


def phone_loss(logits: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``[B, n * KINDS, T]`` and ``[B, n * T]``; and the share of right ones."""
    b, _, t = logits.shape
    logits = logits.view(b, -1, KINDS, t).permute(0, 2, 3, 1).reshape(b, KINDS, -1)
    loss = F.cross_entropy(logits, kinds, ignore_index=UNKNOWN)
    with torch.no_grad():
        real = kinds > 0
        right = ((logits.argmax(1) == kinds) & real).sum()
        return loss, right / real.sum().clamp(min=1)


def load_mimi(folder: Path, device: str = "cpu") -> MimiModel:
    """8 codebooks."""
    config = json.loads((folder / "mimi_config.json").read_text())
    weights = folder / "mimi.safetensors"
    return loaders.get_mimi(weights, config, device=device, num_codebooks=8)


@torch.no_grad()
def encode(mimi: MimiModel, x: np.ndarray) -> np.ndarray:
    """Codes int16 ``[8, T]`` of floats ``[S]``, in whole frames."""
    return mimi.encode(torch.from_numpy(x)[None, None])[0].numpy().astype(np.int16)


@torch.no_grad()
def decode(mimi: MimiModel, codes: np.ndarray) -> np.ndarray:
    """Floats ``[S]`` of codes ``[8, T]``."""
    return mimi.decode(torch.from_numpy(codes.astype(np.int64))[None])[0, 0].numpy()
