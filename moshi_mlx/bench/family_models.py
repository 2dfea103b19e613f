"""The family's other models with random weights: they listen, speak, translate, write.

They have the published shapes, and are as fast and as large as trained ones; or they
are tiny.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..checkpoint.build import load_lm, load_mimi
from ..checkpoint.cost import cost
from ..checkpoint.helium import HELIUM_2B, helium_config
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.memory import check_memory
from ..checkpoint.quantize import materialise
from ..engines.load import load_stt, load_text, load_tts
from ..engines.stt import STTModel
from ..engines.text import TextModel
from ..engines.tts import TTSModel
from ..errors import ConfigError
from ..models.config import LmConfig
from ..models.lm import Lm
from ..models.mimi import Mimi, MimiConfig, mimi_202407
from .synthetic import SIZES

BASE = {**SIZES["7B"], "hidden_scale": 4.125, "card": 2048, "context": 500}
DEPTH = {
    "depformer_dim": 1024,
    "depformer_num_heads": 16,
    "depformer_num_layers": 4,
    "depformer_dim_feedforward": 3072,
    "depformer_low_rank_embeddings": 128,
}


def _lut(values: list[str], dim: int = 16) -> dict[str, Any]:
    table = {"n_bins": len(values), "dim": dim, "tokenizer": "noop"}
    return {"type": "lut", "lut": {**table, "possible_values": values}}


STT: dict[str, Any] = {  # kyutai/stt-1b-en_fr
    **BASE,
    "model_type": "stt",
    **{"dim": 2048, "num_heads": 16, "num_layers": 16, "context": 750},
    **{"n_q": 32, "dep_q": 0, "delays": [0] * 33, "text_card": 8000},
    "extra_heads_num_heads": 4,
    "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
}
TTS: dict[str, Any] = {  # kyutai/tts-1.6b-en_fr
    **BASE,
    **DEPTH,
    "model_type": "tts",
    **{"dim": 2048, "num_heads": 16, "num_layers": 16},
    **{"n_q": 32, "dep_q": 32, "delays": [0, 0] + [2] * 31, "text_card": 8000},
    "depformer_weights_per_step_schedule": [*range(8), *[8] * 8, *[9] * 8, *[10] * 8],
    "cross_attention": True,
    "demux_second_stream": True,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
        "cfg": _lut([f"{c / 2:.1f}" for c in range(2, 9)]),
        "control": _lut(["ok"]),
    },
    "fuser": {
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1,
        **{"sum": ["control", "cfg"], "prepend": [], "cross": ["speaker_wavs"]},
    },
    "tts_config": {"audio_delay": 1.28, "second_stream_ahead": 2},
    "model_id": {"sig": "random", "epoch": 0},
}
TRANSLATION: dict[str, Any] = {  # kyutai/hibiki-1b
    **BASE,
    **DEPTH,
    "model_type": "hibiki",
    **{"dim": 2048, "num_heads": 16, "num_layers": 16, "text_card": 48000},
    **{"n_q": 16, "dep_q": 8, "delays": [0] + 2 * [0, *[2] * 7]},
    **{"depformer_num_layers": 6, "depformer_low_rank_embeddings": None},
    "conditioners": {
        "description": _lut(["very_bad", "bad", "neutral", "good", "very_good"])
    },
    "fuser": {"sum": ["description"], "prepend": [], "cross": []},
}
CONFIGS = {"stt": STT, "tts": TTS, "translation": TRANSLATION, "text": HELIUM_2B}
TINY = {"dim": 64, "num_heads": 2, "num_layers": 2, "text_card": 500}
TINY_DEPTH = {
    "depformer_dim": 32,
    "depformer_num_heads": 2,
    "depformer_num_layers": 1,
    "depformer_dim_feedforward": 64,
}
TINY_STREAMS = {
    "stt": {"n_q": 8, "delays": [0] * 9},
    "tts": {
        **{"n_q": 8, "dep_q": 8, "delays": [0, 0] + [2] * 7},
        "depformer_weights_per_step_schedule": [*range(8)],
    },
}
TINY_TEXT = {
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 500},
}
TINY_CODEC = {
    "seanet": {"n_filters": 2, "dimension": 32},
    "quantizer": {"dimension": 16, "input_dimension": 32, "output_dimension": 32},
    "transformer": {
        **{"d_model": 32, "num_heads": 2, "num_layers": 1, "dim_feedforward": 64},
        **{"input_dimension": 32, "output_dimensions": [32]},
    },
}
DEMO = Path(__file__).parents[1] / "demo"
FAMILY_SIZES = ("published", "tiny")


class Numbers:
    """A tokenizer for random models: each word is a token, by its letters."""

    def __init__(self, size: int):
        self._size = size

    def encode(self, text: str, /) -> list[int]:
        spread = self._size - 4  # the first four are special
        return [4 + zlib.crc32(word.encode()) % spread for word in text.split()]

    def id_to_piece(self, id: int) -> str:
        return f"\u2581{id}"

    def is_byte(self, id: int) -> bool:  # noqa: ARG002
        return False

    def is_control(self, id: int) -> bool:
        return id < 4

    def unk_id(self) -> int:
        return 0


def random_config(task: str, size: str) -> dict[str, Any]:
    """config.json of a model for ``task``.

    Raises: ConfigError for an unknown task or size.
    """
    if task not in CONFIGS:
        raise ConfigError(f"task {task!r} is unknown: use {', '.join(CONFIGS)}.")
    if size not in FAMILY_SIZES:
        raise ConfigError(
            f"size {size!r} is not available with --task: use "
            f"{' or '.join(FAMILY_SIZES)}."
        )
    if size == "published":
        return CONFIGS[task]
    if task == "text":
        return CONFIGS[task] | TINY_TEXT
    return CONFIGS[task] | TINY | TINY_DEPTH | TINY_STREAMS.get(task, {})


def random_lm(task: str, config: dict[str, Any]) -> Lm:
    """Its language model, in the types that this machine computes with."""
    text = task == "text"
    lm = Lm(helium_config(config) if text else LmConfig.from_config_dict(config))
    cpu = mx.default_device().type == mx.DeviceType.cpu
    lm.set_dtype(mx.float32 if cpu else mx.bfloat16)
    check_memory(cost(lm).nbytes, f"the {task} model", "take --size tiny")
    materialise(lm)
    return lm


def random_mimi(codebooks: int, size: str) -> Mimi:
    """The released codec's shape, or the demo's, narrower."""
    cfg = mimi_202407(codebooks)
    if size == "tiny":
        data = json.loads((DEMO / "mimi_config.json").read_text())
        for part, changes in TINY_CODEC.items():
            data[part] |= changes
        data["quantizer"] |= {"n_q": codebooks, "bins": cfg.quantizer_bins}
        cfg = MimiConfig.from_config_dict(data)
    mimi = Mimi(cfg)
    for module in mimi.modules():
        if "embedding_sum" in module:
            module.embedding_sum = mx.random.normal(module.embedding_sum.shape)
            module.cluster_usage = mx.ones(module.cluster_usage.shape)
    materialise(mimi)
    return mimi


@dataclass(frozen=True)
class Translator:
    """A model that hears and speaks, with its codec."""

    lm: Lm
    mimi: Mimi


Model = STTModel | TTSModel | Translator | TextModel


def random_model(task: str, size: str) -> Model:
    """A model for a task, see ``random_config``."""
    config = random_config(task, size)
    lm = random_lm(task, config)
    numbers = Numbers(lm.cfg.text_out_vocab_size)
    if task == "text":
        return TextModel(lm, numbers)
    mimi = random_mimi(max(lm.dep_q, lm.cfg.other_codebooks), size)
    if task == "stt":
        return STTModel(lm, mimi, numbers, config)
    if task == "tts":
        return TTSModel(lm, mimi, numbers, raw_config=config)
    return Translator(lm, mimi)


def loaded_model(info: CheckpointInfo) -> tuple[str, Model]:
    """The task of a checkpoint, and its model.

    Raises: ConfigError for one that holds conversations.
    """
    if info.kind.speaks:
        return "tts", load_tts(info=info)
    if info.kind.transcribes:
        return "stt", load_stt(info=info)
    if not (info.kind.translates or info.kind.writes):
        raise ConfigError(
            f"{info.name} is a {info.model_type} model, which holds conversations: "
            "leave --task out."
        )
    if info.kind.writes:
        return "text", load_text(info=info)
    return "translation", Translator(load_lm(info), load_mimi(info, info.num_codebooks))
