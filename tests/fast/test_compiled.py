"""Stacks that run compiled give what they give plain, and notice replaced weights.

Everything is tiny: on CPU, g++ compiles each function anew.
"""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx import fast
from moshi_mlx.fast import ops
from moshi_mlx.fast.compiled import Compiled
from moshi_mlx.fast.transformer import FastLayer, FastTransformer
from moshi_mlx.modules.transformer import Transformer
from tests.stacks import stack, wave
from tests.tiny import assert_close

STEPS = 9  # past the window of 6


def ready(module: Transformer) -> FastTransformer:
    """The stack in its fast form, which compiles single positions."""
    found = fast.ready(module)
    assert isinstance(found, FastTransformer)
    if not found._most:
        found.compile_up_to(1)
    return found


def stream(
    module: Transformer,
    b: int = 2,
    cross: mx.array | None = None,
    dtype: mx.Dtype = mx.float32,
) -> mx.array:
    """Outputs of a stream of single positions; row 1 pauses now and then."""
    cache, x, parts = module.make_rot_cache(), wave(b, STEPS).astype(dtype), []
    for t in range(STEPS):
        active = [row != 1 or t % 4 != 3 for row in range(b)]
        y = module(x[:, t : t + 1], cache, cross, active)
        parts.append(y * mx.array(active)[:, None, None])  # the rest means nothing
    return mx.concatenate(parts, axis=1).astype(mx.float32)


@pytest.mark.parametrize("form", ["cpu", "gpu"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kv_repeat": 2, "positional_embedding": "rope_concat"},
        {"positional_embedding": "none", "gating": False, "layer_scale": 0.1},
        {"cross_attention": True, "norm": "layer_norm"},
    ],
    ids=str,
)
def test_a_compiled_stream_is_the_plain_one(
    changes: dict[str, Any], form: str, monkeypatch: pytest.MonkeyPatch
):
    if form == "gpu":  # the arithmetic of a GPU, on CPU
        monkeypatch.setattr(ops, "on_gpu", lambda: True)
    module = stack(**changes)
    cross = wave(2, 5, seed=1) if changes.get("cross_attention") else None
    expected = stream(module, cross=cross)
    for _ in range(2):
        assert_close(stream(ready(module), cross=cross), expected)


def test_half_precision_compiles_too():
    module = stack()
    module.set_dtype(mx.bfloat16)
    expected = stream(module, dtype=mx.bfloat16)
    found = stream(ready(module), dtype=mx.bfloat16)
    assert_close(found, expected, 0.03)


def test_batches_of_other_sizes_do_not_mix():
    module = stack()
    expected = {b: stream(module, b) for b in (1, 2, 3)}
    for b in (1, 3, 2, 1):
        assert_close(stream(ready(module), b), expected[b])


def test_nothing_is_traced_again_once_it_is_compiled(monkeypatch: pytest.MonkeyPatch):
    module = ready(stack())
    stream(module)
    traced: list[int] = []
    real = FastLayer.before
    monkeypatch.setattr(
        FastLayer, "before", lambda self, *args: traced.append(0) or real(self, *args)
    )
    stream(module)
    assert bool(traced) is not ops.compiles()


def test_weights_replaced_since_are_used_after_a_refresh():
    module = stack()
    before = stream(ready(module))
    for _ in range(2):  # again: also where the new array lies where the old one lay
        norm = module.layers[1].norm2
        norm["weight"] = norm["weight"] * -2
        found = stream(ready(module))
        assert_close(found, stream(module))
        assert not np.allclose(found, before)


def test_a_refresh_without_a_change_keeps_what_is_compiled():
    module = stack()
    stream(ready(module))
    kept = ready(module)._compiled("key", lambda: ())
    assert (ready(module)._compiled("key", lambda: ()) is kept) is ops.compiles()


def test_what_is_not_live_runs_plain():
    compiled = Compiled()
    function = lambda: ()  # noqa: E731
    for live in (True, True, False):
        compiled.begin(live)
    assert compiled("key", function) is function
    compiled.begin()
    assert (compiled("key", function) is function) is not ops.compiles()
