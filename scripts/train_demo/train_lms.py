"""Train one of the three language models, instances of Kyutai's LMModel.

    python train_lms.py moshi --minutes 60
    python train_lms.py stt --minutes 60 --moshi moshi
    python train_lms.py tts --minutes 60 --moshi moshi

Helpers that are dropped afterwards make them understand early: the phones that are
heard, or to be said; and the intent, between a question and its answer. What went
before is spoiled, or a model would learn by heart how its sentences go on, and not
listen to the sound or read the text.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codec import KINDS, phone_loss
from codec_data import UNKNOWN
from intents import NAMES
from loop import Run, options, save_weights
from moshi.conditioners import ConditionAttributes, TensorCondition
from moshi.models import loaders
from moshi.models.lm import LMModel
from moshi.models.lm_utils import _delay_sequence
from safetensors.torch import load_file, save_file
from sequences import NEW_WORD, PAD, Dialogues, Dictation, Script
from torch import Tensor, nn
from torch.nn import functional as F
from voices import VOICES

SPEAKER_DIM, SPEAKER_FRAMES, MAX_SPEAKERS = 16, 4, 5
DATA = {"moshi": Dialogues, "stt": Dictation, "tts": Script}
FRAMES = {"moshi": 160, "stt": 160, "tts": 90}
PHONES = {"moshi": 0.3, "stt": 0.3, "tts": 1.0}  # weight of the helper
WORDS, PIECES = 0.5, 0.3  # weights of Moshi's helpers of words
# Of a sequence, at most: frames hidden in what the TTS has said, pieces that stand for
# others in what the STT has written. In how many it is differs from one to the other.
UNHEARD, MISREAD = 0.9, 0.15
GUIDANCE = [f"{x / 2:.1f}" for x in range(2, 9)]  # accepted by the TTS, without effect


def config(what: str, text_card: int) -> dict[str, Any]:
    """config.json, without the names of files."""
    table = json.loads(Path(__file__).with_name("lms.json").read_text())
    own = {"model_type": what, "text_card": text_card}
    return table["shared"] | table[what] | own


def make(what: str, text_card: int) -> LMModel:
    other = ("model_type", "stt_config", "tts_config", "model_id")
    known = {k: v for k, v in config(what, text_card).items() if k not in other}
    return loaders.get_moshi_lm(None, known, dtype=torch.float32)


def begin_from(moshi: Path, what: str, lm: LMModel) -> int:
    """Take over what Moshi knows of codes and text; how many tensors fitted."""
    known, own = load_file(moshi / "model.safetensors"), lm.state_dict()
    if what == "stt":  # hears what Moshi hears of its user
        known |= {f"emb.{i}.weight": known[f"emb.{8 + i}.weight"] for i in range(8)}
    fit = {k: v for k, v in known.items() if k in own and v.shape == own[k].shape}
    lm.load_state_dict(fit, strict=False)
    return len(fit)


def voices() -> Tensor:
    """Fixed embeddings of heart, low and high, ``[3, SPEAKER_FRAMES, SPEAKER_DIM]``."""
    seed = torch.Generator().manual_seed(2)
    return torch.randn(len(VOICES), SPEAKER_FRAMES, SPEAKER_DIM, generator=seed)


def conditions(lm: LMModel, who: Tensor) -> dict:
    """As ``make_condition_attributes`` builds them: empty places for other speakers."""
    table, attributes = voices(), []
    for voice in who.tolist():
        values = torch.zeros(1, MAX_SPEAKERS * SPEAKER_FRAMES, SPEAKER_DIM)
        mask = torch.zeros(1, MAX_SPEAKERS * SPEAKER_FRAMES, dtype=torch.bool)
        values[0, :SPEAKER_FRAMES], mask[0, :SPEAKER_FRAMES] = table[voice], True
        guidance = GUIDANCE[int(torch.randint(len(GUIDANCE), ()))]
        text = {"control": "ok", "cfg": guidance}
        condition = {"speaker_wavs": TensorCondition(values, mask)}
        attributes.append(ConditionAttributes(text=text, tensor=condition))
    return lm.condition_provider.prepare_and_provide(attributes)


def spoil(what: str, inputs: Tensor, lm: LMModel) -> None:
    """Make what went before less reliable, in place."""
    share = torch.rand(len(inputs), 1, 1)
    if what == "tts":
        hide = torch.rand(len(inputs), 1, inputs.shape[2]) < share * UNHEARD
        inputs[:, 1:9][hide.expand(-1, 8, -1)] = lm.zero_token_id
    elif what == "stt":
        text = inputs[:, :1]
        written = (text != PAD) & (text != NEW_WORD)
        others = text[written]
        hit = written & (torch.rand(text.shape) < share * MISREAD)
        text[hit] = others[torch.randint(len(others), (int(hit.sum()),))]
    spoil_codes(inputs[:, 1:9], lm, 0.03, 0.1 if what == "stt" else 0.0)
    if what == "moshi":
        spoil_codes(inputs[:, 9:17], lm, 0.06, 0.3)


def spoil_codes(codes: Tensor, lm: LMModel, noise: float, drop: float) -> None:
    """Random codes here and there; acoustic codebooks hidden for a whole sequence."""
    hit = (torch.rand(codes.shape) < noise) & (codes >= 0) & (codes < lm.card)
    codes[hit] = torch.randint(0, lm.card, (int(hit.sum()),))
    hide = torch.rand(len(codes), codes.shape[1], 1) < drop
    hide[:, 0] = False
    codes[hide.expand_as(codes)] = lm.zero_token_id


def audio_loss(lm: LMModel, hidden: Tensor, goal: Tensor, chosen: Tensor) -> Tensor:
    """Of own codebooks, the first weighing four times, on the chosen frames."""
    pick = chosen.reshape(-1).nonzero()[:, 0]
    h = hidden.flatten(0, 1)[pick][None]
    g = goal.transpose(0, 1).flatten(1)[:, pick][None]
    logits = lm.forward_depformer_training(g, h).float()
    own = g[0, 1:9]
    own = torch.where((own >= 0) & (own < lm.card), own, UNKNOWN)
    ce = F.cross_entropy(
        logits.reshape(-1, lm.card),
        own.reshape(-1),
        ignore_index=UNKNOWN,
        reduction="none",
    ).view(8, -1)
    each = ce.sum(1) / (own != UNKNOWN).sum(1).clamp(min=1)
    return (3 * each[0] + each.sum()) / 11


def word_loss(logits: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``[B, T, card]`` and ``[B, T]``, where silence weighs little; and the share of
    right pieces."""
    ce = F.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none")
    weight = torch.where(words.flatten() == PAD, 0.15, 1.0)
    told = (words != PAD) & (words != NEW_WORD)
    right = (logits.argmax(-1) == words)[told].float().mean()
    return (ce * weight).sum() / weight.sum(), right


