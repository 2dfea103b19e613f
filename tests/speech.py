"""The small speaking models of tests/data/tts, and what PyTorch makes of them."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import sentencepiece

from moshi_mlx.engines.tts import TTSModel
from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.models.mimi import Mimi, MimiConfig

TTS = Path(__file__).parent / "data" / "tts"
PREFIX = TTS / "prefix"
VOICES = {name: TTS / f"voice_{name}.wav.1e68beda@240.safetensors" for name in "ab"}
EXPECTED: dict[str, Any] = json.loads((TTS / "expected.json").read_text())
SETTINGS = EXPECTED.pop("settings")
SCRIPTS = list(EXPECTED)


@cache
def tokenizer() -> sentencepiece.SentencePieceProcessor:
    path = str(TTS / "tokenizer.model")
    return sentencepiece.SentencePieceProcessor(path)  # type: ignore[call-arg]


@cache
def _weights(folder: Path) -> tuple[Lm, dict[str, Any]]:
    config = json.loads((folder / "config.json").read_text())
    lm = Lm(LmConfig.from_config_dict(config))
    lm.load_pytorch_weights(str(folder / "model.safetensors"))
    mx.eval(lm.parameters())  # shared by threads: each has streams of its own
    return lm, config


@cache
def _codec() -> Mimi:
    config = json.loads((TTS / "mimi_config.json").read_text())
    mimi = Mimi(MimiConfig.from_config_dict(config, num_codebooks=6))
    mimi.load_pytorch_weights(TTS / "mimi.safetensors")
    mx.eval(mimi.parameters())
    return mimi


def speaker(folder: Path = TTS, temp: float = 0.0, **settings: Any) -> TTSModel:
    """A greedy speaker with settings of its own over shared weights."""
    lm, config = _weights(folder)
    settings = {"voice_repo": str(TTS), **settings}
    return TTSModel(lm, _codec(), tokenizer(), temp=temp, raw_config=config, **settings)


def golden(path: Path) -> dict[str, mx.array]:
    tensors = mx.load(str(path))
    assert isinstance(tensors, dict)
    return tensors
