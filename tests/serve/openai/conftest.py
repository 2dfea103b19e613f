"""A server with small models, and OpenAI's client of it."""

from collections.abc import Iterator

import numpy as np
import pytest
from openai import OpenAI

import moshi_mlx
from moshi_mlx.engines.stt import STTModel
from moshi_mlx.engines.tts import TTSModel
from tests.family import listening
from tests.serve.openai.speaking import speaking
from tests.speech import TTS


@pytest.fixture(scope="module")
def stt(tmp_path_factory) -> STTModel:
    return moshi_mlx.load_stt(listening(tmp_path_factory.mktemp("stt")))


@pytest.fixture(scope="module")
def tts() -> TTSModel:
    return moshi_mlx.load_tts(TTS, voice_repo=str(TTS))


@pytest.fixture
def client(serve, stt, tts) -> Iterator[OpenAI]:
    server = serve(speech=speaking(stt, tts, voice_map={"mine": "voice_b.wav"}))
    url = f"http://127.0.0.1:{server.port}/v1"
    with OpenAI(base_url=url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    generator = np.random.default_rng(1)
    return generator.normal(0, 0.2, 24000).astype(np.float32)
