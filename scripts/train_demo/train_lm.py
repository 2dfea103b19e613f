"""Stage 2: train nano Moshi, a small instance of Kyutai's LMModel, on dialogues.

    python train_lm.py --minutes 45 --batch 10 --amp --lr 1.2e-3 --dep-speech 0.2

Moshi's losses, and a helper that is dropped afterwards: a classifier of the intent,
from the frames between a question and its answer. It makes the model understand early.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from dialogues import NO_INTENT, Dialogues
from encode import PAD
from intents import NAMES
from moshi.models import loaders
from moshi.models.lm import LMModel
from moshi.models.lm_utils import _delay_sequence
from safetensors.torch import load_file
from shards import DATA
from team import Clock, Log, Team, launch, learning_rate, save_weights, show
from torch import Tensor, nn
from torch.nn import functional as F

OWN, USER = slice(1, 9), slice(9, 17)  # streams; the text is stream 0
PAD_WEIGHT = 0.2  # of frames without text in the loss
FIRST_WEIGHT = 4  # of the first codebook in the loss; the other seven have 1
FLOOR = 0.02  # of the learning rate, at the end
LOG_EVERY, TEST_EVERY = 50, 200  # steps


def lm_config(text_card: int) -> dict[str, Any]:
    """config.json of the model, for so many text tokens."""
    return {
        "dim": 256,
        "text_card": text_card,
        "existing_text_padding_id": PAD,
        "n_q": 16,
        "dep_q": 8,
        "card": 512,
        "num_heads": 4,
        "num_layers": 6,
        "hidden_scale": 4.125,
        "causal": True,
        "layer_scale": None,
        "context": 125,
        "max_period": 10000,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "positional_embedding": "rope",
        "depformer_dim": 128,
        "depformer_dim_feedforward": 528,
        "depformer_num_heads": 4,
        "depformer_num_layers": 2,
        "depformer_layer_scale": None,
        "depformer_multi_linear": True,
        "depformer_context": 8,
        "depformer_max_period": 10000,
        "depformer_gating": "silu",
        "depformer_pos_emb": "none",
        "depformer_weights_per_step": True,
        "delays": [0, *([0] + [1] * 7) * 2],
    }


@dataclass(frozen=True)
class LossOptions:
    """What is damaged on purpose, and what is left out to save time.

    Args:
        noise: chance of a random code in place of each one that the model reads.
        user_drop: chance to hide each acoustic codebook of the user in a dialogue.
        dep_speech, dep_silence: share of frames with the depth transformer, where the
            assistant speaks and where not.
        intent_weight: of the helper's loss.
    """

    noise: float = 0.03
    user_drop: float = 0.15
    dep_speech: float = 1.0
    dep_silence: float = 0.08
    intent_weight: float = 0.3


def damage(inputs: Tensor, lm: LMModel, options: LossOptions) -> None:
    """Corrupt own past codes (the model will hear its own mistakes) and the user's."""
    device = inputs.device
    for streams in (OWN, USER):
        codes = inputs[:, streams]
        hit = torch.rand(codes.shape, device=device) < options.noise
        hit &= codes < lm.card
        codes[hit] = torch.randint(0, lm.card, (int(hit.sum()),), device=device)
    drop = torch.rand(len(inputs), 7, 1, device=device) < options.user_drop
    inputs[:, 10:17] = torch.where(drop, lm.zero_token_id, inputs[:, 10:17])


def audio_losses(
    lm: LMModel, hidden: Tensor, goal: Tensor, speaking: Tensor, options: LossOptions
) -> Tensor:
    """Loss ``[8]`` of each own codebook, on a random share of the frames."""
    b, streams, t = goal.shape
    share = torch.where(speaking, options.dep_speech, options.dep_silence)
    chosen = torch.rand(b, t, device=goal.device) < share
    pick = chosen.reshape(-1).nonzero()[:, 0]
    h = hidden.reshape(b * t, -1)[pick][None]
    g = goal.transpose(0, 1).reshape(streams, b * t)[:, pick][None]
    logits = lm.forward_depformer_training(g, h).float()
    own = g[:, OWN]
    ce = F.cross_entropy(
        logits.reshape(-1, lm.card),
        own.clamp(max=lm.card - 1).reshape(-1),
        reduction="none",
    )
    return (ce.view(8, -1) * (own[0] < lm.card)).mean(1)


