"""How good is the codec? -> eval_codec.json

    python measure_codec.py

Are streams and whole files the same; how many sentences are recognised in the original
and in what the codec makes of it; how far apart are their spectra.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from align import words_of
from export import load_checkpoint
from moshi.models.compression import MimiModel
from recogniser import Recogniser
from shards import DATA, FRAME, Utterance, load, write_wav

MARGIN = 2  # frames of silence before and after an utterance


def stft_distance_db(a: np.ndarray, b: np.ndarray, size: int = 1024) -> float:
    window = torch.hann_window(size)
    spectra = [
        torch.stft(
            torch.from_numpy(x), size, size // 4, window=window, return_complex=True
        )
        for x in (a, b)
    ]
    first, second = ((s.abs() + 1e-2).log10() for s in spectra)
    return float(20 * (first - second).abs().mean())


def round_trip(mimi: MimiModel, pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An utterance between silences, and what the codec makes of it; both ``[S]``."""
    frames = -(-len(pcm) // FRAME) + 2 * MARGIN
    x = torch.zeros(1, 1, frames * FRAME)
    x[0, 0, MARGIN * FRAME :][: len(pcm)] = torch.from_numpy(pcm)
    return x[0, 0].numpy(), mimi.decode(mimi.encode(x))[0, 0].numpy()


def compare_streaming(mimi: MimiModel, pcm: np.ndarray) -> dict[str, float]:
    """Frame by frame against all at once, within the attention window and beyond."""
    x = torch.from_numpy(pcm[: len(pcm) // FRAME * FRAME])[None, None]
    codes = mimi.encode(x)
    sound = mimi.decode(codes)
    with mimi.streaming(1):
        steps = [mimi.encode(frame) for frame in x.split(FRAME, -1)]
        sounds = [mimi.decode(frame) for frame in codes.split(1, -1)]
    same = (torch.cat(steps, -1) == codes).float()
    apart = (torch.cat(sounds, -1) - sound).abs()
    attention = mimi.decoder_transformer.transformer.layers[0].self_attn
    full = attention.context // 2  # frames, of two latents each
    return {
        "codes_equal_within_context": same[..., :full].mean().item(),
        "codes_equal": same.mean().item(),
        "audio_maxdiff_within_context": apart[..., : full * FRAME].max().item(),
        "audio_maxdiff": apart.max().item(),
    }


def recognised(
    mimi: MimiModel, utterances: list[Utterance], recogniser: Recogniser
) -> dict[str, float]:
    """Share of sentences heard right, before and after the codec."""
    right, distances = [0, 0], []
    for utterance in utterances:
        sounds = round_trip(mimi, utterance.pcm)
        distances.append(stft_distance_db(*sounds))
        for i, sound in enumerate(sounds):
            right[i] += recogniser(sound) == words_of(utterance.meta["text"])
    n = len(utterances)
    return {
        "n": n,
        "original": round(right[0] / n, 3),
        "codec": round(right[1] / n, 3),
        "stft_db": round(float(np.mean(distances)), 2),
    }


def write_samples(mimi: MimiModel, utterances: list[Utterance]) -> None:
    """Some utterances to listen to, before and after -> samples/codec_*.wav"""
    folder = Path("samples")
    folder.mkdir(exist_ok=True)
    for utterance in utterances:
        kind, intent = utterance.meta["kind"], utterance.meta["intent"]
        sounds = round_trip(mimi, utterance.pcm)
        for name, sound in zip(("original", "nano_mimi"), sounds, strict=True):
            write_wav(folder / f"codec_{kind}_{intent}_{name}.wav", sound)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("nano-moshi"))
    parser.add_argument("--n", type=int, default=193, help="utterances of each set")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mimi = load_checkpoint(args.model).get_mimi()
    books = [b for name, b in mimi.named_buffers() if name.endswith("embedding_sum")]
    assistant = load(DATA / "moshi.npz")
    answers = [u for u in assistant if u.meta["kind"] == "answer"]
    result: dict[str, object] = {
        "parameters_M": sum(p.numel() for p in mimi.parameters()) / 1e6,
        "codebooks_M": sum(book.numel() for book in books) / 1e6,
        "stream": compare_streaming(
            mimi, np.concatenate([u.pcm for u in assistant[1:4]])
        ),
        "answers": recognised(
            mimi, answers, Recogniser(u.meta["text"] for u in answers)
        ),
    }
    for split in ("heldout_prosody", "heldout_voice"):
        users = load(DATA / f"users_{split}_0.npz")
        recogniser = Recogniser(u.meta["text"] for u in users)
        result[split] = recognised(mimi, users[: args.n], recogniser)
    write_samples(mimi, [answers[5], answers[7], answers[42], users[3]])
    print(json.dumps(result, indent=1))
    Path("eval_codec.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
