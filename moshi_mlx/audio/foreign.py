"""Other kinds of sound (m4a, mp4, mov, webm, wma, amr), by whatever this machine has.

In this order: PyAV, if the extra ``av`` is installed; an installed ffmpeg, whose
samples are read as they come; macOS's afconvert, which writes a temporary file.
"""

import logging
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioError
from ..utils.extras import how_to_install, missing
from .decode import Decoder, Plain, Unreadable
from .inputs import Input, temporary_file
from .resample import check_rate
from .span import Span, Window

_log = logging.getLogger(__name__)

KINDS = {
    "mp4": "an MPEG-4 file (m4a, mp4, mov)",
    "matroska": "a Matroska file (webm, mka, mkv)",
    "asf": "a Windows Media file (wma)",
    "amr": "an AMR file",
    "caf": "a Core Audio file of a packed kind",
}
_AU = struct.Struct(">4sIIIII")  # .snd, offset, size, encoding, rate, channels
_FFMPEG = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file"]
_TO_AU = ["-vn", "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
_READ = 2**18  # bytes to read from ffmpeg at once
_MOST_ERRORS = 1000  # most packets in a row that PyAV may refuse


def foreign(source: Input, kind: str) -> Decoder:
    """A decoder for a file of ``kind``, by whatever this machine has.

    Raises: AudioError that says what to install if it has nothing; Unreadable if what
        it has cannot read the file.
    """
    found = decoders()
    if not found:
        raise AudioError(_advice(source, KINDS.get(kind, "not a plain sound file")))
    reasons = []
    for open_with in found:
        try:
            return open_with(source)
        except Unreadable as error:
            reasons.append(str(error))
    raise Unreadable("; ".join(dict.fromkeys(reasons)))


def decoders() -> "list[Callable[[Input], Decoder]]":
    """This machine's decoders for other kinds of sound, the best first."""
    found: list[Callable[[Input], Decoder]] = []
    if not missing("av"):
        found.append(ByPyAV)
    if shutil.which("ffmpeg"):
        found.append(ByFfmpeg)
    if shutil.which("afconvert"):
        found.append(by_afconvert)
    return found


def _advice(source: Input, what: str) -> str:
    path = source.path if str(source.path) == source.name else Path("sound.m4a")
    wav = path.with_suffix(".wav")
    return (
        f"{source.name} is {what}, for which a decoder is missing: "
        f"{how_to_install('av')}, install ffmpeg, or convert the file elsewhere: "
        f"ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(wav))}"
    )


class ByPyAV:
    """A file read by FFmpeg's libraries, which come with PyAV."""

    def __init__(self, source: Input):
        import av
        from av.error import FFmpegError

        self._file: BinaryIO = source.path.open("rb")
        try:
            # A playlist that claims to be a sound may not name other files.
            options = {"protocol_whitelist": "none"}
            # A window accepts any position; a damaged file makes FFmpeg seek before 0.
            window = Window(self._file, Span(0, source.size))
            self._container: Any = av.open(window, options=options)
            self._stream = self._container.streams.best("audio")
            if self._stream is None or self._stream.codec_context is None:
                raise Unreadable("it holds no sound of a kind that FFmpeg knows")
            self.sample_rate = check_rate(self._stream.codec_context.sample_rate)
        except (FFmpegError, OSError, ValueError) as error:
            self._file.close()  # now: the error's traceback would keep it open for long
            raise Unreadable(getattr(error, "strerror", None) or str(error)) from error
        stream = self._stream
        self.lost, self.lost_at_s = 0, 0.0
        length = stream.duration and float(stream.duration * stream.time_base)
        length = length or (self._container.duration or 0) / 1e6
        self.length = round(length * self.sample_rate) or None
        self._layout: str | None = None  # of the loudspeakers, from the first frame

    def blocks(self) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []  # frames are small: collect a second
        for pcm in self._frames():
            waiting.append(pcm)
            if sum(map(np.size, waiting)) >= self.sample_rate:
                yield np.concatenate(waiting, axis=1)
                waiting.clear()
        if waiting:
            yield np.concatenate(waiting, axis=1)

    def _frames(self) -> Iterator[np.ndarray]:
        """The decoded packets; damaged ones are skipped."""
        import av
        from av.error import FFmpegError

        errors = 0
        packets = self._container.demux(self._stream)
        setup, resampler = None, None
        while errors < _MOST_ERRORS:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                for frame in packet.decode():
                    now = (frame.format.name, frame.layout.name, frame.sample_rate)
                    if resampler is None or now != setup:
                        setup, self._layout = now, self._layout or frame.layout.name
                        # Not plane by plane: PyAV reads at most eight of them.
                        resampler = av.AudioResampler(
                            "flt", self._layout, self.sample_rate
                        )
                    for packed in resampler.resample(frame):
                        channels = packed.layout.nb_channels
                        yield packed.to_ndarray().reshape(-1, channels).T
                errors = 0
            except (FFmpegError, OSError, ValueError) as error:
                _log.debug("PyAV: %s", error)
                errors += 1

    def close(self) -> None:
        self._container.close()
        self._file.close()

    def __del__(self) -> None:
        self._file.close()


class ByFfmpeg:
    """A file read by an installed ffmpeg, as it is decoded."""

    def __init__(self, source: Input):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self._child = subprocess.Popen(
            [*_FFMPEG, "-i", f"file:{source.path.absolute()}", *_TO_AU],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        assert self._child.stdout is not None
        self._pipe = self._child.stdout
        head = self._pipe.read(_AU.size)
        if len(head) < _AU.size or head[:4] != b".snd":
            self.close()
            raise Unreadable(f"ffmpeg: {self._reason}")
        _, offset, _, _, rate, self._channels = _AU.unpack(head)
        self._pipe.read(offset - _AU.size)
        self.sample_rate = check_rate(rate)
        self.length: int | None = None  # it does not say
        self.lost, self.lost_at_s = 0, 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        rest, size = b"", 4 * self._channels
        while data := self._pipe.read(_READ):
            data = rest + data
            whole = len(data) // size * size
            pcm = np.frombuffer(data[:whole], ">f4").astype(np.float32)
            rest = data[whole:]
            yield pcm.reshape(-1, self._channels).T

    def close(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._pipe.close()
        if not self._errors.closed:
            self._errors.seek(0)
            lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
            self._reason = lines[-1].split(": ")[-1] if lines else "it said nothing"
            self._errors.close()


def by_afconvert(source: Input) -> Decoder:
    """A file read by macOS's afconvert, which converts all of it to a temporary
    file."""
    with temporary_file(".caf") as kept:
        done = subprocess.run(
            ["afconvert", "-f", "caff", "-d", "LEI16", str(source.path), kept.name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise Unreadable(f"afconvert: {lines[-1] if lines else done.returncode}")
        file = open(kept.name, "rb")  # noqa: SIM115  # the open file outlives its name
    size = file.seek(0, 2)
    return Plain(file, Span(0, size), ogg=False)
