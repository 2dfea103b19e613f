"""Licences of weights that not everybody may use for everything.

Most of Kyutai's weights are CC BY 4.0 and need no notice. Other licences are shown once
per process, when the weights are loaded, and by ``info``.
"""

import logging
import re
from collections.abc import Sequence

from .info import CheckpointInfo

logger = logging.getLogger(__name__)

NVIDIA = "NVIDIA's Open Model License"
NON_COMMERCIAL = "CC BY-NC 4.0, not for commercial use"
# By a part of the repository's or the folder's name; the first match is used.
KNOWN = {
    r"personaplex-rl": f"{NON_COMMERCIAL}, and {NVIDIA}",
    r"personaplex": NVIDIA,
    r"moshi[ka]a?-rl-seamless": NON_COMMERCIAL,
    r"(^|/)j-moshi": NON_COMMERCIAL,
    r"hibiki-zero": "CC BY-NC-SA 4.0, not for commercial use",
    r"moshi[ka]a?-vis": "CC BY 4.0, and Gemma's terms for the image encoder",
}
OF_KIND = {  # if the name says nothing
    "personaplex": NVIDIA,
    "moshi_vis": "CC BY 4.0, and Gemma's terms for the image encoder",
}
RESTRICTED = re.compile(r".*(-nc\b|-nc-|gemma|llama|nvidia|other|research).*")

_told: set[str] = set()


def restricted_licence(info: CheckpointInfo) -> str | None:
    """The licence of weights that restricts their use; None if none is known.

    It is found by the checkpoint's name, by its own card (README.md) if it is a folder,
    and by its kind. Nothing is fetched.
    """
    name = info.source.repo or info.name
    for part, licence in KNOWN.items():
        if re.search(part, name, re.IGNORECASE):
            return licence
    stated = _of_folder(info)
    if stated is not None:
        return stated if RESTRICTED.fullmatch(stated.lower()) else None
    return OF_KIND.get(info.model_type)


def tell_licence(info: CheckpointInfo) -> None:
    """Log once which licence restricts the weights."""
    licence = restricted_licence(info)
    if licence is None or info.name in _told:
        return
    _told.add(info.name)
    repo = info.source.repo
    page = f": see https://huggingface.co/{repo}" if repo else ""
    logger.warning("the weights of %s are under %s%s", info.name, licence, page)


def _of_folder(info: CheckpointInfo) -> str | None:
    folder = info.source.folder
    card = None if folder is None else folder / "README.md"
    if card is None or not card.is_file():
        return None
    with card.open(encoding="utf-8", errors="replace") as file:
        return stated_licence(file.read(20_000))


def stated_licence(
    card: str, keys: Sequence[str] = ("license_name", "license")
) -> str | None:
    """The licence at the top of a model card, by its own name if it has one."""
    head = re.match(r"---\r?\n(.*?\n)---\r?\n", card, re.DOTALL)
    if head is None:
        return None
    for key in keys:
        found = re.search(rf"^{key}:\s*(\S+)\s*$", head[1], re.MULTILINE)
        if found:
            return found[1].strip("\"'")
    return None
