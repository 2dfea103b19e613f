"""Mimi without a language model: sound to codes and back, whole or as a stream."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audio.inputs import SoundLike
from ...audio.long import LongSound, open_sound
from ...audio.resample import resample
from ...audio.samples import Pcm, as_float, fault
from ...audio.save import write_sound
from ...codec import NativeCodec
from ...errors import AudioError, ConfigError
from ...models.mimi import Mimi
from ..base import BaseEngine
from ..owner import HERE, Owner
from .checks import Codes, checked_codes, checked_count
from .files import CodeFile, form_of, read_codes, write_codes
from .stream import MimiStream

PIECE_FRAMES = 25  # computed at once: 2 s, then other work gets a turn


class MimiCodec(BaseEngine):
    """A codec that any number of streams share; made by ``moshi_mlx.load_codec``.

    ::

        codec = moshi_mlx.load_codec("demo")
        codes = codec.encode("question.wav", num_codebooks=4)  # int32 [4, T]
        pcm = codec.decode(codes)  # float32 [T * 1920]

    Args:
        mimi: the network.
        name: shown by ``repr``.
        owner: the thread that computes; by default the caller's.
    """

    def __init__(self, mimi: Mimi, name: str = "a codec", owner: Owner = HERE):
        self.mimi = mimi
        self.name = name
        self.owner = owner
        self.num_codebooks = mimi.num_codebooks
        self.bins = mimi.cfg.quantizer_bins
        self.frame_size = mimi.frame_size
        self.sample_rate = int(mimi.sample_rate)
        self.frame_rate = mimi.frame_rate

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return (
            f"<MimiCodec {self.name}: {self.sample_rate} Hz, {self.frame_rate:g} "
            f"frames a second, {self.num_codebooks} codebooks of {self.bins}{state}>"
        )

    def encode(
        self,
        sound: SoundLike | NDArray[Any] | LongSound,
        num_codebooks: int | None = None,
        *,
        sample_rate: int | None = None,
    ) -> Codes:
        """Encode a whole sound; the last frame is padded with silence.

        Args:
            sound: a file, its bytes, the result of ``open_sound`` at the codec's rate,
                or samples ``[S]`` or ``[B, S]``: float32 from -1 to 1, int16 or int32.
            num_codebooks: K; all of them by default.
            sample_rate: of an array, in Hz; the codec's by default.

        Returns: int32 ``[K, T]``, or ``[B, K, T]`` for ``[B, S]``.
        Raises: AudioError if the input is not sound.
        """
        self._check_open("codec.encode")
        count = checked_count("codec.encode", num_codebooks, self.num_codebooks)
        pcm = self._samples(sound, sample_rate)
        rows = len(pcm) if isinstance(pcm, np.ndarray) else 1
        none = np.zeros((rows, count, 0), np.int32)
        parts = list(self.owner.iterate(lambda: self._encoded(pcm, rows, count)))
        codes = np.concatenate([none, *parts], axis=-1)
        return codes if isinstance(sound, np.ndarray) and sound.ndim == 2 else codes[0]

    def decode(self, codes: NDArray[Any]) -> Pcm:
        """Decode codes to sound.

        Args:
            codes: whole numbers ``[K, T]`` or ``[B, K, T]``, any K from 1 to
                ``num_codebooks``.

        Returns: float32 ``[S]`` or ``[B, S]``, ``frame_size`` samples per frame.
        Raises: ConfigError for codes of another shape or outside a codebook.
        """
        self._check_open("codec.decode")
        given = checked_codes("codec.decode", codes, self.num_codebooks, self.bins)
        whole = given if given.ndim == 3 else given[None]
        parts = list(self.owner.iterate(lambda: self._decoded(whole)))
        pcm = np.concatenate([np.zeros((len(whole), 0), np.float32), *parts], axis=-1)
        return pcm if given.ndim == 3 else pcm[0]

    def encode_file(
        self,
        sound: SoundLike,
        out: str | Path,
        num_codebooks: int | None = None,
    ) -> Codes:
        """Encode a sound of any length into a file of codes.

        Args:
            sound: a file or its bytes.
            out: its name says the format, .npz or .safetensors; see
                ``engines.codec.files``.
            num_codebooks: as in ``encode``.

        Returns: the codes.
        Raises: AudioError if the input is not sound, ConfigError for another format.
        """
        form_of(Path(out))
        heard = open_sound(sound, self.sample_rate)
        codes = self.encode(heard, num_codebooks)
        held = CodeFile(codes, self.sample_rate, self.frame_rate, len(heard))
        write_codes(Path(out), held)
        return codes

    def decode_file(
        self, codes: str | Path, out: str | Path, num_codebooks: int | None = None
    ) -> Codes:
        """Decode a file of codes into a sound file, as long as the sound was.

        Args:
            codes: a file that ``encode_file`` or the transformers library wrote.
            out: its name sets the format.
            num_codebooks: use the first ones only; by default all of the file's.

        Returns: the codes.
        Raises: ConfigError if the file holds no codes of this codec.
        """
        path = Path(codes)
        held = read_codes(path)
        if not held.fits(self.sample_rate, self.frame_rate):
            raise ConfigError(
                f"{path} was made by a codec of {held.sample_rate:g} Hz and "
                f"{held.frame_rate:g} frames a second, not by {self.name}: load the "
                "codec that made it (--model)."
            )
        count = checked_count("codec.decode_file", num_codebooks, self.num_codebooks)
        used = held.codes[:count]
        try:
            pcm = self.decode(used)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        write_sound(Path(out), pcm[: held.samples], self.sample_rate)
        return used

    def stream(self, batch_size: int | None = None) -> MimiStream:
        """Start streams for sound and codes that arrive piece by piece.

        Args:
            batch_size: number of streams; if None, arrays have no batch axis.
        """
        self._check_open("codec.stream")
        return MimiStream(self.mimi, self.name, self.owner, batch_size)

    def warmup(self) -> None:
        """Run a few frames and discard them, so that the first real one is not slow."""
        self._check_open("codec.warmup")
        self.owner.run(self.mimi.warmup)

    def _encoded(
        self, pcm: "Pcm | LongSound", rows: int, count: int
    ) -> Iterator[Codes]:
        codec, step = NativeCodec(self.mimi, rows), PIECE_FRAMES * self.frame_size
        for start in itertools.count(0, step):
            if isinstance(pcm, np.ndarray):
                part = pcm[:, start : start + step]
            else:
                part = pcm[start : start + step][None]
            if not part.shape[-1]:
                return
            missing = -part.shape[-1] % self.frame_size
            part = np.pad(part, ((0, 0), (0, missing)))
            yield codec.encode_step(part[:, None])[:, :count]

    def _decoded(self, codes: Codes) -> Iterator[Pcm]:
        codec = NativeCodec(self.mimi, len(codes))
        for start in range(0, codes.shape[-1], PIECE_FRAMES):
            yield codec.decode_step(codes[..., start : start + PIECE_FRAMES])[:, 0]

    def _samples(
        self, sound: SoundLike | NDArray[Any] | LongSound, sample_rate: int | None
    ) -> "Pcm | LongSound":
        if isinstance(sound, LongSound):
            return sound
        if not isinstance(sound, np.ndarray):
            opened = open_sound(sound, self.sample_rate)
            return opened[None] if isinstance(opened, np.ndarray) else opened
        if sound.ndim not in (1, 2):
            raise ConfigError(
                f"codec.encode got an array {list(sound.shape)}: give samples [S], or "
                "[B, S] for a batch."
            )
        pcm = as_float(sound)
        if wrong := fault(pcm):
            raise AudioError(f"codec.encode got samples that {wrong}.")
        rate = self.sample_rate if sample_rate is None else sample_rate
        return resample(np.atleast_2d(pcm), rate, self.sample_rate)
