"""The temporal transformer over all streams, followed by the depth transformer."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from .. import fast
from ..compat import LmOf030
from ..linux_cpu import use_fast_products
from ..modules.attention import Condition, LayerCache
from ..modules.conditioner import ConditionProvider, ConditionTensor
from ..modules.embedding import ScaledEmbedding
from ..modules.lora import RowChoice
from ..modules.norm import make_norm
from ..modules.transformer import Transformer, TransformerConfig
from ..utils.processes import prepare_process
from ..utils.remap import remap
from ..utils.tensor_files import load
from .config import DepFormerConfig, LmConfig
from .delays import delay_sequence, undelay_sequence
from .depformer import DepFormer, DepFormerSlice
from .keys import pytorch_rules
from .presets import (
    config1b_202412,
    config1b_202412_16rvq,
    config_helium_1_preview_2b,
    config_v0_1,
)

__all__ = [
    "DepFormer",
    "DepFormerConfig",
    "DepFormerSlice",
    "Lm",
    "LmConfig",
    "LmOutput",
    "ScaledEmbedding",
    "TransformerConfig",
    "config1b_202412",
    "config1b_202412_16rvq",
    "config_helium_1_preview_2b",
    "config_v0_1",
]

CHUNK = 1024  # steps that teacher forcing runs at once: bounds attention's memory


@dataclass
class LmOutput:
    """Logits for a given sequence, aligned with its codes; 0 if masked.

    ``text_logits [B, 1, T, V]``, ``text_mask [B, 1, T]``, ``audio_logits [B, K, T,
    card]``, ``audio_mask [B, K, T]`` for the K steps of the depth transformer (None
    without one). The mask is false for a stream's last ``delay`` steps and if the code
    is -1.
    """

    text_logits: mx.array
    text_mask: mx.array
    audio_logits: mx.array | None
    audio_mask: mx.array | None


class Lm(LmOf030, nn.Module):
    """Moshi's language model: weights only; streams live in caches and ``LmGen``.

    Its methods are the reference, and differentiable. Generation uses ``ready()``, the
    same network in its fast form.

    Args:
        cfg: what ``LmConfig.from_config_dict`` reads, or a preset.

    Source: arXiv:2410.00037; kyutai-labs/moshi, models/lm.py.
    """

    def __init__(self, cfg: LmConfig):
        super().__init__()
        prepare_process()
        use_fast_products()
        dim = cfg.transformer.d_model
        self.cfg = cfg
        self.transformer = Transformer(cfg.transformer)
        self.depformer = DepFormer(cfg)
        self.text_emb = ScaledEmbedding(
            cfg.text_in_vocab_size,
            dim,
            demux_second_stream=cfg.demux_second_stream,
            norm=cfg.norm_emb and not cfg.demux_second_stream,
        )
        norm, eps = cfg.transformer.norm, cfg.transformer.norm_eps
        self.out_norm = make_norm(
            norm, dim, 1e-8 if eps is None and norm == "rms_norm" else eps
        )
        self.text_linear = nn.Linear(dim, cfg.text_out_vocab_size, bias=cfg.bias_proj)
        self.audio_embs = [
            ScaledEmbedding(cfg.audio_vocab_size, dim, norm=cfg.norm_emb)
            for _ in range(cfg.audio_codebooks)
        ]
        self.extra_heads = [
            nn.Linear(dim, cfg.extra_heads_dim, bias=False)
            for _ in range(cfg.extra_heads_num_heads)
        ]
        self.condition_provider = (
            ConditionProvider(dim, cfg.conditioners) if cfg.conditioners else None
        )
        self.adapters: RowChoice | None = None  # where rows have adapters of their own

    @property
    def n_q(self) -> int:
        """Audio streams, own and other."""
        return self.cfg.audio_codebooks

    @property
    def dep_q(self) -> int:
        """Own audio streams."""
        return self.cfg.generated_codebooks

    @property
    def audio_offset(self) -> int:
        """Streams before the first audio stream."""
        return 1

    @property
    def delays(self) -> list[int]:
        """Delay of each audio stream, in steps."""
        return self.cfg.audio_delays

    def ready(self, refresh: bool = True) -> "Lm":
        """The same network in its fast form, for generation: see ``fast.ready``."""
        return fast.ready(self, refresh)

    def load_pytorch_weights(
        self, file: str, lm_config: LmConfig | None = None, strict: bool = True
    ) -> "Lm":
        """Load a PyTorch-format safetensors file.

        Raises: CheckpointError naming the keys that do not fit.
        """
        rules = pytorch_rules(self.cfg if lm_config is None else lm_config)
        weights = load(file)
        assert isinstance(weights, dict)
        self.load_weights(list(remap(weights, rules, str(file)).items()), strict=strict)
        return self

    def embed(self, text: mx.array, audio: mx.array | None = None) -> mx.array:
        """The transformer's input: tokens ``[B, T]``, ``[B, n_q, T] -> [B, T, D]``."""
        x = self.text_emb(text)
        if self.audio_embs and audio is not None:
            x = x + self.embed_audio(audio)
        return x

    def embed_audio(self, audio: mx.array) -> mx.array:
        """Sum of the streams' embeddings: ``[B, n_q, T] -> [B, T, D]``."""
        parts = [emb(audio[:, k]) for k, emb in enumerate(self.audio_embs)]
        return sum(parts[1:], parts[0])

    def hidden(
        self,
        text: mx.array,
        audio: mx.array | None,
        cache: Sequence[LayerCache] | None = None,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        active: Sequence[bool] | None = None,
        embedded: mx.array | None = None,
        embedded_steps: mx.array | None = None,
    ) -> mx.array:
        """Output of the temporal transformer after its norm, ``[B, T, D]``.

        Args:
            text: ``[B, T]``, and ``audio [B, n_q, T]``: streams with their delays.
            cache: the stream so far, updated in place; None for a whole sequence.
            ct: summed condition, ``[B, D]`` or ``[B, 1, D]``.
            cross_attention_src: condition to attend to, ``[B, S, D]``.
            active: rows that advance; the output of the others is meaningless.
            embedded: ``[B, N, D]``, read instead of the tokens of the first N steps.
            embedded_steps: int32 ``[B]``, number of those steps; None for all N.
        """
        x = self.embed(text, audio)
        if embedded is not None:
            x = _begun_with(x, embedded.astype(x.dtype), embedded_steps)
        if ct is not None:
            tensor = ct.tensor if ct.tensor.ndim == 3 else ct.tensor[:, None]
            x = x + tensor.astype(x.dtype)
        x = self.transformer(x, cache, cross_attention_src, active)
        return self.out_norm(x)

    def text_logits(self, hidden: mx.array) -> mx.array:
        """Text logits ``[B, T, V]`` of the transformer's output ``[B, T, D]``."""
        return self.text_linear(hidden)

    def teacher_forced(
        self,
        codes: mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: Condition | None = None,
        chunk: int = CHUNK,
        embedded: mx.array | None = None,
        embedded_steps: mx.array | None = None,
    ) -> LmOutput:
        """Logits of every token of a given sequence; differentiable.

        Args:
            codes: ``[B, 1 + n_q, T]``, text first, not delayed.
            ct, cross_attention_src, embedded, embedded_steps: as in ``hidden``.
            chunk: number of steps that run at once; it does not change the result.
                Embedded steps must fit into the first chunk.
        """
        cfg = self.cfg
        b, streams, t = codes.shape
        if streams != 1 + cfg.audio_codebooks:
            raise ValueError(
                f"teacher_forced got {streams} streams: the model has "
                f"{1 + cfg.audio_codebooks}, text first."
            )
        delays = [cfg.text_delay, *cfg.audio_delays]
        initial = mx.array(
            [cfg.text_initial_token] + [cfg.audio_padding_token] * cfg.audio_codebooks
        )[None, :, None]
        delayed = delay_sequence(codes.astype(mx.int32), delays, initial)
        first = mx.broadcast_to(initial, (b, streams, 1))
        inputs = mx.concatenate([first, delayed], axis=2)
        whole = t <= chunk and cfg.transformer.kv_bits is None
        cache = None if whole else self.transformer.make_rot_cache()
        predicted = cfg.depformer.num_slices  # own streams, and those it foresees
        text_parts, audio_parts = [], []
        for start in range(0, t, chunk):
            end = min(start + chunk, t)
            now, target = inputs[:, :, start:end], delayed[:, : 1 + predicted]
            begun = () if start else (embedded, embedded_steps)
            hidden = self.hidden(
                now[:, 0], now[:, 1:], cache, ct, cross_attention_src, None, *begun
            )
            text_parts.append(self.text_logits(hidden))
            if predicted:
                told = target[:, :-1, start:end]
                audio_parts.append(self.depformer.teacher_forced(hidden, told))
        text_logits, text_mask = undelay_sequence(
            mx.concatenate(text_parts, axis=1)[:, None], delays[:1], codes[:, :1]
        )
        if not audio_parts:
            return LmOutput(text_logits, text_mask, None, None)
        own = slice(1, 1 + predicted)
        audio_logits, audio_mask = undelay_sequence(
            mx.concatenate(audio_parts, axis=2), delays[own], codes[:, own]
        )
        return LmOutput(text_logits, text_mask, audio_logits, audio_mask)


def _begun_with(x: mx.array, embedded: mx.array, steps: mx.array | None) -> mx.array:
    """``x [B, T, D]`` with its first steps exchanged, in each row so many."""
    count = embedded.shape[1]
    if steps is not None:
        there = mx.arange(count) < steps[:, None]
        embedded = mx.where(there[..., None], embedded, x[:, :count])
    return mx.concatenate([embedded, x[:, count:]], axis=1)
