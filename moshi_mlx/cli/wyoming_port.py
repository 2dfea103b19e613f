"""The options of `moshi-mlx serve` for Home Assistant's port."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..serve.protocols.wyoming.server import WyomingPort
    from ..serve.server import Beside
    from ..serve.speech import SpeechService

WYOMING_PORT = 10300  # by habit, of Wyoming servers that transcribe
_PANEL = "Home Assistant"

Wyoming = Annotated[
    bool,
    typer.Option(
        "--wyoming",
        help="Also speak Wyoming, for Home Assistant.",
        rich_help_panel=_PANEL,
    ),
]
WyomingHost = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Address that Wyoming listens on. Wyoming has no password: anyone who can "
        "reach the port can use the models.",
        rich_help_panel=_PANEL,
    ),
]
WyomingPortNumber = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=65535,
        help="Port that Wyoming listens on.",
        rich_help_panel=_PANEL,
    ),
]
WyomingZeroconf = Annotated[
    bool,
    typer.Option(
        "--wyoming-zeroconf",
        help="Let Home Assistant find the port by itself.",
        rich_help_panel=_PANEL,
    ),
]


def make_port(
    wanted: bool, host: str, port: int, announce: bool
) -> "WyomingPort | None":
    """The port that the options describe, with a warning if others can reach it; None
    if it is not wanted.

    Raises: ConfigError for a port that is announced but that nobody else can reach;
        MissingExtra.
    """
    if not wanted:
        return None
    from ..utils.extras import require

    require("wyoming", "serve --wyoming")
    from ..serve.protocols.wyoming.announce import addresses_of
    from ..serve.protocols.wyoming.server import WyomingPort

    made = WyomingPort(host, port, announce)
    if announce:
        addresses_of(host)
    if (warning := made.warning()) is not None:
        print(warning, file=sys.stderr)
    return made


def opened_beside(port: "WyomingPort | None", speech: "SpeechService") -> "Beside":
    """Keeps the port open while the server runs.

    Raises: ConfigError if there is no model to offer on it.
    """
    if port is None:
        return nullcontext
    if speech.hears is None and speech.says is None:
        raise ConfigError(
            "--wyoming has nothing to offer: name a model that listens (--stt) or one "
            "that speaks (--tts)."
        )

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        async with port.open(speech):
            print(port.words, flush=True)
            yield

    return opened
