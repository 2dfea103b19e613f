"""Voices: files of speaker embeddings, and recordings that a model continues.

Kyutai's larger model takes embeddings that only Kyutai can make. The smaller one
continues any recording.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from ...audio.inputs import exists
from ...errors import CheckpointError, ConfigError
from ...modules.conditioner import TensorCondition, TensorConditioner
from ...utils.loaders import NotInRepoError, hf_get
from ...utils.tensor_files import check_numbers, read_tensors

SPEAKER = "speaker_wavs"  # the condition, and the tensor in a voice file
SOUND = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aiff")
EMBEDDED = ".safetensors"
FEW = 5  # voices that an error lists in full
TIMEOUT_S = 10.0  # of the hub
VOICE_FRAMES = 125  # of an embedding: 10 s
CLONING = (
    "Only those who trained this model can make voices for it; a recording of your own "
    "works as a voice of kyutai/tts-0.75b-en-public."
)


def voice_suffix(raw_config: Mapping[str, Any]) -> str:
    """The ending of a model's voice files, after the recording's name."""
    model_id = raw_config.get("model_id")
    if not model_id:
        return ""
    return f".{model_id['sig']}@{model_id['epoch']}{EMBEDDED}"


def find_voice(name: str, repo: str, suffix: str) -> Path:
    """The file of a voice: a local one, ``hf://...``, or one of the repository's.

    Args:
        name: as in ``moshi-mlx voices``, with or without the model's ``suffix``; for a
            model without embeddings (no suffix), any sound file.

    Raises: CheckpointError for an unknown voice, naming the nearest ones, or one of
        another model.
    """
    full = _file_name(name, suffix)
    if exists(Path(full)):
        return Path(full)
    if suffix and exists(Path(name)):
        raise CheckpointError(f"{name} is a recording. {CLONING}")
    if Path(repo).is_dir() and not full.startswith(("hf://", "file://")):
        path = Path(repo) / full
        if not path.is_file():
            raise _unknown(name, voice_names(repo, suffix), repo)
        return path
    try:
        path = hf_get(full, repo)
    except NotInRepoError:
        raise _unknown(name, voice_names(repo, suffix), repo) from None
    except CheckpointError as error:  # the hub cannot be reached
        near = nearest(name, _names(_files_in_cache(repo), suffix))
        if not near:
            raise
        raise CheckpointError(
            f"{error} On this machine the nearest voices are {', '.join(near)}."
        ) from error
    if not path.is_file():
        raise CheckpointError(f"there is no voice file {path}: check the path.")
    return path


def _file_name(name: str, suffix: str) -> str:
    """A voice's name as a file name. Raises: CheckpointError for another model's."""
    if not name.endswith(EMBEDDED):
        return name + suffix
    if suffix and "@" in name.rsplit("/")[-1] and not name.endswith(suffix):
        raise CheckpointError(
            f"voice {name!r} was made for another model: this one takes files that "
            f"end in {suffix!r}."
        )
    return name


def voice_names(repo: str, suffix: str) -> list[str]:
    """Names of a repository's (or a local folder's) voices for the model of ``suffix``.

    Offline, the voices that have been downloaded before are listed.
    """
    folder = Path(repo)
    files = _files_of(folder) if folder.is_dir() else _files_in_repo(repo)
    return _names(files, suffix)


def _names(files: Iterable[str], suffix: str) -> list[str]:
    """The names of the voices among some files."""
    ends = (suffix,) if suffix else SOUND
    names = (f for f in files if f.endswith(ends))
    return sorted(n.removesuffix(suffix) if suffix else n for n in names)


def _files_of(folder: Path) -> list[str]:
    return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]


def _files_in_repo(repo: str) -> list[str]:
    import huggingface_hub as hub
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        try:
            # one request: list_repo_files would try for 20 s without a network
            about = hub.HfApi().model_info(repo, timeout=TIMEOUT_S)
            return [file.rfilename for file in about.siblings or []]
        except Exception:  # offline, or no such repository: what is here counts
            pass
    found = _files_in_cache(repo)
    if not found:
        raise CheckpointError(
            f"the voices of {repo} are not on this machine, and the hub cannot be "
            "reached: connect once, or give a local voice file."
        )
    return found


def _files_in_cache(repo: str) -> list[str]:
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    found: set[str] = set()
    for snapshot in snapshots.glob("snapshots/*"):
        found.update(_files_of(snapshot))
    return sorted(found)


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The voices whose names are closest to ``name``, by path or by file name."""
    by_file = {n.rsplit("/")[-1]: n for n in names}
    by_file.update({n: n for n in by_file.values()})
    like = difflib.get_close_matches(name, by_file, n=2 * count, cutoff=0.4)
    inside = [n for n in by_file.values() if name.lower() in n.lower()]
    return list(dict.fromkeys([by_file[key] for key in like] + inside))[:count]


