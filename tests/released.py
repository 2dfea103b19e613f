"""config.json of released models, as far as a language model is concerned."""

from typing import Any

Config = dict[str, Any]

_DEPTH: Config = {
    "depformer_dim": 1024,
    "depformer_num_heads": 16,
    "depformer_num_layers": 6,
    "depformer_dim_feedforward": 4224,
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_context": 8,
    "depformer_max_period": 10_000,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
}
_COMMON: Config = {
    "card": 2048,
    "existing_text_padding_id": 3,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    **_DEPTH,
}


def _delays(late: int, own: int, other: int = 0) -> list[int]:
    """Text and each side's first codebook at once, the rest ``late`` steps later."""
    sides = [side for side in (own, other) if side]
    return [0] + [d for side in sides for d in [0] + [late] * (side - 1)]


def _lut(dim: int, *values: str, bins: int = 0) -> Config:
    lut = {"n_bins": bins or len(values), "dim": dim, "tokenizer": "noop"}
    return {"type": "lut", "lut": {**lut, "possible_values": list(values)}}


MOSHI_7B: Config = {
    **_COMMON,
    "dim": 4096,
    "num_heads": 32,
    "num_layers": 32,
    "context": 3000,
    "max_period": 10_000,
    "text_card": 32_000,
    "n_q": 16,
    "dep_q": 8,
    "delays": _delays(1, 8, 8),
}
STT_2_6B: Config = {
    **_COMMON,
    "dim": 2048,
    "num_heads": 32,
    "num_layers": 48,
    "context": 375,
    "max_period": 100_000,
    "text_card": 4000,
    "n_q": 32,
    "dep_q": 0,
    "delays": [0] * 33,
    "depformer_dim_feedforward": None,
    "conditioners": {},
    "cross_attention": False,
    "model_type": "stt",
    "mimi_name": "mimi-pytorch-e351c8d8@125.safetensors",
    "stt_config": {"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0},
    "lm_gen_config": {"temp": 0, "temp_text": 0, "top_k": 250, "top_k_text": 50},
    "model_id": {"sig": "dabcc802", "epoch": 50},
}
STT_1B: Config = {
    **STT_2_6B,
    "num_heads": 16,
    "num_layers": 16,
    "context": 750,
    "text_card": 8000,
    "extra_heads_num_heads": 4,
    "extra_heads_dim": 6,
}
TTS_1_6B: Config = {
    **_COMMON,
    "dim": 2048,
    "num_heads": 16,
    "num_layers": 16,
    "context": 500,
    "max_period": 10_000,
    "text_card": 8000,
    "text_card_out": None,
    "n_q": 32,
    "dep_q": 32,
    "delays": [0, 0] + [2] * 31,
    "depformer_num_layers": 4,
    "depformer_dim_feedforward": 3072,
    "depformer_low_rank_embeddings": 128,
    "depformer_weights_per_step_schedule": ([*range(8)] + [8] * 8 + [9] * 8 + [10] * 8),
    "demux_second_stream": True,
    "cross_attention": True,
    "conditioners": {
        "speaker_wavs": {"type": "tensor", "tensor": {"dim": 512}},
        "cfg": _lut(16, "1.0", "1.5", "2.0", "2.5", "3.0", "3.5", "4.0"),
        "control": _lut(2048, "ok"),
    },
    "fuser": {
        "cross_attention_pos_emb": True,
        "cross_attention_pos_emb_scale": 1,
        "sum": ["control", "cfg"],
        "prepend": [],
        "cross": ["speaker_wavs"],
    },
    "tts_config": {"audio_delay": 1.28, "second_stream_ahead": 2},
    "model_id": {"sig": "1e68beda", "epoch": 240},
    "model_type": "tts",
    "lm_gen_config": {"temp": 0.6, "text_temp": 0.6},
}
HIBIKI_2B: Config = {
    **_COMMON,
    "dim": 2560,
    "num_heads": 20,
    "num_layers": 24,
    "context": 1500,
    "max_period": 100_000,
    "text_card": 48_000,
    "n_q": 32,
    "dep_q": 16,
    "delays": _delays(2, 16, 16),
    "depformer_num_layers": 4,
    "depformer_dim_feedforward": 3072,
    "depformer_low_rank_embeddings": 128,
    "depformer_weights_per_step_schedule": [*range(8)] + [8] * 8,
    "conditioners": {
        "description": _lut(
            16, "very_bad", "bad", "neutral", "good", "very_good", bins=31
        )
    },
    "fuser": {"sum": ["description"]},
    "cross_attention": [],
    "model_type": "hibiki",
}
HIBIKI_ZERO_3B: Config = {
    **_COMMON,
    "dim": 2048,
    "num_heads": 16,
    "num_layers": 28,
    "kv_repeat": 2,
    "hidden_scale": 6,
    "context": 3000,
    "max_period": 20_000,
    "positional_embedding": "rope_concat",
    "text_card": 48_000,
    "n_q": 32,
    "dep_q": 16,
    "delays": _delays(2, 16, 16),
    "depformer_dim_feedforward": None,
    "depformer_norm": "layer_norm",
    "depformer_kv_repeat": 1,
    "depformer_weights_per_step_schedule": [*range(8)] + [8] * 8,
    "conditioners": {},
    "model_type": "hibiki",
}
RELEASED: dict[str, Config] = {
    "moshi 7b": MOSHI_7B,
    "stt 2.6b": STT_2_6B,
    "stt 1b with heads": STT_1B,
    "tts 1.6b": TTS_1_6B,
    "hibiki 2b": HIBIKI_2B,
    "hibiki-zero 3b": HIBIKI_ZERO_3B,
}
