"""MoshiVis: turns an image into a condition of the language model.

The language model's gated layers attend to the condition. The encoder runs once per
image; all layers then share the condition's keys and values.

Kyutai published three backends that differ in details. We follow these:

- every norm is a mean square (``rms_norm_f32``, epsilon 1e-8), as in their MLX and
  Rust backends. In PyTorch ``norm_xa`` and the depth transformer's norms divide by a
  standard deviation instead; but Moshi's depth transformer, which MoshiVis left as it
  was, was trained with mean squares. On the golden model ``norm_xa``'s kind changes
  logits by 0.14 % and no token;
- the encoder's last norm has epsilon 1e-6, as in PyTorch and Rust (MLX: 1e-5);
- positions are resampled for images of other sizes, as in PyTorch (MLX: 448 pixels
  only);
- the encoder computes in the language model's type, as in PyTorch (MLX: float32).

Source: arXiv:2503.15633; kyutai-labs/moshivis, kyuteye_pt.
"""

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn

from ..modules.vision import VisionConfig, VisionTower
from ..utils.remap import Rule
from .keys import flat

NORM_EPS = 1e-8


class ImageEncoder(nn.Module):
    """An image as a sequence that a language model attends to.

    Args:
        cfg: config of the vision tower.
        dim: width of the language model.

    Shape: pixels ``[B, H, W, 3]`` from -1 to 1 ``-> [B, S, dim]``, one position for
        each patch: what ``LmGen.step`` takes as ``cross_attention_src``.
    """

    def __init__(self, cfg: VisionConfig, dim: int):
        super().__init__()
        self.tower = VisionTower(cfg)
        self.proj = nn.Linear(cfg.hidden_size, dim)
        self.norm = nn.RMSNorm(dim, NORM_EPS)

    @property
    def dtype(self) -> mx.Dtype:
        """The number type of the computation."""
        return self.norm["weight"].dtype

    def __call__(self, pixels: mx.array) -> mx.array:
        return self.norm(self.proj(self.tower(pixels.astype(self.dtype))))

    def layerwise(self, pixels: mx.array) -> Iterator[mx.array]:
        """The output of each layer; the last is the condition. A caller who evaluates
        them one by one can do other work in between."""
        features = self.tower.layerwise(pixels.astype(self.dtype))
        x = next(features)
        yield x
        for x in features:
            yield x
        yield self.norm(self.proj(x))


def _image_rules() -> list[Rule]:
    """Rules from the names of Kyutai's PyTorch and MLX files, and ours, to ours."""
    layer = r"(?:image_prefix\.enc|img_embedder)\.model\.encoder\.layers\.(?P<l>\d+)"
    model = r"(?:image_prefix\.enc|img_embedder)\.model"
    into = r"tower.layers.\g<l>"
    prefix = r"(?:transformer\.)?image_prefix"
    end = r"(?P<end>weight|bias)"
    patch, place = rf"{model}\.embeddings\.patch_embedding", "tower.patch_embedding"
    return [
        Rule(rf"{patch}\.weight", f"{place}.weight", channels_last),
        Rule(rf"{patch}\.bias", f"{place}.bias"),
        Rule(
            rf"{model}\.embeddings\.position_embedding\.weight",
            "tower.position_embedding",
        ),
        Rule(rf"{layer}\.layer_norm(?P<n>[12])\.{end}", rf"{into}.norm\g<n>.\g<end>"),
        Rule(
            rf"{layer}\.self_attn\.(?P<p>q|k|v|out)_proj\.{end}",
            rf"{into}.attention.\g<p>_proj.\g<end>",
        ),
        Rule(rf"{layer}\.mlp\.fc(?P<n>[12])\.{end}", rf"{into}.linear\g<n>.\g<end>"),
        Rule(rf"{model}\.post_layernorm\.{end}", r"tower.post_norm.\g<end>"),
        Rule(rf"{prefix}\.proj_xa\.(?P<end>\w+)", r"proj.\g<end>"),
        Rule(rf"{prefix}\.norm_xa\.(?:alpha|weight)", "norm.weight", flat),
        Rule(r"image_encoder\.(?P<ours>.+)", r"\g<ours>"),
    ]


def channels_last(w: mx.array) -> mx.array:
    """A convolution's ``[out, in, height, width]`` as ``[out, height, width, in]``."""
    return w.transpose(0, 2, 3, 1)


def channels_first(w: mx.array) -> mx.array:
    """The reverse of ``channels_last``."""
    return w.transpose(0, 3, 1, 2)


IMAGE_RULES = _image_rules()
