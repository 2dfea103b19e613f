"""What training changes: named as Kyutai's files, shared as the network shares it."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.errors import ConfigError
from moshi_mlx.finetune.checkpointing import checkpointed
from moshi_mlx.finetune.export import export_adapters
from moshi_mlx.finetune.loss import LossWeights, losses
from moshi_mlx.finetune.optimizer import CycledAdamW, OneCycle
from moshi_mlx.finetune.prepare import begin_with
from moshi_mlx.finetune.settings import TrainSettings
from moshi_mlx.finetune.step import TrainingStep
from moshi_mlx.finetune.trainable import (
    Trainable,
    add_adapters,
    add_embeddings,
    everything,
    linear_layers,
)
from moshi_mlx.models.depformer import DepFormer
from moshi_mlx.models.keys import pytorch_rules
from moshi_mlx.models.kyutai_names import kyutai_name
from moshi_mlx.utils.remap import remap
from moshi_mlx.utils.tensor_files import read_tensors
from tests import tiny
from tests.tiny import BASE, CONDITIONED, Config, number

CONFIGS: dict[str, Config] = {
    "released": {},
    "schedule": {"depformer_weights_per_step_schedule": [0, 1, 1]},
    "one set": {"depformer_weights_per_step": False, "depformer_multi_linear": False},
    "plain": {"gating": "none"},
    "conditioned": CONDITIONED,
    "low rank": {"depformer_low_rank_embeddings": 32, "depformer_norm": "rms_norm_f32"},
    "text alone": {"dep_q": 0, "extra_heads_num_heads": 2},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_names_lead_back_to_every_place(name: str):
    lm = tiny.lm(**CONFIGS[name])
    trainable = add_adapters(lm, rank=2)
    rules = pytorch_rules(lm.cfg)
    found = remap(trainable.arrays, rules, "adapters")
    wrapped = [path.removesuffix(".layer") for path in linear_layers(lm)]
    expected = {f"{p}.lora_{half}.weight" for p in wrapped for half in "AB"}
    assert found.keys() == expected
    for path in wrapped:
        shared = trainable.arrays[f"{kyutai_name(lm.cfg, path)}.lora_A.weight"]
        assert found[f"{path}.lora_A.weight"] is shared


def trained(lm: tiny.Lm, trainable: Trainable, steps: int = 4) -> tuple[float, float]:
    codes = tiny.codes(BASE, 2, 8)
    adamw = CycledAdamW((0.9, 0.95), 1e-8, 0.0)
    run = TrainingStep(lm, trainable, adamw, OneCycle(0.02, steps))
    done = [run(step, [codes]).loss for step in range(steps)]
    return done[0], done[-1]


def test_steps_on_one_set_of_weights_learn_one_adapter():
    lm = tiny.lm(depformer_weights_per_step_schedule=[0, 1, 1])
    trainable = add_adapters(lm, rank=2, keys=["depformer"])
    first, last = trained(lm, trainable)
    assert last < first
    slices: Any = lm.depformer.slices
    one, two = (s.transformer.layers[0].gating.linear_in for s in slices[1:])
    assert one["lora_B"] is two["lora_B"]
    assert mx.any(one["lora_B"]).item()


def test_only_the_adapters_over_quantised_weights_are_trained():
    lm = tiny.lm()
    nn.quantize(lm, 32, 4)
    before = {n: w for n, w in tiny.parameters(lm).items() if "lora" not in n}
    first, last = trained(lm, add_adapters(lm, rank=4))
    assert last < first
    after = tiny.parameters(lm)
    for name, w in before.items():
        path, _, part = name.rpartition(".")
        inner = f"{path}.layer.{part}"
        assert after.get(inner, after.get(name)) is w


def test_new_adapters_change_nothing():
    plain, lm, codes = tiny.lm(), tiny.lm(), tiny.codes(BASE, 1, 6)
    add_adapters(lm, dropout=0.5)
    one, two = (losses(m, codes, LossWeights()) for m in (plain, lm))
    assert number(one.total) == number(two.total)


def test_keys_and_last_layers_are_chosen():
    def names(**options: Any) -> set[str]:
        return set(add_adapters(tiny.lm(), rank=1, **options).arrays)

    last = names(num_layers=1)
    assert not any(name.startswith("transformer.layers.0.") for name in last)
    assert any(name.startswith("transformer.layers.1.") for name in last)
    assert any(name.startswith("depformer.layers.0.") for name in last)
    some = names(keys=["self_attn.in_projs", "text_linear"])
    assert all("in_projs" in name or "text_linear" in name for name in some)
    with pytest.raises(ConfigError, match="no layer of the model is called q_proj"):
        names(keys=["q_proj"])


def test_files_hold_an_adapter_for_every_layer(tmp_path: Path):
    """PyTorch moshi wants one for each, also where only some were trained."""
    lm = tiny.lm()
    some = add_adapters(lm, rank=2, keys=["self_attn"], num_layers=1)
    some.arrays = {n: mx.ones_like(w) for n, w in some.arrays.items()}
    settings = TrainSettings(rank=2)
    export_adapters(tmp_path, some, BASE, settings, lm)
    written = read_tensors(tmp_path / "lora.safetensors")
    everywhere = add_adapters(tiny.lm(), rank=2)
    shapes = {name: w.shape for name, w in everywhere.arrays.items()}
    assert {name: w.shape for name, w in written.items()} == shapes
    for name, w in written.items():
        assert mx.all(w == (1 if name in some.arrays else 0)).item(), name
    # and the same training can begin with them
    again = add_adapters(tiny.lm(), rank=2, keys=["self_attn"], num_layers=1)
    begin_with(tiny.lm(), again, tmp_path)
    assert again.arrays.keys() == some.arrays.keys()


def test_dropout_is_the_same_again_from_the_same_seed():
    def run() -> mx.array:
        lm = tiny.lm()
        trainable = add_adapters(lm, rank=2, dropout=0.5)
        trained(lm, trainable, steps=2)
        return trainable.arrays["text_linear.lora_B.weight"]

    assert mx.array_equal(run(), run())


def test_tables_may_be_trained_with_the_adapters():
    lm = tiny.lm()
    trainable = add_adapters(lm, rank=2, keys=["text_linear"])
    add_embeddings(lm, trainable)
    assert {"text_emb.weight", "emb.0.weight", "depformer_emb.1.weight"} <= set(
        trainable.arrays
    )
    before = lm.text_emb["weight"]
    trained(lm, trainable)
    assert not mx.array_equal(lm.text_emb["weight"], before)
    quantised = tiny.lm()
    nn.quantize(quantised, 32, 4)
    with pytest.raises(ConfigError, match="embeddings are quantised"):
        add_embeddings(quantised, Trainable())


def test_all_weights_may_be_trained_and_stay_shared():
    lm = tiny.lm(depformer_weights_per_step_schedule=[0, 1, 1])
    lm.set_dtype(mx.bfloat16)
    for part in ("linear_in", "transformer"):  # as a checkpoint is read
        lm.depformer.slices[2][part] = lm.depformer.slices[1][part]
    trainable = everything(lm)
    first, last = trained(lm, trainable)
    assert last < first
    new = trainable.arrays["text_emb.weight"].astype(mx.bfloat16)
    assert mx.array_equal(lm.text_emb["weight"], new)  # those after the last step
    assert lm.text_emb["weight"].dtype == mx.bfloat16
    assert trainable.arrays["text_emb.weight"].dtype == mx.float32
    assert not any(name.startswith("depformer.slices.2.t") for name in trainable.arrays)
    quantised = tiny.lm()
    nn.quantize(quantised, 32, 4)
    with pytest.raises(ConfigError, match="quantised weights cannot be trained"):
        everything(quantised)


def test_checkpointed_layers_give_the_same_gradients():
    def step(checkpoint: bool) -> tuple[float, dict[str, mx.array]]:
        lm = tiny.lm()
        trainable = add_adapters(lm, rank=2)
        adamw = CycledAdamW((0.9, 0.95), 1e-8, 0.0)
        run = TrainingStep(lm, trainable, adamw, OneCycle(0.02, 4))
        with checkpointed(lm, 8) if checkpoint else nullcontext():
            done = [run(n, [tiny.codes(BASE, 2, 8)]) for n in range(2)]
        assert type(lm.depformer) is DepFormer
        return done[1].grad_norm, trainable.arrays

    (norm, plain), (again, arrays) = step(False), step(True)
    assert again == pytest.approx(norm, rel=1e-5)
    for name, array in plain.items():
        assert mx.allclose(arrays[name], array, atol=1e-5), name
    with (
        pytest.raises(ConfigError, match=r"at most 327\.68 s"),
        checkpointed(tiny.lm(), 4097),
    ):
        pass
    with checkpointed(tiny.lm(), 1250):  # 100 s, as moshi-finetune's example has them
        pass


def test_steps_that_run_at_once_change_no_loss():
    lm, codes = tiny.lm(), tiny.codes(BASE, 2, 9)
    parts, whole = lm.teacher_forced(codes, chunk=4), lm.teacher_forced(codes)
    tiny.assert_close(parts.text_logits, whole.text_logits)
    assert parts.audio_logits is not None and whole.audio_logits is not None
    tiny.assert_close(parts.audio_logits, whole.audio_logits)


def test_evaluation_drops_nothing():
    codes, found = tiny.codes(BASE, 2, 8), []
    for dropout in (0.0, 0.9):
        lm = tiny.lm()
        trainable = add_adapters(lm, rank=2, dropout=dropout)
        key = mx.random.key(3)
        trainable.arrays = {
            name: mx.random.normal(a.shape, key=key) * 0.2
            for name, a in trainable.arrays.items()
        }
        adamw = CycledAdamW((0.9, 0.95), 1e-8, 0.0)
        run = TrainingStep(lm, trainable, adamw, OneCycle(0.02, 4))
        found.append(number(run.losses(codes).total))
        assert lm.training
    assert found[0] == found[1]
