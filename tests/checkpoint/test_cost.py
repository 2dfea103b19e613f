"""Weights are counted once, reads as often as they happen; chips by their bandwidth."""

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.bandwidth import CHIPS, reach
from moshi_mlx.checkpoint.build import open_lm
from moshi_mlx.checkpoint.cost import cost
from moshi_mlx.checkpoint.info import CheckpointInfo
from moshi_mlx.checkpoint.quantize import Choice, apply, nbytes, plan, quantize, same
from moshi_mlx.models import Lm, config_v0_1
from tests.checkpoint.folders import tensors, write
from tests.tiny import CONDITIONED
from tests.tiny import lm as tiny_lm


def seven_b(bits: int | None) -> Lm:
    lm = Lm(config_v0_1())  # 15 GB, if anybody computed it
    lm.set_dtype(mx.bfloat16)
    if bits:
        apply(lm, plan(lm, same(Choice.of(bits))).layers)
    return lm


@pytest.mark.parametrize(
    "bits, stored_gb, per_weight", [(None, 15.38, 16), (8, 8.17, 8.5), (4, 4.81, 5)]
)
def test_the_7b_weighs_what_its_published_files_do(bits, stored_gb, per_weight):
    before = mx.get_active_memory()
    found = cost(seven_b(bits))
    assert found.parameters == 7_687_815_168
    assert found.nbytes / 1e9 == pytest.approx(stored_gb, abs=0.01)
    assert found.bits_per_weight == pytest.approx(per_weight, abs=0.01)
    # 32 layers, keys and values, 3000 steps of 4096, two bytes each
    assert found.cache_bytes == 32 * 2 * 3000 * 4096 * 2
    assert mx.get_active_memory() - before < 1e6


# Megabytes that a step of Moshi 7B reads, by stage; lower them with the code.
STEP_MB = {
    None: {"temporal transformer": 13154, "depth transformer": 1334, "text head": 262},
    8: {"temporal transformer": 6988, "depth transformer": 709, "text head": 139},
    4: {"temporal transformer": 4111, "depth transformer": 417, "text head": 82},
}
KV_MB = {None: 1573, 8: 836}  # of keys and values, once the window is full


@pytest.mark.parametrize("bits", STEP_MB)
def test_a_step_of_the_7b_reads_no_more_bytes_than_it_did(bits):
    found = cost(seven_b(bits))
    for stage, most in STEP_MB[bits].items():
        assert found.parts[stage].step_bytes / 1e6 <= most + 1, stage
    assert found.parts["embeddings"].step_bytes < 0.2e6


@pytest.mark.parametrize("kv_bits", KV_MB)
def test_a_step_of_the_7b_reads_no_more_keys_and_values_than_it_did(kv_bits):
    lm = Lm(config_v0_1().with_kv_bits(kv_bits))
    lm.set_dtype(mx.bfloat16)
    assert cost(lm).cache_bytes / 1e6 <= KV_MB[kv_bits] + 1


def test_a_step_reads_matrices_whole_and_tables_by_the_row():
    lm = tiny_lm()
    found = cost(lm)
    tables = found.parts["embeddings"]
    assert tables.nbytes == 4 * 32 * (41 + 6 * 25)
    assert tables.step_bytes == 4 * 32 * 7  # one row of each
    assert found.parts["text head"].step_bytes == found.parts["text head"].nbytes
    own = {id(w): w.size for w in tensors(lm).values()}  # steps share their norms
    assert found.parameters == sum(own.values())
    assert found.nbytes == nbytes(lm)


def test_steps_that_share_weights_read_them_each():
    lm = tiny_lm()
    second, third = (
        lm.depformer.slices[step].transformer.layers[0].self_attn.in_proj
        for step in (1, 2)
    )
    before = cost(lm).parts["depth transformer"]
    third.weight = second["weight"]
    after = cost(lm).parts["depth transformer"]
    assert before.nbytes - after.nbytes == second["weight"].nbytes
    assert after.step_bytes == before.step_bytes


def test_conditions_are_no_part_of_a_step():
    found = cost(tiny_lm(**CONDITIONED))
    assert found.parts["conditions"].nbytes > 0
    assert found.parts["conditions"].step_bytes == 0


def test_quantised_layers_are_counted_by_their_bits():
    lm = tiny_lm()
    parameters = cost(lm).parameters
    quantize(lm, 4)
    found = cost(lm)
    assert found.parameters == parameters
    assert found.parts["text head"].bits == {"4 bits": 1}
    assert found.parts["text head"].nbytes == 40 * (32 // 2 + 2 * 4)


def test_an_open_model_costs_no_memory_before_it_is_used(tmp_path):
    folder = write(tmp_path, dim=256, text_card=8000)
    before = mx.get_active_memory()
    lm = open_lm(CheckpointInfo.find(folder))
    assert cost(lm).nbytes > 8e6
    assert mx.get_active_memory() - before < 1e5


def test_a_chip_holds_real_time_where_its_memory_is_fast_enough():
    verdicts = {r.chip.name: r.verdict for r in reach(int(10e9))}  # 125 GB/s
    assert verdicts["M1"] == verdicts["M4"] == "no"
    assert verdicts["M5"] == verdicts["M3 Pro"] == "tight"
    assert verdicts["M1 Pro"] == verdicts["M5 Max (40-core GPU)"] == "yes"
    assert (verdicts["A18 Pro"], verdicts["M6"]) == ("no", "tight")
    assert len(verdicts) == len(CHIPS)
    assert reach(int(10e9))[1].steps_hz == pytest.approx(20)


def test_steps_that_foresee_the_user_are_weighed_and_not_read():
    """Of 4 steps with 2 foreseen, a conversation takes 2 and the inputs of all."""
    own = {"n_q": 4, "dep_q": 4, "delays": [0] * 5}
    whole, foreseeing = (
        cost(tiny_lm(**own, **more)).parts["depth transformer"]
        for more in ({}, {"foreseen_codebooks": 2})
    )
    assert whole.nbytes == foreseeing.nbytes
    inputs = 4 * 32 * 32 * 4  # float32
    assert foreseeing.step_bytes - inputs < 0.6 * (whole.step_bytes - inputs)
    assert foreseeing.step_bytes > inputs
