"""The sound of recordings as codes, computed once and kept in safetensors files."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..audio.files import read
from ..audio.framing import FRAME, SAMPLE_RATE
from ..checkpoint.save import check_space
from ..errors import AudioError, CheckpointError, ConfigError
from ..models.mimi import Mimi
from ..models.snapshot import fingerprint
from ..utils.paths import real_path
from ..utils.tensor_files import read_tensors, save_tensors
from ..utils.whole_files import whole_file
from .recordings import TrainingRecording

SILENT = 1e-4  # highest sample of a silent frame
AFTER = 12  # frames of silence after a sound, in which its end may be heard


@dataclass(frozen=True)
class CodeLayout:
    """Which channels of a recording become which streams.

    Attributes:
        sides: 2: the model's side is channel 0 and the other's channel 1. 1: the model
            only listens, to one channel.
        codebooks: of the model's side, or of the one that it listens to.
        heard: codebooks of the other side; None: as many.
        channel: to which a model listens that is given one, if its line in the list
            names none.
        steady: whether silence of the model's side has the same codes everywhere.
    """

    sides: int
    codebooks: int
    heard: int | None = None
    channel: int = 0
    steady: bool = False

    @property
    def of_sides(self) -> tuple[int, ...]:
        """Codebooks of each side."""
        heard = self.codebooks if self.heard is None else self.heard
        return (self.codebooks, heard)[: self.sides]


class CodeStore:
    """Codes of each window of a recording, from the files or newly encoded.

    Every window is encoded as a stream of its own. Codes are stored under a name that
    depends on the recording, the codec and the window, so they cannot be confused.

    Args:
        folder: where they are stored; None stores nothing.
        load_codec: called once, for the codec.
        window: in seconds.
        silence: seconds of silence that the model hears before and after a recording.
    """

    def __init__(
        self,
        folder: Path | None,
        load_codec: Callable[[], Mimi],
        layout: CodeLayout,
        window: float,
        silence: tuple[float, float] = (0.0, 0.0),
    ):
        self.folder = folder
        self.silence = silence
        self.layout = layout
        self.window = window
        self.encoded = 0  # windows that were encoded now
        self._load = load_codec
        self._codec: Mimi | None = None
        self._print = ""

    @property
    def codec(self) -> Mimi:
        if self._codec is None:
            self._codec = self._load()
        return self._codec

    def of(self, recording: TrainingRecording) -> list[np.ndarray]:
        """Codes ``[sides * codebooks, frames]`` of each window; the last is shorter.

        Raises: AudioError for sound that cannot be read; ConfigError for too few
            channels; CheckpointError for a full disk.
        """
        file = self.file(recording)
        codes = self.kept(file)
        if codes is None:
            codes = self._encode(recording)
            self.keep(file, codes)
        return codes

    def file(self, recording: TrainingRecording, *more: object) -> Path | None:
        """Where codes of a recording are kept; ``more``: what else they depend on."""
        if self.folder is None:
            return None
        if not self._print:
            self._print = fingerprint(self.codec)
        there = recording.path.stat()
        key = (
            *(str(real_path(recording.path)), there.st_size, there.st_mtime_ns),
            *(self.layout, self.window, self.silence, recording.channel, self._print),
            *more,
        )
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return self.folder / f"{recording.path.stem[:40]}-{name}.safetensors"

    def _encode(self, recording: TrainingRecording) -> list[np.ndarray]:
        sides = self._in_silence(self._sides(recording))
        counts = self.layout.of_sides
        size = round(self.window * SAMPLE_RATE)
        windows = []
        for start in range(0, sides.shape[1], size):
            piece = mx.array(sides[:, None, start : start + size])
            codes = np.array(self.codec.encode(piece, max(counts)), np.int32)
            if self.layout.steady and len(sides) == 2:
                codes[0] = self._steady(sides[0, start : start + size], codes[0])
            own = [side[:count] for side, count in zip(codes, counts, strict=True)]
            windows.append(np.concatenate(own))
            self.encoded += 1
        return windows

    def _steady(self, side: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Codes ``[K, F]`` of a side ``[S]``, those of long silence where it has been
        silent for a while."""
        padded = np.pad(side, (0, -len(side) % FRAME)).reshape(-1, FRAME)
        loud = np.abs(padded).max(axis=1) > SILENT
        heard = np.convolve(loud, np.ones(AFTER + 1))[: len(loud)] > 0
        silence = mx.zeros((1, 1, 2 * SAMPLE_RATE))
        steady = np.array(self.codec.encode(silence, len(codes)), np.int32)[0, :, -1:]
        return np.where(heard, codes, steady)

    def _in_silence(self, sides: np.ndarray) -> np.ndarray:
        """Sound as the model hears it when it runs; the silence after it ends at its
        last window."""
        size = round(self.window * SAMPLE_RATE)
        before, after = (round(s * SAMPLE_RATE) for s in self.silence)
        room = -(before + sides.shape[1]) % size
        return np.pad(sides, [(0, 0), (before, min(after, room))])

    def _sides(self, recording: TrainingRecording) -> np.ndarray:
        """Sound ``[sides, samples]``."""
        sound = read(recording.path, SAMPLE_RATE, mono=False)
        count, wanted = len(sound), self.layout.sides
        if wanted == 1:
            channel = recording.channel
            if channel is None:
                return sound[[self.layout.channel]]
            if not 0 <= channel < count:
                raise ConfigError(
                    f"{recording.path} has {count} channel(s), not a channel "
                    f"{channel}: correct its line in the jsonl file."
                )
            return sound[channel : channel + 1]
        if count < 2:
            raise ConfigError(
                f"{recording.path} has one channel, and this model learns from two: "
                "its own side in the left one and the user's in the right one."
            )
        return sound[:2]

    def kept(self, file: Path | None) -> list[np.ndarray] | None:
        """The windows in a file of ``keep``; None without one, or a damaged one."""
        if file is not None and file.is_file():
            with contextlib.suppress(CheckpointError):
                kept = read_tensors(file)
                return [np.array(kept[str(n)], np.int32) for n in range(len(kept))]
        return None

    def keep(self, file: Path | None, codes: list[np.ndarray]) -> None:
        """Write windows. Raises: CheckpointError or AudioError if that fails."""
        if file is None:
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            check_space(file.parent, sum(c.size * 2 for c in codes))
            with whole_file(file) as begun:
                arrays = {str(n): mx.array(c, mx.uint16) for n, c in enumerate(codes)}
                save_tensors(begun, arrays)
        except OSError as error:
            raise AudioError(
                f"codes cannot be kept in {file.parent} ({error.strerror or error}): "
                "name another folder with --cache-dir."
            ) from error
