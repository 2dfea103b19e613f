"""Stage 1: train nano Mimi, a 2.6M-parameter instance of Kyutai's MimiModel.

    python train_codec.py --minutes 40 --out codec
    python train_codec.py --minutes 45 --init codec --decoder-only --out codec_dec

Losses: spectra at several resolutions, a little of the waveform, commitment, and two
kinds of helper that are dropped afterwards: a phone classifier on the semantic codebook
(a cheap stand-in for the distillation of Mimi), and log-mel predictors on the quantised
and on the decoder's latents, which teach the encoder what to keep long before the
decoder can use it. The first 12% of the time there are no codebooks; then k-means makes
them, and moving averages keep them.
"""

import argparse
import json
from pathlib import Path

import torch
from align import PHONES
from codec_data import UNKNOWN, Speech
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.quantization.core_vq import _run_kmeans
from shards import FRAME, SAMPLE_RATE
from spectra import MELS_PER_FRAME, LogMel, SpectralLoss
from team import Clock, Log, Team, launch, learning_rate, save_weights, show
from torch import Tensor, nn
from torch.nn import functional as F

DIM = 128
FRAME_RATE = SAMPLE_RATE / FRAME  # Hz
CONFIG = {
    "sample_rate": SAMPLE_RATE,
    "channels": 1,
    "frame_rate": FRAME_RATE,
    "seanet": {**loaders._seanet_kwargs, "dimension": DIM, "n_filters": 16},
    "quantizer": {
        "dimension": 64,
        "n_q": 8,
        "bins": 512,
        "input_dimension": DIM,
        "output_dimension": DIM,
    },
    "transformer": {
        **loaders._transformer_kwargs,
        "d_model": DIM,
        "num_heads": 4,
        "num_layers": 2,
        "context": 40,
        "layer_scale": 0.1,
        "dim_feedforward": 512,
        "input_dimension": DIM,
        "output_dimensions": [DIM],
    },
}
UNQUANTISED = 0.12  # share of the time before there are codebooks
HALF_PRECISION = 0.65  # share of the time with bfloat16 convolutions, 1.4 times as fast
FLOOR = 0.03  # of the learning rate, at the end


