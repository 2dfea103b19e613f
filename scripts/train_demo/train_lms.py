"""Train one of the three language models, instances of Kyutai's LMModel.

Helpers that are dropped afterwards make them understand early: the phones that are
heard, or to be said; and for Moshi the user's words, and the intent, between a question
and its answer. What went before is spoiled, or a model would learn by heart how its
sentences go on, and not listen to the sound or read the text.

The folder is a checkpoint in Kyutai's own PyTorch format at any time.
"""

import argparse
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from codec import KINDS, phone_loss
from intents import NAMES
from loop import Run, options, save_weights
from moshi.conditioners import ConditionAttributes, TensorCondition
from moshi.models import loaders
from moshi.models.lm import LMModel
from moshi.models.lm_utils import _delay_sequence
from safetensors.torch import load_file, save_file
from sequences import NEW_WORD, PAD, Dialogues, Dictation, Script
from shards import TOKENIZER, UNKNOWN
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import default_collate
from voices import VOICES

SPEAKER_DIM, SPEAKER_FRAMES, MAX_SPEAKERS = 16, 4, 5
DATA = {"moshi": Dialogues, "stt": Dictation, "tts": Script}
PHONES = {"moshi": 0.6, "stt": 0.3, "tts": 1.0}  # weight of the helper
WORDS, PIECES = 0.4, 0.3  # weights of Moshi's helpers of words
# Of a sequence, at most: frames hidden in what the TTS has said, pieces that stand for
# others in what the STT has written. In how many it is differs from one to the other.
UNHEARD, MISREAD = 0.9, 0.15
GUIDANCE = [f"{x / 2:.1f}" for x in range(2, 9)]  # accepted by the TTS, without effect
OTHERS = ("model_type", "stt_config", "tts_config", "model_id", "lm_gen_config")

Named = dict[str, Tensor]


def make(table: dict[str, Any], device: str) -> LMModel:
    """Of a config.json."""
    known = {k: v for k, v in table.items() if k not in OTHERS and "_name" not in k}
    return loaders.get_moshi_lm(None, known, device=device, dtype=torch.float32)


def begin_from(folder: Path, what: str, lm: LMModel, helpers: nn.ModuleDict) -> None:
    """Take over what fits: a Moshi knows codes, text and phones for the other two."""
    known = load_file(folder / "model.safetensors")
    if what == "stt" and "emb.15.weight" in known:  # hears what Moshi's user says
        known |= {f"emb.{i}.weight": known[f"emb.{8 + i}.weight"] for i in range(8)}
    heads = torch.load(folder / "helpers.pt", map_location="cpu")
    same = json.loads((folder / "config.json").read_text())["model_type"] == what
    for module, weights in ((lm, known), (helpers, heads)):
        own = module.state_dict()
        fit = {k: x for k, x in weights.items() if k in own and own[k].shape == x.shape}
        module.load_state_dict(fit, strict=same and module is lm)


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
        condition = TensorCondition(values, mask)
        tensor = {"speaker_wavs": condition}
        attributes.append(ConditionAttributes(text=text, tensor=tensor))
    return lm.condition_provider.prepare_and_provide(attributes)


def spoil(what: str, inputs: Tensor, lm: LMModel) -> None:
    """Make what went before less reliable, in place."""
    share = torch.rand(len(inputs), 1, 1, device=inputs.device)
    if what == "tts":
        hide = torch.rand_like(inputs[:, :1], dtype=torch.float) < share * UNHEARD
        inputs[:, 1:9][hide.expand(-1, 8, -1)] = lm.zero_token_id
    elif what == "stt":
        text = inputs[:, :1]
        written = (text != PAD) & (text != NEW_WORD)
        others = text[written]
        hit = written & (torch.rand_like(text, dtype=torch.float) < share * MISREAD)
        text[hit] = others[torch.randint(len(others), (int(hit.sum()),))]
    spoil_codes(inputs[:, 1:9], lm, 0.03, 0.1 if what == "stt" else 0.0)
    if what == "moshi":
        spoil_codes(inputs[:, 9:17], lm, 0.06, 0.3)


def spoil_codes(codes: Tensor, lm: LMModel, noise: float, drop: float) -> None:
    """Random codes here and there; acoustic codebooks hidden for a whole sequence."""
    chance = torch.rand_like(codes, dtype=torch.float)
    hit = (chance < noise) & (codes >= 0) & (codes < lm.card)
    codes[hit] = torch.randint_like(codes[hit], lm.card)
    hide = torch.rand_like(codes[..., :1], dtype=torch.float) < drop
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
    ce = token_losses(logits[0], own)
    each = ce.sum(1) / (own != UNKNOWN).sum(1).clamp(min=1)
    return (3 * each[0] + each.sum()) / 11


def token_losses(logits: Tensor, goal: Tensor) -> Tensor:
    """Of ``[..., card]`` and ``[...]``, one by one; 0 where the goal is unknown."""
    logits, how = logits.float().movedim(-1, 1), {"ignore_index": UNKNOWN}
    return F.cross_entropy(logits, goal, reduction="none", **how)


def text_loss(logits: Tensor, goal: Tensor, quiet: float) -> tuple[Tensor, Tensor]:
    """Of ``[B, T, card]`` and ``[B, T]``, where padding weighs ``quiet``; and the share
    of right pieces."""
    ce = token_losses(logits, goal)
    weight = torch.where(goal == PAD, quiet, 1.0) * (goal != UNKNOWN)
    said = (goal != PAD) & (goal != UNKNOWN)
    right = (logits.argmax(-1) == goal)[said].float().mean()
    return (ce * weight).sum() / weight.sum().clamp(min=1), right


