"""Files that come with a checkpoint besides its networks: its voices.

``convert``, ``quantize`` and ``fuse`` copy them, so that a voice has the same name in
the folder that they write.
"""

import tarfile
from pathlib import Path

from ..errors import CheckpointError
from ..utils.tensor_files import read_header
from .info import CheckpointInfo
from .personaplex import ARCHIVE, ENDINGS, VOICES, voices_listed
from .torch_file import read_torch


def companions(info: CheckpointInfo) -> dict[str, Path]:
    """The files by their names in the checkpoint; fetched if necessary.

    Raises: CheckpointError if they cannot be fetched, or if one is not a voice: a
        folder may contain a link to any file of the user.
    """
    found = _voices_of_personas(info) if info.kind.takes_persona else _voices(info)
    for path in found.values():
        if path.suffix == ".safetensors":
            read_header(path)
        elif path.suffix == ".pt":
            read_torch(path)
        elif not tarfile.is_tarfile(path):
            raise CheckpointError(
                f"{path} is not an archive of voices: download it again."
            )
    return found


def _voices(info: CheckpointInfo) -> dict[str, Path]:
    """Embeddings that a text-to-speech model has in its folder."""
    sig, epoch = info.model_id.get("sig"), info.model_id.get("epoch")
    if not info.own_voices or info.source.folder is None or not sig:
        return {}
    paths = sorted(info.source.folder.glob(f"*.{sig}@{epoch}.safetensors"))
    return {path.name: path for path in paths}


def _voices_of_personas(info: CheckpointInfo) -> dict[str, Path]:
    folder = info.source.folder
    if folder is not None:
        paths = sorted((folder / VOICES).glob("*"))
        found = {f"{VOICES}/{p.name}": p for p in paths if p.suffix in ENDINGS}
    else:
        names = [
            [f"{VOICES}/{name}{ending}" for ending in ENDINGS]
            for name in voices_listed(info.config)
        ]
        fetched = (info.source.first(forms) for forms in names)
        found = {f"{VOICES}/{p.name}": p for p in fetched if p is not None}
    archive = info.source.first([ARCHIVE])
    return found if archive is None else {**found, ARCHIVE: archive}
