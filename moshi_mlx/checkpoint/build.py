"""From files to models: language model, codec, tokenizer.

Weights are mapped lazily and computed layer by layer, so loading holds little more than
the model. Their names and quantisation are read from the tensors themselves.
"""

import logging
from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from ..errors import CheckpointError, ConfigError
from ..models.config_values import check_codec_values, check_values
from ..models.image import ImageEncoder
from ..models.lm import Lm
from ..models.mimi import Mimi, MimiConfig, mimi_202407
from ..models.mimi_transformers import is_transformers
from ..models.schema import Room
from ..utils.blobs import LFS_POINTER, damaged, is_lfs_pointer
from ..utils.gguf import unpacked
from ..utils.remap import check_names
from ..utils.tensor_files import (
    TensorInfo,
    Weights,
    is_gguf,
    read_header,
    read_tensors,
)
from ..utils.text import Tokenizer
from . import moshivis, split
from .codec import codec_tensors
from .cost import cache_bytes
from .eos import hear_eos_as_padding
from .formats import format_of
from .info import CheckpointInfo
from .lora import attach
from .memory import Footprint, check_memory, how_to_fit
from .moshi_7b import MOSHI_7B
from .packed import check_bits, find_quantization, widen_tables
from .quantize import (
    PRECISE,
    Progress,
    Recipe,
    apply,
    is_quantized,
    materialise,
    nbytes,
    plan,
)
from .reading import read_weights
from .recipes import while_loading

logger = logging.getLogger(__name__)


def open_lm(
    info: CheckpointInfo,
    *,
    bits: int | None = None,
    recipe: Recipe | None = None,
    dtype: mx.Dtype | None = None,
    as_stored: bool = False,
    shapes_only: bool = False,
) -> Lm:
    """A language model whose weights are read when they are used: no memory yet.

    GGUF weights are read at once, unless ``shapes_only`` says that they will not be
    used. Other arguments and errors are those of ``load_lm``.
    """
    what = f"the weights of {info.name}"
    _check_room(info, what)
    cfg = info.lm_config
    lm = Lm(cfg)
    widened = mx.bfloat16 if as_stored else mx.float32
    weights, beside = read_weights(info, cfg, what, widened, shapes_only)
    if beside.weights and as_stored:
        raise CheckpointError(
            f"{beside.what} cannot be saved in quantised matrices as they are: merge "
            "them with 'moshi-mlx fuse'."
        )
    if not as_stored:
        weights = _cast(weights, dtype or _default_dtype(weights))
    layers = find_quantization(lm, weights, info.quantization, what)
    check_bits(layers, bits, info.name)
    if layers:
        weights, layers = widen_tables(weights, layers, lm)
    apply(lm, layers)
    _fill(lm, weights, what)
    if beside.weights:
        kind = lm.out_norm["weight"].dtype
        halves = {name: w.astype(kind) for name, w in beside.weights.items()}
        attach(lm, halves, beside.scaling, beside.what)
    del weights  # computing each layer frees its weights
    if bits is not None and not layers:
        done = plan(lm, recipe or while_loading(info.kind, bits))
        apply(lm, done.layers)
        for path, reason in done.kept.items():
            logger.info("%s stays unquantised: %s", path, reason)
    return lm


def load_lm(
    info: CheckpointInfo,
    *,
    bits: int | None = None,
    recipe: Recipe | None = None,
    dtype: mx.Dtype | None = None,
    as_stored: bool = False,
    progress: Progress | None = None,
) -> Lm:
    """Load a language model, from any of the formats.

    Args:
        bits: the user's wish: a full-precision model is quantised to it, a quantised
            one must have it.
        recipe: with ``bits``: how to treat each layer, instead of all alike (for
            PersonaPlex, at least 8 bits for the depth transformer).
        dtype: of everything that is not quantised. By default float32 on CPU (where
            16-bit products are ten times slower) and for GGUF, else bfloat16, or
            float16 where the file has it.
        as_stored: keep the file's types, and Hibiki's row for EOS: for saving it again.
        progress: called with the share loaded, 0 to 1.

    Raises:
        CheckpointError: files that are missing, damaged, foreign or too large.
        ConfigError: settings that contradict the checkpoint or are not supported.
    """
    lm = open_lm(info, bits=bits, recipe=recipe, dtype=dtype, as_stored=as_stored)
    check_memory(
        footprint(info, lm),
        info.name,
        how_to_fit(
            info.model_type,
            quantised=is_quantized(lm),
            kv_bits=lm.cfg.transformer.kv_bits,
        ),
    )
    _materialise(lm, info, progress)
    if info.kind.hears_end_as_padding and not as_stored:
        hear_eos_as_padding(lm)
    return lm


def _materialise(lm: Lm, info: CheckpointInfo, progress: Progress | None) -> None:
    try:
        materialise(lm, f"the weights of {info.name}", progress)
    except CheckpointError:  # the file is as it should be, or came damaged
        for path in info.moshi_weights:
            if trouble := damaged(path):
                raise CheckpointError(f"{trouble}.") from None
        raise


def outline_codec(info: CheckpointInfo) -> Mimi:
    """The codec that the language model needs, without reading its weights."""
    count, data = info.num_codebooks, info.mimi_config
    cfg = mimi_202407(count) if data is None else MimiConfig.from_config_dict(data)
    cfg.quantizer_nq = count
    return Mimi(cfg)


def footprint(info: CheckpointInfo, lm: Lm) -> Footprint:
    """Memory of a model that was opened or loaded, with its codec and a session."""
    dtype = lm.out_norm["weight"].dtype
    codec = nbytes(outline_codec(info)) if lm.n_q else 0
    encoder = moshivis.outline_image_encoder(lm)
    image = 0 if encoder is None else nbytes(encoder)
    return Footprint(nbytes(lm), cache_bytes(lm.cfg.transformer, dtype), codec, image)


