"""MoshiVis from each of its published forms: recognised, loaded, saved again."""

import json
import struct
from functools import partial
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.checkpoint.build import footprint, load_image_encoder, load_lm, open_lm
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.moshivis import is_named_so
from moshi_mlx.checkpoint.pytorch_names import pytorch_names
from moshi_mlx.checkpoint.quantize import describe, nbytes
from moshi_mlx.checkpoint.recipes import recipe_named
from moshi_mlx.checkpoint.save import save
from moshi_mlx.cli.main import main
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models import Lm
from moshi_mlx.models.image import ImageEncoder
from tests.checkpoint.folders import write
from tests.models.test_image import check
from tests.naming import as_candle
from tests.tiny import assert_close, parameters
from tests.vision import (
    VIS,
    Tensors,
    config,
    golden_encoder,
    golden_vis,
    mlx_names,
    tensors,
)


@pytest.fixture(scope="module", autouse=True)
def uncompiled():
    """Run compiled functions as written: on CPU, g++ takes seconds for each model."""
    mx.disable_compile()
    yield
    mx.enable_compile()


def folder_of(path: Path, weights: Tensors, name: str = "model.safetensors") -> Path:
    return write(path, weights, config(), name)


def assert_same_as_golden(folder: Path) -> None:
    info = CheckpointInfo.find(folder)
    for found, wanted in (
        (load_lm(info, as_stored=True), golden_vis()),
        (load_image_encoder(info), golden_encoder()),
    ):
        assert found is not None
        others, own = parameters(found), parameters(wanted)
        assert others.keys() == own.keys()
        assert all(mx.array_equal(others[name], w) for name, w in own.items())


def test_the_pytorch_form_is_read():
    assert_same_as_golden(VIS)


def test_a_state_dict_that_repeats_the_shared_attention_is_read(tmp_path):
    weights, mha = dict(tensors("model")), "cross_attention.mha"
    for name, w in tensors("model").items():
        if mha in name:
            for layer in "12":
                weights[name.replace("layers.0.", f"layers.{layer}.")] = w
    assert_same_as_golden(folder_of(tmp_path, weights))


def test_the_mlx_form_is_read(tmp_path):
    weights = mlx_names(golden_vis(), golden_encoder())
    assert_same_as_golden(folder_of(tmp_path, weights))


def test_candle_s_names_of_the_shared_attention_are_read(tmp_path):
    weights = {
        name.removeprefix("llm.").replace(".mha.", "."): w
        for name, w in tensors("model").items()
    }
    assert_same_as_golden(folder_of(tmp_path / "mixed", weights))
    plain = {name.removeprefix("audio_"): w for name, w in weights.items()}
    candle = as_candle(plain, config())
    assert "depformer.3.transformer.layers.1.self_attn.in_proj_weight" in candle
    assert_same_as_golden(folder_of(tmp_path / "whole", candle))


@pytest.mark.parametrize("bits, group", [(4, 32), (8, 64)])
def test_kyutai_s_quantised_mlx_files_are_read_by_their_group_rules(
    tmp_path, bits: int, group: int
):
    lm, encoder = golden_vis(), golden_encoder()

    def divides(_: str, layer: nn.Module) -> bool:
        return hasattr(layer, "to_quantized") and not layer["weight"].shape[-1] % group

    nn.quantize(lm, group, bits, class_predicate=divides)
    encoder.update_modules({"proj": encoder.proj.to_quantized(32, bits)})
    name = f"model.q{bits}.safetensors"
    folder = folder_of(tmp_path, mlx_names(lm, encoder), name)
    info = CheckpointInfo.find(folder, bits=bits)
    found, seeing = load_lm(info, bits=bits), load_image_encoder(info)
    layers = describe(found).layers
    assert set(layers) == set(describe(lm).layers)
    assert {(choice.bits, choice.group_size) for choice in layers.values()} == {
        (bits, group)
    }
    for one, other in ((found, lm), (seeing, encoder)):
        assert one is not None
        mine = parameters(one)
        assert all(mx.array_equal(mine[n], w) for n, w in parameters(other).items())


def test_one_repository_holds_several_sizes(tmp_path):
    folder_of(tmp_path, {"x": mx.ones(1)})
    folder_of(tmp_path, {"x": mx.ones(1)}, "model.q4.safetensors")
    names = [
        CheckpointInfo.find(tmp_path, bits=bits).moshi_weights[0].name
        for bits in (None, 4, 8)
    ]
    assert names == ["model.safetensors", "model.q4.safetensors", "model.safetensors"]


