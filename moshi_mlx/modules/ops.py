"""The one door between a GPU's fused kernels and the forms MLX's CPU backend runs best.

On Metal (and CUDA) every function here is MLX's own fused operation. MLX's CPU backend
takes those apart into many small steps, so there the same arithmetic is written with
as few steps as possible. Nothing else in the package asks which device it runs on.
"""

import math
import shutil
from functools import lru_cache
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

SMALL_WEIGHT = 2**18  # numbers; below it, a kernel more costs more than it saves
FEW_ROWS = 256  # above it, the order of a product makes no difference
SMALL_PRODUCT = 10**6  # multiplications: up to here small kernels do the work
PACK_WIDTH = 64
ELU_FLOOR = 17.5  # exp(-17.5) is less than float32 can take from 1
ELU_DOUBLINGS = 5
# Taylor series of expm1(x / 32), highest power first.
ELU_SERIES = [2.0 ** (-ELU_DOUBLINGS * i) / math.factorial(i) for i in range(5, 0, -1)]


def on_gpu() -> bool:
    """Whether MLX's default device is a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


@lru_cache
def compiles() -> bool:
    """Whether compiled functions work here: on CPU MLX runs g++ for them."""
    return on_gpu() or shutil.which("g++") is not None


@lru_cache
def small_kernels() -> bool:
    """Whether OpenBLAS multiplies small matrices without copying them first.

    It does with AVX-512 alone. Elsewhere a product by few rows costs two readings of
    the weight, and least where the weight lies transposed.
    """
    cpu = Path("/proc/cpuinfo")
    return cpu.exists() and "avx512f" in cpu.read_text()


def silu(x: mx.array) -> mx.array:
    """``x * sigmoid(x)``. MLX's own is compiled, which on CPU needs a C++ compiler."""
    return nn.silu(x) if on_gpu() else x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """``x * (1 + erf(x / sqrt(2))) / 2``, exactly."""
    return nn.gelu(x) if on_gpu() else x * (mx.erf(x * 0.5**0.5) + 1) * 0.5


def _turned(layer: nn.Module) -> mx.array:
    """A layer's weight transposed; the view is made once."""
    weight = layer["weight"]
    kept = layer.get("_turned")
    if kept is None or kept[0] is not weight:
        view = weight.T
        mx.eval(view)
        kept = layer["_turned"] = (weight, view)
    return kept[1]


def project(x: mx.array, layer: nn.Module) -> mx.array:
    """``layer(x)`` of an ``nn.Linear``, plain or quantised, for ``x [N, K]``."""
    if "scales" in layer or "bias" in layer:
        return layer(x)
    if not on_gpu() and layer["weight"].size > SMALL_WEIGHT:
        return linear(x, layer["weight"], packed=_packed(layer))
    return x @ _turned(layer)


def project_add(x: mx.array, residual: mx.array, layer: nn.Module) -> mx.array:
    """``residual + layer(x)``, in one kernel where the layer is a plain matrix."""
    if "scales" in layer or "bias" in layer:
        return residual + layer(x)
    if not on_gpu() and layer["weight"].size > SMALL_WEIGHT:
        return residual + linear(x, layer["weight"], packed=_packed(layer))
    return mx.addmm(residual, x, _turned(layer))


