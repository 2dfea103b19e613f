"""Joined layers: one kernel, the layers' own parameters, no second copy."""

import gc
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from moshi_mlx.fast import ops
from moshi_mlx.fast.joined import JoinedEmbedding, JoinedLinear, can_join
from moshi_mlx.modules.embedding import ScaledEmbedding
from tests.tiny import assert_close, parameters

K, ROWS, DIM = 3, 9, 64


class Tables(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.layers = [ScaledEmbedding(ROWS, DIM, **options) for _ in range(K)]
        self._joined = JoinedEmbedding()

    def __call__(self, x: mx.array) -> mx.array:
        return self._joined(self.layers, x)

    def one_by_one(self, x: mx.array) -> mx.array:
        found = [layer(x[:, k]) for k, layer in enumerate(self.layers)]
        return mx.stack(found).sum(axis=0)

    def input(self) -> mx.array:
        return mx.random.randint(-1, ROWS, (2, K, 50))


class Matrices(nn.Module):
    def __init__(self, sizes: tuple[int, ...] = (5, 5, 5), bias: bool = False):
        super().__init__()
        self.layers: list[nn.Module] = [
            nn.Linear(DIM, size, bias=bias) for size in sizes
        ]
        self._joined = JoinedLinear()

    def __call__(self, x: mx.array) -> mx.array:
        return mx.concatenate(self._joined(self.layers, x), axis=-1)

    def one_by_one(self, x: mx.array) -> mx.array:
        return mx.concatenate([layer(x) for layer in self.layers], axis=-1)

    def input(self) -> mx.array:
        return mx.random.normal((2, 3, DIM))


Joined = Tables | Matrices
BOTH = pytest.mark.parametrize("make", [Tables, Matrices])


def agree(model: Joined, tol: float = 1e-5) -> None:
    x = model.input()
    assert_close(model(x), model.one_by_one(x), tol)


@BOTH
def test_joined_layers_compute_what_they_compute_alone(make: Callable[[], Joined]):
    agree(make())


@BOTH
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_before_or_after_the_first_use(make: Callable[[], Joined], bits: int):
    for used in (False, True):
        model = make()
        if used:
            agree(model)
        nn.quantize(model, bits=bits, group_size=32)
        agree(model)
        assert {n.split(".")[-1] for n in parameters(model)} == {
            "weight",
            "scales",
            "biases",
        }


@BOTH
def test_a_mode_without_biases(make: Callable[[], Joined]):
    model = make()
    nn.quantize(model, bits=4, group_size=32, mode="mxfp4")
    agree(model)


@BOTH
def test_cast_loaded_and_replaced_weights_are_used_at_once(
    make: Callable[[], Joined], tmp_path: Path
):
    model, other = make(), make()
    agree(model)
    other.save_weights(str(tmp_path / "w.safetensors"))
    model.load_weights(str(tmp_path / "w.safetensors"), strict=True)
    x = model.input()
    assert_close(model(x), other.one_by_one(x))
    model.layers[1].weight = model.layers[1]["weight"] * 2
    agree(model)
    model.set_dtype(mx.bfloat16)
    assert {w.dtype for w in parameters(model).values()} == {mx.bfloat16}
    agree(model, 0.02)
    model.set_dtype(mx.float32)
    agree(model)


@BOTH
def test_parameters_keep_names_shapes_and_values(make: Callable[[], Joined]):
    model = make()
    before = {k: mx.array(v) for k, v in parameters(model).items()}
    objects = parameters(model)
    agree(model)
    after = parameters(model)
    assert list(after) == list(before)
    assert all(mx.array_equal(after[k], before[k]) for k in before)
    assert all(after[k] is objects[k] for k in before)


@pytest.mark.parametrize("bits", [None, 4])
def test_nothing_is_held_twice(bits: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ops, "on_gpu", lambda: True)  # CPU keeps what it dequantised
    tables = Tables()
    tables.layers = [ScaledEmbedding(2000, DIM) for _ in range(K)]
    matrices = Matrices(sizes=(2000,) * 3)
    if bits:
        for model in (tables, matrices):
            nn.quantize(model, bits=bits, group_size=32)
    mx.eval(tables.parameters(), matrices.parameters())
    gc.collect()
    before = mx.get_active_memory()
    mx.eval(tables(tables.input()), matrices(matrices.input()))
    gc.collect()
    held = sum(a.nbytes for m in (tables, matrices) for a in parameters(m).values())
    assert mx.get_active_memory() - before < held / 20


def test_layers_of_different_kinds_run_one_by_one():
    sizes = Matrices(sizes=(5, 6, 5))
    assert not can_join(sizes.layers)
    agree(sizes)
    biased = Matrices(bias=True)
    assert not can_join(biased.layers)
    agree(biased)
    normed = Tables(norm=True)
    assert not can_join(normed.layers)
    agree(normed)
    mixed = Tables()
    mixed.layers[1] = mixed.layers[1].to_quantized(group_size=32, bits=8)  # type: ignore
    assert not can_join(mixed.layers)
    agree(mixed)
    bits = Matrices()
    for layer, b in zip(bits.layers, (8, 8, 4), strict=True):
        nn.quantize(bits, 32, b, class_predicate=lambda _, m, one=layer: m is one)
    assert not can_join(bits.layers)
    agree(bits)
