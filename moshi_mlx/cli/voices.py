"""`moshi-mlx voices`: the voices of `speak`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import CheckpointError, ConfigError
from . import options
from .console import make_log, status
from .outputs import print_json

if TYPE_CHECKING:
    from ..checkpoint.info import CheckpointInfo

EXAMPLES = """
moshi-mlx voices
moshi-mlx voices happy
moshi-mlx voices --model demo
moshi-mlx voices --model nvidia/personaplex-7b-v1
moshi-mlx voices --export me.wav me.safetensors
moshi-mlx voices --play expresso/ex03-ex01_happy_001_channel1_334s.wav
"""


def voices(
    search: Annotated[
        str | None,
        typer.Argument(
            metavar="WORD",
            help="List voices whose names contain this word, or come closest to it.",
        ),
    ] = None,
    play: Annotated[
        str | None,
        typer.Option("--play", metavar="NAME", help="Play the recording of a voice."),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(
            "--speaker",
            metavar="NAME",
            help="Speaker for --play, by number or part of its name. "
            "Default: the system's.",
        ),
    ] = None,
    voice_repo: Annotated[
        str | None,
        options.voice_repo(),
    ] = None,
    export: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            "--export",
            metavar="NAME|FILE OUT.safetensors",
            help="Write a voice of PersonaPlex, or one made of a recording, as a file "
            "that --voice takes. Default: none.",
        ),
    ] = None,
    model: options.SpeechModel = None,
    json_: options.Json = False,
) -> None:
    """List, search and play the voices of a model that speaks, or that takes a persona
    (PersonaPlex)."""
    from ..checkpoint.info import CheckpointInfo
    from ..engines.tts import DEFAULT_DSM_TTS_REPO, DEFAULT_DSM_TTS_VOICE_REPO
    from ..engines.tts.voices import CLONING, voice_names, voice_suffix
    from . import persona_voices as personas

    repo = voice_repo or DEFAULT_DSM_TTS_VOICE_REPO
    if export is not None:
        with status("making the voice"):
            personas.export_voice(*export, personas.checkpoint_for(export[0], model))
        return
    if play is not None and personas.is_file_of_voice(play):
        personas.play_persona(play, personas.checkpoint_for(play, model), speaker)
        return
    if play is not None and model is None:
        play_voice(play, repo, speaker)
        return
    with status("looking for voices"):
        info = CheckpointInfo.find(model or DEFAULT_DSM_TTS_REPO, kind="tts")
        if info.kind.takes_persona:
            if play is not None:
                personas.play_persona(play, info, speaker)
            else:
                personas.list_voices(info, search, json_)
            return
        repo = voice_repo or info.own_voices or repo
        if play is not None:
            play_voice(play, repo, speaker, info)
            return
        embedded = "speaker_wavs" in (info.config.get("conditioners") or {})
        suffix = voice_suffix(info.config) if embedded else ""
        known = voice_names(repo, suffix)
    names = _found(search, known, repo)
    if json_:
        print_json("voices", {"repository": repo, "voices": names})
    else:
        print("\n".join(names))
        note = CLONING if embedded else "Any recording works as a voice for this model."
        print(make_log("info", note), file=sys.stderr)


def _found(search: str | None, known: list[str], repo: str) -> list[str]:
    """The voices that contain a word, or else those nearest to it.

    Raises: ConfigError if there are none.
    """
    from ..engines.tts.voices import FEW, nearest

    if search is None:
        if not known:
            raise ConfigError(f"{repo} has no voice for this model: see its card.")
        return known
    found = [name for name in known if search.lower() in name.lower()]
    if found := found or nearest(search, known, count=5):
        return found
    few = 0 < len(known) <= FEW
    offer = f"it has {', '.join(known)}" if few else "leave the word out to see all"
    there = Path(repo).name if Path(repo).is_dir() else repo
    raise ConfigError(f"{there} has no voice like {search}: {offer}.")


def play_voice(
    name: str, repo: str, speaker: str | None, info: "CheckpointInfo | None" = None
) -> None:
    """Play the recording from which a voice was made.

    Raises: CheckpointError for an unknown voice; ConfigError if it is a voice that
        comes with the model of ``info``, which has no recording.
    """
    from ..audio.files import read
    from ..audio.framing import FRAME
    from ..engines.tts.voices import find_voice
    from ..live.devices import Player

    try:
        recording = find_voice(name, repo, "")
    except CheckpointError:
        if info is None or repo != info.own_voices:
            raise
        raise ConfigError(
            f"{info.name} comes without recordings of its voices: hear one with "
            f"moshi-mlx speak --model {info.name} --voice {name} --play 'Hello.'"
        ) from None
    pcm = read(recording)[0]
    with Player(speaker) as player:
        for start in range(0, len(pcm), FRAME):
            player.play(pcm[start : start + FRAME])
