"""Write sound in the format of the file name's ending."""

from pathlib import Path

import numpy as np

from ..errors import AudioError
from ..utils.extras import require
from .encode import FORMATS, PACKED
from .files import NO_SOUND, SoundFile, WavWriter, check_wav_name
from .framing import SAMPLE_RATE
from .samples import as_mono


class PackedWriter(SoundFile):
    """A file of MP3, Opus, FLAC or AAC, one channel.

    Sound is written as it arrives; players can play a file that was cut off.

    Args:
        path: file to write; its name sets the format, and its folder must exist.
        sample_rate: in Hz.

    Raises: AudioError if the file cannot be written; ConfigError for AAC without the
        extra `av`.
    """

    def __init__(self, path: str | Path, sample_rate: int = SAMPLE_RATE):
        path = Path(path)
        self._encoder = FORMATS[PACKED[path.suffix.lower()]].make(sample_rate)
        super().__init__(path, sample_rate)

    def write(self, pcm: np.ndarray) -> None:
        """Append ``pcm [S]``; values beyond -1..1 are clipped."""
        sound = as_mono(pcm)
        self._put(self._encoder.push(sound))
        self.num_samples += len(sound)

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            self._put(self._encoder.finish())
            for place, data in self._encoder.corrections:
                self._put(data, place)
        finally:
            super().close()


def check_sound_name(path: Path) -> None:
    """Check that the name is one of a sound that can be written.

    Raises: AudioError for another format; ConfigError for AAC without the extra `av`.
    """
    suffix = path.suffix.lower()
    if suffix == ".aac":
        require("av", f"writing {path}", ", or choose .mp3, .opus, .flac or .wav")
    elif suffix in NO_SOUND:
        raise AudioError(
            f"{path} cannot be written: name it .wav, {', '.join(PACKED)}."
        )
    elif suffix not in PACKED:
        check_wav_name(path)


def sound_writer(
    path: str | Path, sample_rate: int = SAMPLE_RATE
) -> WavWriter | PackedWriter:
    """A one-channel file in the format of its name; WAV if the name has no ending."""
    check_sound_name(Path(path))
    if Path(path).suffix.lower() in PACKED:
        return PackedWriter(path, sample_rate)
    return WavWriter(path, 1, sample_rate)


def write_sound(
    path: str | Path, pcm: np.ndarray, sample_rate: int = SAMPLE_RATE
) -> None:
    """Write ``pcm [S]`` as WAV, MP3, Opus, FLAC or AAC, by the ending of the name."""
    with sound_writer(path, sample_rate) as file:
        file.write(pcm)
