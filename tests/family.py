"""Checkpoint folders of the models that speak, listen, translate and write."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx

from moshi_mlx.cli.main import main
from tests.listening import CONFIG, echo
from tests.speech import TTS
from tests.tiny import BASE, pytorch_weights

HIBIKI: dict[str, Any] = {
    **BASE,
    "card": 64,
    "text_card": 96,
    "model_type": "hibiki",
    "conditioners": {
        "description": {
            "type": "lut",
            "lut": {
                "n_bins": 3,
                "dim": 4,
                "tokenizer": "noop",
                "possible_values": ["very_bad", "neutral", "very_good"],
            },
        }
    },
    "fuser": {"sum": ["description"], "cross": [], "prepend": []},
}
HELIUM: dict[str, Any] = {
    "model_type": "helium",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "max_position_embeddings": 300,
    "vocab_size": 96,
    "tokenizer_name": "tokenizer.model",
}


def with_codec(folder: Path, config: dict[str, Any]) -> Path:
    """A folder with config, codec and tokenizer; the weights are the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        "mimi_name": "mimi.safetensors",
        "mimi_config_name": "mimi_config.json",
        "tokenizer_name": "tokenizer.model",
    }
    for name in names.values():
        shutil.copy(TTS / name, folder / name)
    (folder / "config.json").write_text(json.dumps({**config, **names}))
    return folder


def listening(folder: Path) -> Path:
    """The echo of tests/listening.py."""
    stt_config = {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0}
    config = {**CONFIG, "model_type": "stt", "stt_config": stt_config}
    with_codec(folder, config)
    echo().save_weights(str(folder / "model.safetensors"))
    return folder


def translating(folder: Path) -> Path:
    """A random Hibiki."""
    with_codec(folder, HIBIKI)
    weights = pytorch_weights(HIBIKI)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    return folder


def writing(folder: Path) -> Path:
    """A random Helium."""
    from moshi_mlx.checkpoint.helium import helium_config
    from moshi_mlx.models import Lm

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(HELIUM))
    shutil.copy(TTS / "tokenizer.model", folder)
    mx.random.seed(5)
    Lm(helium_config(HELIUM)).save_weights(str(folder / "model.safetensors"))
    return folder


def run(*args: object) -> int:
    """``moshi-mlx ARGS``: its exit code."""
    return main([str(arg) for arg in args])


def trio(folder: Path) -> Path:
    """Moshi, and models that listen and speak, over one codec and one tokenizer."""
    config = {**BASE, "card": 48, "text_card": 96, "moshi_name": "model.safetensors"}
    listening(folder)
    ears = json.loads((folder / "config.json").read_text())
    (folder / "model.safetensors").rename(folder / "stt.safetensors")
    (folder / "stt.json").write_text(
        json.dumps({**ears, "moshi_name": "stt.safetensors"})
    )
    mouth = json.loads((TTS / "config.json").read_text())
    mouth["tts_config"]["voice"] = "voice_a.wav"
    names = {key: ears[key] for key in ears if key.endswith("_name")}
    (folder / "tts.json").write_text(
        json.dumps({**mouth, **names, "moshi_name": "tts.safetensors"})
    )
    shutil.copy(TTS / "model.safetensors", folder / "tts.safetensors")
    for voice in TTS.glob("*@*.safetensors"):
        shutil.copy(voice, folder)
    with_codec(folder, config)
    mx.save_safetensors(str(folder / "model.safetensors"), pytorch_weights(config))
    return folder