def set_loss(head: nn.Module, hidden: Tensor, pieces: Tensor) -> Tensor:
    """All of a question's pieces ``[B, n, T]`` at once, in the frames with some."""
    there = (pieces != UNKNOWN).any(1)
    goal = pieces.transpose(1, 2)[there]
    logs = F.log_softmax(head(hidden[there]).float(), -1)
    found = logs.gather(1, goal.clamp(min=0)) * (goal != UNKNOWN)
    return -found.sum() / (goal != UNKNOWN).sum().clamp(min=1)


def losses(
    what: str, lm: LMModel, helpers: nn.ModuleDict, batch: Named
) -> tuple[Named, Named]:
    """Losses to add up, and what else to log."""
    tokens = batch["tokens"]
    initial = lm._get_initial_token().expand(len(tokens), -1, -1)
    delayed = torch.cat([initial, _delay_sequence(lm.delays, tokens, initial)], 2)
    inputs, goal = delayed[:, :, :-1].clone(), delayed[:, :, 1:]
    spoil(what, inputs, lm)
    summed = cross = None
    if what == "tts":
        known = conditions(lm, batch["voice"][:, 0])
        summed, cross = lm.fuser.get_sum(known), lm.fuser.get_cross(known)
    hidden, logits = lm.forward_text(inputs, summed, cross)
    wanted = batch["goal"] if what == "tts" else goal[:, 0]
    if what == "moshi":  # where nobody answers, silence is no goal
        wanted = torch.where(batch["reply"], wanted, UNKNOWN)
    found, extra = {}, {}
    found["text"], extra["text_acc"] = text_loss(logits[:, 0], wanted, 0.3)
    chance = torch.rand(wanted.shape, device=wanted.device)
    if what == "moshi":
        chosen = chance < torch.where(batch["speaking"], 0.15, 0.03)
        chosen &= batch["reply"]
        chosen[0, 0] |= not chosen.any()
        found["audio"] = audio_loss(lm, hidden, goal, chosen)
        guess, asked = helpers["intent"](hidden), batch["asked"]
        there = asked != UNKNOWN
        found["intent"] = token_losses(guess, asked).sum() / there.sum().clamp(min=1)
        extra["intent_acc"] = (guess.argmax(-1) == asked)[there].float().mean()
        heard = helpers["words"](hidden)
        loss, extra["word_acc"] = text_loss(heard, batch["words"], 0.15)
        found["words"] = WORDS * loss
        found["pieces"] = PIECES * set_loss(helpers["pieces"], hidden, batch["pieces"])
    elif what == "tts":
        found["audio"] = audio_loss(lm, hidden, goal, chance < 0.25)
    else:
        heads = torch.stack([head(hidden) for head in lm.extra_heads], 1)
        found["pause"] = token_losses(heads, batch["pauses"]).mean()
    guess = helpers["phones"](hidden).float().transpose(1, 2)
    phones = batch["phones"].transpose(1, 2).flatten(1)
    loss, extra["phone_acc"] = phone_loss(guess, phones)
    found["phones"] = PHONES[what] * loss
    return found, extra


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(DATA))
    options(parser)
    option = parser.add_argument
    option("--codes", type=Path, default=Path("codes"))
    option("--codec", type=Path, default=Path("codec"))
    option("--lr", type=float, default=1.2e-3)
    option("--batch", type=int, default=8, help="sequences")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    what, args.out = args.what, args.out or Path(args.what)
    data = DATA[what](args.codes)
    tables = json.loads(Path(__file__).with_name("lms.json").read_text())
    table = tables["shared"] | tables[what] | {"model_type": what}
    lm = make(copy.deepcopy(table), args.device).train()  # it writes into its table
    sizes = {"phones": 4 * KINDS, "intent": len(NAMES)}
    sizes |= {"words": lm.text_card + 1, "pieces": lm.text_card}
    heads = {name: nn.Linear(lm.dim, size) for name, size in sizes.items()}
    helpers = nn.ModuleDict(heads).to(args.device)
    started = (args.out / "model.safetensors").exists()
    if folder := args.out if started else args.init:
        begin_from(folder, what, lm, helpers)

    def save(out: Path) -> None:
        save_weights(lm, out / table["moshi_name"])
        torch.save(helpers.state_dict(), out / "helpers.pt")
        (out / "config.json").write_text(json.dumps(table, indent=1))
        shutil.copy(args.codec / "mimi.safetensors", out / table["mimi_name"])
        shutil.copy(args.codec / "mimi_config.json", out / table["mimi_config_name"])
        shutil.copy(TOKENIZER, out / table["tokenizer_name"])
        for name, voice in zip(VOICES, voices(), strict=True) if what == "tts" else ():
            path = out / f"{name}.nano2@1.safetensors"
            save_file({"speaker_wavs": voice.T[None].contiguous()}, path)

    run = Run(args, [lm, helpers], save, betas=(0.9, 0.95), weight_decay=0.05)
    data.rng = np.random.default_rng([args.seed, run.steps])
    batches = map(default_collate, data.batches(args.batch))
    for fraction, rows in zip(run.fractions(), batches, strict=False):
        batch = {name: x.to(args.device) for name, x in rows.items()}
        with torch.autocast(args.device, torch.bfloat16):
            found, extra = losses(what, lm, helpers, batch)
        run.step(fraction, found, extra)


if __name__ == "__main__":
    main()
