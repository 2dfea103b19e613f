"""Mimi: sound to codes at 12.5 frames per second, and back, live or whole.

There is one code path: a file is a stream that arrives in pieces. The state of a stream
is a ``MimiState`` outside the network. Its size is fixed and the stream has no end, so
one set of weights serves any number of streams.

The public layout is NCL, as in PyTorch: pcm ``[B, channels, S]`` floats in [-1, 1],
codes ``[B, K, T]`` int32. Inside it is NLC.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from .. import fast
from ..compat import MimiOf030
from ..linux_cpu import use_fast_products
from ..modules.conv import State
from ..modules.quantization import SplitResidualVectorQuantizer
from ..modules.resample import ConvDownsample1d, ConvTrUpsample1d
from ..modules.seanet import SeanetDecoder, SeanetEncoder
from ..modules.transformer import ProjectedTransformer
from ..utils.processes import prepare_process
from .mimi_config import MimiConfig
from .mimi_state import HalfState, MimiState
from .mimi_weights import fitted, pytorch_weights, read_weights
from .presets import mimi_202407

__all__ = ["Mimi", "MimiConfig", "MimiState", "mimi_202407"]

# Frames of a whole signal per piece, over all rows. On CPU, pieces of 32 are half as
# fast as pieces of 8, whose arrays stay in its caches.
PIECE_FRAMES = 8
MOST_COMPILED = 16  # frames in a call; longer calls rarely have the same length twice


class Mimi(MimiOf030, nn.Module):
    """The codec.

    ``encode`` and ``decode`` take whole signals. ``encode_step`` and ``decode_step``
    take the next frames of a stream, whose state the caller keeps. Without a state they
    continue a default stream, which ``reset_state`` restarts. All four compute on
    ``ready()``, the network's fast form; ``latent`` and ``sound`` are the network.

    Source: arXiv:2410.00037, section 3.3; kyutai-labs/moshi, models/compression.py.
    """

    def __init__(self, cfg: MimiConfig):
        super().__init__()
        prepare_process()
        use_fast_products()
        cfg.validate()
        self.cfg = cfg
        dim, stride = cfg.seanet.dimension, cfg.resample_stride
        inner = replace(cfg.transformer, conv_layout=False)
        self.encoder = SeanetEncoder(cfg.seanet)
        self.decoder = SeanetDecoder(cfg.seanet)
        self.encoder_transformer = ProjectedTransformer(inner, dim, [dim])
        self.decoder_transformer = ProjectedTransformer(inner, dim, [dim])
        self.downsample = ConvDownsample1d(stride, dim)
        self.upsample = ConvTrUpsample1d(stride, dim)
        self.quantizer = SplitResidualVectorQuantizer(
            cfg.quantizer_dim, dim, dim, cfg.quantizer_nq, cfg.quantizer_bins
        )
        self._state: MimiState | None = None

    @property
    def sample_rate(self) -> float:
        """Hz."""
        return self.cfg.sample_rate

    @property
    def frame_rate(self) -> float:
        """Code frames per second."""
        return self.cfg.frame_rate

    @property
    def frame_size(self) -> int:
        """Samples per code frame."""
        return self.cfg.frame_size

    @property
    def num_codebooks(self) -> int:
        return self.cfg.quantizer_nq

    @property
    def dtype(self) -> mx.Dtype:
        """Type of the computation; codebooks are always float32."""
        return self.downsample.conv.conv.conv.weight.dtype

    def ready(self, refresh: bool = True) -> "Mimi":
        """The same network in its fast form: see ``fast.ready``."""
        return fast.ready(self, refresh)

    def make_state(self, batch_size: int = 1) -> MimiState:
        """State of ``batch_size`` new streams."""
        self.ready()
        return MimiState(
            batch_size, self._encoder_state(batch_size), self._decoder_state(batch_size)
        )

    def reset_state(self) -> None:
        """Start the default stream again, in both directions."""
        self._state = None

    def encode_step(
        self,
        pcm: mx.array,
        state: MimiState | None = None,
        *,
        active: Sequence[bool] | None = None,
    ) -> mx.array:
        """Codes of the next frames of a stream.

        Args:
            pcm: ``[B, channels, S]``, S a positive multiple of ``frame_size``.
            active: rows that take part; the others pause, and their output is
                meaningless.

        Raises: ValueError for a partial frame, or for a state of another batch size.
        """
        pcm = self._checked_pcm(pcm)
        if not pcm.shape[-1] or pcm.shape[-1] % self.frame_size:
            raise ValueError(
                f"encode_step got {pcm.shape[-1]} samples: it takes whole frames of "
                f"{self.frame_size}, so collect them first."
            )
        half = self._state_for(state, pcm.shape[0]).encoder
        network = self.ready(refresh=False)
        return network.quantizer.encode(network.latent(pcm, half, active))

    def decode_step(
        self,
        codes: mx.array,
        state: MimiState | None = None,
        *,
        active: Sequence[bool] | None = None,
    ) -> mx.array:
        """Sound ``[B, channels, T * frame_size]`` of the next code frames of a stream.

        Args:
            codes: ``[B, K, T]``, K from 1 to ``num_codebooks``, T at least 1.
            active: as in ``encode_step``.

        Raises: ValueError for another K, no frames, or a state of another batch size.
        """
        codes = self._checked_codes(codes)
        if not codes.shape[-1]:
            raise ValueError("decode_step got no frames: give at least one.")
        half = self._state_for(state, codes.shape[0]).decoder
        return self.ready(refresh=False).sound(codes, half, active)

    def encode(self, pcm: mx.array, num_codebooks: int | None = None) -> mx.array:
        """Codes of a whole signal, padded with zeros to whole frames.

        Args:
            pcm: ``[B, channels, S]``, any S.
            num_codebooks: how many codebooks to compute, all of them by default.
        """
        pcm = self._checked_pcm(pcm)
        n = self.num_codebooks if num_codebooks is None else num_codebooks
        network, half = self.ready(), self._encoder_state(pcm.shape[0])
        parts = [mx.zeros((pcm.shape[0], n, 0), mx.int32)]
        for piece in self._pieces(pcm, self.frame_size):
            parts.append(network.quantizer.encode(network.latent(piece, half), n))
            mx.eval(parts[-1], half.arrays)  # or the whole graph stays in memory
        return mx.concatenate(parts, axis=-1)

    def encode_to_latent(self, pcm: mx.array, quantize: bool = False) -> mx.array:
        """Latents ``[B, D, T]`` of a whole signal, before or after quantisation."""
        if quantize:
            return self.decode_latent(self.encode(pcm))
        pcm = self._checked_pcm(pcm)
        network, half = self.ready(), self._encoder_state(pcm.shape[0])
        parts = [mx.zeros((pcm.shape[0], 0, self.cfg.seanet.dimension), self.dtype)]
        for piece in self._pieces(pcm, self.frame_size):
            parts.append(network.latent(piece, half))
            mx.eval(parts[-1], half.arrays)
        return mx.concatenate(parts, axis=1).swapaxes(1, 2)

    def decode_latent(self, codes: mx.array) -> mx.array:
        """Quantised latents ``[B, D, T]`` of codes ``[B, K, T]``."""
        return self.ready().quantizer.decode(self._checked_codes(codes)).swapaxes(1, 2)

    def decode(self, codes: mx.array) -> mx.array:
        """Sound ``[B, channels, T * frame_size]`` of all codes ``[B, K, T]``."""
        codes = self._checked_codes(codes)
        network, half = self.ready(), self._decoder_state(codes.shape[0])
        parts = [mx.zeros((codes.shape[0], self.cfg.channels, 0), self.dtype)]
        for piece in self._pieces(codes, 1):
            parts.append(network.sound(piece, half))
            mx.eval(parts[-1], half.arrays)
        return mx.concatenate(parts, axis=-1)

    def warmup(self) -> None:
        """Run two frames each way, so that the first real one is as fast as the others.

        The first derives what is needed from the weights, the second compiles.
        """
        state = self.make_state()
        pcm = mx.zeros((1, self.cfg.channels, self.frame_size))
        for _ in range(2):
            mx.eval(self.decode_step(self.encode_step(pcm, state), state))

    def set_dtype(
        self,
        dtype: mx.Dtype,
        predicate: Callable[[mx.Dtype], bool] | None = None,
    ) -> None:
        """Compute in ``dtype``; the codebooks stay in float32, which their counts need.

        Args:
            predicate: which types are changed; by default all floating-point ones.
        """
        chosen = predicate or (lambda kind: mx.issubdtype(kind, mx.floating))
        for name, w in dict(tree_flatten(self.parameters())).items():
            if ".codebook." not in name and chosen(w.dtype):
                super().load_weights([(name, w.astype(dtype))], strict=False)
        fast.forget(self)
        self.reset_state()

    def load_weights(
        self,
        file_or_weights: str | list[tuple[str, mx.array]],
        strict: bool = True,
    ) -> "Mimi":
        """Load tensors with our own names, cast to the model's type.

        Codebooks beyond the config's are ignored, even if strict.

        Raises: CheckpointError for a file that cannot be read, and, when strict, for
            names or shapes that are not the model's.
        """
        if isinstance(file_or_weights, str | PathLike):
            weights = read_weights(file_or_weights)
            return self._load(weights, f"Mimi weights in {file_or_weights}", strict)
        return self._load(dict(file_or_weights), "Mimi weights", strict)

    def load_pytorch_weights(
        self,
        file: str | PathLike[str] | Mapping[str, mx.array],
        strict: bool = True,
    ) -> "Mimi":
        """Load a published file, or tensors with its names, in any naming scheme.

        Otherwise like ``load_weights``.
        """
        what = "Mimi weights"
        if isinstance(file, Mapping):
            given = dict(file)
        else:
            given, what = read_weights(file), f"{what} in {file}"
        weights = pytorch_weights(given, self.cfg, strict, what)
        return self._load(weights, what, strict)

    def _load(self, weights: dict[str, mx.array], what: str, strict: bool) -> "Mimi":
        own = dict(tree_flatten(self.parameters()))
        weights = fitted(weights, own, self.cfg, what, strict)
        super().load_weights(list(weights.items()), strict=False)
        fast.forget(self)
        return self

    def latent(
        self, pcm: mx.array, half: HalfState, active: Sequence[bool] | None = None
    ) -> mx.array:
        """The next latents ``[B, T, D]`` of a stream, from sound ``[B, C, S]``."""
        before = half.before(active)
        *convs, last = half.convs
        x = self.encoder(pcm.swapaxes(1, 2), convs)
        x = self.encoder_transformer(x, half.caches, None, active)[0]
        x = self.downsample(x, last)
        half.hold(before, active)
        return x

    def sound(
        self, codes: mx.array, half: HalfState, active: Sequence[bool] | None = None
    ) -> mx.array:
        """The next sound ``[B, channels, S]`` of a stream, for codes ``[B, K, T]``."""
        before = half.before(active)
        first, *convs = half.convs
        dtype = self.upsample.convtr.convtr.convtr.weight.dtype
        x = self.upsample(self.quantizer.decode(codes).astype(dtype), first)
        x = self.decoder_transformer(x, half.caches, None, active)[0]
        x = self.decoder(x, convs)
        half.hold(before, active)
        return x.swapaxes(1, 2).astype(self.dtype)

    def _encoder_state(self, batch_size: int) -> HalfState:
        convs = self.encoder.make_state(batch_size)
        last = self.downsample.make_state(batch_size)
        return _half([*convs, last], self.encoder_transformer)

    def _decoder_state(self, batch_size: int) -> HalfState:
        first = self.upsample.make_state(batch_size)
        convs = self.decoder.make_state(batch_size)
        return _half([first, *convs], self.decoder_transformer)

    def _state_for(self, state: MimiState | None, batch_size: int) -> MimiState:
        if state is None:
            if self._state is None:
                self._state = self.make_state(batch_size)
            state = self._state
        if state.batch_size != batch_size:
            raise ValueError(
                f"the stream has {state.batch_size} rows but got {batch_size}: call "
                "reset_state() first, or keep a make_state() per batch size."
            )
        return state

    def _pieces(self, x: mx.array, size: int) -> list[mx.array]:
        """Cut into pieces of a few frames of ``size``, the last frame padded."""
        step = max(1, PIECE_FRAMES // max(1, x.shape[0])) * size
        missing = -x.shape[-1] % size
        x = mx.pad(x, [(0, 0), (0, 0), (0, missing)]) if missing else x
        return [x[..., i : i + step] for i in range(0, x.shape[-1], step)]

    def _checked_pcm(self, pcm: mx.array) -> mx.array:
        pcm, channels = mx.array(pcm), self.cfg.channels
        if pcm.ndim != 3 or pcm.shape[1] != channels:
            raise ValueError(
                f"got sound of shape {pcm.shape}: Mimi takes [batch, {channels}, "
                "samples]."
            )
        if not mx.issubdtype(pcm.dtype, mx.floating):
            raise ValueError(
                f"got sound as {pcm.dtype}: Mimi takes floats from -1 to 1."
            )
        return pcm.astype(self.dtype)

    def _checked_codes(self, codes: mx.array) -> mx.array:
        codes, n = mx.array(codes), self.num_codebooks
        if codes.ndim == 4 and codes.shape[2] == 1:
            codes = codes.squeeze(2)  # Kyutai's scripts pass codes with an extra axis
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= n:
            raise ValueError(
                f"got codes of shape {codes.shape}: Mimi takes [batch, 1 to {n} "
                "codebooks, frames]."
            )
        if not mx.issubdtype(codes.dtype, mx.integer):
            raise ValueError(f"got codes as {codes.dtype}: Mimi takes integers.")
        return codes.astype(mx.int32)


def _half(convs: list[State], transformer: ProjectedTransformer) -> HalfState:
    mx.eval(convs)  # lazy arrays cannot move to another thread
    return HalfState(convs, transformer.make_rot_cache())
