"""Count what a GPU is asked to do in one live frame: kernels by stage.

The graph of a frame is built in the forms that run on a GPU, on any machine, and walked
as ``mx.export_to_dot`` writes it after compilation. Views are free; a concatenation
counts its inputs (MLX copies each); every other primitive counts one. Operations that
are one kernel on Metal and several primitives on a CPU (norms, rotation, attention,
dequantised rows) are replaced by stand-ins of one node: their values are wrong, their
number is right.

    scripts/count_kernels.py                     # bf16, q8, q4 and --kv-bits 8
    scripts/count_kernels.py --kinds q4 --detail
    scripts/count_kernels.py --metal-norm        # with our own kernel, off by default

The layers are those of Moshi 7B in number, and narrow. What is counted is no time:
``moshi-mlx bench`` measures that.
"""

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx

from moshi_mlx.bench.synthetic import synthetic_codec
from moshi_mlx.checkpoint.quantize import materialise, quantize
from moshi_mlx.codec import NativeCodec
from moshi_mlx.fast import add_norm, ops
from moshi_mlx.models.generate import LmGen
from moshi_mlx.models.lm import Lm
from moshi_mlx.models.presets import config_v0_1
from moshi_mlx.utils.sampling import Sampler

VIEWS = {
    *("Reshape", "Flatten", "Unflatten", "ExpandDims", "Squeeze", "Transpose"),
    *("Slice", "Split", "Broadcast", "BroadcastAxes", "AsStrided", "View"),
    *("StopGradient", "NumberOfElements"),
}
# Kinds of models: bits of weights (None: bfloat16), bits of keys and values.
KINDS = {"bf16": (None, None), "q8": (8, None), "q4": (4, None), "q4_kv8": (4, 8)}
WARM = 5  # frames before the one that is counted
NODE = re.compile(r'(\d+) \[label ="([^"]+)", shape=rectangle\]')


def count(*outputs: Any) -> Counter[str]:
    """Kernels that computing ``outputs`` takes, by primitive."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), *outputs)
        text = path.read_text()
    names = dict(NODE.findall(text))
    inputs = Counter(re.findall(r"-> (\d+)\b", text))
    kernels: Counter[str] = Counter()
    for node, name in names.items():
        if name not in VIEWS:
            kernels[name] += max(inputs[node], 1) if name == "Concatenate" else 1
    return kernels


@contextmanager
def as_on_metal(metal_norm: bool = False) -> Iterator[None]:
    """The forms of a GPU; its fused operations as single nodes.

    Args:
        metal_norm: count our own kernel for sums and norms, which is off by default.
    """

    def sum_and_norm(x: Any, residual: Any, *_: Any) -> Any:
        return mx.divmod(x, residual)  # one node of two results as well

    def attention(q: Any, k: Any, v: Any, scale: float, mask: Any = None) -> Any:  # noqa: ARG001
        others = [x for x in (k, v, mask) if isinstance(x, mx.array)]
        return mx.depends(q, others)

    def dequantize(w: Any, scales: Any, *_: Any, bits: int, **__: Any) -> Any:
        shape = (*w.shape[:-1], w.shape[-1] * 32 // bits)
        return mx.cumsum(mx.as_strided(scales, shape, (0,) * len(shape)), axis=-1)

    stand_ins: dict[str, Callable[..., Any]] = {
        "rms_norm": lambda x, *_: mx.softmax(x, axis=-1),
        "layer_norm": lambda x, *_: mx.softmax(x, axis=-1),
        "rope": lambda x, *_, **__: mx.cumsum(x, axis=-1),
        "scaled_dot_product_attention": attention,
    }
    with ExitStack() as stack:
        stack.enter_context(patch.object(ops, "on_gpu", lambda: True))
        for name, function in stand_ins.items():
            stack.enter_context(patch.object(mx.fast, name, function))
        stack.enter_context(patch.object(mx, "dequantize", dequantize))
        if metal_norm:
            stack.enter_context(patch.object(add_norm, "is_on", lambda: True))
            stack.enter_context(patch.object(add_norm, "kernel", sum_and_norm))
        yield


def narrow_moshi(bits: int | None, kv_bits: int | None) -> Lm:
    """Moshi 7B's layers, streams and steps, narrow and random."""
    cfg = config_v0_1()
    for stack, width, heads in (
        (cfg.transformer, 256, 4),
        (cfg.depformer.transformer, 128, 2),
    ):
        stack.d_model, stack.num_heads = width, heads
        stack.dim_feedforward = 4 * width
    lm = Lm(cfg.with_kv_bits(kv_bits))
    lm.set_dtype(mx.bfloat16)
    if bits is not None:
        quantize(lm, bits)
    materialise(lm)
    return lm


