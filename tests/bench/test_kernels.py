"""What a live frame asks of a GPU: counted, bounded, and predicted from."""

from collections import Counter
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.checkpoint.bandwidth import ATTAINABLE, reach
from moshi_mlx.checkpoint.kernels import CODEC, FrameWork, kernels
from moshi_mlx.models.presets import config_v0_1
from scripts.count_kernels import (
    KINDS,
    VIEWS,
    WARM,
    as_on_metal,
    count,
    generator,
    narrow_moshi,
    table,
)

# Kernels of each stage, as counted on MLX 0.32.4. Lower them with the code.
BUDGET = {
    "bf16": {"encode": 187, "decode": 159, "temporal": 381, "depth": 502},
    "q8": {"encode": 187, "decode": 159, "temporal": 447, "depth": 558},
    "q4": {"encode": 187, "decode": 159, "temporal": 447, "depth": 606},
    "q4_kv8": {"encode": 187, "decode": 159, "temporal": 671, "depth": 606},
}


@pytest.fixture(scope="module")
def counted():
    return {
        kind: {stage: found.total() for stage, found in stages.items()}
        for kind, stages in table(list(KINDS)).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_starts_no_more_kernels_than_it_did(counted, kind):
    for stage, most in BUDGET[kind].items():
        assert counted[kind][stage] <= most, stage


@pytest.mark.slow
def test_our_kernel_for_sums_and_norms_spares_150_in_a_frame_of_quantised_weights(
    counted,
):
    with_it = table(["q4", "bf16"], metal_norm=True)
    frames = {kind: sum(f.total() for f in with_it[kind].values()) for kind in with_it}
    assert frames["q4"] <= sum(BUDGET["q4"].values()) - 150
    assert frames["q4"] <= 1260
    # plain weights add within their products
    assert frames["bf16"] == sum(counted["bf16"].values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_prediction_knows_the_number_of_kernels(counted, kind):
    bits, kv_bits = KINDS[kind]
    found = kernels(narrow_moshi(bits, kv_bits), quantised=bits is not None)
    assert found == pytest.approx(sum(counted[kind].values()), rel=0.03)


def test_views_are_free_and_a_concatenation_counts_its_inputs():
    x = mx.zeros((2, 3))
    mx.eval(x)
    assert count(x.reshape(3, 2).T[:1]).total() == 0
    assert count(mx.concatenate([x, x, x]).exp()) == {"Concatenate": 3, "Exp": 1}


def test_fused_operations_are_one_kernel_each():
    q, w = mx.zeros((1, 2, 1, 8)), mx.ones(8)
    mx.eval(q, w)
    with as_on_metal():
        turned = mx.fast.rope(q, 8, traditional=True, base=1e4, scale=1.0, offset=3)
        y = mx.fast.scaled_dot_product_attention(turned, turned, q, scale=1.0)
        assert count(mx.fast.rms_norm(y, w, 1e-5)).total() == 3


def test_a_frame_takes_reading_and_starting_and_waiting():
    fast, slow = FrameWork(1000, 5 * 10**9).milliseconds(100e9)
    assert fast == pytest.approx(50 + 4 + 0.1)
    assert slow == pytest.approx(50 + 6 + 0.3)


def test_every_chip_gets_a_time_from_the_same_share_of_its_bandwidth():
    for found in reach(5 * 10**9, CODEC):
        work = FrameWork(CODEC, 5 * 10**9)
        expected = work.milliseconds(ATTAINABLE * found.chip.gb_per_s * 1e9)
        assert found.frame_ms == pytest.approx(expected)
    assert reach(5 * 10**9)[0].frame_ms is None


def float32_arrays() -> Counter[tuple[int, ...]]:
    """Shapes of the float32 arrays that a language model's bfloat16 frame makes."""
    gen = generator("bf16")
    heard = mx.zeros((1, 8), mx.int32)
    for _ in range(WARM):
        mx.eval(gen.step(heard)[0], gen.tokens)
    found: Counter[tuple[int, ...]] = Counter()

    def note(part: dict[str, Any]) -> None:
        if part["type"] == "primitive" and part["name"] not in VIEWS:
            for _, shape, dtype in part["outputs"]:
                found[shape] += dtype == mx.float32

    def frame(heard: mx.array) -> list[mx.array]:
        text, hidden = gen._step(heard, None, None, None, None)
        return [text, hidden, gen.tokens]

    mx.disable_compile()  # compiled pieces do not tell what is inside
    try:
        mx.export_function(note, frame, heard)
    finally:
        mx.enable_compile()
    return +found


def test_only_logits_and_what_is_drawn_from_them_are_float32_in_bfloat16():
    with as_on_metal():
        found = float32_arrays()
    cfg = config_v0_1()
    text, codes = cfg.text_out_vocab_size, cfg.audio_vocab_size - 1
    noise = 25 + 250 * cfg.depformer.num_slices  # a value for each of the top k
    allowed = {
        (1, 1, text): "text logits, divided by the temperature",
        (1, 1, codes): "logits of a codebook, likewise",
        (1, 1, 25): "the text's top k, with noise",
        (1, 1, 250): "a codebook's top k, with noise",
        (noise,): "noise of a frame",
        (): "scalars",
    }
    assert set(found) <= set(allowed), found
    assert found[1, 1, text] <= 2 and found[1, 1, codes] <= 2 * 8
