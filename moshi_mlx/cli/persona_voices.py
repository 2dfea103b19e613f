"""`moshi-mlx voices` for PersonaPlex, whose voices are prompts."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, ConfigError
from .console import make_log
from .outputs import print_json

if TYPE_CHECKING:
    from ..checkpoint.info import CheckpointInfo

NOTE = "A recording of 10 to 30 seconds of clean speech works, too: --voice me.wav"


def list_voices(info: "CheckpointInfo", search: str | None, as_json: bool) -> None:
    """Print the voices that come with a checkpoint."""
    from ..engines.duplex.persona_voices import voice_names

    names = [n for n in voice_names(info) if not search or search.lower() in n.lower()]
    if not names:
        like = f" like {search!r}" if search else ""
        raise ConfigError(f"{info.name} comes with no voice{like}. {NOTE}.")
    if as_json:
        print_json("voices", {"repository": info.name, "voices": names})
    else:
        print("\n".join(names))
        print(make_log("info", NOTE), file=sys.stderr)


def export_voice(voice: str, out: Path, info: "CheckpointInfo") -> None:
    """Write a voice as safetensors; a recording is written as codes."""
    from ..checkpoint.build import load_mimi
    from ..codec import make_codec
    from ..engines.duplex.persona_frames import encoded
    from ..engines.duplex.persona_voices import load_voice, save_voice

    loaded = load_voice(voice, info)
    codes = loaded.codes
    if loaded.pcm is not None:
        mimi = load_mimi(info)
        codes = encoded(lambda: make_codec("native", mimi=mimi), loaded.pcm)
    save_voice(loaded, codes, out)


def play_persona(voice: str, info: "CheckpointInfo", speaker: str | None) -> None:
    """Play a voice that is a recording or codes; NVIDIA's contain no sound."""
    import numpy as np

    from ..audio.framing import FRAME
    from ..checkpoint.build import load_mimi
    from ..codec import make_codec
    from ..engines.duplex.persona_voices import load_voice
    from ..live.devices import Player

    loaded = load_voice(voice, info)
    if loaded.pcm is not None:
        pcm = loaded.pcm
    elif loaded.codes is not None:
        codec = make_codec("native", mimi=load_mimi(info))
        codes = loaded.codes[None, : codec.num_codebooks]
        steps = range(codes.shape[2])
        parts = [codec.decode_step(codes[:, :, t : t + 1])[0, 0] for t in steps]
        pcm = np.concatenate(parts)
    else:
        raise CheckpointError(
            f"the voice {voice} holds what a model reads, and no sound: let the model "
            f"speak, with moshi-mlx chat --voice {voice}."
        )
    with Player(speaker) as player:
        for start in range(0, len(pcm), FRAME):
            player.play(pcm[start : start + FRAME])
