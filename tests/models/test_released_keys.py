"""The tensor names of published checkpoints are an interface: they are pinned here."""

from collections.abc import Callable

import mlx.core as mx
import pytest

from moshi_mlx.models import Lm, LmConfig, presets
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.utils.remap import remap
from tests.released import RELEASED
from tests.tiny import parameters, pytorch_shapes

Shapes = dict[str, tuple[int, ...]]


def stack(prefix: str, dim: int, layers: int, hidden: int) -> Shapes:
    """A gated stack with RMS norms, as moshi_mlx has named it since 0.1."""
    shapes: Shapes = {}
    for n in range(layers):
        layer = f"{prefix}.layers.{n}"
        shapes[f"{layer}.self_attn.in_proj.weight"] = (3 * dim, dim)
        shapes[f"{layer}.self_attn.out_proj.weight"] = (dim, dim)
        shapes[f"{layer}.gating.linear_in.weight"] = (2 * hidden, dim)
        shapes[f"{layer}.gating.linear_out.weight"] = (dim, hidden)
        shapes[f"{layer}.norm1.weight"] = (dim,)
        shapes[f"{layer}.norm2.weight"] = (dim,)
    return shapes


def preset_shapes(
    dim: int, layers: int, hidden: int, text: tuple[int, int], n_q: int, dep_q: int
) -> Shapes:
    """Text vocabulary in and out, audio streams, own ones; depth is 1024 wide."""
    shapes = stack("transformer", dim, layers, hidden)
    shapes["text_emb.weight"] = (text[0], dim)
    shapes["text_linear.weight"] = (text[1], dim)
    shapes["out_norm.weight"] = (dim,)
    for k in range(n_q):
        shapes[f"audio_embs.{k}.weight"] = (2049, dim)
    for k in range(dep_q):
        part = f"depformer.slices.{k}"
        shapes[f"{part}.emb.weight"] = (2049 if k else text[0], 1024)
        shapes[f"{part}.linear_in.weight"] = (1024, dim)
        shapes[f"{part}.linear_out.weight"] = (2048, 1024)
        shapes |= stack(f"{part}.transformer", 1024, 6, 2816)
    return shapes


@pytest.mark.parametrize(
    "preset, count, expected",
    [
        (
            presets.config_v0_1,
            523,
            preset_shapes(4096, 32, 11264, (32001, 32000), 16, 8),
        ),
        (
            presets.config1b_202412,
            427,
            preset_shapes(2048, 16, 5632, (48001, 48000), 16, 8),
        ),
        (
            presets.config1b_202412_16rvq,
            755,
            preset_shapes(2048, 16, 5632, (48001, 48000), 32, 16),
        ),
        (
            presets.config_helium_1_preview_2b,
            147,
            preset_shapes(2560, 24, 7040, (48000, 48000), 0, 0),
        ),
    ],
)
def test_presets_have_the_names_and_shapes_of_0_3_0(
    preset: Callable[[], LmConfig], count: int, expected: Shapes
):
    found = {name: w.shape for name, w in parameters(Lm(preset())).items()}
    assert found == expected
    assert len(found) == count


# What a released file is known to hold, where that is known.
COUNTS = {"stt 2.6b": 323, "tts 1.6b": 418}


@pytest.mark.parametrize("name", RELEASED)
def test_every_tensor_of_a_released_file_finds_its_place(name: str):
    shapes = pytorch_shapes(RELEASED[name])
    assert len(shapes) == COUNTS.get(name, len(shapes))
    cfg = LmConfig.from_config_dict(RELEASED[name])
    weights = {key: mx.zeros(shape) for key, shape in shapes.items()}  # never computed
    found = remap(weights, pytorch_rules(cfg), name)
    expected = {name: w.shape for name, w in parameters(Lm(cfg)).items()}
    assert {name: w.shape for name, w in found.items()} == expected


def test_names_beside_the_presets_of_models_that_have_more():
    names = set(parameters(Lm(LmConfig.from_config_dict(RELEASED["tts 1.6b"]))))
    layer, part = "transformer.layers.15", "depformer.slices.31"
    assert names >= {
        f"{layer}.cross_attention.in_proj.weight",
        f"{layer}.cross_attention.out_proj.weight",
        f"{layer}.norm_cross.weight",
        f"{layer}.norm_cross.bias",
        f"{part}.emb.low_rank.weight",
        "depformer.slices.0.emb.out1.weight",
        "depformer.slices.0.emb.out2.weight",
        "text_emb.out1.weight",
        "text_emb.out2.weight",
        "condition_provider.conditioners.speaker_wavs.output_proj.weight",
        "condition_provider.conditioners.speaker_wavs.learnt_padding",
        "condition_provider.conditioners.cfg.embed.weight",
    }
    names = set(
        parameters(Lm(LmConfig.from_config_dict(RELEASED["stt 1b with heads"])))
    )
    assert {f"extra_heads.{k}.weight" for k in range(4)} <= names
    names = set(parameters(Lm(LmConfig.from_config_dict(RELEASED["hibiki-zero 3b"]))))
    assert {f"depformer.slices.15.norm.{end}" for end in ("weight", "bias")} <= names
