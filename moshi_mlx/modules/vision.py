"""A vision transformer: an image in, one vector per patch out.

The image is cut into square patches, each a vector with a learnt position; layers then
let every patch look at every other.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import mlx.nn as nn

EPS = 1e-6  # of every norm


@dataclass(frozen=True)
class VisionConfig:
    """The defaults are SigLIP-So400m/14 at 448 pixels, of PaliGemma 2.

    Attributes:
        image_size: side in pixels of the images that the positions were trained for.
        patch_size: side of a patch, in pixels.
    """

    hidden_size: int = 1152
    intermediate_size: int = 4304
    num_hidden_layers: int = 27
    num_attention_heads: int = 16
    image_size: int = 448
    patch_size: int = 14

    @property
    def side(self) -> int:
        """Patches along a side of an image of ``image_size``."""
        return self.image_size // self.patch_size


class VisionAttention(nn.Module):
    """Attention of every patch to every patch. Shape: ``[B, S, D] -> [B, S, D]``."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def __call__(self, x: mx.array) -> mx.array:
        b, s, d = x.shape
        q, k, v = (
            layer(x).reshape(b, s, self.heads, -1).swapaxes(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        scale = (d // self.heads) ** -0.5
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale)
        return self.out_proj(y.swapaxes(1, 2).reshape(b, s, d))


class VisionLayer(nn.Module):
    """Attention and feed-forward; pre-norm. Shape: ``[B, S, D]`` both ways."""

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        dim = cfg.hidden_size
        self.norm1 = nn.LayerNorm(dim, EPS)
        self.attention = VisionAttention(dim, cfg.num_attention_heads)
        self.norm2 = nn.LayerNorm(dim, EPS)
        self.linear1 = nn.Linear(dim, cfg.intermediate_size)
        self.linear2 = nn.Linear(cfg.intermediate_size, dim)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attention(self.norm1(x))
        return x + self.linear2(nn.gelu_approx(self.linear1(self.norm2(x))))


class VisionTower(nn.Module):
    """SigLIP without its pooling head.

    Shape: pixels ``[B, H, W, 3]`` from -1 to 1, both sides at least a patch,
        to ``[B, S, D]``, patches row by row. Pixels beyond the last whole patch are cut
        off.
    Source: arXiv:2303.15343; huggingface/transformers, models/siglip.
    """

    def __init__(self, cfg: VisionConfig):
        super().__init__()
        self.cfg = cfg
        dim, patch = cfg.hidden_size, cfg.patch_size
        self.patch_embedding = nn.Conv2d(3, dim, patch, stride=patch)
        self.position_embedding = mx.zeros((cfg.side**2, dim))
        self.layers = [VisionLayer(cfg) for _ in range(cfg.num_hidden_layers)]
        self.post_norm = nn.LayerNorm(dim, EPS)

    def __call__(self, pixels: mx.array) -> mx.array:
        return deque(self.layerwise(pixels), maxlen=1).pop()

    def layerwise(self, pixels: mx.array) -> Iterator[mx.array]:
        """The output ``[B, S, D]`` of each layer; the last is the network's output."""
        x = self.patch_embedding(pixels)
        _, rows, columns, _ = x.shape
        x = x.flatten(1, 2) + self.positions(rows, columns)
        yield x
        for layer in self.layers:
            x = layer(x)
            yield x
        yield self.post_norm(x)

    def positions(self, rows: int, columns: int) -> mx.array:
        """The learnt positions ``[rows * columns, D]``, resampled to another grid."""
        learnt, side = self.position_embedding, self.cfg.side
        if (rows, columns) == (side, side):
            return learnt
        grid = learnt.astype(mx.float32).reshape(side, side * learnt.shape[1])
        grid = (_bicubic(side, rows) @ grid).reshape(rows, side, -1)
        grid = _bicubic(side, columns) @ grid
        return grid.flatten(0, 1).astype(learnt.dtype)


@lru_cache(maxsize=8)
def _bicubic(old: int, new: int) -> mx.array:
    """Weights ``[new, old]`` that resample a line of points bicubically.

    As PyTorch's ``interpolate(mode="bicubic", align_corners=False)``: Keys' kernel with
    a = -0.75, edges repeated, no smoothing before the image is made smaller.
    """
    a = -0.75
    table = [[0.0] * old for _ in range(new)]
    for i, row in enumerate(table):
        centre = (i + 0.5) * old / new - 0.5
        first = int(centre // 1) - 1
        for j in range(first, first + 4):
            x = abs(centre - j)
            if x <= 1:
                weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
            else:
                weight = a * (x**3 - 5 * x**2 + 8 * x - 4)
            row[min(max(j, 0), old - 1)] += weight
    return mx.array(table)