def set_loss(head: nn.Module, hidden: Tensor, pieces: Tensor) -> Tensor:
    """All of a question's pieces ``[B, n, T]`` at once, in the frames with some."""
    there = (pieces != UNKNOWN).any(1)
    goal = pieces.transpose(1, 2)[there]
    logs = F.log_softmax(head(hidden[there]).float(), -1)
    found = logs.gather(1, goal.clamp(min=0)) * (goal != UNKNOWN)
    return -found.sum() / (goal != UNKNOWN).sum().clamp(min=1)


def losses(
    what: str,
    lm: LMModel,
    helpers: nn.ModuleDict,
    batch: list[Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Losses to add up, and what else to log."""
    tokens = batch[0]
    initial = lm._get_initial_token().expand(len(tokens), -1, -1)
    delayed = torch.cat([initial, _delay_sequence(lm.delays, tokens, initial)], 2)
    inputs, goal = delayed[:, :, :-1].clone(), delayed[:, :, 1:]
    spoil(what, inputs, lm)
    summed = cross = None
    if what == "tts":
        known = conditions(lm, batch[2])
        summed, cross = lm.fuser.get_sum(known), lm.fuser.get_cross(known)
    hidden, logits = lm.forward_text(inputs, summed, cross)
    logits, wanted = logits[:, 0].float(), batch[1] if what == "tts" else goal[:, 0]
    if what == "moshi":
        wanted = torch.where(batch[3], wanted, UNKNOWN)
    ce = F.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=UNKNOWN, reduction="none"
    )
    weight = torch.where(wanted.flatten() == PAD, 0.3, 1.0) * (
        wanted.flatten() != UNKNOWN
    )
    found = {"text": (ce * weight).sum() / weight.sum()}
    said = (wanted != PAD) & (wanted != UNKNOWN)
    extra = {"text_acc": (logits.argmax(-1) == wanted)[said].float().mean()}
    if what == "moshi":
        _, asked, speaking, reply, words, pieces, _ = batch
        chosen = torch.rand(asked.shape) < torch.where(speaking, 0.15, 0.03)
        chosen &= reply
        found["audio"] = audio_loss(lm, hidden, goal, chosen)
        there = asked != UNKNOWN
        guess = helpers["intent"](hidden[there]).float()
        found["intent"] = F.cross_entropy(guess, asked[there])
        extra["intent_acc"] = (guess.argmax(-1) == asked[there]).float().mean()
        loss, extra["word_acc"] = word_loss(helpers["words"](hidden).float(), words)
        found["words"] = WORDS * loss
        found["pieces"] = PIECES * set_loss(helpers["pieces"], hidden, pieces)
    elif what == "tts":
        found["audio"] = audio_loss(lm, hidden, goal, torch.rand(wanted.shape) < 0.25)
    else:
        pauses = torch.stack([head(hidden) for head in lm.extra_heads], 1).float()
        found["pause"] = F.cross_entropy(pauses.permute(0, 3, 1, 2), batch[1])
    phones = batch[-1].transpose(1, 2).flatten(1)
    guess = helpers["phones"](hidden).float().transpose(1, 2)
    loss, extra["phone_acc"] = phone_loss(guess, phones)
    found["phones"] = PHONES[what] * loss
    return found, extra


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out = args.out or Path(args.what)
    data = DATA[args.what](args.codes, args.seed * 100)
    text_card = data.tokenizer.get_piece_size()
    lm = make(args.what, text_card).train()
    heads = {"intent": nn.Linear(lm.dim, len(NAMES))}
    heads["phones"] = nn.Linear(lm.dim, 4 * KINDS)
    if args.what == "moshi":
        heads["words"] = nn.Linear(lm.dim, text_card + 1)
        heads["pieces"] = nn.Linear(lm.dim, text_card)
    helpers = nn.ModuleDict(heads)
    started = (args.out / "model.safetensors").exists()
    if folder := args.out if started else args.init:
        lm.load_state_dict(load_file(folder / "model.safetensors"))
        helpers.load_state_dict(torch.load(folder / "helpers.pt"), strict=False)
    elif args.moshi:
        count = begin_from(args.moshi, args.what, lm)
        print(count, "tensors are Moshi's", flush=True)
    parameters = [*lm.parameters(), *helpers.parameters()]
    size = sum(p.numel() for p in lm.parameters()) / 1e6
    print(args.what, round(size, 2), "M parameters", flush=True)
    adam = {"lr": args.lr, "betas": (0.9, 0.95), "weight_decay": 0.05}

    def save(out: Path) -> None:
        save_weights(lm, out / "model.safetensors")
        torch.save(helpers.state_dict(), out / "helpers.pt")
        table = json.dumps(config(args.what, text_card), indent=1)
        (out / "config.json").write_text(table)
        if args.what == "tts":
            for name, voice in zip(VOICES, voices(), strict=True):
                path = out / f"{name}.nano2@1.safetensors"
                save_file({"speaker_wavs": voice.T[None].contiguous()}, path)

    run = Run(args, parameters, torch.optim.AdamW(parameters, **adam), save)
    data.rng = np.random.default_rng([args.seed, run.steps])
    for fraction in run.fractions():
        rows = [data.one(FRAMES[args.what]) for _ in range(args.batch)]
        parts = zip(*rows, strict=True)
        batch = [torch.stack([torch.as_tensor(x) for x in part]) for part in parts]
        with torch.autocast("cpu", torch.bfloat16):
            found, extra = losses(args.what, lm, helpers, batch)
        run.step(fraction, found, extra)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(DATA))
    options(parser)
    parser.set_defaults(log_every=50)
    option = parser.add_argument
    option("--codes", type=Path, default=Path("codes"))
    option("--moshi", type=Path, help="trained Moshi, for the others to begin from")
    option("--lr", type=float, default=1.2e-3)
    option("--batch", type=int, default=8, help="sequences")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
