"""Voices for PersonaPlex: NVIDIA's, or anyone's from a recording.

NVIDIA's come with the checkpoint, in ``voices.tgz`` or unpacked beside it, as files
written by ``torch.save``. A recording becomes a voice when the model is made to say it:
it is brought to the loudness of the training data and encoded.
"""

import logging
import tarfile
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeGuard

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ...audio import files
from ...audio.framing import FRAME, SAMPLE_RATE
from ...audio.loudness import with_loudness
from ...checkpoint.info import CheckpointInfo
from ...checkpoint.personaplex import ARCHIVE, ENDINGS, VOICES, voices_listed
from ...checkpoint.torch_file import MAX_FILE, read_torch
from ...errors import AudioError, CheckpointError, MoshiError
from ...models.given import Tokens
from ...utils.loaders import NotInRepoError
from ...utils.paths import real_path
from ...utils.tensor_files import read_tensors
from ...utils.whole_files import whole_file

TENSORS, TORCH = ENDINGS
LUFS = -24.0  # of NVIDIA's training data
SHORTEST_S, LONGEST_S, ENOUGH_S = 1.0, 30.0, 10.0
MOST_FRAMES = 1500  # longest voice that is not a recording: two minutes
_MAX_MEMBERS = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PersonaVoice:
    """A voice, in one of its three forms.

    Attributes:
        name: for messages.
        key: distinguishes it from others.
        embeddings, cache: NVIDIA's form, ``[N, D]`` and ``[1 + n_q, W]``.
        codes: ``[K, F]``.
        pcm: a recording ``[S]`` at 24 kHz, with the right loudness.
    """

    name: str
    key: tuple[Any, ...]
    embeddings: mx.array | None = None
    cache: NDArray[np.int64] | None = None
    codes: Tokens | None = None
    pcm: NDArray[np.float32] | None = None

    @property
    def frames(self) -> int:
        """How many frames of a prompt it takes."""
        if self.embeddings is not None:
            return len(self.embeddings) + 1
        if self.codes is not None:
            return self.codes.shape[1]
        return 0 if self.pcm is None else -(-len(self.pcm) // FRAME)


def load_voice(voice: str | Path, info: CheckpointInfo) -> PersonaVoice:
    """A voice, by its name in the checkpoint or a file's path.

    Raises: CheckpointError for an unknown name or a file that is no voice; AudioError
        for a recording that cannot be used.
    """
    found = voice_of_file(voice)
    if found is not None:
        return found
    name = str(voice).removesuffix(TORCH).removesuffix(TENSORS)
    return _of_checkpoint(name, info)


def voice_of_file(voice: str | Path) -> PersonaVoice | None:
    """A voice by a file's path; None for a name, which only a checkpoint knows.

    Raises: as ``load_voice``.
    """
    path = Path(voice).expanduser()
    if path.is_file():
        return _of_file(path)
    if (path.suffix and path.suffix not in ENDINGS) or len(path.parts) > 1:
        raise CheckpointError(f"there is no voice file {str(voice)!r}: check its path.")
    return None


def voice_names(info: CheckpointInfo) -> list[str]:
    """Names of the voices that come with a checkpoint, sorted."""
    folder = info.source.folder
    unpacked = (folder / VOICES).glob("*") if folder is not None else ()
    found = {p.stem for p in unpacked if p.suffix in ENDINGS}
    if folder is None:  # unpacked in the repository
        found |= {*voices_listed(info.config)}
    archive = _archive(info)
    if archive is not None:
        found |= {Path(name).stem for name in _packed(archive, archive.stat().st_mtime)}
    return sorted(found)


def save_voice(voice: PersonaVoice, codes: Tokens | None, path: Path) -> None:
    """Write a voice as safetensors, which ``load_voice`` reads.

    Args:
        codes: for a voice that is a recording.
    """
    if path.suffix != TENSORS:
        raise CheckpointError(
            f"a voice is written as safetensors: name it {path.with_suffix(TENSORS)}."
        )
    if not path.expanduser().absolute().parent.is_dir():
        raise CheckpointError(
            f"the voice {path} cannot be written: there is no folder {path.parent}."
        )
    if voice.embeddings is not None and voice.cache is not None:
        n, d = voice.embeddings.shape
        arrays = {
            "embeddings": voice.embeddings.reshape(n, 1, 1, d),
            "cache": mx.array(voice.cache[None]),
        }
    else:
        assert codes is not None
        arrays = {"codes": mx.array(codes)}
    try:
        with whole_file(path) as begun, begun.open("wb") as file:
            mx.save_safetensors(file, arrays)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"the voice {path} cannot be written: {error}."
        ) from error


