"""One interface to Mimi, two engines: NumPy in, NumPy out, frame by frame."""

from os import PathLike

from ..errors import ConfigError
from ..models.mimi import Mimi, mimi_202407
from .base import Codec
from .native import NativeCodec
from .rust import RustCodec

__all__ = ["ENGINES", "Codec", "NativeCodec", "RustCodec", "check_engine", "make_codec"]

ENGINES = ("native", "rust")


def check_engine(name: str) -> None:
    """Raises: ConfigError for an engine that is unknown."""
    if name not in ENGINES:
        raise ConfigError(
            f"codec {name!r} is unknown: choose one of {', '.join(ENGINES)}."
        )


def make_codec(
    name: str = "native",
    *,
    mimi: Mimi | None = None,
    weights: str | PathLike[str] | None = None,
    num_codebooks: int = 8,
    batch_size: int = 1,
) -> Codec:
    """A codec with fresh state.

    Args:
        name: "native" (MLX: endless, any config) or "rust" (rustymimi, on the CPU).
        mimi: a loaded codec for "native"; any number of codecs share it.
        weights: a published file of the released Mimi, if ``mimi`` is not given.
        num_codebooks: codes per frame, if ``mimi`` is not given.
        batch_size: streams side by side.

    Raises: ConfigError for an engine that is unknown or not installed, or if neither
        weights nor a codec were given; CheckpointError for weights it cannot read.
    """
    check_engine(name)
    if name == "native" and mimi is not None:
        return NativeCodec(mimi, batch_size)
    if weights is None:
        raise ConfigError(f"the {name} codec was given no weights: name their file.")
    if name == "rust":
        return RustCodec(weights, num_codebooks, batch_size)
    mimi = Mimi(mimi_202407(num_codebooks)).load_pytorch_weights(weights)
    return NativeCodec(mimi, batch_size)
