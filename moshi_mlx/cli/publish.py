"""Uploading a folder with its card to the hub, for `quantize` and `convert`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import status

if TYPE_CHECKING:
    from ..checkpoint.info import CheckpointInfo

HUB_PANEL = "Hub"

Upload = Annotated[
    str | None,
    typer.Option(
        "--upload",
        metavar="OWNER/NAME",
        help="Upload OUT to this repository on the hub, with a model card.",
        rich_help_panel=HUB_PANEL,
    ),
]
Private = Annotated[
    bool,
    typer.Option(
        "--private", help="Make a new repository private.", rich_help_panel=HUB_PANEL
    ),
]


def check_upload(repo: str | None, out: Path | None) -> None:
    """Check before all the work that there is something to upload, and where."""
    from ..checkpoint.upload import check_repo_name
    from ..errors import ConfigError

    if repo is None:
        return
    check_repo_name(repo)
    if out is None:
        raise ConfigError("--upload uploads the folder OUT: name one.")


def publish(
    found: "CheckpointInfo",
    folder: Path,
    repo: str,
    private: bool,
    quality: Sequence[str] = (),
) -> str:
    """Write the card of a saved folder and upload both; returns the address.

    Args:
        found: the checkpoint that it was made from.
        quality: lines for the card.
    """
    from ..checkpoint.build import open_lm
    from ..checkpoint.card import model_card
    from ..checkpoint.cost import cost
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.quantize import describe
    from ..checkpoint.upload import upload
    from ..utils.whole_files import write_whole

    folder = folder.expanduser()
    lm = open_lm(CheckpointInfo.find(folder), as_stored=True)
    card = model_card(found, describe(lm), cost(lm), repo, quality)
    write_whole(folder / "README.md", card)
    with status(f"uploading {folder} to {repo}"):
        return upload(folder, repo, private=private)