def generator(kind: str, batch: int = 1, cfg_coef: float = 1.0) -> LmGen:
    """A conversation with a narrow Moshi, drawing as Moshi does."""
    return LmGen(
        narrow_moshi(*KINDS[kind]),
        text_sampler=Sampler(0.7, top_p=0, top_k=25),
        audio_sampler=Sampler(0.8, top_p=0, top_k=250),
        seed=0,
        batch_size=batch,
        cfg_coef=cfg_coef,
    )


def count_step(kind: str, batch: int = 1, cfg_coef: float = 1.0) -> dict[str, Any]:
    """Kernels of a language model's frame: its temporal part, and the depth steps."""
    gen = generator(kind, batch, cfg_coef)
    heard = mx.zeros((batch, 8), mx.int32)
    for _ in range(WARM):
        mx.eval(gen.step(heard)[0], gen.tokens)
    whole = _count_step(gen, heard, None)
    temporal = _count_step(gen, heard, mx.zeros((batch, 8), mx.int32))
    return {"temporal": temporal, "depth": whole - temporal}


def _count_step(gen: LmGen, heard: mx.array, given: mx.array | None) -> Counter[str]:
    text, hidden = gen._step(heard, None, None, None, given)
    outputs = [text, hidden, gen.tokens]
    found = count(*outputs)
    mx.eval(outputs)
    return found


def count_codec() -> dict[str, Any]:
    """Kernels of the codec's frame, each way."""
    lm = narrow_moshi(None, None)
    engine = synthetic_codec(lm)(1)
    assert isinstance(engine, NativeCodec)
    mimi = engine.mimi
    state = mimi.make_state()
    pcm = mx.zeros((1, 1, mimi.frame_size))
    for _ in range(WARM):
        codes = mimi.encode_step(pcm, state)
        mx.eval(codes, state.encoder.arrays)
        mx.eval(mimi.decode_step(codes, state), state.decoder.arrays)
    codes = mimi.encode_step(pcm, state)
    encode = count(codes, *state.encoder.arrays)
    mx.eval(codes, state.encoder.arrays)
    decoded = mimi.decode_step(codes, state)
    return {"encode": encode, "decode": count(decoded, *state.decoder.arrays)}


def table(
    kinds: list[str], metal_norm: bool = False
) -> dict[str, dict[str, Counter[str]]]:
    """Kernels of every stage of a frame, for each kind of model."""
    with as_on_metal(metal_norm):
        codec = count_codec()
        return {kind: {**codec, **count_step(kind)} for kind in kinds}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--detail", action="store_true", help="primitive by primitive")
    parser.add_argument(
        "--metal-norm", action="store_true", help="with our kernel for sums and norms"
    )
    args = parser.parse_args()
    told: dict[str, Any] = {}
    for kind, stages in table(args.kinds, args.metal_norm).items():
        totals = {stage: found.total() for stage, found in stages.items()}
        told[kind] = {**totals, "frame": sum(totals.values())}
        if args.detail:
            told[kind]["primitives"] = {
                stage: dict(found.most_common()) for stage, found in stages.items()
            }
    print(json.dumps({"mlx": version("mlx"), "kernels": told}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
