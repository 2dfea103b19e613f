"""Options of the commands that converse: persona, start and state."""

from pathlib import Path
from typing import Annotated

import typer

from .options import MODEL_PANEL, SAMPLING_PANEL

Persona = Annotated[
    str | None,
    typer.Option(
        *("--persona", "--text-prompt"),
        metavar="TEXT",
        help="Who the model is to be, in words, for PersonaPlex "
        "(nvidia/personaplex-7b-v1): 'You are a patient teacher.' Default: nobody in "
        "particular.",
        rich_help_panel=MODEL_PANEL,
    ),
]
PersonaVoice = Annotated[
    str | None,
    typer.Option(
        *("--voice", "--voice-prompt"),
        metavar="NAME|FILE",
        help="Whose voice PersonaPlex takes: a name that 'moshi-mlx voices --model' "
        "lists, a recording of 10 to 30 seconds, or a voice file. Default: its own.",
        rich_help_panel=MODEL_PANEL,
    ),
]
SayFirst = Annotated[
    str | None,
    typer.Option(
        "--say-first",
        metavar="TEXT",
        help="Let Moshi begin with these words. Default: it waits for you.",
        rich_help_panel=MODEL_PANEL,
    ),
]
SaveState = Annotated[
    Path | None,
    typer.Option(
        "--save-state",
        metavar="FILE",
        help="Keep the conversation's state at its end, for --resume. Only you may "
        "read the file. Default: it is forgotten.",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="FILE",
        help="Continue the conversation that --save-state kept, with the same model. "
        "Default: a new one.",
    ),
]
AudioRepetition = Annotated[
    float,
    typer.Option(
        "--audio-repetition-penalty",
        metavar="F",
        min=1.0,
        max=10.0,
        help="Above 1, sounds of the last 30 frames become less likely: 1.15 to 1.2 "
        "lead a voice out of a loop.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
