"""Load a codec, alone or from any checkpoint that has one."""

from pathlib import Path

from ...checkpoint.build import load_mimi
from ...checkpoint.codec import codec_tensors
from ...checkpoint.info import CheckpointInfo
from ...errors import ConfigError
from ...models.mimi_keys import count_codebooks
from ..fetch import found
from ..owner import model_thread
from .engine import MimiCodec


def load_codec(
    name: str | Path = "demo",
    *,
    num_codebooks: int | None = None,
    revision: str | None = None,
    info: CheckpointInfo | None = None,
) -> MimiCodec:
    """Load Mimi: the codec of any model, or one alone.

    Args:
        name: "demo", a folder, a repository of the hub, or a file of Mimi's weights
            (``tokenizer-...-checkpoint125.safetensors``).
        num_codebooks: the largest number to use; by default all in the file.
        info: a checkpoint that was found already, instead of ``name``.

    Raises: CheckpointError or ConfigError, in one sentence, if the name or the files
        are wrong.
    """
    here = info or _found(name, revision)
    if not here.kind.has_codec:
        raise ConfigError(
            f"{here.name} is a {here.kind.name} model, which has no codec: use a model "
            "that hears or speaks, like 'demo'."
        )
    _ = here.mimi_weights, here.mimi_config
    owner = model_thread()

    def build() -> MimiCodec:
        held = here.config.get("num_quantizers") or count_codebooks(codec_tensors(here))
        wanted = held if num_codebooks is None else num_codebooks
        if not 1 <= wanted <= held:
            raise ConfigError(
                f"num_codebooks={wanted} was asked of {here.name}, whose codec has "
                f"{held}: give 1 to {held}."
            )
        return MimiCodec(load_mimi(here, wanted), here.name, owner)

    return owner.run(build)


def _found(name: str | Path, revision: str | None) -> CheckpointInfo:
    path = Path(name).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        return found(name, None, revision=revision)
    beside = path.with_name("mimi_config.json")
    info = CheckpointInfo.find(
        path.parent, mimi_weights=path, mimi_config=beside if beside.is_file() else None
    )
    info.name = str(name)
    return info
