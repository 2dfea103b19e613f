"""Pictures from clients: decoded beside the event loop, encoded by the model."""

import asyncio
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..engines.duplex.engine import Moshi
from ..engines.duplex.sights import IMAGE_START, Sight
from ..errors import ConfigError, ProtocolError
from ..utils.images import ImageLike, squared

QUIET, SPAN, COLOURS = 0.005, 0.016, 10  # colours of gates, as in Kyutai's server


@dataclass(frozen=True)
class Look:
    """How a client wants its picture to be seen.

    Attributes:
        promised: whether it has announced a picture, which the conversation then waits
            for.
        size: side in pixels to scale it to; None is the model's own.
        centre_crop: cut a square out of the middle instead of squeezing it.
        start: the first step of the conversation that sees it.
    """

    promised: bool = False
    size: int | None = None
    centre_crop: bool = False
    start: int = IMAGE_START


class Eyes:
    """The pictures of a server's model.

    Args:
        moshi: the model; None if there are no conversations.
        places: number of conversations that share it. Only a single one may choose the
            size of its picture: rows of a batch see the same number of patches.
    """

    def __init__(self, moshi: Moshi | None, places: int):
        self._moshi = moshi if moshi is not None and moshi.kind.sees else None
        self._alone = places == 1
        self._decoding = asyncio.Lock()  # one at a time: a picture takes 256 MB
        self._shown: mx.array | None = None

    @property
    def open(self) -> bool:
        """Whether the model sees images."""
        return self._moshi is not None

    def first_sight(self, look: Look) -> Sight | None:
        """The picture of a conversation whose client has shown none."""
        return None if self._shown is None else Sight(self._shown, look.start)

    def show(self, image: ImageLike | None) -> None:
        """Show a picture to clients that send none."""
        if image is not None and self._moshi is not None:
            self._shown = self._moshi.encode_image(image)

    async def read(self, file: bytes, look: Look) -> NDArray[np.uint8]:
        """The pixels of a picture, reduced to the model's size.

        Raises: ImageError if it is not an image; ProtocolError for an impossible size.
        """
        assert self._moshi is not None
        try:
            size = self._moshi.image_size(look.size if self._alone else None)
        except ConfigError as error:
            raise ProtocolError(f"image_resolution: {error}") from None
        async with self._decoding:
            return await asyncio.to_thread(squared, file, size, look.centre_crop)

    async def encode(self, pixels: NDArray[np.uint8], look: Look) -> Sight:
        """Encode pixels for the model."""
        assert self._moshi is not None
        encode, size = self._moshi.encode_image, len(pixels)
        return Sight(await asyncio.to_thread(encode, pixels, size), look.start)


def colour_of(gate: float) -> int:
    """How much the model used its picture, 0 to 10: the colour of its words."""
    return round(COLOURS * min(max((gate - QUIET) / SPAN, 0.0), 1.0))
