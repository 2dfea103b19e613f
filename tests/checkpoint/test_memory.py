"""What does not fit is refused; the default is what fits."""

import re

import pytest
from mlx.utils import tree_flatten

from moshi_mlx.checkpoint import memory
from moshi_mlx.checkpoint.cost import folded_bytes
from moshi_mlx.checkpoint.memory import (
    Footprint,
    check_memory,
    check_sessions,
    fitting_moshi,
    how_to_fit,
    machine_memory,
)
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.fast import ready
from moshi_mlx.models.mimi import Mimi, mimi_202407


def test_this_machine_has_between_1_gb_and_100_tb():
    assert 1e9 < machine_memory() < 1e14


def test_weights_that_nearly_fill_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 16_000_000_000)
    check_memory(14_000_000_000, "x", "y")
    sentence = "moshiko needs 15.4 GB of memory and this machine has 16.0 GB: do it."
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        check_memory(15_400_000_000, "moshiko", "do it")


@pytest.mark.parametrize("gb, kind", [(8, "q4"), (16, "q8"), (128, "q8")])
def test_the_default_moshi_fits(gb, kind):
    assert fitting_moshi(gb * 10**9) == f"kyutai/moshiko-mlx-{kind}"


MOSHI_Q4 = Footprint(weights=4_800_000_000, session=1_570_000_000, codec=400_000_000)


def test_a_session_and_the_codec_count(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 7_000_000_000)
    sentence = (
        "moshiko needs 6.8 GB of memory (weights 4.8, a session 1.6, codec 0.4) and "
        "this machine has 7.0 GB: do it."
    )
    with pytest.raises(CheckpointError, match=re.escape(sentence)):
        check_memory(MOSHI_Q4, "moshiko", "do it")
    monkeypatch.setattr(memory, "machine_memory", lambda: 8_000_000_000)
    check_memory(MOSHI_Q4, "moshiko", "do it")


def test_the_copies_that_make_the_codec_faster_count():
    mimi = Mimi(mimi_202407(8))
    stacks = mimi.encoder_transformer, mimi.decoder_transformer
    before = [layer for stack in stacks for layer in stack.transformer.layers]
    fast = ready(mimi)
    stacks = fast.encoder_transformer, fast.decoder_transformer
    after = [layer for stack in stacks for layer in stack.transformer.layers]
    copied = 0
    for old, new in zip(before, after, strict=True):
        for name in ("self_attn.out_proj.weight", "gating.linear2.weight"):
            weight = dict(tree_flatten(new))[name]
            assert weight is not dict(tree_flatten(old))[name]
            copied += weight.nbytes
    assert folded_bytes(mimi) == copied == 83_886_080


def test_sessions_that_do_not_fit_are_refused_with_the_number_that_does(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 16_000_000_000)
    assert MOSHI_Q4.sessions_that_fit() == 5
    check_sessions(MOSHI_Q4, 5, "moshiko")
    with pytest.raises(ConfigError, match=r"17\.8 GB .* use --max-sessions 5, or --kv"):
        check_sessions(MOSHI_Q4, 8, "moshiko")


@pytest.mark.parametrize(
    "kind, quantised, kv_bits, advice",
    [
        (
            "moshi",
            False,
            None,
            "quantise it with '-q 4', or keep keys and ",
        ),
        ("moshi", True, 8, "take a smaller model, like kyutai/moshiko-mlx-q4"),
        ("helium", True, 8, "take a smaller model"),
    ],
)
def test_advice_names_what_was_not_done_yet(kind, quantised, kv_bits, advice):
    found = how_to_fit(kind, quantised, kv_bits)
    assert found.startswith(advice)
