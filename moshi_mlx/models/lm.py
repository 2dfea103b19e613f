"""The temporal transformer over all streams, with the depth transformer behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..linux_cpu import use_fast_products
from ..modules import ops
from ..modules.attention import LayerCache
from ..modules.compiled import Compiled
from ..modules.conditioner import ConditionProvider, ConditionTensor
from ..modules.embedding import ScaledEmbedding
from ..modules.joined import JoinedEmbedding
from ..modules.norm import make_norm
from ..modules.transformer import Transformer, TransformerConfig
from ..utils.remap import remap
from ..utils.sampling import Sampler
from .config import DepFormerConfig, LmConfig
from .delays import delay_sequence, undelay_sequence
from .depformer import DepFormer, DepFormerSlice
from .depth import DepthFrames
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

Hook = Callable[[mx.array], None]
CHUNK = 256  # steps that teacher forcing runs at once: bounds the mask's memory


@dataclass
class LmOutput:
    """Logits for a whole given sequence, aligned with its codes; 0 where masked.

    ``text_logits [B, 1, T, V]``, ``text_mask [B, 1, T]``, ``audio_logits [B, dep_q, T,
    card]``, ``audio_mask [B, dep_q, T]`` (None without depth transformer). The mask is
    false for a stream's last ``delay`` steps and where the code is -1.
    """

    text_logits: mx.array
    text_mask: mx.array
    audio_logits: mx.array | None
    audio_mask: mx.array | None


class Lm(nn.Module):
    """Moshi's language model: weights only; streams live in caches and ``LmGen``.

    Args:
        cfg: what ``LmConfig.from_config_dict`` reads, or a preset.

    Source: arXiv:2410.00037; kyutai-labs/moshi, models/lm.py.
    """

    def __init__(self, cfg: LmConfig):
        super().__init__()
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
        self._joined_audio = JoinedEmbedding()
        self.depth_frames = DepthFrames(self.depformer)
        self._compiled = Compiled(self.transformer)
        self.expose_cache(self.transformer.make_rot_cache())

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

    @property
    def transformer_cache(self) -> list[LayerCache]:
        """State of the newest ``LmGen`` on these weights, else of direct calls."""
        return self._exposed[0]

    @property
    def depformer_cache(self) -> list[LayerCache]:
        """State of the depth transformer between frames: there is none, so that this is
        new and empty at every look. Programs of moshi_mlx 0.3.0 reset it."""
        slices = self.depformer.slices
        return slices[0].transformer.make_frame_cache() if slices else []

    def __setattr__(self, name: str, value: Any) -> None:
        """Programs of moshi_mlx 0.3.0 also replace the caches: the first is exposed,
        the second has nothing to hold."""
        if name == "transformer_cache":
            self.expose_cache(value)
        elif name != "depformer_cache":
            super().__setattr__(name, value)

    def expose_cache(self, cache: list[LayerCache]) -> None:
        """Make ``cache`` what ``transformer_cache`` and direct calls use."""
        self._exposed = (cache,)  # in a tuple: no child of the module

    def refresh(self) -> None:
        """Notice weights that were replaced since: who generates calls this first."""
        self.depth_frames.refresh()
        self._compiled.refresh()

    def load_pytorch_weights(
        self, file: str, lm_config: LmConfig | None = None, strict: bool = True
    ) -> "Lm":
        """Load a PyTorch-format safetensors file.

        Raises: CheckpointError naming the keys that do not fit.
        """
        from .keys import pytorch_rules

        rules = pytorch_rules(self.cfg if lm_config is None else lm_config)
        weights = mx.load(str(file))
        assert isinstance(weights, dict)
        self.load_weights(list(remap(weights, rules, str(file)).items()), strict=strict)
        return self

    def embed(self, text: mx.array, audio: mx.array | None = None) -> mx.array:
        """Input of the transformer: tokens ``[B, T]``, ``[B, n_q, T] -> [B, T, D]``."""
        x = self.text_emb(text)
        if self.audio_embs and audio is not None:
            x = x + self._joined_audio(self.audio_embs, audio)
        return x

    def hidden(
        self,
        text: mx.array,
        audio: mx.array | None,
        cache: Sequence[LayerCache],
        ct: ConditionTensor | None = None,
        cross_attention_src: mx.array | None = None,
        active: Sequence[bool] | None = None,
        live: bool = False,
    ) -> mx.array:
        """Output of the temporal transformer after its norm, ``[B, T, D]``.

        ``text [B, T]`` and ``audio [B, n_q, T]`` are delayed streams; ``live`` calls
        have the same shape again and again, and run compiled; for the rest see
        ``LmGen.step`` and ``Transformer``.
        """
        x = self.embed(text, audio)
        if ct is not None:
            tensor = ct.tensor if ct.tensor.ndim == 3 else ct.tensor[:, None]
            x = x + tensor.astype(x.dtype)
        self._compiled.begin(live)
        x = self.transformer(x, cache, cross_attention_src, active, self._compiled)
        return self.out_norm(x)

    def text_logits(self, hidden: mx.array) -> mx.array:
        """Text logits ``[B, T, V]`` of the transformer's output ``[B, T, D]``."""
        b, t, d = hidden.shape
        logits = ops.project(hidden.reshape(b * t, d), self.text_linear)
        return logits.reshape(b, t, -1)

    def forward_text(
        self, token_ids: mx.array, cross_attention_src: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Text ``[B, T]`` alone, on the exposed cache: hidden ``[B, T, D]``, logits."""
        hidden = self.hidden(
            token_ids,
            None,
            self.transformer_cache,
            cross_attention_src=cross_attention_src,
        )
        return hidden, self.text_logits(hidden)

    def __call__(
        self, token_ids: mx.array, cross_attention_src: mx.array | None = None
    ) -> mx.array:
        """Text logits ``[B, T, V]``, on the exposed cache."""
        return self.forward_text(token_ids, cross_attention_src)[1]

    def sample(
        self,
        text_token_ids: mx.array,
        audio_token_ids: list[mx.array],
        text_sampler: Sampler,
        audio_sampler: Sampler,
        ct: ConditionTensor | None = None,
        cross_attention_src: mx.array | None = None,
        cfg_coef: float = 1.0,
        on_text_hook: Hook | None = None,
        on_audio_hook: Hook | None = None,
    ) -> tuple[mx.array, mx.array | None]:
        """One step on the exposed cache, without delays or guidance: see ``LmGen``.

        Args:
            text_token_ids: ``[B, 1]``.
            audio_token_ids: ``[1, B]`` or ``[B, 1]`` per audio stream, own ones first.

        Returns: text ``[B, 1]`` and own audio ``[B, dep_q, 1]`` (None without).
        Raises: ValueError for a ``cfg_coef`` other than 1.
        """
        if cfg_coef != 1:
            raise ValueError(
                f"sample got cfg_coef {cfg_coef}: it has no guidance, LmGen has."
            )
        b = text_token_ids.shape[0]
        audio = [tokens.reshape(b, 1) for tokens in audio_token_ids]
        hidden = self.hidden(
            text_token_ids,
            mx.stack(audio, axis=1) if audio else None,
            self.transformer_cache,
            ct,
            cross_attention_src,
        )
        text, _ = text_sampler(self.text_logits(hidden).astype(mx.float32))
        if on_text_hook is not None:
            on_text_hook(text)
        if not self.dep_q:
            return text, None

        def choose(_step: int, logits: mx.array) -> mx.array:
            return audio_sampler(logits.astype(mx.float32))[0]

        own = mx.stack(self.depformer(hidden, text, choose), axis=1)
        if on_audio_hook is not None:
            on_audio_hook(own)
        return text, own

    def warmup(self, ct: ConditionTensor | None = None) -> None:
        """Run two steps and forget them, so that the first real one is as fast as any.

        The first lays out weights, the second compiles the depth transformer's frame.
        """
        from .generate import LmGen

        exposed = self.transformer_cache
        cross = None
        if self.cfg.transformer.cross_attention:
            cross = mx.zeros((1, 1, self.cfg.transformer.d_model))
        gen = LmGen(self, text_sampler=Sampler(), audio_sampler=Sampler())
        frame = mx.zeros((1, self.cfg.other_codebooks), mx.int32)
        for _ in range(2):
            text, _ = gen.step(frame, ct, cross)
            mx.eval(text, gen.tokens)
        self.expose_cache(exposed)

    def teacher_forced(
        self,
        codes: mx.array,
        ct: ConditionTensor | None = None,
        cross_attention_src: mx.array | None = None,
    ) -> LmOutput:
        """Logits of every token of a given sequence.

        Args:
            codes: ``[B, 1 + n_q, T]``, text first, not delayed.
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
        cache = self.transformer.make_rot_cache()
        text_parts, audio_parts = [], []
        for start in range(0, t, CHUNK):
            now = inputs[:, :, start : min(start + CHUNK, t)]
            hidden = self.hidden(now[:, 0], now[:, 1:], cache, ct, cross_attention_src)
            text_parts.append(self.text_logits(hidden))
            if self.dep_q:
                target = delayed[:, :, start : start + now.shape[2]]
                audio_parts.append(self._forced_frames(hidden, target))
            mx.eval(text_parts[-1], audio_parts[-1:])
        text_logits, text_mask = undelay_sequence(
            mx.concatenate(text_parts, axis=1)[:, None], delays[:1], codes[:, :1]
        )
        if not audio_parts:
            return LmOutput(text_logits, text_mask, None, None)
        own = slice(1, 1 + self.dep_q)
        audio_logits, audio_mask = undelay_sequence(
            mx.concatenate(audio_parts, axis=2), delays[own], codes[:, own]
        )
        return LmOutput(text_logits, text_mask, audio_logits, audio_mask)

    def _forced_frames(self, hidden: mx.array, target: mx.array) -> mx.array:
        """Depth logits ``[B, dep_q, T, card]`` for given frames, all T at once."""
        b, t, d = hidden.shape
        frames = target.swapaxes(1, 2).reshape(b * t, -1)
        logits: list[mx.array] = []

        def choose(step: int, found: mx.array) -> mx.array:
            logits.append(found)
            return frames[:, step + 1 : step + 2]

        rows = hidden.reshape(b * t, 1, d)
        self.depformer(rows, frames[:, :1], choose, sampled=False)
        return mx.stack([x.reshape(b, t, -1) for x in logits], axis=1)
