"""The Metal kernel for a sum and its norm: what can be known of it without a Mac."""

import re
import subprocess
from shutil import which

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moshi_mlx.fast import add_norm
from scripts import metal_norm
from tests.stacks import randomised

WIDTH = 96
# What Metal knows, for a single thread: it is its own group, and sums are its own.
AS_CPP = """
#include <cmath>
#include <cstdio>
typedef unsigned int uint;
typedef float T;
#define device
#define threadgroup static
struct { uint x, y, z; } thread_position_in_grid, thread_position_in_threadgroup,
    threads_per_threadgroup = {1, 1, 1};
uint thread_index_in_simdgroup = 0, simdgroup_index_in_threadgroup = 0;
uint simdgroups_per_threadgroup = 1;
namespace mem_flags { int mem_threadgroup; }
void threadgroup_barrier(int) {}
float simd_sum(float x) { return x; }
namespace metal { namespace precise { float rsqrt(float x) { return 1 / sqrtf(x); } } }
const uint N = WIDTH_HERE;
void kernel(const T* x, const T* residual, const T* weight, const float& eps, T* total,
            T* normed) { SOURCE_HERE }
int main() {
    static T given[5][2 * N], weight[N];
    fread(given[0], sizeof(T), 2 * N, stdin);
    fread(given[1], sizeof(T), 2 * N, stdin);
    fread(weight, sizeof(T), N, stdin);
    for (uint row = 0; row < 2; row++) {
        thread_position_in_grid.y = row;
        kernel(given[0], given[1], weight, 1e-5f, given[2], given[3]);
    }
    fwrite(given[2], sizeof(T), 2 * N, stdout);
    fwrite(given[3], sizeof(T), 2 * N, stdout);
}
"""


def given(dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array, nn.Module]:
    norm = randomised(nn.RMSNorm(WIDTH, 1e-5))
    norm.set_dtype(dtype)
    x = mx.random.normal((2, WIDTH)).astype(dtype)
    return x, 3 * mx.random.normal((2, WIDTH)).astype(dtype), norm


@pytest.mark.skipif(not which("g++"), reason="not on machines without a compiler")
def test_the_kernel_s_source_computes_the_plain_form(tmp_path):
    """Compiled as C++ for a single thread: only Metal can tell the rest."""
    x, residual, norm = given()
    source = AS_CPP.replace("WIDTH_HERE", str(WIDTH))
    source = source.replace("SOURCE_HERE", add_norm.SOURCE)
    (tmp_path / "kernel.cpp").write_text(source)
    program = tmp_path / "kernel"
    subprocess.run(["g++", "-o", program, tmp_path / "kernel.cpp"], check=True)
    sent = b"".join(np.array(a).tobytes() for a in (x, residual, norm["weight"]))
    told = subprocess.run([program], input=sent, capture_output=True, check=True).stdout
    total, normed = np.frombuffer(told, np.float32).reshape(2, 2, WIDTH)
    np.testing.assert_array_equal(total, np.array(residual + x))
    np.testing.assert_allclose(normed, np.array(norm(residual + x)), rtol=1e-6)


def test_it_names_what_its_source_uses():
    """MLX declares an attribute of a thread only if the source names it in full."""
    used = set(re.findall(r"\b(?:thread|simd)\w*_(?:in|per)_\w+", add_norm.SOURCE))
    assert used == {
        "thread_position_in_grid",
        "thread_position_in_threadgroup",
        "threads_per_threadgroup",
        "thread_index_in_simdgroup",
        "simdgroup_index_in_threadgroup",
        "simdgroups_per_threadgroup",
    }
    assert add_norm.LANES // add_norm.SIMD <= 32  # sums of ``partial``


@pytest.mark.metal
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("width", [32, 96, 1024, 4096])
def test_on_metal_the_kernel_is_the_plain_form(dtype, width):
    with mx.stream(mx.gpu):
        assert metal_norm.compare(width, dtype)["steps_apart"] <= 1


def test_it_is_off_until_somebody_turns_it_on(monkeypatch):
    monkeypatch.delenv(add_norm.SWITCH, raising=False)
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    assert not add_norm.is_on()
    monkeypatch.setenv(add_norm.SWITCH, "1")
    assert add_norm.is_on()
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert not add_norm.is_on()


def test_another_norm_and_mixed_types_stay_plain(monkeypatch):
    monkeypatch.setattr(add_norm, "kernel", lambda *_: 1 / 0)
    x, residual, norm = given()
    for args in (
        (x, residual, nn.LayerNorm(WIDTH)),
        (x.astype(mx.bfloat16), residual, norm),
        (x[:1], residual, norm),
    ):
        total, normed = add_norm.add_norm(*args)
        assert mx.array_equal(total, args[1] + args[0])
        assert mx.array_equal(normed, args[2](total))
    with pytest.raises(ZeroDivisionError):
        add_norm.add_norm(x, residual, norm)


def as_plain(x: mx.array, residual: mx.array, weight: mx.array, eps: float):
    total = residual + x
    return total, mx.fast.rms_norm(total, weight, eps)


def wrong(x: mx.array, residual: mx.array, weight: mx.array, eps: float):
    return residual + x, weight * x * eps


def broken(*_: object) -> None:
    raise RuntimeError("no such kernel")


@pytest.mark.parametrize(
    "kernel, step_ms, verdict",
    [
        (as_plain, 9.0, "turn it on: it is right, and a step is 10.0 % faster"),
        (as_plain, 10.0, "leave it off: it is right, and a step is no faster"),
        (wrong, 9.0, "leave it off: it is"),
        (broken, 9.0, "it does not run: RuntimeError: no such kernel"),
    ],
)
def test_a_mac_s_report_says_what_to_do(monkeypatch, kernel, step_ms, verdict):
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(add_norm, "kernel", kernel)
    monkeypatch.setattr(metal_norm, "ROUNDS", 1)
    said = {False: (10.0, [3]), True: (step_ms, [3])}
    monkeypatch.setattr(metal_norm, "steps", said.get)
    assert metal_norm.report()["verdict"].startswith(verdict)


def test_where_there_is_no_metal_nothing_is_tried(monkeypatch, capsys):
    monkeypatch.setattr(mx.metal, "is_available", lambda: False)
    assert metal_norm.main() == 0
    assert "there is no Metal here" in capsys.readouterr().out