def make_heads() -> nn.ModuleDict:
    """Training only: phones from the semantic codebook, log-mel from the quantised and
    from the decoder's latents (two of these a frame)."""
    mels = MELS_PER_FRAME * LogMel.BANDS
    return nn.ModuleDict(
        {
            "phone": nn.Conv1d(DIM, 2 * len(PHONES), 1),
            "mel": nn.Conv1d(DIM, mels, 1),
            "mel2": nn.Conv1d(DIM, mels // 2, 1),
        }
    )


class Trainer:
    """The codec, its helpers, and the losses of one batch."""

    def __init__(self, team: Team, args: argparse.Namespace):
        self.team, self.device = team, args.device
        self.decoder_only = args.decoder_only
        weights = args.init and f"{args.init}/mimi.safetensors"
        self.mimi = loaders.get_mimi(
            weights, CONFIG, device=args.device, num_codebooks=8
        )
        self.heads = make_heads().to(args.device)
        if args.init and (old := Path(args.init, "heads.pt")).exists():
            self.heads.load_state_dict(torch.load(old, map_location=args.device))
        self.mimi.train()
        self.trained = self._trained()
        team.share(self.trained)
        self.speech = Speech(args.seed * 100 + team.rank, args.users, args.answers)
        self.spectral, self.log_mel = SpectralLoss(args.device), LogMel(args.device)
        first = self.mimi.quantizer.rvq_first.vq.layers[0]
        self.quantised = bool(first.initialized) and not args.fresh_codebooks

    def _trained(self) -> list[nn.Parameter]:
        mimi = self.mimi
        everything = [*mimi.parameters(), *self.heads.parameters()]
        if not self.decoder_only:
            return everything
        for parameter in everything:
            parameter.requires_grad_(False)
        mimi.quantizer.eval()
        parts = (mimi.upsample, mimi.decoder_transformer, mimi.decoder)
        kept = [parameter for part in parts for parameter in part.parameters()]
        for parameter in kept:
            parameter.requires_grad_(True)
        return kept

    def prepare(self, fraction: float) -> None:
        """Make the codebooks when it is time; quantise more and more of the latents."""
        if not self.quantised and fraction > UNQUANTISED:
            self.quantised = True
            if self.team.leads:
                init_codebooks(self.mimi, self.speech)
            for module in self.mimi.quantizer.modules():
                if hasattr(module, "_embedding"):
                    module.register_buffer("_embedding", None)  # drop what is cached
                    module._next_unused_check = 5
            self.team.share(self.mimi.quantizer.buffers())
        sometimes = 0.2 if fraction < 0.5 and not self.decoder_only else 0.0
        for rvq in (self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest):
            rvq.no_quantization_rate = sometimes

    def losses(
        self, x: Tensor, phones: Tensor, amp: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses to add up, and what else to log, for sound ``x [B, 1, S]``."""
        found: dict[str, Tensor] = {}
        extra: dict[str, Tensor] = {}
        if self.decoder_only:
            with torch.no_grad():
                codes = self.mimi.quantizer.encode(latents(self.mimi, x))
                emb = self.mimi.quantizer.decode(codes)
        else:
            semantic, acoustic = self._quantise(latents(self.mimi, x, amp), found)
            found["phone"], extra["phone_acc"] = self._phones(semantic, phones)
            emb = semantic + acoustic
        mel = self.log_mel(x[:, 0], MELS_PER_FRAME)
        found["melq"] = (self.heads["mel"](emb) - mel).abs().mean()
        out, emb = decode_latents(self.mimi, emb, x.shape[-1], amp)
        mel = self.log_mel(x[:, 0], MELS_PER_FRAME // 2)
        found["meld"] = 0.5 * (self.heads["mel2"](emb) - mel).abs().mean()
        found |= self.spectral(out[:, 0], x[:, 0])
        found["wave"] = 0.1 * (out - x).abs().mean()
        return found, extra

    def _quantise(self, emb: Tensor, found: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Semantic and acoustic parts of the latents, through the codebooks if any."""
        chains = (self.mimi.quantizer.rvq_first, self.mimi.quantizer.rvq_rest)
        if not self.quantised:
            semantic, acoustic = (c.output_proj(c.input_proj(emb)) for c in chains)
            return semantic, acoustic
        semantic, acoustic = (chain(emb, FRAME_RATE) for chain in chains)
        found["commit"] = 0.25 * (semantic.penalty + acoustic.penalty)
        return semantic.x, acoustic.x

    def _phones(self, semantic: Tensor, phones: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of the phones ``[B, 2, T]``."""
        logits = self.heads["phone"](semantic)
        logits = logits.view(len(phones), 2, len(PHONES), -1).transpose(1, 2)
        loss = 0.3 * F.cross_entropy(logits, phones, ignore_index=UNKNOWN)
        with torch.no_grad():
            real = phones > 0
            right = ((logits.argmax(1) == phones) & real).sum()
            return loss, right / real.sum().clamp(min=1)


def _autocast(mimi: MimiModel, amp: bool) -> torch.autocast:
    device = next(mimi.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=amp)


def latents(mimi: MimiModel, x: Tensor, amp: bool = False) -> Tensor:
    """Latents ``[B, DIM, T]`` of sound ``[B, 1, S]``, not quantised."""
    with _autocast(mimi, amp):
        emb = mimi.encoder(x)
    (emb,) = mimi.encoder_transformer(emb.float())
    return mimi._to_framerate(emb)


def decode_latents(
    mimi: MimiModel, emb: Tensor, samples: int, amp: bool = False
) -> tuple[Tensor, Tensor]:
    """Sound ``[B, 1, samples]`` of quantised latents, and the decoder's latents."""
    (emb,) = mimi.decoder_transformer(mimi._to_encoder_framerate(emb))
    with _autocast(mimi, amp):
        return mimi.decoder(emb)[..., :samples].float(), emb


@torch.no_grad()
def init_codebooks(mimi: MimiModel, speech: Speech, batches: int = 50) -> None:
    """Residual k-means over some 8000 latents, codebook by codebook."""
    mimi.eval()
    device = next(mimi.parameters()).device
    parts = [latents(mimi, speech.batch(4)[0].to(device)) for _ in range(batches)]
    emb = torch.cat(parts)
    for rvq in (mimi.quantizer.rvq_first, mimi.quantizer.rvq_rest):
        rest = rvq.input_proj(emb).transpose(1, 2).reshape(-1, rvq.dimension)
        for layer in rvq.vq.layers:
            book = layer._codebook
            centres, usage = _run_kmeans(rest, book.codebook_size)
            usage = usage.float().clamp(min=0.1)
            # About one use per code and step, as the moving average will keep it.
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
    trainer, out = Trainer(team, args), Path(args.out)
    options = {"lr": args.lr, "betas": (0.8, 0.98), "weight_decay": 1e-3}
    optimizer = torch.optim.AdamW(trainer.trained, **options)

    def save(rows: list[dict]) -> None:
        out.mkdir(exist_ok=True)
        save_weights(trainer.mimi, out / "mimi.safetensors")
        (out / "mimi_config.json").write_text(json.dumps(CONFIG, indent=1))
        torch.save(trainer.heads.state_dict(), out / "heads.pt")
        (out / "train_log.json").write_text(json.dumps(rows))

    clock = Clock(args.minutes, team)
    log = Log(team, clock, args.log_every, save)
    while (fraction := clock.fraction()) < 1:
        trainer.prepare(fraction)
        rate = learning_rate(args.lr, log.steps, fraction, 100, FLOOR)
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, phones = (part.to(args.device) for part in trainer.speech.batch(args.batch))
        losses, extra = trainer.losses(x, phones, amp=fraction < HALF_PRECISION)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        team.average_gradients(trainer.trained)
        extra["gn"] = nn.utils.clip_grad_norm_(trainer.trained, 1.0)
        optimizer.step()
        if row := log.add(losses | extra):
            show(row)
        log.keep()
    log.finish()
    team.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--minutes", type=float, default=40)
    option("--out", default="codec")
    option("--init", help="folder of a codec to start from")
    option("--fresh-codebooks", action="store_true", help="with --init: make new ones")
    option("--decoder-only", action="store_true", help="codes stay what they are")
    option("--lr", type=float, default=1e-3)
    option("--batch", type=int, default=2, help="segments of 3.12 s per process")
    option("--users", type=float, default=0.5, help="share of user speech")
    option("--answers", type=int, default=3, help="weight of the assistant's answers")
    option("--log-every", type=int, default=100, help="steps")
    option("--device", default="cpu", help="cuda: with --procs 1 and a larger --batch")
    option("--procs", type=int, default=2, help="processes, of one thread each")
    option("--seed", type=int, default=0)
    option("--port", type=int, default=29555)
    launch(train, parser.parse_args())


if __name__ == "__main__":
    main()
