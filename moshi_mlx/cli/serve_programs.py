"""Options of `moshi-mlx serve` for the models that programs use."""

from pathlib import Path
from typing import Annotated

import typer

API_PANEL = "Speech for programs"

STT = Annotated[
    str | None,
    typer.Option(
        "--stt",
        metavar="REPO|FOLDER",
        help="Transcribe with this model. Default: the one that comes with --model, "
        "if there is one (as with demo).",
        rich_help_panel=API_PANEL,
    ),
]
TTS = Annotated[
    str | None,
    typer.Option(
        "--tts",
        metavar="REPO|FOLDER",
        help="Speak with this model. Default: the one that comes with --model, if "
        "there is one (as with demo).",
        rich_help_panel=API_PANEL,
    ),
]
Translate = Annotated[
    str | None,
    typer.Option(
        "--translate",
        metavar="REPO|FOLDER",
        help="Translate sound files with this Hibiki. Default: none.",
        rich_help_panel=API_PANEL,
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="REPO|FOLDER",
        help="Complete texts with this Helium. Default: none.",
        rich_help_panel=API_PANEL,
    ),
]
Preload = Annotated[
    bool,
    typer.Option(
        "--preload",
        help="Load these models at the start, not on first use.",
        rich_help_panel=API_PANEL,
    ),
]
VoiceMap = Annotated[
    list[str] | None,
    typer.Option(
        "--voice-map",
        metavar="NAME=VOICE",
        help="Let a client's name for a voice mean this one, as in "
        "alloy=VOICE (see 'moshi-mlx voices').",
        rich_help_panel=API_PANEL,
    ),
]
VoiceFolder = Annotated[
    Path | None,
    typer.Option(
        "--voice-folder",
        metavar="FOLDER",
        help="Folder for the voices that clients make from recordings. "
        "Default: ~/.local/share/moshi_mlx/voices.",
        rich_help_panel=API_PANEL,
    ),
]
