"""Train nano Mimi 2, an instance of Kyutai's MimiModel with 4.2M parameters.

    python train_codec.py --minutes 110 --init checkpoints/codec --out codec
    python train_codec.py --minutes 30 --init codec --decoder-only --out codec_dec

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
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.quantization.core_vq import _run_kmeans
from safetensors.torch import load_file
from spectra import MELS_PER_FRAME, LogMel, SpectralLoss
from team import Run, Team, launch, options, save_weights
from torch import Tensor, nn
from torch.nn import functional as F

UNQUANTISED = 0.12  # share of the time, where a codec starts from nothing
Named = dict[str, Tensor]
MEAN = 0.99  # of the weights, kept from one step to the next
FEWER = 0.15  # share of the steps in which only 1 to 6 acoustic codebooks are used


class Trainer:
    """The codec, its heads, and the losses of one batch."""

    def __init__(self, team: Team, args: argparse.Namespace):
        self.team, self.args = team, args
        weights, folder = args.out / "last.safetensors", args.out
        if not weights.exists():
            folder = args.init
            weights = folder and folder / "mimi.safetensors"
        self.mimi = loaders.get_mimi(
            weights, CONFIG, device=args.device, num_codebooks=8
        )
        self.heads = Heads().to(args.device)
        if folder:
            heads = torch.load(folder / "heads.pt", map_location=args.device)
            self.heads.load_state_dict(heads)
        self.mean = copy.deepcopy(self.mimi)
        if folder == args.out:
            self.mean.load_state_dict(load_file(folder / "mimi.safetensors"))
        self.mimi.train()
        self.trained = [*self.mimi.parameters(), *self.heads.parameters()]
        if args.decoder_only:
            self._freeze_encoder()
        team.share(self.trained)
        self.speech = Speech(args.speech, team.rank, args.others)
        self.spectral, self.log_mel = SpectralLoss(args.device), LogMel(args.device)
        self.quantised = bool(folder)
        self.shared = np.random.default_rng(args.seed)  # the same in every process

    def _freeze_encoder(self) -> None:
        for parameter in self.trained:
            parameter.requires_grad_(False)
        self.mimi.quantizer.eval()
        parts = (self.mimi.upsample, self.mimi.decoder_transformer, self.mimi.decoder)
        self.trained = [p for part in parts for p in part.parameters()]
        self.trained += self.heads.mel2.parameters()
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def _chains(self) -> tuple[nn.Module, nn.Module]:
        return self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest

    def prepare(self, fraction: float, steps: int) -> None:
        """Before a step: codebooks at their time, how many are used, new speech."""
        if not self.quantised and fraction > UNQUANTISED:
            self.quantised = True
            if self.team.leads:
                init_codebooks(self.mimi, self.speech, self._chains())
            for module in self.mimi.quantizer.modules():
                if hasattr(module, "_embedding"):
                    module.register_buffer("_embedding", None)
                    module._next_unused_check = 5
            self.team.share(self.mimi.quantizer.buffers())
        early = fraction < 0.4 and not self.args.init
        for chain in self._chains():
            chain.no_quantization_rate = 0.2 if early else 0.0
        whole = self.args.decoder_only or not self.quantised
        fewer = not whole and self.shared.random() < FEWER
        last = int(self.shared.integers(1, 7)) if fewer else 7
        self.mimi.quantizer.rvq_rest.n_q = last
        if steps % 100 == 0:
            self.speech.shards.refresh()

    def losses(self, amp: bool) -> tuple[Named, Named]:
        """Losses to add up, and what else to log."""
        args, found, extra = self.args, {}, {}
        batch = self.speech.batch(args.spoken, 0 if args.decoder_only else args.heard)
        x, clean, kinds = (part.to(args.device) for part in batch)
        if args.decoder_only:
            with torch.no_grad():
                codes = self.mimi.quantizer.encode(latents(self.mimi, x)[1])
                emb = self.mimi.quantizer.decode(codes)
        else:
            emb = self._encode(x, clean, kinds, amp, found, extra)
        target = clean[: args.spoken]
        out, emb = decode(self.mimi, emb[: args.spoken], target.shape[-1], amp)
        mel = self.log_mel(target[:, 0], MELS_PER_FRAME // 2)
        found["meld"] = 0.5 * (self.heads.mel2(emb) - mel).abs().mean()
        found |= self.spectral(out[:, 0], target[:, 0])
        found["wave"] = 0.1 * (out - target).abs().mean()
        return found, extra

    def _encode(
        self,
        x: Tensor,
        clean: Tensor,
        kinds: Tensor,
        amp: bool,
        found: dict,
        extra: dict,
    ) -> Tensor:
        """Quantised frames; adds the losses of the encoder to ``found``."""
        fine, emb = latents(self.mimi, x, amp)
        if self.quantised:
            first, rest = (chain(emb, FRAME_RATE) for chain in self._chains())
            found["commit"] = 0.25 * (first.penalty + rest.penalty)
            semantic, emb = first.x, first.x + rest.x
        else:
            semantic, rest = (c.output_proj(c.input_proj(emb)) for c in self._chains())
            emb = semantic + rest
        before = F.pad(kinds, (1, 0))[:, :-1]  # 10 ms before a frame, and 30 ms in it
        two = torch.stack([before[:, ::4], kinds[:, 1::4]], 2).flatten(1)
        tests = {
            "latent": (0.15, self.heads.latent(fine), kinds[:, ::2]),
            "semantic": (0.3, self.heads.semantic(semantic), two),
            "full": (0.3, self.heads.full(emb), kinds),
        }
        for name, (weight, logits, goal) in tests.items():
            loss, extra[f"{name}_acc"] = phone_loss(logits, goal)
            found[name] = weight * loss
        mel = self.log_mel(clean[:, 0], MELS_PER_FRAME)
        found["melq"] = 0.7 * (self.heads.mel(emb) - mel).abs().mean()
        return emb

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


@torch.no_grad()
def init_codebooks(
    mimi: MimiModel, speech: Speech, chains: tuple[nn.Module, ...], batches: int = 60
) -> None:
    """Residual k-means over some 14,000 frames, codebook by codebook."""
    mimi.eval()
    device = next(mimi.parameters()).device
    sounds = (speech.batch(2, 4)[0].to(device) for _ in range(batches))
    emb = torch.cat([latents(mimi, x)[1] for x in sounds])
    for chain in chains:
        rest = chain.input_proj(emb).transpose(1, 2).reshape(-1, chain.dimension)
        for layer in chain.vq.layers:
            book = layer._codebook
            centres, usage = _run_kmeans(rest, book.codebook_size, 20)
            usage = usage.float().clamp(min=0.1)
            usage = usage * book.codebook_size / usage.sum()
            book.cluster_usage.copy_(usage)
            book.embedding_sum.copy_(centres * usage[:, None])
            book._initialized.fill_(1)
            book.register_buffer("_embedding", None)
            rest = rest - book.decode(book._quantize(rest))
    mimi.train()


def train(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(rank + args.seed)
    team = Team(rank, args.procs, args.port)
    trainer = Trainer(team, args)
    adam = {"lr": args.lr, "betas": (0.8, 0.98), "weight_decay": 1e-3}
    optimizer = torch.optim.AdamW(trainer.trained, **adam)
    run = Run(team, args, trainer.trained, optimizer, trainer.save)
    trainer.speech.rng = np.random.default_rng([args.seed, rank, run.steps])
    for fraction in run.fractions():
        trainer.prepare(fraction, run.steps)
        run.step(fraction, *trainer.losses(amp=fraction < args.half))
        if team.leads:
            trainer.follow()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser, port=29565)
    parser.set_defaults(out=Path("codec"))
    option = parser.add_argument
    option("--speech", type=Path, default=Path("speech"), help="folder of shards")
    option("--decoder-only", action="store_true", help="codes stay what they are")
    option("--lr", type=float, default=8e-4)
    option("--spoken", type=int, default=2, help="segments to decode, per process")
    option("--heard", type=int, default=3, help="segments only to encode, per process")
    option("--others", type=float, default=0.4, help="of spoken: not the assistant's")
    option("--half", type=float, default=0.8, help="share of the time with bfloat16")
    launch(train, parser.parse_args())


if __name__ == "__main__":
    main()
