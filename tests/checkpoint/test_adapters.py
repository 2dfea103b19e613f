"""Adapters of Kyutai's, of mlx-lm's and of ours: merged, beside, fused, exchanged."""

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.checkpoint.adapters import find_adapter, local_adapter
from moshi_mlx.checkpoint.build import load_lm
from moshi_mlx.checkpoint.exchange import adapters_of, save_as_kyutai, save_as_mlx_lm
from moshi_mlx.checkpoint.fuse import dequantize, fuse
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import quantize
from moshi_mlx.cli.main import main
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models.lm import Lm
from moshi_mlx.modules.lora import LoraLinear
from tests.checkpoint.folders import tensors, write, write_with_codec
from tests.learning import LORA, golden
from tests.tiny import assert_close, greedy, heard, run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The golden base without its adapters."""
    folder = tmp_path / "base"
    folder.mkdir()
    shutil.copy(LORA / "model.safetensors", folder)
    config = json.loads((LORA / "config.json").read_text())
    for key in ("lora", "lora_rank", "lora_scaling"):
        del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def kyutais(tmp_path: Path) -> Path:
    """Adapters as moshi-finetune leaves them."""
    folder = tmp_path / "run" / "consolidated"
    folder.mkdir(parents=True)
    for name in ("lora.safetensors", "config.json"):
        shutil.copy(LORA / name, folder)
    return folder.parent


def loaded(base: Path, adapter: Path | None = None, **options: Any) -> Lm:
    return load_lm(CheckpointInfo.find(base, lora_weights=adapter), **options)


def assert_golden(lm: Lm, name: str) -> None:
    io = golden("io")
    out = lm.teacher_forced(io["codes0"])
    assert out.audio_logits is not None
    for kind, logits in (("text", out.text_logits), ("audio", out.audio_logits)):
        expected = io[f"{name}_{kind}_logits"] * io[f"{kind}_mask"][..., None]
        assert_close(logits * io[f"{kind}_mask"][..., None], expected, 1e-4)


def test_kyutai_s_adapters_give_their_logits(base: Path, kyutais: Path):
    assert_golden(loaded(base), "base")
    assert_golden(loaded(base, kyutais), "lora_bf16")
    merged = LORA / "consolidated.safetensors"
    assert_golden(load_lm(CheckpointInfo.find(base, moshi_weights=merged)), "merged")


def quantised(folder: Path) -> tuple[Path, Path]:
    """A base in 4 bits, and the same in floats of the same values."""
    full, packed = str(folder / "full"), str(folder / "q4")
    write_with_codec(folder / "full", depformer_weights_per_step_schedule=[0, 1, 1])
    assert main(["quantize", full, packed, "--recipe", "q4"]) == 0
    lm = loaded(folder / "q4")
    dequantize(lm, mx.float32)
    weights = tensors(lm)
    config = json.loads((folder / "q4" / "config.json").read_text())
    del config["quantization"]
    config["moshi_name"] = "model.safetensors"
    shutil.copytree(folder / "full", folder / "floats")
    write(folder / "floats", weights, config)
    return folder / "q4", folder / "floats"


def adapters(folder: Path, base: Path, form: str) -> Path:
    """Random adapters of a few layers, in the form of a program."""
    rng = mx.random.key(0)
    weights, names = {}, ["text_linear", "transformer.layers.0.gating.linear_in"]
    names += ["depformer.layers.0.gating.1.linear_out", "depformer_in.1"]
    shapes = {"text_linear": (40, 32), "depformer_in.1": (32, 32)}
    lm = loaded(base)
    modules = dict(lm.named_modules())
    gating = modules["transformer.layers.0.gating"]
    shapes[names[1]] = (gating.linear_in.weight.shape[0], 32)
    inner = modules["depformer.slices.1.transformer.layers.0.gating"]
    shapes[names[2]] = (32, inner.linear_in.weight.shape[0] // 2)
    for name in names:
        rows, columns = shapes[name]
        rng, one, two = mx.random.split(rng, 3)
        weights[f"{name}.lora_A.weight"] = mx.random.normal((2, columns), key=one)
        weights[f"{name}.lora_B.weight"] = mx.random.normal((rows, 2), key=two) * 0.2
    out = folder / form
    out.mkdir()
    mx.save_safetensors(str(out / "lora.safetensors"), weights)
    (out / "config.json").write_text(json.dumps({"lora_scaling": 0.5}))
    if form == "mlx-lm":
        save_as_mlx_lm(CheckpointInfo.find(base), out, folder / "theirs")
        return folder / "theirs"
    return out


@pytest.mark.parametrize("form", ["kyutai", "mlx-lm"])
def test_adapters_run_beside_quantised_weights(tmp_path: Path, form: str):
    packed, floats = quantised(tmp_path)
    given = adapters(tmp_path, floats, form)
    beside, merged = loaded(packed, given), loaded(floats, given)
    wrapped = [m for m in beside.modules() if isinstance(m, LoraLinear)]
    assert len(wrapped) == 2 + 2 * 2  # two steps share what one set learnt
    assert not any(isinstance(m, LoraLinear) for m in merged.modules())
    codes = heard(merged, 1, 12)
    other = loaded(packed)
    assert (run(greedy(beside), codes) == run(greedy(merged), codes)).all()
    assert (run(greedy(other), codes) != run(greedy(merged), codes)).any()


@pytest.mark.parametrize("dequantised", [False, True])
def test_fused_quantised_weights_are_near_the_sum(tmp_path: Path, dequantised: bool):
    packed, floats = quantised(tmp_path)
    given = adapters(tmp_path, floats, "kyutai")
    expected = loaded(floats, given)
    lm, info = loaded(packed), CheckpointInfo.find(packed)
    if dequantised:  # first, or the change would be rounded to 4 bits
        dequantize(lm, mx.float32)
    fuse(lm, *adapters_of(info, given))
    if dequantised:
        for name, w in tensors(expected).items():
            assert mx.allclose(tensors(lm)[name], w, atol=1e-5), name
        return
    assert isinstance(lm.text_linear, nn.QuantizedLinear)
    slices: Any = lm.depformer.slices
    one, two = (s.transformer.layers[0].gating.linear_out for s in slices[1:])
    assert one["scales"] is two["scales"]
    quantize(expected, 4)
    before, after, wanted = (tensors(m) for m in (loaded(packed), lm, expected))
    changed = {name for name, w in after.items() if not mx.array_equal(w, before[name])}
    assert all(mx.array_equal(after[name], wanted[name]) for name in changed)
    layers = {name.rpartition(".")[0] for name in changed}
    assert len(layers) == 2 + 2 * 2


def test_adapters_travel_to_mlx_lm_and_back(base: Path, kyutais: Path, tmp_path: Path):
    info = CheckpointInfo.find(base)
    save_as_mlx_lm(info, kyutais, tmp_path / "theirs")
    theirs: Any = mx.load(str(tmp_path / "theirs" / "adapters.safetensors"))
    assert theirs["text_linear.lora_a"].shape == (48, 4)
    assert theirs["text_linear.lora_b"].shape == (4, 96)
    told = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    assert told["lora_parameters"]["scale"] == 2.0
    assert told["lora_parameters"]["rank"] == 4
    assert_golden(loaded(base, tmp_path / "theirs"), "lora_bf16")
    save_as_kyutai(info, tmp_path / "theirs", tmp_path / "back")
    back: Any = mx.load(str(tmp_path / "back" / "lora.safetensors"))
    expected = golden("lora")
    assert back.keys() == expected.keys()
    assert all(mx.array_equal(back[n], w).item() for n, w in expected.items())
    assert find_adapter(tmp_path / "back").scaling == 2.0


def test_a_tensor_that_finds_no_layer_is_an_error(base: Path, tmp_path: Path):
    strange = {f"text_lineal.lora_{half}.weight": mx.ones((4, 4)) for half in "AB"}
    mx.save_safetensors(str(tmp_path / "lora.safetensors"), strange)
    with pytest.raises(CheckpointError, match="unknown tensors text_lineal"):
        loaded(base, tmp_path / "lora.safetensors")
    theirs = {f"model.layers.0.q_proj.lora_{h}": mx.ones((4, 4)) for h in "ab"}
    mx.save_safetensors(str(tmp_path / "adapters.safetensors"), theirs)
    with pytest.raises(CheckpointError, match=r"unknown tensors model\.layers\.0"):
        loaded(base, tmp_path / "adapters.safetensors")
    with pytest.raises(
        CheckpointError, match=r"holds .* and .*: name one of the files"
    ):
        loaded(base, tmp_path)


def test_adapters_that_are_not_there_are_told(base: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="there are no adapters"):
        loaded(base, tmp_path / "gone")
    with pytest.raises(CheckpointError, match="holds no adapters"):
        loaded(base, tmp_path)
    assert local_adapter(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "file, text",
    [
        ("config.json", f'{{"lora_scaling": 1{"0" * 400}}}'),
        ("adapter_config.json", '{"lora_parameters": {"scale": 1001}}'),
        ("adapter_config.json", '{"lora_parameters": {"scale": -1e300}}'),
    ],
)
def test_a_scale_that_no_training_has_is_refused(tmp_path, file: str, text: str):
    (tmp_path / "lora.safetensors").write_bytes(b"")
    (tmp_path / file).write_text(text)
    with pytest.raises(ConfigError, match=rf"{file}. \w+ -?1.*: give a number from"):
        find_adapter(tmp_path)