def linear(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    packed: mx.array | None = None,
) -> mx.array:
    """``x @ weight.T + bias``: ``[..., K]`` by ``[N, K]`` gives ``[..., N]``.

    A few rows cost what it costs to read the weight. OpenBLAS first copies the operands
    of a product, except where it has ``small_kernels``: cut into small products, a
    weight is read two to three times as fast there, and as fast again from its
    ``pack``. Where that cannot be, it is read fastest as the left operand.
    """
    lead, (n, k) = x.shape[:-1], weight.shape
    rows = x.size // k
    if on_gpu() or rows > FEW_ROWS:
        return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)
    x = x.reshape(rows, k)
    height = _block_height(rows, n, k)
    if packed is not None and rows * k * PACK_WIDTH <= SMALL_PRODUCT:
        y = (x @ packed).swapaxes(0, 1)
    elif height:
        blocks = weight.reshape(n // height, height, k)
        y = (x @ blocks.swapaxes(1, 2)).swapaxes(0, 1)
    else:
        y = (weight @ x.T).T
    y = y.reshape(*lead, n)
    return y if bias is None else y + bias


def pack(weight: mx.array) -> mx.array | None:
    """A copy of ``[N, K]`` as ``[N / W, K, W]``, for ``linear``; None where it is of no
    use. W is 64 for ``small_kernels``, else all of N."""
    n, k = weight.shape
    if on_gpu() or n % PACK_WIDTH or weight.dtype != mx.float32:
        return None
    width = PACK_WIDTH if small_kernels() else n
    packed = mx.contiguous(weight.reshape(-1, width, k).swapaxes(1, 2))
    mx.eval(packed)
    return packed


def keep_packed(layers: nn.Module) -> None:
    """Keep a ``pack`` beside the weight of every ``nn.Linear``: it takes as much memory
    again, so it is for small models that run at every frame."""
    for layer in layers.modules():
        if type(layer) is nn.Linear and layer["weight"].size > SMALL_WEIGHT:
            layer["_packed"] = (layer["weight"], pack(layer["weight"]))


def _packed(layer: nn.Module) -> mx.array | None:
    """The copy that ``keep_packed`` made of the weight that the layer has now."""
    weight, packed = layer.get("_packed", (None, None))
    return packed if weight is layer["weight"] else None


@lru_cache
def _block_height(rows: int, n: int, k: int) -> int:
    """Rows of a weight's blocks whose products are small, 0 where there are none."""
    if not small_kernels():
        return 0
    heights = [h for h in (128, 64, 32, 16) if n % h == 0]
    return next((h for h in heights if h * rows * k <= SMALL_PRODUCT), 0)


def conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> mx.array:
    """Convolution ``[B, T, C_in]`` by ``[C_out, ksize, C_in / groups]``, unpadded."""
    if on_gpu() or groups > 1:
        y = mx.conv1d(x, weight, stride=stride, dilation=dilation, groups=groups)
        return y if bias is None else y + bias
    b, t, c_in = x.shape
    c_out, ksize, _ = weight.shape
    steps = (t - (ksize - 1) * dilation - 1) // stride + 1
    if ksize > 1:
        shape = (b, steps, ksize, c_in)
        x = mx.as_strided(x, shape, (t * c_in, stride * c_in, dilation * c_in, 1))
    elif stride > 1:
        x = x[:, ::stride]
    columns = x.reshape(b, steps, ksize * c_in)
    return linear(columns, weight.reshape(c_out, ksize * c_in), bias)


def elu(x: mx.array) -> mx.array:
    """``x`` where positive, else ``exp(x) - 1``."""
    if on_gpu() or x.dtype != mx.float32:
        return nn.elu(x)
    return _compiled_series_elu(x) if compiles() else _series_elu(x)


def _series_elu(x: mx.array) -> mx.array:
    """``elu`` without ``exp``, of which MLX's takes 12 ns a number on CPU where a
    multiplication or addition takes 0.2 ns.

    ``expm1`` of a 32nd of x is a polynomial, taken back by five doublings
    ``expm1(2 t) = expm1(t) (expm1(t) + 2)``; error below 2e-7.
    """
    low = mx.clip(x, -ELU_FLOOR, 0.0)
    y = low * ELU_SERIES[0]
    for factor in ELU_SERIES[1:]:
        y = (y + factor) * low
    for _ in range(ELU_DOUBLINGS):
        y = (y + 2.0) * y
    return mx.maximum(x, y)


_compiled_series_elu = mx.compile(_series_elu, shapeless=True)
