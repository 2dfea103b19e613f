"""How the commands that converse load their model: with a status line, warmed up."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..errors import ConfigError
from .console import make_log, status

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.kinds import Ability
    from ..engines.duplex.engine import Moshi


class ModelFiles(TypedDict, total=False):
    """What the user gave for a checkpoint, as ``CheckpointInfo.find`` takes it."""

    config: Path | None
    moshi_weights: Path | None
    mimi_weights: Path | None
    tokenizer: Path | None
    lora_weights: Path | None
    bits: int | None
    kv_bits: int | None


def choose_moshi(
    model: str | None,
    bits: int | None,
    image: Path | None = None,
    persona: str | None = None,
    voice: str | None = None,
) -> tuple[str, int | None]:
    """The model that the user names, or the largest that fits this machine's memory and
    can do the task: see an image, or take a persona.

    Returns: its name, and the bits to quantise it to.
    Raises: CheckpointError or AudioError for a file that is no voice, before anything
        is loaded.
    """
    from ..checkpoint.kinds import DEFAULT_IMAGE_REPO, PERSONA_REPO
    from ..checkpoint.memory import fitting_moshi, fitting_vis

    if voice is not None:
        from ..engines.duplex.persona_voices import voice_of_file

        voice_of_file(voice)
    if model is not None:
        return model, bits
    if image is not None:
        return DEFAULT_IMAGE_REPO, bits or fitting_vis()
    if persona is not None or voice is not None:
        return PERSONA_REPO, bits or 8
    by_bits = {4: "kyutai/moshiko-mlx-q4", 8: "kyutai/moshiko-mlx-q8"}
    return by_bits.get(bits or 0) or fitting_moshi(), bits


def read_image(image: Path | None) -> "Image | None":
    """The picture; an invalid one is refused before anything is loaded."""
    if image is None:
        return None
    from ..utils.images import open_image

    return open_image(image)


def load_moshi(
    name: str,
    codec: str,
    *,
    bits: int | None,
    kv_bits: int | None,
    config: Path | None = None,
    moshi_weights: Path | None = None,
    mimi_weights: Path | None = None,
    tokenizer: Path | None = None,
    adapter: Path | None = None,
    ability: "Ability" = "listens",
    codec_dtype: str = "float32",
) -> "Moshi":
    """A model with the files that the user gave, ready for the first frame.

    Args:
        ability: the ability that it must have.
        codec_dtype: number type in which the codec decodes sound.

    Raises: ConfigError for a model that lacks it.
    """
    from ..checkpoint.info import CheckpointInfo
    from ..engines.duplex.load import load_moshi as load

    with status(f"loading {name}"):
        info = CheckpointInfo.find(
            name,
            config=config,
            moshi_weights=moshi_weights,
            mimi_weights=mimi_weights,
            tokenizer=tokenizer,
            lora_weights=adapter,
            bits=bits,
            kv_bits=kv_bits,
        )
        info.kind.check(ability, name)
        moshi = load(info=info, codec=codec, quantize=bits, codec_dtype=codec_dtype)
        moshi.warmup()
    return moshi


def say_what_it_serves(info: "CheckpointInfo") -> None:
    """Tell the user what clients get from a model that holds no conversation.

    Raises: ConfigError for a model that does not listen.
    """
    kind, name = info.kind, info.name
    if kind.speaks and not kind.listens:
        raise ConfigError(
            f"{name} reads texts aloud and does not listen: serve it with --tts {name}."
        )
    kind.check("listens", name)
    if kind.converses:
        return
    gets = "hear a translation of what they say"
    if not kind.translates:
        gets = f"read what they say (--stt {name} serves OpenAI's clients)"
    sentence = f"{name} holds no conversation: clients {gets}."
    print(make_log("warning", sentence), file=sys.stderr)
