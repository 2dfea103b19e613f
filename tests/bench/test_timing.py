"""What is timed is what a conversation does; sizes are what they are called."""

import mlx.core as mx
import numpy as np
import pytest

from moshi_mlx.bench import timing
from moshi_mlx.bench.synthetic import SIZES, synthetic_lm
from moshi_mlx.bench.timing import Loop, growth, measure, process_peak
from moshi_mlx.checkpoint.cost import cost
from moshi_mlx.checkpoint.quantize import describe
from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.models import Lm, LmConfig
from moshi_mlx.models.snapshot import Snapshot
from moshi_mlx.utils.trace import Trace
from tests.tiny import lm as tiny_lm

LABEL = {"model": "tiny", "bits": "16", "device": "cpu", "codec": "none"}


class Silence:
    """A codec that does nothing and counts what it is asked."""

    sample_rate, frame_size, num_codebooks = 24_000, 1920, 3

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def encode_step(self, pcm: np.ndarray) -> np.ndarray:
        self.calls.append(("encode", pcm.shape))
        return np.zeros((self.batch_size, 3, 1), np.int32)

    def decode_step(self, codes: np.ndarray) -> np.ndarray:
        self.calls.append(("decode", codes.shape))
        return np.zeros((self.batch_size, 1, 1920), np.float32)

    def reset(self) -> None:
        """Nothing to forget."""

    def snapshot(self) -> Snapshot:
        return Snapshot("codec", {}, {})

    def restore(self, snapshot: Snapshot) -> None:
        """Nothing to remember."""


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_what_they_are_called(size):
    number = float(size[:-1]) * {"M": 1e6, "B": 1e9}[size[-1]]
    parameters = cost(Lm(LmConfig.from_config_dict(SIZES[size]))).parameters
    assert parameters == pytest.approx(number, rel=0.13)


def test_all_stages_of_all_frames_are_timed():
    made: list[Silence] = []

    def make(batch: int) -> Silence:
        made.append(Silence(batch))
        return made[-1]

    lm = tiny_lm()
    result = measure(lm, make, LABEL, batch=2, frames=6)
    assert {"frame", "encode", "step", "decode", "step without depth"} == set(
        result.stages
    )
    assert [result.stages[name].count for name in ("frame", "encode", "step")] == [
        6
    ] * 3
    # the answer is complete from call max_delay on, which is within the 6 frames
    warm, timed = made
    assert timed.calls[0] == ("encode", (2, 1, 1920))
    assert ("decode", (2, 3, 1)) in timed.calls
    assert result.stages["decode"].count == 6 + 1 - lm.cfg.max_delay
    assert len([c for c in warm.calls if c[0] == "encode"]) == lm.cfg.max_delay + 3
    data = result.to_json()
    assert data["memory_bytes"]["weights"] == cost(lm).nbytes
    assert data["tokens_per_s"] == pytest.approx(
        2 * 4 * 1000 / data["stages"]["frame"]["p50_ms"]
    )


def test_a_model_that_only_listens():
    result = measure(tiny_lm(dep_q=0, n_q=3, delays=[0] * 4), Silence, LABEL, frames=5)
    assert set(result.stages) == {"frame", "encode", "step"}


def test_a_model_without_codec():
    assert "encode" not in measure(tiny_lm(), None, LABEL, frames=5).stages


def test_far_into_a_conversation_the_cache_is_full_and_no_larger():
    loop = Loop(tiny_lm(context=300), None, 2)
    sizes = []
    for position in (0, 300, 2400):
        loop.go_to(position)
        loop.frame(Trace())
        sizes.append(loop.cache_bytes())
        offset = loop.gen.cache[0].self_attn.offset
        assert offset == position + 1
    assert sizes[0] < sizes[1] == sizes[2] == 2 * 2 * 2 * 300 * 32 * 4


def test_growth_is_timed_to_eight_windows():
    line = growth(tiny_lm(), steps=2)
    assert [position for position, _ in line] == [0, 2, 4, 7, 14, 28, 56]
    assert all(ms > 0 for _, ms in line)


@pytest.mark.parametrize(
    "bits, stored", [("16", set()), ("4", {4}), ("mixed", {4, 5, 8})]
)
def test_random_models_come_in_every_quantisation(bits, stored):
    lm = synthetic_lm("10M", bits)
    assert {choice.bits for choice in describe(lm).layers.values()} == stored
    Loop(lm, None, 1).frame(Trace())


def test_what_does_not_fit_is_said(monkeypatch):
    monkeypatch.setattr("moshi_mlx.checkpoint.memory.machine_memory", lambda: int(4e9))
    before = mx.get_active_memory()
    with pytest.raises(CheckpointError, match=r"needs 30.8 GB .* --bits 4"):
        synthetic_lm("7B")
    with pytest.raises(CheckpointError, match="take a smaller one"):
        synthetic_lm("7B", "4")
    assert mx.get_active_memory() - before < 1e6
    with pytest.raises(ConfigError, match="size '3B' is unknown"):
        synthetic_lm("3B")


def test_the_process_holds_more_than_its_interpreter():
    assert process_peak() > 30e6


def test_paced_frames_begin_every_80_ms_and_late_ones_at_once(monkeypatch):
    now, slept = 10.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(1000 * seconds))
        now += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now)
    monkeypatch.setattr(timing.time, "sleep", sleep)
    clock = timing.Clock()
    for frame_s in (0.020, 0.020, 0.200, 0.020, 0.020):
        clock.wait()
        now += frame_s
    assert slept == [60, 60, 60]
