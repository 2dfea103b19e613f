"""`moshi-mlx voices` for PersonaPlex, whose voices are prompts."""

import sys
from pathlib import Path

from ..checkpoint.info import BASE_REPO, CheckpointInfo
from ..checkpoint.kinds import PERSONA_REPO
from ..errors import CheckpointError, ConfigError
from .console import make_log
from .outputs import print_json

NOTE = "A recording of 10 to 30 seconds of clean speech works, too: --voice me.wav"


def list_voices(info: CheckpointInfo, search: str | None, as_json: bool) -> None:
    """Print the voices that come with a checkpoint."""
    from ..engines.duplex.persona_voices import voice_names

    known = voice_names(info)
    names = [n for n in known if not search or search.lower() in n.lower()]
    if not names:
        like = f" like {search!r}: it has {', '.join(known)}" if known else ""
        raise ConfigError(f"{info.name} comes with no voice{like}. {NOTE}.")
    if as_json:
        print_json("voices", {"repository": info.name, "voices": names})
    else:
        print("\n".join(names))
        print(make_log("info", NOTE), file=sys.stderr)


def is_file_of_voice(name: str) -> bool:
    """Whether a name is that of a voice file on this machine."""
    path = Path(name).expanduser()
    return path.suffix in (".pt", ".safetensors") and path.is_file()


def checkpoint_for(voice: str, model: str | None) -> CheckpointInfo:
    """The checkpoint to make or play a voice with: the user's, else PersonaPlex; for a
    file any that has Mimi, which is not gated."""
    local = Path(voice).expanduser().is_file()
    return CheckpointInfo.find(model or (BASE_REPO if local else PERSONA_REPO))


def export_voice(voice: str, out: Path, info: CheckpointInfo) -> None:
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


def play_persona(voice: str, info: CheckpointInfo, speaker: str | None) -> None:
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