def _unknown(name: str, names: Sequence[str], repo: str) -> CheckpointError:
    near = nearest(name, names)
    if near:
        offer = f"nearest {'are' if near[1:] else 'is'} {', '.join(near)}"
    else:
        offer = "none is like it"
        if names and len(names) <= FEW:
            offer = f"it has {', '.join(names)}"
    there = Path(repo).name if Path(repo).is_dir() else repo
    return CheckpointError(
        f"{there} has no voice {name!r}: {offer}; run 'moshi-mlx voices' for the list."
    )


def speaker_condition(
    paths: Sequence[Path | mx.array], max_speakers: int, conditioner: TensorConditioner
) -> TensorCondition:
    """Voices (files, or embeddings ``[1, D, T]``) side by side, in the places of up to
    ``max_speakers`` speakers.

    Raises: ConfigError for too many voices; CheckpointError for a file that contains no
        embedding, or one of another model.
    """
    if len(paths) > max_speakers:
        raise ConfigError(
            f"{len(paths)} voices were given, the model knows {max_speakers} speakers: "
            "leave some out."
        )
    voices = [_embedding(path, conditioner.input_dim) for path in paths]
    dim = conditioner.input_dim
    length = max((voice.shape[1] for voice in voices), default=VOICE_FRAMES)
    values = mx.zeros((1, max_speakers, length, dim))
    mask = mx.zeros((1, max_speakers, length), mx.uint8)
    for i, voice in enumerate(voices):
        values[0, i, : voice.shape[1]] = voice[0]
        mask[0, i, : voice.shape[1]] = 1
    values, mask = values.reshape(1, -1, dim), mask.reshape(1, -1)
    mx.eval(values, mask)
    return TensorCondition(values, mask)


def _embedding(path: Path | mx.array, dim: int) -> mx.array:
    """A voice ``[1, T, D]``."""
    if isinstance(path, mx.array):
        return _checked(path, "that was sent", dim)
    if path.suffix != EMBEDDED:
        raise CheckpointError(f"{path} is not a voice embedding. {CLONING}")
    try:
        voice = read_tensors(path).get(SPEAKER)
    except CheckpointError as error:
        raise CheckpointError(
            f"voice {path} cannot be read ({error}): download it again."
        ) from error
    if voice is None:
        raise CheckpointError(f"{path} holds no {SPEAKER!r}: it is not a voice file.")
    return _checked(voice, str(path), dim)


def _checked(voice: mx.array, name: str, dim: int) -> mx.array:
    """A voice ``[1, D, T]`` as ``[1, T, D]``."""
    if voice.ndim != 3:
        raise CheckpointError(
            f"the voice {name} has the shape {list(voice.shape)}: it is not a voice."
        )
    if voice.shape[1] != dim:
        raise CheckpointError(
            f"voice {Path(name).name} has {voice.shape[1]} numbers per frame, this "
            f"model takes {dim}: it was made for another model."
        )
    check_numbers([(SPEAKER, voice)], f"voice {name}")
    return voice.astype(mx.float32).swapaxes(1, 2)
