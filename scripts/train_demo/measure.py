"""How good the codec and the language models are.

    python measure.py codec --codec codec          # with PyTorch: recipe's environment
    python measure.py moshi --model demo --noisy   # the others: moshi_mlx's
    python measure.py moshi --model demo --leads 0 0.2 0.6 1 --most 60
    python measure.py stt --model demo
    python measure.py tts --model demo --stt demo --streamed

The shards in ``--measure`` are those of ``speech.py test`` (``free``: the assistant's
voice, ``unseen``, ``shifted``, ``answer``), of ``speech.py questions`` (the domain, by
unseen voices) and of ``speech.py strangers``. Told are n, every kind and every voice by
itself. Whisper tiny.en is the ear of codec and TTS.

Moshi is right if its text is exactly the wanted answer. Several ``--leads`` (seconds of
silence in front) are compared with the first by McNemar's exact test; a model that
wants one says so in its config.json: ``"lead_in_s": 0.6``. With ``--ear``: how many
replies say what their text says. The STT's pauses: how late 0.5 s of silence are found.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from ear import Ear, Errors
from intents import INTENTS, NAMES, TEXTS
from shards import FRAME, IGNORE, SAMPLE_RATE, UNIT, Utterance, utterances
from texts import TEST, asked

SAID_S, LONGEST_S = 1.2, 10.0  # silence after an answer; what is waited for it
LEAD_S, TAIL_S, PAUSE_S, NEAR_S = 0.5, 2.0, 0.5, 0.3
NUMBERS = [
    "I have 3 cats and 12 dogs.",
    "The train leaves at 9 on the 1st day.",
    "It costs 20 dollars, or 24 with the bag.",
    "Wait! Is it really 100 years old?",
]
SETS = {
    "answers": TEXTS,
    "asked": [asked(intent.known[0]) for intent in INTENTS.values()],
    "free": TEST,
    "numbers": NUMBERS,
    "new": [asked(intent.held_out[0]) for intent in INTENTS.values()],
}


def sentences(args: argparse.Namespace, shards: str) -> Iterator[tuple[str, Utterance]]:
    """Those of ``--shards``, with their kinds; every so manieth, as asked for."""
    for name in (args.shards or shards).split(","):
        every = list(utterances(args.measure / name))
        for one in every[:: args.every][: args.most]:
            yield f"{name} {one.about['kind']}", one


def codec(args: argparse.Namespace, note: Callable[..., None]) -> None:
    """Word errors before and after; phones as training's heads read them off."""
    import torch
    from codec import KINDS, Heads, latents, load_mimi

    torch.set_num_threads(1)
    mimi, heads = load_mimi(args.codec, args.codebooks), Heads().eval()
    heads.load_state_dict(torch.load(args.codec / "heads.pt"))
    ear, errors, lead = Ear(), Errors(), 6
    phones = defaultdict(lambda: np.zeros(2, int))
    for kind, one in sentences(args, "test,strangers"):
        frames = -(-len(one.pcm) // FRAME) + lead
        padded = torch.zeros(1, 1, frames * FRAME)
        padded[0, 0, lead * FRAME :][: len(one.pcm)] = torch.from_numpy(one.pcm)
        with torch.no_grad():
            codes = mimi.quantizer.encode(latents(mimi, padded)[1])
            sound = mimi.decode(codes)[0, 0].numpy()[lead * FRAME :][: len(one.pcm)]
            logits = heads.full(mimi.quantizer.decode(codes))[0, :, lead:]
        guess = logits.view(4, KINDS, -1).argmax(1).T.reshape(-1).numpy()
        at = ((np.arange(len(guess)) + 0.5) * FRAME / 4 / UNIT).astype(int)
        goal = one.phones[at.clip(0, len(one.phones) - 1)]
        real = (goal != 0) & (goal != IGNORE)
        phones[kind] += (goal == guess)[real].sum(), real.sum()
        text, heard = one.about["text"], ear(sound)
        errors.add(text, heard, kind, f"{kind} {one.about['voice']}")
        errors.add(text, ear(one.pcm), f"{kind}, original")
        note(kind=kind, text=text, heard=heard)
    print(errors)
    for kind, (right, n) in phones.items():
        print(f"{kind}: {right / max(1, n):.1%} of {n} phones right")


def ask(session, pcm: np.ndarray, lead_s: float) -> tuple[str, np.ndarray]:
    """Text and sound of the reply to a question."""
    lead, rest = round(lead_s * SAMPLE_RATE), -len(pcm) % FRAME
    x = np.pad(pcm, (lead, rest + FRAME * round(LONGEST_S * 12.5)))
    heard = lead + len(pcm)
    pieces, sounds, quiet = [], [], 0
    for start in range(0, len(x) - FRAME + 1, FRAME):
        reply = session.step(x[start : start + FRAME])
        pieces.append(reply.text or "")
        if reply.pcm is not None:
            sounds.append(reply.pcm)
        quiet = 0 if reply.text or start < heard else quiet + 1
        if "".join(pieces) and quiet > SAID_S * 12.5:
            break
    return "".join(pieces).strip(), np.concatenate(sounds)


def by_chance(first: list[bool], other: list[bool]) -> tuple[int, int, float]:
    """How many are better and worse, and the probability of so uneven a split."""
    better = sum(b and not a for a, b in zip(first, other, strict=True))
    worse = sum(a and not b for a, b in zip(first, other, strict=True))
    n, most = better + worse, max(better, worse)
    tail = sum(math.comb(n, k) for k in range(most, n + 1)) / 2**n
    return better, worse, min(1.0, 2 * tail)


def moshi(args: argparse.Namespace, note: Callable[..., None]) -> None:
    """Right answers by kind and voice, for each lead-in."""
    import moshi_mlx

    model, ear, errors = (
        moshi_mlx.load(args.model),
        Ear() if args.ear else None,
        Errors(),
    )
    rng = np.random.default_rng(args.seed)
    names = NAMES[1 : args.intents + 1 : args.every_intent]
    right: dict[float, list[bool]] = {lead: [] for lead in args.leads}
    kinds: list[tuple[str, str]] = []
    said, shard = [], args.measure / (args.shards or "questions")
    every = [one for one in utterances(shard) if one.about.get("intent") in names]
    step = max(1, len(every) // args.most) if args.most else args.every
    for one in every[::step][: args.most]:
        about, pcm = one.about, one.pcm
        wanted = INTENTS[about["intent"]].answer
        if args.noisy:
            from damage import damage

            pcm = damage(pcm, rng)
        kinds.append((about["kind"], f"{about['kind']} {about['voice']}"))
        for lead, hits in right.items():
            text, sound = ask(model.session(seed=args.seed), pcm, lead)
            hits.append(text == wanted)
            heard = ear(sound) if ear and text else ""
            if ear and text:
                said.append(errors.add(text, heard, "replies") <= 0.2)
            note(**about, lead=lead, wanted=wanted, answer=text, heard=heard)
    for lead, hits in right.items():
        for kind in dict.fromkeys(kind for pair in kinds for kind in pair):
            own = [hit for hit, pair in zip(hits, kinds, strict=True) if kind in pair]
            print(f"{lead:g} s, {kind}: {np.mean(own):.1%} of {len(own)} right")
        better, worse, p = by_chance(right[args.leads[0]], hits)
        print(
            f"{lead:g} s, all: {np.mean(hits):.1%} of {len(hits)}; {better} better, "
            f"{worse} worse than {args.leads[0]:g} s (p = {p:.2f})"
        )
    if said:
        print(f"spoken as written: {np.mean(said):.1%} of {len(said)}")


def pause_error(events: list, end_s: float) -> float:
    """Seconds by which the pause after ``end_s`` is found late; infinite if never."""
    after = [e.time_s for e in events if e.time_s > end_s and e.probabilities[0] > 0.5]
    return after[0] - end_s - PAUSE_S if after else float("inf")


def stt(args: argparse.Namespace, note: Callable[..., None]) -> None:
    """Word errors by kind and voice, and how late pauses are found."""
    import moshi_mlx
    from moshi_mlx.engines.stt import Pauses

    model, errors, late = moshi_mlx.load_stt(args.model), Errors(), []
    every = list(sentences(args, "test,questions,strangers"))
    pads = round(LEAD_S * SAMPLE_RATE), round(TAIL_S * SAMPLE_RATE)
    for start in range(0, len(every), 16):
        part = every[start : start + 16]
        events: list[list] = [[] for _ in part]

        def notice(row: int, event: object, into: list = events) -> None:
            if isinstance(event, Pauses):
                into[row].append(event)

        sounds = [np.pad(one.pcm, pads) for _, one in part]
        heard = model.transcribe_all(sounds, on_event=notice)
        for (kind, one), found, noticed in zip(part, heard, events, strict=True):
            about = one.about
            errors.add(about["text"], found.text, kind, f"{kind} {about['voice']}")
            if about["words"] and model.pause_lengths_s:
                late.append(pause_error(noticed, LEAD_S + about["words"][-1][1]))
            note(kind=kind, voice=about["voice"], text=about["text"], heard=found.text)
    print(errors)
    if late:
        near = np.mean(np.abs(late) <= NEAR_S)
        print(f"pauses: {near:.1%} within 0.3 s, median {np.median(late):+.2f} s late")


def tts(args: argparse.Namespace, note: Callable[..., None]) -> None:
    """Word errors by the ear (and our own), whole and streamed; times of the words."""
    import moshi_mlx

    model, ear, errors = moshi_mlx.load_tts(args.model), Ear(), Errors()
    own, timed = moshi_mlx.load_stt(args.stt) if args.stt else None, []
    voices = args.voices or [model.usual_voice]
    for name in (args.shards or "answers,asked,free,numbers,new").split(","):
        for text in SETS[name][:: args.every][: args.most]:
            for voice in voices:
                said, kind = model.say(text, voice, seed=args.seed), f"{name} {voice}"
                starts = [word.start_s for word in said.words]
                timed.append(
                    starts == sorted(starts) and len(starts) == len(text.split())
                )
                heard = ear(said.pcm)
                errors.add(text, heard, kind)
                row = {"kind": kind, "text": text, "heard": heard}
                if own is not None:
                    row["own"] = own.transcribe(said.pcm).text
                    errors.add(text, row["own"], f"{kind}, own ear")
                if args.streamed:
                    pieces = [f"{word} " for word in text.split()]
                    frames = list(model.stream(pieces, voice, seed=args.seed))
                    row["streamed"] = ear(np.concatenate(frames))
                    errors.add(text, row["streamed"], f"{kind}, streamed")
                note(**row)
    print(errors)
    print(f"words with times in order: {sum(timed)} of {len(timed)} sentences")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    option = parser.add_argument
    option("what", choices=["codec", "moshi", "stt", "tts"])
    option("--model", default="demo")
    option("--measure", type=Path, default=Path("measure"), help="folder of the shards")
    option("--shards", help="of those, or the TTS's sets of sentences; comma between")
    option("--every", type=int, default=1, help="only every so manieth sentence")
    option("--every-intent", type=int, default=1, help="moshi: every so manieth intent")
    option("--most", type=int, help="so many; moshi: spread over all")
    option("--seed", type=int, default=0)
    option("--rows", type=Path, help="file for what was heard of each sentence")
    option("--codec", type=Path, default=Path("codec"))
    option("--codebooks", type=int, default=8)
    option("--intents", type=int, default=len(INTENTS), help="moshi: the first ones")
    option("--leads", type=float, nargs="+", default=[0.5], help="moshi: seconds")
    option("--ear", action="store_true", help="moshi: hear the replies")
    option("--noisy", action="store_true", help="moshi: through rooms, lines, noise")
    option("--stt", help="tts: our own ear")
    option("--voices", nargs="+", help="tts: instead of the usual one")
    option("--streamed", action="store_true", help="tts: a word at a time as well")
    args, rows = parser.parse_args(), []

    def note(**row: object) -> None:
        rows.append(row)
        if args.rows:
            args.rows.write_text(json.dumps(rows, indent=0))

    globals()[args.what](args, note)


if __name__ == "__main__":
    main()
