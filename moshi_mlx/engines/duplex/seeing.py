"""The part of a Moshi that encodes images, for models that see them."""

from collections import deque

import mlx.core as mx

from ...checkpoint.kinds import ModelKind
from ...models.image import ImageEncoder
from ...utils.images import ImageLike, read_pixels
from ..base import BaseEngine
from .sights import checked_size, evaluated


class Seeing(BaseEngine):
    """Encodes images; base class of ``Moshi``.

    Attributes:
        name: of the model.
        kind: its kind.
        image_encoder: None if the model sees no images.
    """

    name: str
    kind: ModelKind
    image_encoder: ImageEncoder | None

    def encode_image(
        self, image: ImageLike, size: int | None = None, centre_crop: bool = False
    ) -> mx.array:
        """Encode an image for ``session.show``, as ``[1, S, D]``.

        An image needs to be encoded only once for any number of conversations. Running
        conversations get their frames between its layers.

        Args:
            image: a JPEG, PNG, WebP, GIF or BMP file, its bytes, an array uint8
                ``[H, W, 3]``, or an image of Pillow.
            size: side in pixels to scale it to; by default the size that the model was
                trained with. Smaller images have less detail.
            centre_crop: cut a square out of the middle instead of squeezing it.

        Raises: ImageError if it is not an image, ConfigError if the model sees no
            images or the size is impossible, MissingExtra without Pillow.
        """
        pixels = read_pixels(image, self.image_size(size), centre_crop)
        return self._encoded(mx.array(pixels[None]))

    def image_size(self, wanted: int | None = None) -> int:
        """The side of an image in pixels: ``wanted``, or the model's own.

        Raises: ConfigError if the size is impossible or the model sees no images.
        """
        return checked_size(self._seeing("moshi.image_size").tower.cfg, wanted)

    def _encoded(self, pixels: mx.array) -> mx.array:
        encoder = self._seeing("moshi.encode_image")
        layers = self.owner.iterate(lambda: evaluated(encoder.layerwise(pixels)))
        return deque(layers, maxlen=1).pop()

    def _seeing(self, called: str) -> ImageEncoder:
        self._check_open(called)
        self.kind.check("sees", self.name)
        assert self.image_encoder is not None
        return self.image_encoder

    def blank_image(self) -> mx.array | None:
        """An encoded grey image; None if the model sees no images."""
        if self.image_encoder is None:
            return None
        return self._encoded(mx.zeros((1, *[self.image_size()] * 2, 3)))