def test_what_is_converted_and_quantised_sees_as_before(tmp_path, capsys):
    source = folder_of(tmp_path / "source", tensors("model"))
    info = CheckpointInfo.find(source)
    lm, encoder = open_lm(info, as_stored=True), load_image_encoder(info)
    out = save(tmp_path / "out", lm, info.config, image_encoder=encoder)
    assert_same_as_golden(out)
    check(load_lm(CheckpointInfo.find(out)), "image_from_16")
    small = load_lm(CheckpointInfo.find(out), bits=4, recipe=recipe_named("q4"))
    saved = save(tmp_path / "q4", small, info.config, image_encoder=encoder)
    again = CheckpointInfo.find(saved)
    assert describe(load_lm(again)).layers == describe(small).layers
    found = load_image_encoder(again)
    assert found is not None
    x = mx.zeros((1, 28, 28, 3))
    assert_close(found(x), golden_encoder()(x))
    assert main(["info", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model_type"] == "moshi_vis"
    assert facts["image"] == {"size": 28, "patches": 16, "layers": 2, "width": 32}
    assert facts["memory_bytes"]["image_encoder"] == nbytes(golden_encoder())


def test_pytorch_s_names_are_those_of_kyutai_s_file(tmp_path):
    lm, encoder = golden_vis(), golden_encoder()
    seeing = {f"image_encoder.{n}": w for n, w in parameters(encoder).items()}
    found, wanted = pytorch_names(lm, {**parameters(lm), **seeing}), tensors("model")
    assert found.keys() == wanted.keys()
    for name, w in wanted.items():
        assert found[name].shape == w.shape and mx.array_equal(found[name], w), name
    names = partial(pytorch_names, lm)
    out = save(tmp_path / "out", lm, config(), image_encoder=encoder, names=names)
    assert_same_as_golden(out)


def test_its_kind_listens_converses_and_sees():
    kind = CheckpointInfo.find(VIS).kind
    assert kind.name == "moshi_vis" and kind.engine == "duplex"
    assert kind.listens and kind.converses and kind.sees
    assert (kind.sampling.temp, kind.sampling.temp_text) == (0.7, 0.45)
    with pytest.raises(ConfigError, match="demo is a moshi model and sees no images"):
        CheckpointInfo.find("demo").kind.check("sees", "demo")


def sparse(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of bfloat16 zeros, none of which is on the disk."""
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for axis in shape:
            size *= axis
        offsets = [end, end + size]
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": offsets}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def test_a_folder_without_config_is_told_by_its_tensors(tmp_path):
    sparse(tmp_path / "model.safetensors", {"img_embedder.model.x": (1,)})
    info = CheckpointInfo.find(tmp_path)
    assert info.kind.sees and info.lm_config.vision is not None
    assert (
        info.lm_config.vision.side == 32 and info.lm_config.transformer.d_model == 4096
    )
    sparse(tmp_path / "model.safetensors", {"text_emb.weight": (1,)})
    assert not CheckpointInfo.find(tmp_path).kind.sees


@pytest.mark.parametrize(
    "name, sees",
    [
        ("kyutai/moshika-vis-mlx", True),
        ("kyutai/moshika-vis-pytorch-bf16", True),
        ("someone/Moshiko-Vis", True),
        ("kyutai/moshika-mlx-q4", False),
        ("someone/moshi-visual", False),
    ],
)
def test_a_repository_is_told_by_its_name(name: str, sees: bool):
    assert is_named_so(name, None) == sees


def test_released_shapes_fit_the_defaults(tmp_path):
    """As many parameters as Kyutai's README and the files' sizes say."""
    sparse(tmp_path / "model.safetensors", {"img_embedder.model.x": (1,)})
    info = CheckpointInfo.find(tmp_path)
    cfg = info.lm_config
    lm = Lm(cfg)
    lm.set_dtype(mx.bfloat16)
    assert cfg.vision is not None
    encoder = ImageEncoder(cfg.vision, cfg.transformer.d_model)
    seeing = {name: w.size for name, w in parameters(encoder).items()}
    tower = sum(n for name, n in seeing.items() if name.startswith("tower."))
    assert tower == pytest.approx(413.3e6, rel=1e-3)
    gates = sum(w.size for name, w in parameters(lm).items() if "cross" in name)
    adapters = gates + sum(seeing.values()) - tower
    assert adapters == 206_184_448  # Kyutai's README: about 206 M
    needs = footprint(info, lm)
    assert needs.image == 2 * sum(seeing.values())
    assert needs.total(0) > needs.weights + needs.image


def test_a_checkpoint_without_its_image_encoder_is_told(tmp_path):
    weights = {k: w for k, w in tensors("model").items() if "image_prefix" not in k}
    info = CheckpointInfo.find(folder_of(tmp_path, weights))
    with pytest.raises(CheckpointError, match=r"image encoder of .* missing tensors"):
        load_image_encoder(info)
