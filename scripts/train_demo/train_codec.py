"""Train nano Mimi 2, an instance of Kyutai's MimiModel with 4.2M parameters.

The encoder has to carry the words of anybody, so phones are read off its latents, off
the semantic codebook and (over five frames) off all codebooks, in every segment. The
decoder only runs on *spoken* segments. All heads are dropped afterwards.

``mimi.safetensors`` is the mean of the last hundred steps or so in float16, the best
codec at any time; ``last.safetensors`` is what training goes on with.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from codec import FRAME_RATE, Heads, load_mimi, phone_loss
from damage import damage
from loop import Run, options, save_weights
from safetensors.torch import load_file
from shards import FRAME, GRID, SAMPLE_RATE, SILENCE, of_kind
from spectra import MELS_PER_FRAME, buzz, log_mel, spectral_losses
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import default_collate

MEAN = 0.99  # of the weights, kept from one step to the next
FEWER = 0.15  # share of the steps in which only 1 to 6 acoustic codebooks are used
CHECKPOINT = Path(__file__).parent / "checkpoints/codec"
SEGMENT = 39  # frames: 3.12 s
SAMPLES = SEGMENT * FRAME
# Shares of the kinds of speech: of what is spoken, and of what is only heard.
SPOKEN = {"own_answers": 0.16, "own_free": 0.48, "others_free": 0.16}
SPOKEN |= {"kokoro_free": 0.1, "kokoro_known": 0.1}
HEARD = {"kokoro_free": 0.25, "kokoro_known": 0.25, "others_free": 0.42}
HEARD |= {"own_free": 0.08}


class Speech:
    """Batches of segments.

    Two kinds: *spoken* ones, which the decoder has to say again (mostly the assistant's
    voice), and *heard* ones, by anybody and damaged, of which only the phones and the
    clean spectrum have to be in the codes.
    """

    def __init__(self, folder: Path):
        self.rng = np.random.default_rng()
        self.rows = {kind: of_kind(folder, kind) for kind in (SPOKEN | HEARD)}

    def _draw(self, shares: dict[str, float], tempo: float) -> tuple[np.ndarray, ...]:
        """Sound and phones, one per 20 ms, faster (and higher) by ``tempo``."""
        rows = self.rows[self.rng.choice(list(shares), p=list(shares.values()))]
        one = rows[self.rng.integers(len(rows))]
        x, kinds = one.pcm, one.phones
        if tempo != 1:
            n = len(x)
            x = np.interp(np.arange(int(n / tempo)) * tempo, np.arange(n), x)
            at = ((np.arange(len(x) // GRID) + 0.5) * tempo).astype(int)
            kinds = kinds[at.clip(0, len(kinds) - 1)]
        return x.astype(np.float32), kinds

    def segment(self, spoken: bool) -> tuple[np.ndarray, ...]:
        """What is heard, what was clean (both ``[SAMPLES]``), and the phones."""
        rng, shares = self.rng, SPOKEN if spoken else HEARD
        tempo = 1.0 if spoken else float(rng.uniform(0.86, 1.16))
        clean = np.zeros(SAMPLES, np.float32)
        kinds = np.full(SAMPLES // GRID, SILENCE, np.int64)
        x, phones = self._draw(shares, tempo)
        # Start inside the first utterance, or in the silence before it.
        inside = rng.random() < 0.6
        t = -rng.integers(0, len(x) // GRID) if inside else rng.integers(0, 50)
        while t < len(kinds):  # t counts labels, so sound and labels stay together
            first, last = max(0, t), min(len(kinds), t + len(phones))
            if last > first:
                piece = x[(first - t) * GRID : (last - t) * GRID]
                clean[first * GRID : first * GRID + len(piece)] += piece
                kinds[first:last] = phones[first - t : last - t]
            t += len(phones) + int(rng.exponential(0.3) * SAMPLE_RATE / GRID)
            x, phones = self._draw(shares, tempo)
        if not spoken:
            return damage(clean, rng), clean, kinds
        clean *= 10 ** rng.uniform(-0.35, 0.15)
        if rng.random() > 0.3:
            return clean, clean, kinds
        noise = rng.standard_normal(SAMPLES).astype(np.float32)
        return clean + noise * np.float32(10 ** rng.uniform(-4.2, -2.6)), clean, kinds


class Trainer:
    """The codec, its heads, and the losses of one batch."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.begun = (args.out / "last.safetensors").exists()
        self.source = args.out if self.begun else args.init
        self.mimi = load_mimi(self.source, args.device).train()
        self.heads = Heads().to(args.device)
        self.trained: list[nn.Module] = [self.mimi, self.heads]
        if args.decoder:
            self.mimi.eval().requires_grad_(False)
            self.mimi.decode(torch.zeros(1, 8, 1).long().to(args.device))  # buffers
            self.trained = [self.mimi.decoder_transformer, self.mimi.decoder]
            nn.ModuleList(self.trained).requires_grad_(True)
        follow = get_ema_multi_avg_fn(MEAN)
        self.mean = AveragedModel(self.mimi, multi_avg_fn=follow, use_buffers=True)
        self.mean.n_averaged += 1  # it is a mean already
        if self.begun:
            self.mimi.load_state_dict(load_file(args.out / "last.safetensors"))
        heads = torch.load(self.source / "heads.pt", map_location=args.device)
        self.heads.load_state_dict(heads)
        self.speech = Speech(args.speech)

    def losses(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses to add up, and what else to log."""
        spoken, found, extra = self.args.spoken, {}, {}
        count = spoken + self.args.heard
        batch = default_collate([self.speech.segment(i < spoken) for i in range(count)])
        x, clean, kinds = (part.to(self.args.device) for part in batch)
        quantizer, rng = self.mimi.quantizer, self.speech.rng
        fewer = rng.random() < FEWER
        quantizer.rvq_rest.n_q = int(rng.integers(1, 7)) if fewer else 7
        (fine,) = self.mimi.encoder_transformer(self.mimi.encoder(x[:, None]))
        emb = self.mimi._to_framerate(fine)
        first, rest = (
            chain(emb, FRAME_RATE)
            for chain in (quantizer.rvq_first, quantizer.rvq_rest)
        )
        found["commit"] = 0.25 * (first.penalty + rest.penalty)
        emb = first.x + rest.x
        before = F.pad(kinds, (1, 0))[:, :-1]  # 10 ms before a frame, and 30 ms in it
        two = torch.stack([before[:, ::4], kinds[:, 1::4]], 2).flatten(1)
        tests = {
            "latent": (0.15, self.heads.latent(fine), kinds[:, ::2]),
            "semantic": (0.3, self.heads.semantic(first.x), two),
            "full": (0.3, self.heads.full(emb), kinds),
        }
        for name, (weight, logits, goal) in tests.items():
            loss, extra[f"{name}_acc"] = phone_loss(logits, goal)
            found[name] = weight * loss
        mel = log_mel(clean, MELS_PER_FRAME)
        found["melq"] = 0.7 * (self.heads.mel(emb) - mel).abs().mean()
        target = clean[:spoken]
        emb = self.mimi._to_encoder_framerate(emb[:spoken])
        (emb,) = self.mimi.decoder_transformer(emb)
        out = self.mimi.decoder(emb)[:, 0, : target.shape[-1]]
        mel = log_mel(target, MELS_PER_FRAME // 2)
        found["meld"] = 0.5 * (self.heads.mel2(emb) - mel).abs().mean()
        found |= spectral_losses(out, target)
        found["wave"] = 0.1 * (out - target).abs().mean()
        found["buzz"] = 0.2 * buzz(out)
        return found, extra

    def save(self, out: Path) -> None:
        save_weights(self.mean.module, out / "mimi.safetensors", torch.float16)
        save_weights(self.mimi, out / "last.safetensors")
        torch.save(self.heads.state_dict(), out / "heads.pt")
        if not self.begun:
            shutil.copy(self.source / "mimi_config.json", out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    parser.set_defaults(out=Path("codec"), init=CHECKPOINT)
    option = parser.add_argument
    option("--speech", type=Path, default=Path("speech"), help="folder of shards")
    option("--lr", type=float, default=8e-4)
    option("--spoken", type=int, default=2, help="segments to decode")
    option("--heard", type=int, default=3, help="segments only to encode")
    option("--decoder", action="store_true", help="alone: codes stay what they are")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    trainer = Trainer(args)
    adam = {"betas": (0.8, 0.98), "weight_decay": 1e-3}
    run = Run(args, trainer.trained, trainer.save, **adam)
    trainer.speech.rng = np.random.default_rng([args.seed, run.steps])
    for fraction in run.fractions():
        run.step(fraction, *trainer.losses())
        trainer.mean.update_parameters(trainer.mimi)


if __name__ == "__main__":
    main()
