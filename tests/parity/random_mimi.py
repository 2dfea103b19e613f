"""A random codec of the released shape, in a file as Kyutai publishes it."""

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx

DIM, BINS, BOOK_DIM = 512, 2048, 256
RATIOS = (4, 5, 6, 8)  # the encoder's order


def shapes(codebooks: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the released file, cut to the first ``codebooks``."""
    yield from _seanet()
    for side in ("encoder", "decoder"):
        for i in range(8):
            layer = f"{side}_transformer.transformer.layers.{i}"
            yield f"{layer}.self_attn.in_proj_weight", (3 * DIM, DIM)
            yield f"{layer}.self_attn.out_proj.weight", (DIM, DIM)
            yield f"{layer}.linear1.weight", (4 * DIM, DIM)
            yield f"{layer}.linear2.weight", (DIM, 4 * DIM)
            for n in (1, 2):
                yield f"{layer}.norm{n}.weight", (DIM,)
                yield f"{layer}.norm{n}.bias", (DIM,)
                yield f"{layer}.layer_scale_{n}.scale", (DIM,)
    yield "downsample.conv.conv.conv.weight", (DIM, DIM, 4)
    yield "upsample.convtr.convtr.convtr.weight", (DIM, 1, 4)
    for chain, count in (("rvq_first", 1), ("rvq_rest", codebooks - 1)):
        yield f"quantizer.{chain}.input_proj.weight", (BOOK_DIM, DIM, 1)
        yield f"quantizer.{chain}.output_proj.weight", (DIM, BOOK_DIM, 1)
        for i in range(count):
            book = f"quantizer.{chain}.vq.layers.{i}._codebook"
            yield f"{book}._initialized", (1,)
            yield f"{book}.cluster_usage", (BINS,)
            yield f"{book}.embedding_sum", (BINS, BOOK_DIM)


def _seanet() -> Iterator[tuple[str, tuple[int, ...]]]:
    def conv(name: str, *shape: int, bias: int) -> Iterator:
        yield f"{name}.weight", shape
        yield f"{name}.bias", (bias,)

    def block(name: str, dim: int) -> Iterator:
        half = dim // 2
        yield from conv(f"{name}.block.1.conv.conv", half, dim, 3, bias=half)
        yield from conv(f"{name}.block.3.conv.conv", dim, half, 1, bias=dim)

    encoder, decoder = "encoder.model", "decoder.model"
    yield from conv(f"{encoder}.0.conv.conv", 64, 1, 7, bias=64)
    yield from conv(f"{decoder}.0.conv.conv", 1024, DIM, 7, bias=1024)
    for i, ratio in enumerate(RATIOS):
        dim, k = 64 << i, 2 * ratio
        yield from block(f"{encoder}.{3 * i + 1}", dim)
        down = f"{encoder}.{3 * i + 3}.conv.conv"
        yield from conv(down, 2 * dim, dim, k, bias=2 * dim)
        up = f"{decoder}.{11 - 3 * i}.convtr.convtr"
        yield from conv(up, 2 * dim, dim, k, bias=dim)
        yield from block(f"{decoder}.{12 - 3 * i}", dim)
    yield from conv(f"{encoder}.14.conv.conv", DIM, 1024, 3, bias=DIM)
    yield from conv(f"{decoder}.14.conv.conv", 1, 64, 3, bias=1)


def write(path: Path, codebooks: int = 8, layer_scale: float = 0.3) -> None:
    """Write the file. With the trained 0.01 of ``layer_scale`` attention would hardly
    reach the codes, and an error in it would not show."""
    mx.random.seed(0)
    mx.save_safetensors(
        str(path), {k: _value(k, shape, layer_scale) for k, shape in shapes(codebooks)}
    )


def _value(name: str, shape: tuple[int, ...], layer_scale: float) -> mx.array:
    last = name.rsplit(".", 1)[1]
    if last == "scale":
        return mx.full(shape, layer_scale)
    if last == "cluster_usage":
        return mx.random.uniform(0.5, 4.0, shape)
    if last == "_initialized" or (len(shape) == 1 and last == "weight"):
        return mx.ones(shape)
    if last == "bias":
        return 0.1 * mx.random.normal(shape)
    if last == "embedding_sum":
        return mx.random.normal(shape)
    return mx.random.normal(shape) * (1.5 / _fan_in(name, shape)) ** 0.5


def _fan_in(name: str, shape: tuple[int, ...]) -> int:
    """Numbers that one output sums, so that the signal neither dies nor explodes."""
    if len(shape) == 2:
        return shape[1]
    if "convtr" in name:  # [in, out, k]: two kernels overlap; upsample is depthwise
        return 2 if shape[1] == 1 else 2 * shape[0]
    return shape[1] * shape[2]
