"""Sound and codes that arrive piece by piece."""

from typing import Any

from numpy.typing import NDArray

from ...audio.samples import Pcm, as_float, fault
from ...codec import NativeCodec
from ...errors import ConfigError
from ...models.mimi import Mimi
from ..closing import Closing
from ..owner import Owner
from .checks import Codes, checked_codes


class MimiStream(Closing):
    """Streams in both directions; made by ``MimiCodec.stream``.

    Args:
        mimi: the network.
        name: the codec's.
        owner: the thread that computes.
        batch_size: number of streams; if None, arrays have no batch axis.
    """

    def __init__(self, mimi: Mimi, name: str, owner: Owner, batch_size: int | None):
        self.name = name
        self.owner = owner
        self.batch_size = batch_size
        self.frame_size = mimi.frame_size
        self._most, self._bins = mimi.num_codebooks, mimi.cfg.quantizer_bins
        self._codec = owner.run(lambda: NativeCodec(mimi, batch_size or 1))

    def __repr__(self) -> str:
        rows = "one stream" if self.batch_size is None else f"{self.batch_size} streams"
        return f"<MimiStream of {self.name}: {'closed' if self.closed else rows}>"

    def encode(self, pcm: NDArray[Any]) -> Codes:
        """Encode the next frames.

        Args:
            pcm: ``[S]``, or ``[B, S]`` with a batch size: float32, int16 or int32 at
                the codec's rate; S a multiple of ``frame_size``.

        Returns: int32 ``[K, T]`` or ``[B, K, T]``.
        Raises: ConfigError for a partial frame or another batch size.
        """
        given = self._given("stream.encode", pcm)
        codes = self.owner.run(lambda: self._codec.encode_step(given))
        return codes[0] if self.batch_size is None else codes

    async def aencode(self, pcm: NDArray[Any]) -> Codes:
        """Like ``encode``, for asyncio."""
        given = self._given("stream.aencode", pcm)
        codes = await self.owner.arun(lambda: self._codec.encode_step(given))
        return codes[0] if self.batch_size is None else codes

    def decode(self, codes: NDArray[Any]) -> Pcm:
        """Decode the next codes ``[K, T]`` or ``[B, K, T]``, K up to
        ``num_codebooks``."""
        given = self._codes("stream.decode", codes)
        pcm = self.owner.run(lambda: self._codec.decode_step(given))[:, 0]
        return pcm[0] if self.batch_size is None else pcm

    async def adecode(self, codes: NDArray[Any]) -> Pcm:
        """Like ``decode``, for asyncio."""
        given = self._codes("stream.adecode", codes)
        pcm = (await self.owner.arun(lambda: self._codec.decode_step(given)))[:, 0]
        return pcm[0] if self.batch_size is None else pcm

    def reset(self) -> None:
        """Start new streams."""
        self._check_open("stream.reset")
        self.owner.run(self._codec.reset)

    def _given(self, called: str, pcm: NDArray[Any]) -> Pcm:
        self._check_open(called)
        pcm = as_float(pcm)
        wanted = "[S]" if self.batch_size is None else f"[{self.batch_size}, S]"
        rows = () if self.batch_size is None else (self.batch_size,)
        fits = pcm.ndim and pcm.shape[:-1] == rows and pcm.shape[-1]
        if not fits or pcm.shape[-1] % self.frame_size:
            raise ConfigError(
                f"{called} got samples {list(pcm.shape)}: give {wanted}, S a multiple "
                f"of {self.frame_size}."
            )
        if wrong := fault(pcm):
            raise ConfigError(f"{called} got samples that {wrong}.")
        return pcm.reshape(self.batch_size or 1, 1, -1)

    def _codes(self, called: str, codes: NDArray[Any]) -> Codes:
        self._check_open(called)
        given = checked_codes(called, codes, self._most, self._bins)
        if (given.ndim == 3) != (self.batch_size is not None):
            wanted = "[K, T]" if self.batch_size is None else "[B, K, T]"
            raise ConfigError(
                f"{called} got codes {list(given.shape)}: give {wanted} here."
            )
        if not given.shape[-1]:
            raise ConfigError(f"{called} got no frames: give at least one.")
        return given if given.ndim == 3 else given[None]

    def _computed_by(self) -> Owner:
        return self.owner

    def _drop(self) -> None:
        del self._codec
