"""Sound in pieces cut anywhere is the sound itself."""

import io

import numpy as np
import pytest
import soundfile

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.sounds import (
    CompandedReader,
    SampleReader,
    SoundReader,
    WavStreamReader,
    companded,
)
from tests.listening import noise

PCM = np.clip(noise(0.5, 4), -0.9, 0.9)


def read(reader: SoundReader, data: bytes, size: int) -> np.ndarray:
    pieces = [reader.push(data[i : i + size]) for i in range(0, len(data), size)]
    return np.concatenate([*pieces, reader.flush()])


@pytest.mark.parametrize("size", [1, 7, 44, 10_000])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_32"])
def test_a_wav_stream_is_read_from_pieces_of_any_size(subtype, size):
    out = io.BytesIO()
    soundfile.write(out, PCM, 24000, subtype, format="WAV")
    found = read(WavStreamReader(24000), out.getvalue(), size)
    np.testing.assert_allclose(found, PCM, atol=1e-4)


def test_two_channels_at_another_rate_become_one_at_the_models():
    time = np.arange(24000) / 48000
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    both = (np.stack([tone, tone], 1) * 32767).astype("<i2").tobytes()
    found = read(SampleReader(48000, 24000, channels=2), both, 333)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(12000) / 24000)
    assert len(found) == 12000
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=2e-3)


@pytest.mark.parametrize("law", ["ULAW", "ALAW"])
def test_companded_sound_comes_back(law):
    pcm = PCM[:4000]
    found = read(CompandedReader(law, 8000), companded(pcm, law), 100)
    np.testing.assert_allclose(found, pcm, atol=0.02)


@pytest.mark.parametrize(
    "data",
    [
        b"OggS" + bytes(60),
        b"RIFF\xff\xff\xff\xffWAVEdata" + bytes(40),
        b"RIFF\xff\xff\xff\xffWAVEfmt \x02\0\0\0\0\0data" + bytes(40),
        b"RIFF\xff\xff\xff\xffWAVEJUNK\xff\xff\xff\x7f" + bytes(70_000),
    ],
)
def test_what_is_no_wav_is_refused_in_a_sentence(data):
    with pytest.raises(ProtocolError, match=r"\.$"):
        read(WavStreamReader(24000), data, 4096)


@pytest.mark.parametrize("shape", [(2, 0), (3, 1), (2, 99)])
def test_shapes_that_nobody_records_are_refused(shape):
    with pytest.raises(ProtocolError, match="send 1 to 8 channels"):
        SampleReader(24000, 24000, *shape)