def _of_checkpoint(name: str, info: CheckpointInfo) -> PersonaVoice:
    for ending in ENDINGS:
        try:
            return _of_file(info.source.get(f"{VOICES}/{name}{ending}"))
        except NotInRepoError:
            continue
    archive = _archive(info)
    packed = _packed(archive, archive.stat().st_mtime) if archive is not None else {}
    for member, data in packed.items():
        if Path(member).stem == name:
            return _of_tensors(name, (name, str(archive)), read_torch(name, data))
    names = voice_names(info)
    offer = f"it has {', '.join(names)}" if names else "it comes with none"
    raise CheckpointError(
        f"{info.name} has no voice {name!r}: {offer}. A recording of 10 to 30 seconds "
        "works, too."
    )


def _archive(info: CheckpointInfo) -> Path | None:
    return info.source.first([ARCHIVE])


@cache
def _packed(archive: Path, _changed: float) -> dict[str, bytes]:
    """The files of an archive of voices, by name; read once, 0.5 MB each."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for count, member in enumerate(tar):
                small = member.size <= MAX_FILE and count < _MAX_MEMBERS
                if not small or len(found) > 1000:
                    raise CheckpointError(f"{archive} is not an archive of voices.")
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None and member.name.endswith(TORCH):
                    found[member.name] = file.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CheckpointError(
            f"the voices in {archive} cannot be read ({error}): download it again."
        ) from error
    return found


def _of_file(path: Path) -> PersonaVoice:
    about = path.stat()
    key = (str(real_path(path)), about.st_mtime_ns, about.st_size)
    if path.suffix == TORCH:
        return _of_tensors(path.name, key, read_torch(path))
    if path.suffix == TENSORS:
        return _of_tensors(path.name, key, read_tensors(path))
    try:
        return PersonaVoice(path.name, key, pcm=_recording(path, key))
    except MoshiError as error:
        raise type(error)(f"the voice {path.name} cannot be used: {error}") from error


@lru_cache(maxsize=4)  # half a minute of sound takes 3 MB
def _recording(path: Path, _key: tuple[Any, ...]) -> NDArray[np.float32]:
    """A recording at the right loudness; read once while its file stays the same."""
    pcm = files.read(path)[0]
    seconds = len(pcm) / SAMPLE_RATE
    if seconds < SHORTEST_S:
        raise AudioError(
            f"it has {seconds:.1f} s of sound; give 10 to 30 seconds of clean speech."
        )
    if seconds < ENOUGH_S:
        _log.warning(
            "%s has %.1f s of sound: 10 to 30 seconds of clean speech make a better "
            "voice",
            *(path.name, seconds),
        )
    return with_loudness(pcm[: int(LONGEST_S * SAMPLE_RATE)], SAMPLE_RATE, LUFS)


def _of_tensors(name: str, key: tuple[Any, ...], tensors: Any) -> PersonaVoice:
    """A voice made of embeddings and cache, or of codes."""
    tensors = tensors if isinstance(tensors, dict) else {}
    codes, embeddings, cache = (
        found if isinstance(found := tensors.get(part), mx.array) else None
        for part in ("codes", "embeddings", "cache")
    )
    if _fits(codes, mx.integer, 2):
        _check_length(name, codes.shape[1])
        return PersonaVoice(name, key, codes=np.array(codes).astype(np.int32))
    cache = None if cache is None else _whole_numbers(cache)
    if not (_fits(embeddings, mx.floating, 4) and _fits(cache, mx.integer, 3)) or (
        embeddings.shape[1:3] != (1, 1) or len(cache) != 1
    ):
        raise CheckpointError(
            f"{name} is not a voice of PersonaPlex: it holds no embeddings and cache "
            "as NVIDIA's, and no codes."
        )
    _check_length(name, len(embeddings))
    embeddings = embeddings[:, 0, 0]
    if not mx.isfinite(embeddings).all().item():
        raise CheckpointError(f"the voice {name} holds numbers that are not finite.")
    return PersonaVoice(name, key, embeddings, np.array(cache[0]).astype(np.int64))


def _whole_numbers(array: mx.array) -> mx.array:
    """Tokens that were saved as floats, as speech-swift does, as integers; anything
    else as it is."""
    if not mx.issubdtype(array.dtype, mx.floating):
        return array
    whole = array.astype(mx.int32)
    return whole if mx.array_equal(whole, array).item() else array


def _fits(
    array: mx.array | None, kind: mx.DtypeCategory, axes: int
) -> TypeGuard[mx.array]:
    """Whether an array exists, has this type, and this many axes."""
    if array is None or not mx.issubdtype(array.dtype, kind):
        return False
    return array.ndim == axes and array.size > 0


def _check_length(name: str, frames: int) -> None:
    if frames > MOST_FRAMES:
        raise CheckpointError(
            f"the voice {name} has {frames} frames: use one of up to {MOST_FRAMES}, "
            "which is two minutes."
        )
