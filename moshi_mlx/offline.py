"""`python -m moshi_mlx.offline`: NVIDIA's script ``moshi.offline``, option for option.

It answers a WAV file as a persona. It writes sound as long as the input, which starts a
frame (80 ms) earlier than NVIDIA's, and the text token of each frame. It is for
existing scripts: `moshi-mlx respond` does the same and more.
Source of the options: NVIDIA/personaplex, moshi/offline.py.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import MoshiError

TEACHER = (
    "You are a wise and friendly teacher. Answer questions or provide advice in a "
    "clear and engaging way."
)


def parser() -> argparse.ArgumentParser:
    """NVIDIA's options and defaults."""
    found = argparse.ArgumentParser(prog="moshi_mlx.offline", description=__doc__)
    add: Any = found.add_argument
    add("--input-wav", required=True, type=Path, help="what the user says")
    add(
        "--output-wav",
        required=True,
        type=Path,
        help="the answer, as long as the input",
    )
    add("--output-text", required=True, type=Path, help="JSON: a string per frame")
    add("--voice-prompt", required=True, help="a voice's name, or a file")
    add("--voice-prompt-dir", type=Path, help="folder of voices")
    add("--text-prompt", default=TEACHER, help="the persona")
    add("--temp-audio", type=float, default=0.8)
    add("--temp-text", type=float, default=0.7)
    add("--topk-audio", type=int, default=250)
    add("--topk-text", type=int, default=25)
    add("--greedy", action="store_true", help="take the likeliest tokens")
    add("--seed", type=int, default=-1, help="-1: random")
    add("--hf-repo", default="nvidia/personaplex-7b-v1")
    add("--moshi-weight", type=Path)
    add("--mimi-weight", type=Path)
    add("--tokenizer", type=Path)
    add("--device", help="accepted and ignored")
    add("--cpu-offload", action="store_true", help="accepted and ignored")
    return found


def run(args: argparse.Namespace) -> None:
    """Answer the file.

    Raises: MoshiError for files that cannot be read or written.
    """
    import numpy as np

    from .audio import frames, read, write_wav
    from .checkpoint.info import CheckpointInfo
    from .cli.outputs import check_outputs
    from .engines.duplex.load import load_moshi
    from .utils.whole_files import write_whole

    check_outputs(
        args.input_wav,
        {"--output-text": args.output_text},
        wav={"--output-wav": args.output_wav},
    )
    heard = list(frames(args.input_wav))
    length = read(args.input_wav).shape[1]
    moshi = load_moshi(
        info=CheckpointInfo.find(
            args.hf_repo,
            moshi_weights=args.moshi_weight,
            mimi_weights=args.mimi_weight,
            tokenizer=args.tokenizer,
        )
    )
    voice = args.voice_prompt
    if args.voice_prompt_dir is not None:
        voice = args.voice_prompt_dir / voice
    session = moshi.session(
        None if args.seed < 0 else args.seed,
        persona=args.text_prompt,
        voice=voice,
        temp=0 if args.greedy else args.temp_audio,
        temp_text=0 if args.greedy else args.temp_text,
        top_k=args.topk_audio,
        top_k_text=args.topk_text,
    )
    replies = [session.step(frame) for frame in heard]
    silence = np.zeros(session.frame_size, np.float32)
    said = np.concatenate([silence if r.pcm is None else r.pcm for r in replies])
    write_wav(args.output_wav, said[:length])
    names = {0: "EPAD", 3: "PAD"}
    pieces = [
        names.get(r.text_token)
        or moshi.tokenizer.id_to_piece(r.text_token).replace("▁", " ")
        for r in replies
    ]
    try:
        write_whole(args.output_text, json.dumps(pieces, ensure_ascii=False))
    except OSError as error:
        raise MoshiError(
            f"{args.output_text} cannot be written: {error.strerror}."
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """The script; returns its exit code."""
    args = parser().parse_args(argv)
    try:
        run(args)
    except MoshiError as error:
        print(f"moshi_mlx.offline: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
