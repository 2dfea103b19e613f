"""nano Mimi 2: an instance of Kyutai's MimiModel, and the heads of its training."""

import json
from pathlib import Path

import numpy as np
import torch
from codec_data import UNKNOWN
from moshi.models import loaders
from moshi.models.compression import MimiModel
from shards import FRAME, SAMPLE_RATE
from spectra import MELS_PER_FRAME, LogMel
from torch import Tensor, nn
from torch.nn import functional as F

DIM = 128
FRAME_RATE = SAMPLE_RATE / FRAME
KINDS = 98  # phones of the synthesisers' alphabet, 0 for silence
CONFIG = json.loads(
    (Path(__file__).parent / "checkpoints/codec/mimi_config.json").read_text()
)


class Heads(nn.Module):
    """What only training looks at: phones and spectra, read off the latents."""

    def __init__(self) -> None:
        super().__init__()
        mels = MELS_PER_FRAME * LogMel.BANDS
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


def latents(mimi: MimiModel, x: Tensor, amp: bool = False) -> tuple[Tensor, Tensor]:
    """Of sound ``[B, 1, S]``: 25 latents a second and, of these, frames."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=amp):
        emb = mimi.encoder(x)
    (emb,) = mimi.encoder_transformer(emb.float())
    return emb, mimi._to_framerate(emb)


def decode(mimi: MimiModel, emb: Tensor, samples: int, amp: bool) -> tuple[Tensor, ...]:
    """Sound of quantised frames, and the decoder's latents."""
    (emb,) = mimi.decoder_transformer(mimi._to_encoder_framerate(emb))
    with torch.autocast(emb.device.type, torch.bfloat16, enabled=amp):
        return mimi.decoder(emb)[..., :samples].float(), emb


def load_mimi(folder: Path, codebooks: int = 8) -> MimiModel:
    config = json.loads((folder / "mimi_config.json").read_text())
    weights = folder / "mimi.safetensors"
    return loaders.get_mimi(weights, config, num_codebooks=codebooks)


@torch.no_grad()
def encode_all(
    mimi: MimiModel, sounds: list[np.ndarray], batch: int = 16
) -> list[np.ndarray]:
    """Codes int16 ``[8, T]`` of floats ``[S]``, each in whole frames.

    Sounds of like length are padded to one batch, which is safe: the codec is causal.
    """
    order = sorted(range(len(sounds)), key=lambda i: len(sounds[i]))
    codes = [np.empty((8, 0), np.int16)] * len(sounds)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        x = torch.zeros(len(rows), 1, max(len(sounds[i]) for i in rows))
        for row, i in enumerate(rows):
            x[row, 0, : len(sounds[i])] = torch.from_numpy(sounds[i])
        found = mimi.encode(x).numpy().astype(np.int16)
        for row, i in enumerate(rows):
            codes[i] = found[row, :, : len(sounds[i]) // FRAME]
    return codes
