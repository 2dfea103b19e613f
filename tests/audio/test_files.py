"""Sound files of every kind come in; what is none is named in one sentence."""

import os
import signal
import struct
import subprocess
import sys
import textwrap
import wave
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.errors import AudioError

DATA = Path(__file__).parents[1] / "data" / "audio"


def tone(hz: float = 440, seconds: float = 0.5, rate: int = 24000) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def loudest_hz(pcm: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(pcm))
    return float(spectrum.argmax() * 24000 / len(pcm))


@pytest.mark.parametrize("name", ["tone.mp3", "tone.flac", "tone.ogg", "tone.m4a"])
def test_compressed_stereo_at_another_rate_is_read(name):
    # Recorded at 44.1 kHz: 440 Hz at 0.5 on the left, 880 Hz at 0.25 on the right.
    both = audio.read(DATA / name, mono=False)
    assert both.dtype == np.float32 and both.shape[0] == 2
    assert abs(both.shape[1] - 12000) < 1600  # mp3 pads to its own frames
    assert abs(loudest_hz(both[0]) - 440) < 5
    assert abs(loudest_hz(both[1]) - 880) < 5
    mono = audio.read(DATA / name)
    assert np.allclose(mono, both.mean(axis=0, keepdims=True), atol=1e-6)


def test_opus_is_read(tmp_path):
    import soundfile

    path = tmp_path / "tone.opus"
    soundfile.write(path, tone(), 24000, format="OGG", subtype="OPUS")
    pcm = audio.read(path)
    assert pcm.shape[1] == 12000
    assert abs(loudest_hz(pcm[0]) - 440) < 5


def test_what_is_written_is_read(tmp_path):
    stereo = np.stack([tone(440), tone(880)])
    audio.write_wav(tmp_path / "x.wav", stereo)
    assert np.abs(audio.read(tmp_path / "x.wav", mono=False) - stereo).max() < 1e-4
    with wave.open(str(tmp_path / "x.wav")) as file:  # another reader agrees
        assert file.getparams()[:4] == (2, 2, 24000, 12000)


def test_too_loud_is_clipped_not_wrapped(tmp_path):
    audio.write_wav(tmp_path / "x.wav", np.array([2.0, -2.0, 0.5], np.float32))
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert struct.unpack("<3h", file.readframes(3)) == (32767, -32767, 16384)


def test_frames_are_the_file_and_then_silence(tmp_path):
    audio.write_wav(tmp_path / "x.wav", tone(seconds=0.1))
    first, last = audio.frames(tmp_path / "x.wav")
    assert first.shape == last.shape == (1920,)
    assert np.array_equal(first, audio.read(tmp_path / "x.wav")[0, :1920])
    assert np.abs(last[:480]).max() > 0.4 and np.all(last[480:] == 0)


def float_wav(path: Path, pcm: np.ndarray) -> Path:
    """A WAV of 32-bit floats, which may hold NaN."""
    size = pcm.nbytes
    head = struct.pack(
        "<4sI8sIHHIIHH", b"RIFF", size + 36, b"WAVEfmt ", 16, 3, 1, 24000, 96000, 4, 32
    )
    path.write_bytes(head + struct.pack("<4sI", b"data", size) + pcm.tobytes())
    return path


def test_bad_files_are_refused_with_a_reason_each(tmp_path):
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    nan = tone()
    nan[7] = np.nan
    cases = {
        tmp_path / "gone.wav": "there is no file .*gone.wav",
        tmp_path: "is a folder",
        write("empty.wav", b""): "is an empty file",
        write("text.wav", b"I am a letter."): "text.wav is not a sound file",
        float_wav(tmp_path / "nan.wav", nan): "not numbers",
        float_wav(tmp_path / "none.wav", tone()[:0]): "holds no sound",
    }
    for path, sentence in cases.items():
        with pytest.raises(AudioError, match=sentence):
            audio.read(path)
        with pytest.raises(AudioError, match=sentence):
            audio.frames(path)


def test_a_streamed_wav_of_unknown_length_is_read(tmp_path):
    pcm = tone()
    path = float_wav(tmp_path / "pipe.wav", pcm)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # as ffmpeg writes to a pipe
    path.write_bytes(data)
    assert np.array_equal(audio.read(path)[0], pcm)


def test_places_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(AudioError, match=r"nowhere.*No such file or directory"):
        audio.write_wav(tmp_path / "nowhere" / "x.wav", tone())
    with pytest.raises(AudioError, match=r"only WAV can: name it .*x\.wav"):
        audio.write_wav(tmp_path / "x.mp3", tone())
    with pytest.raises(AudioError, match=r"only WAV can: name it .*talk\.wav"):
        audio.write_wav(tmp_path / "talk.txt", tone())  # a recording's words go there
    with pytest.raises(AudioError, match=r"standard output \(-\): name a WAV file"):
        audio.write_wav("-", tone())
    with audio.WavWriter(tmp_path / "x.wav", channels=2) as file:  # noqa: SIM117
        with pytest.raises(AudioError, match=r"2 channel.*\[1920\]"):
            file.write(np.zeros(1920))


def test_a_killed_writer_leaves_a_valid_file(tmp_path):
    path = tmp_path / "killed.wav"
    code = f"""
        import numpy as np, sys, time
        from moshi_mlx.audio import WavWriter
        file = WavWriter({str(path)!r}, channels=2)
        for i in range(5):
            file.write(np.full((2, 1920), 0.1 * i, np.float32))
        print("written", flush=True)
        time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    pcm = audio.read(path, mono=False)
    assert pcm.shape == (2, 5 * 1920)
    assert np.allclose(pcm[:, ::1920], 0.1 * np.arange(5), atol=1e-4)
