"""The images that the conversations of a batch see, as one condition of the model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from ...errors import ConfigError
from ...modules.vision import VisionConfig

MOST_TIMES = 2  # largest image, relative to those that the model was trained with
IMAGE_START = 16  # steps without the image at the start, as tuned by Kyutai


@dataclass(frozen=True)
class Sight:
    """An encoded image, and when a conversation starts to see it.

    Attributes:
        source: ``[1, S, D]``, from ``Moshi.encode_image``.
        start: the first step of the model that sees it.
    """

    source: mx.array
    start: int = IMAGE_START


def checked_size(cfg: VisionConfig, wanted: int | None) -> int:
    """The side of an image in pixels: the model's own, or the wanted one.

    Raises: ConfigError for an impossible size.
    """
    most = MOST_TIMES * cfg.image_size
    if wanted is None:
        return cfg.image_size
    if not cfg.patch_size <= wanted <= most:
        raise ConfigError(
            f"an image of {wanted} pixels was asked for: give {cfg.patch_size} to "
            f"{most}."
        )
    return wanted


class Sights:
    """The images of a batch. Rows without one have zeros, so that nothing is added.

    Args:
        rows: of the batch.
    """

    def __init__(self, rows: int):
        self._sights: list[Sight | None] = [None] * rows
        self._shown: list[Sight | None] = [None] * rows  # the images in ``_source``
        self._source: mx.array | None = None

    def show(self, row: int, sight: Sight | None) -> None:
        """Let a row see an image, or none.

        Raises: ConfigError if the other rows' images have another number of patches.
        """
        others = [s for r, s in enumerate(self._sights) if s is not None and r != row]
        if sight is not None and others:
            mine, theirs = sight.source.shape[1], others[0].source.shape[1]
            if mine != theirs:
                raise ConfigError(
                    f"an image of {mine} patches came to a batch whose images have "
                    f"{theirs}: encode them in one size."
                )
        self._sights[row] = sight

    def now(self, steps: Sequence[int]) -> mx.array | None:
        """The condition of all rows ``[B, S, D]``; None if none sees anything.

        It stays the same array until an image changes.

        Args:
            steps: number of steps that each row has taken.
        """
        seen = [
            sight if sight is not None and step >= sight.start else None
            for sight, step in zip(self._sights, steps, strict=True)
        ]
        if any(a is not b for a, b in zip(seen, self._shown, strict=True)):
            self._shown, self._source = seen, _together(seen)
        return self._source

    def sees(self, row: int) -> bool:
        """Whether a row saw an image in the latest step."""
        return self._shown[row] is not None


def _together(seen: Sequence[Sight | None]) -> mx.array | None:
    there = [sight.source for sight in seen if sight is not None]
    if not there:
        return None
    nothing = mx.zeros_like(there[0])
    return mx.concatenate([nothing if s is None else s.source for s in seen])


def evaluated(layers: Iterator[mx.array]) -> Iterator[mx.array]:
    """The output of each layer of an encoder, computed before the next one starts."""
    for x in layers:
        mx.eval(x)
        yield x