def losses(
    lm: LMModel, intent_head: nn.Linear, batch: list[Tensor], options: LossOptions
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses to add up, and what else to log, for a batch of ``Dialogues``."""
    tokens, target, speaking = batch
    initial = lm._get_initial_token().expand(len(tokens), -1, -1)
    delayed = _delay_sequence(lm.delays, tokens, initial)
    delayed = torch.cat([initial, delayed], 2)
    inputs, goal = delayed[:, :, :-1].clone(), delayed[:, :, 1:]
    if options.noise:
        damage(inputs, lm, options)
    hidden, text_logits = lm.forward_text(inputs)
    text_logits, text = text_logits[:, 0].float(), goal[:, 0]
    ce = F.cross_entropy(text_logits.flatten(0, 1), text.flatten(), reduction="none")
    weights = torch.where(text.flatten() == PAD, PAD_WEIGHT, 1.0)
    audio = audio_losses(lm, hidden, goal, speaking, options)
    asked = target != NO_INTENT
    guess = intent_head(hidden[asked]).float()
    found = {
        "text": (ce * weights).sum() / weights.sum(),
        "audio": (FIRST_WEIGHT * audio[0] + audio[1:].sum()) / (FIRST_WEIGHT + 7),
        "intent": options.intent_weight * F.cross_entropy(guess, target[asked]),
    }
    with torch.no_grad():
        said = text != PAD
        right = text_logits.argmax(-1) == text
        extra = {
            "a0": audio[0],
            "a7": audio[7],
            "text_acc": right[said].float().mean(),
            "intent_acc": (guess.argmax(-1) == target[asked]).float().mean(),
        }
    return found, extra


def load_models(args: argparse.Namespace) -> tuple[LMModel, nn.Linear, dict[str, Any]]:
    """The model, the intent classifier and the model's config; new or from --init."""
    tokenizer = sentencepiece.SentencePieceProcessor(str(DATA / "tokenizer.model"))
    config = lm_config(tokenizer.get_piece_size())
    lm = loaders.get_moshi_lm(None, config, device=args.device, dtype=torch.float32)
    intent_head = nn.Linear(config["dim"], len(NAMES)).to(args.device)
    if args.init:
        lm.load_state_dict(load_file(f"{args.init}/model.safetensors"))
        head = torch.load(f"{args.init}/intent_head.pt", map_location=args.device)
        intent_head.load_state_dict(head)
    return lm.train(), intent_head, config


def train(rank: int, args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed + rank)
    team, out = Team(rank, args.procs, args.port), Path(args.out)
    lm, intent_head, config = load_models(args)
    parameters = [*lm.parameters(), *intent_head.parameters()]
    team.share(parameters)
    adam = {"lr": args.lr, "betas": (0.9, 0.95), "weight_decay": 0.05}
    optimizer = torch.optim.AdamW(parameters, **adam)
    data = Dialogues(args.seed * 100 + rank, warp=args.warp)
    held = Dialogues(1, split="heldout_voice")
    options = LossOptions(
        user_drop=args.user_drop,
        dep_speech=args.dep_speech,
        dep_silence=args.dep_silence,
        intent_weight=args.intent_weight,
    )

    def save(rows: list[dict]) -> None:
        out.mkdir(exist_ok=True)
        torch.save(intent_head.state_dict(), out / "intent_head.pt")
        save_weights(lm, out / "model.safetensors")
        (out / "lm_config.json").write_text(json.dumps(config, indent=1))
        (out / "train_log.json").write_text(json.dumps(rows))

    @torch.no_grad()
    def test() -> dict[str, float]:
        lm.eval()
        batch = [part.to(args.device) for part in held.batch(16)]
        _, extra = losses(lm, intent_head, batch, LossOptions(noise=0))
        lm.train()
        return {f"held_{name}": round(float(v), 4) for name, v in extra.items()}

    clock = Clock(args.minutes, team)
    log = Log(team, clock, LOG_EVERY, save)
    while (fraction := clock.fraction()) < 1:
        rate = learning_rate(args.lr, log.steps, fraction, args.warmup, FLOOR)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = [part.to(args.device) for part in data.batch(args.batch)]
        with torch.autocast(args.device, torch.bfloat16, enabled=args.amp):
            found, extra = losses(lm, intent_head, batch, options)
        optimizer.zero_grad()
        sum(found.values()).backward()
        team.average_gradients(parameters)
        extra["gn"] = nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if row := log.add(found | extra):
            show(row | (test() if log.steps % TEST_EVERY == 0 else {}))
        log.keep()
    log.finish()
    team.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--minutes", type=float, default=40)
    option("--out", default="lm")
    option("--init", help="folder of a model to start from")
    option("--lr", type=float, default=1.5e-3)
    option("--warmup", type=int, default=100, help="steps")
    option("--batch", type=int, default=8, help="dialogues of 12.8 s per process")
    option("--dep-speech", type=float, default=1.0, help="see LossOptions")
    option("--dep-silence", type=float, default=0.08)
    option("--user-drop", type=float, default=0.3)
    option("--intent-weight", type=float, default=1.0)
    option("--warp", type=float, default=0.06, help="see Dialogues")
    option("--amp", action="store_true", help="compute in bfloat16 where it is safe")
    option("--device", default="cpu")
    option("--procs", type=int, default=1, help="processes on CPU")
    option("--threads", type=int, default=1, help="of each process")
    option("--seed", type=int, default=0)
    option("--port", type=int, default=29556)
    launch(train, parser.parse_args())


if __name__ == "__main__":
    main()
