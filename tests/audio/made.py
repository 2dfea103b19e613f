"""Sound files of every kind, made on the spot, for tests and ``scripts/fuzz``."""

import io
from functools import cache
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data" / "audio"
RATE = 24000
SECONDS = 3.0
# Name: format and subtype of libsndfile, or container, codec and rate of FFmpeg.
PLAIN = {
    "wav": ("WAV", "PCM_16"),
    "float.wav": ("WAV", "FLOAT"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_24"),
    "au": ("AU", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "flac": ("FLAC", "PCM_16"),
}
PACKED = {
    "mp3": ("mp3", "libmp3lame", 24000),
    "aac": ("adts", "aac", 24000),
    "flac.ogg": ("ogg", "flac", 24000),
}
FOREIGN = {
    "m4a": ("ipod", "aac", 24000),
    "mp4": ("mp4", "aac", 44100),
    "mov": ("mov", "alac", 24000),
    "3gp": ("3gp", "amr_nb", 8000),
    "webm": ("webm", "libopus", 48000),
    "mka": ("matroska", "pcm_s16le", 24000),
    "wma": ("asf", "wmav2", 44100),
    "amr": ("amr", "amr_nb", 8000),
    "ac3": ("ac3", "ac3", 48000),
    "alac.caf": ("caf", "alac", 24000),
}
BIT_RATES = {"amr_nb": 12200, "wmav2": 64000}  # of codecs without a default
KINDS = [*PLAIN, *PACKED, *FOREIGN]


def tone(hz: float = 440, seconds: float = SECONDS, rate: int = RATE) -> np.ndarray:
    """A tone as float32 ``[S]`` whose loudness rises from second to second."""
    t = np.arange(int(seconds * rate)) / rate
    loudness = 0.2 + 0.1 * np.floor(t)
    return (loudness * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def loudest_hz(pcm: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(pcm))
    return float(spectrum.argmax() * rate / len(pcm))


@cache
def made(kind: str, hz: float = 440, seconds: float = SECONDS) -> bytes:
    """A file of ``kind`` that holds ``tone``."""
    if kind in PLAIN:
        return plain(tone(hz, seconds)[None], *PLAIN[kind])
    return packed(tone(hz, seconds), *{**PACKED, **FOREIGN}[kind])


def plain(pcm: np.ndarray, form: str, subtype: str, rate: int = RATE) -> bytes:
    """Samples ``[C, S]`` as a file that libsndfile writes."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, pcm.T, rate, format=form, subtype=subtype)
    return file.getvalue()


def packed(
    pcm: np.ndarray,
    form: str,
    codec: str,
    rate: int,
    bit_rate: int | None = None,
    **options: str,
) -> bytes:
    """Samples ``[S]`` as a file that FFmpeg writes; ``options`` are the container's."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        if bit_rate := bit_rate or BIT_RATES.get(codec):
            stream.bit_rate = bit_rate
        context = stream.codec_context
        fit = av.AudioResampler(
            context.format.name, "mono", rate, context.frame_size or None
        )
        frame = av.AudioFrame.from_ndarray(pcm[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for part in [*fit.resample(frame), *fit.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()
