"""Train nano Mimi 2, an instance of Kyutai's MimiModel with 4.2M parameters.

    python train_codec.py --minutes 110 --init checkpoints/codec --out codec

The encoder has to carry the words of anybody, so phones are read off its latents, off
the semantic codebook and (over five frames) off all codebooks, in every segment. The
decoder only runs on *spoken* segments. All heads are dropped afterwards.

``mimi.safetensors`` is the mean of the last hundred steps or so, the best codec at any
time; ``last.safetensors`` is what training goes on with.
"""

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch
from codec import CONFIG, FRAME_RATE, Heads, decode, latents, phone_loss
from codec_data import Speech
from loop import Run, options, save_weights
from moshi.models import loaders
from safetensors.torch import load_file
from spectra import MELS_PER_FRAME, LogMel, SpectralLoss
from torch import Tensor
from torch.nn import functional as F

Named = dict[str, Tensor]
MEAN = 0.99  # of the weights, kept from one step to the next
FEWER = 0.15  # share of the steps in which only 1 to 6 acoustic codebooks are used


class Trainer:
    """The codec, its heads, and the losses of one batch."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        weights, folder = args.out / "last.safetensors", args.out
        if not weights.exists():
            weights, folder = args.init / "mimi.safetensors", args.init
        self.mimi = loaders.get_mimi(
            weights, CONFIG, device=args.device, num_codebooks=8
        )
        self.heads = Heads().to(args.device)
        self.heads.load_state_dict(
            torch.load(folder / "heads.pt", map_location=args.device)
        )
        self.mean = copy.deepcopy(self.mimi)
        self.mean.load_state_dict(load_file(folder / "mimi.safetensors"))
        self.mimi.train()
        self.trained = [*self.mimi.parameters(), *self.heads.parameters()]
        self.speech = Speech(args.speech, args.seed, args.others)
        self.spectral, self.log_mel = SpectralLoss(args.device), LogMel(args.device)
        self.shared = np.random.default_rng(args.seed)

    def prepare(self) -> None:
        """Before a step: how many codebooks are used."""
        fewer = self.shared.random() < FEWER
        last = int(self.shared.integers(1, 7)) if fewer else 7
        self.mimi.quantizer.rvq_rest.n_q = last

    def losses(self, amp: bool) -> tuple[Named, Named]:
        """Losses to add up, and what else to log."""
        spoken, found, extra = self.args.spoken, {}, {}
        batch = self.speech.batch(spoken, self.args.heard)
        x, clean, kinds = (part.to(self.args.device) for part in batch)
        fine, emb = latents(self.mimi, x, amp)
        quantizer = self.mimi.quantizer
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
        mel = self.log_mel(clean[:, 0], MELS_PER_FRAME)
        found["melq"] = 0.7 * (self.heads.mel(emb) - mel).abs().mean()
        target = clean[:spoken]
        out, emb = decode(self.mimi, emb[:spoken], target.shape[-1], amp)
        mel = self.log_mel(target[:, 0], MELS_PER_FRAME // 2)
        found["meld"] = 0.5 * (self.heads.mel2(emb) - mel).abs().mean()
        found |= self.spectral(out[:, 0], target[:, 0])
        found["wave"] = 0.1 * (out - target).abs().mean()
        return found, extra

    @torch.no_grad()
    def follow(self) -> None:
        """After a step: the mean of the weights."""
        mean = self.mean.state_dict()
        for name, value in self.mimi.state_dict().items():
            if value.is_floating_point():
                mean[name].lerp_(value, 1 - MEAN)
            else:
                mean[name].copy_(value)

    def save(self, out: Path) -> None:
        save_weights(self.mean, out / "mimi.safetensors")
        save_weights(self.mimi, out / "last.safetensors")
        (out / "mimi_config.json").write_text(json.dumps(CONFIG, indent=1))
        torch.save(self.heads.state_dict(), out / "heads.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    checkpoint = Path(__file__).parent / "checkpoints/codec"
    parser.set_defaults(out=Path("codec"), init=checkpoint)
    option = parser.add_argument
    option("--speech", type=Path, default=Path("speech"), help="folder of shards")
    option("--lr", type=float, default=8e-4)
    option("--spoken", type=int, default=2, help="segments to decode")
    option("--heard", type=int, default=3, help="segments only to encode")
    option("--others", type=float, default=0.4, help="of spoken: not the assistant's")
    option("--half", type=float, default=0.8, help="share of the time with bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    trainer = Trainer(args)
    adam = {"lr": args.lr, "betas": (0.8, 0.98), "weight_decay": 1e-3}
    optimizer = torch.optim.AdamW(trainer.trained, **adam)
    run = Run(args, trainer.trained, optimizer, trainer.save)
    trainer.speech.rng = np.random.default_rng([args.seed, run.steps])
    for fraction in run.fractions():
        trainer.prepare()
        run.step(fraction, *trainer.losses(amp=fraction < args.half))
        trainer.follow()


if __name__ == "__main__":
    main()