def load_mimi(info: CheckpointInfo, num_codebooks: int | None = None) -> Mimi:
    """Load the codec, in float32.

    Args:
        num_codebooks: how many to use; by default what the language model needs.

    Raises: CheckpointError as ``load_lm``.
    """
    weights, path = codec_tensors(info), info.mimi_weights
    count = num_codebooks or info.num_codebooks
    if info.mimi_config is None:
        cfg = mimi_202407(count)
    else:
        check_codec_values(info.mimi_config, room_of(weights))
        cfg = MimiConfig.from_config_dict(info.mimi_config, count)
    mimi = Mimi(cfg)
    kyutais = any(name.startswith("encoder.model.") for name in weights)
    try:
        if kyutais or is_transformers(weights):
            mimi.load_pytorch_weights(weights)
        else:
            mimi.load_weights(list(weights.items()))
    except CheckpointError as error:
        raise CheckpointError(f"{str(path)!r}: {error}") from error
    materialise(mimi, f"the codec in {path}")
    return mimi


def load_image_encoder(
    info: CheckpointInfo, dtype: mx.Dtype | None = None, as_stored: bool = False
) -> ImageEncoder | None:
    """Load what turns images into conditions; None for a model that sees none.

    Args:
        dtype: by default as the language model's, see ``load_lm``.
        as_stored: keep the file's types, for saving it again.

    Raises: CheckpointError as ``load_lm``.
    """
    cfg, what = info.lm_config, f"the image encoder of {info.name}"
    if cfg.vision is None:
        return None
    weights: Weights = {}
    for path in info.image_weights:
        held = read_tensors(path)
        weights |= unpacked(held) if is_gguf(path) else held
    mine = moshivis.image_part(weights, what)
    if not as_stored:
        gguf = is_gguf(info.moshi_weights[0])  # which computes in float32
        default = mx.float32 if gguf else _default_dtype(weights)
        mine = _cast(mine, dtype or default)
    encoder = ImageEncoder(cfg.vision, cfg.transformer.d_model)
    apply(encoder, find_quantization(encoder, mine, {}, what))
    _fill(encoder, mine, what)
    materialise(encoder, what)
    return encoder


def load_tokenizer(info: CheckpointInfo) -> Tokenizer:
    """Load the SentencePiece model of the text stream.

    Raises: CheckpointError if the file is missing or not a tokenizer.
    """
    import sentencepiece

    path = info.tokenizer
    if not path.is_file():
        raise CheckpointError(f"there is no tokenizer {str(path)!r}: check its path.")
    if is_lfs_pointer(path):
        raise CheckpointError(f"{str(path)!r} {LFS_POINTER}.")
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a SentencePiece tokenizer: download it again."
        ) from error


def _check_room(info: CheckpointInfo, what: str) -> None:
    """Compare the config with the headers of its weights, before anything is built.

    Raises: CheckpointError for weights of another kind of model; ConfigError for a
        size that no tensor has.
    """
    headers: dict[str, TensorInfo] = {}
    for path in info.moshi_weights:
        headers |= split.placed(path, read_header(path))
    format_of(headers, what)
    for path in info.image_weights if info.kind.sees else ():
        headers |= read_header(path)
    try:
        check_values(info.config, room_of(headers))
    except ConfigError as error:
        if info.config != MOSHI_7B:
            raise
        raise CheckpointError(
            f"{info.name} has no config.json, so Moshi 7B's was taken, but its weights "
            "are of another model: fetch config.json from where they came, too."
        ) from error


def room_of(tensors: Mapping[str, TensorInfo | mx.array]) -> Room:
    """The limits that tensors set; a packed word may hold 16 numbers."""
    packed = {"U32", mx.uint32}
    axes = (
        max(t.shape, default=0) * (16 if t.dtype in packed else 1)
        for t in tensors.values()
    )
    return Room(axis=max(axes, default=0), tensors=len(tensors))


def _default_dtype(weights: Mapping[str, mx.array]) -> mx.Dtype:
    if mx.default_device().type == mx.DeviceType.cpu:
        return mx.float32
    scales = {w.dtype for name, w in weights.items() if name.endswith(".scales")}
    if mx.float32 in scales:  # GGUF's: 16 bits would lose their last digits
        return mx.float32
    half = any(w.dtype == mx.float16 for w in weights.values())
    return mx.float16 if half else mx.bfloat16


def _cast(weights: Weights, dtype: mx.Dtype) -> Weights:
    """Floats as ``dtype``, conditioners always float32; shared arrays stay shared."""
    done: dict[tuple[int, mx.Dtype], mx.array] = {}
    cast: Weights = {}
    for name, w in weights.items():
        if mx.issubdtype(w.dtype, mx.floating):
            wanted = mx.float32 if name.startswith(PRECISE) else dtype
            w = done.setdefault((id(weights[name]), wanted), w.astype(wanted))
        cast[name] = w
    return cast


def _fill(lm: nn.Module, weights: Weights, what: str) -> None:
    """Set a model's tensors: every one of them, in the right shape."""
    own = dict(tree_flatten(lm.parameters()))
    check_names(weights, own, what)
    for name, w in weights.items():
        if w.shape != own[name].shape:
            raise CheckpointError(
                f"{what}: {name} has shape {w.shape} but the config makes it "
                f"{own[name].shape}: they belong to another configuration."
            )
    lm.load_weights(list(weights.items()))
