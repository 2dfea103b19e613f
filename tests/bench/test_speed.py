"""What is said, and done, on a machine that is too slow."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest

import moshi_mlx
from moshi_mlx.bench.speed import Speed, advice, measure, with_faster_codec
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.utils.trace import Trace
from tests.questions import PYTORCH

FAST = Speed(encode=5.0, step=15.0, decode=6.0, p50=26.0, p95=30.0)


@pytest.fixture(scope="module")
def demo() -> Moshi:
    return moshi_mlx.load("demo")


def test_a_model_is_timed_stage_by_stage(demo: Moshi):
    speed = measure(demo, frames=4)
    assert 0 < speed.encode < speed.p50 and 0 < speed.decode < speed.p50
    assert speed.encode + speed.step + speed.decode < 1.5 * speed.p95
    assert speed.p50 <= speed.p95
    assert f"{speed.p50:.0f} ms a frame of 80" in str(speed)


def test_nothing_is_said_where_the_machine_keeps_up(demo: Moshi):
    assert FAST.holds and advice(FAST, demo) is None


def test_a_busy_machine_is_told_from_a_slow_one(demo: Moshi):
    busy = replace(FAST, p95=120.0)
    assert not busy.holds
    assert "is busy" in (advice(busy, demo) or "")


def test_what_would_help_is_said_with_numbers(demo: Moshi):
    slow = Speed(encode=30.0, step=100.0, decode=30.0, p50=160.0, p95=180.0)
    assert "What would help: a faster one" in (advice(slow, demo) or "")
    info = copy(moshi_mlx.load(PYTORCH).info)  # unquantised, as the demo is not
    info.name = "kyutai/moshiko-mlx-q8"
    big = Moshi(info, demo.lm, demo.tokenizer, demo.make_codec)
    sentence = advice(slow, big) or ""
    assert "160 ms a frame of 80" in sentence
    assert "6.2 of 12.5 frames a second" in sentence
    assert "from 100 to 20 ms" in sentence
    assert "--codec rust" in sentence
    slow_codec = Speed(encode=60.0, step=10.0, decode=60.0, p50=130.0, p95=140.0)
    sentence = advice(slow_codec, big) or ""
    assert "quantisation" not in sentence and "--codec rust" in sentence


def test_the_codec_is_changed_only_where_that_helps(demo: Moshi):
    assert with_faster_codec(demo, FAST) == (demo, FAST, None)
    slow = replace(FAST, p50=200.0, p95=200.0)
    # rustymimi reads the released codec only, the demo's is another
    assert with_faster_codec(demo, slow) == (demo, slow, None)


@pytest.mark.parametrize("apart", [True, False])
def test_a_stage_is_waited_for_before_the_next_only_if_asked(demo: Moshi, apart: bool):
    trace, seen = Trace(apart=apart), []
    session = demo.session(seed=0, trace=trace)
    gen = session.stepper.gen
    step = gen.step
    gen.step = lambda *a, **k: (seen.append(list(trace.summary())), step(*a, **k))[1]
    session.step(np.zeros(session.frame_size, np.float32))
    assert seen[0] == (["encode"] if apart else [])
    timed = demo.respond(np.zeros(1920, np.float32), tail_s=0).session.trace
    assert timed.apart and list(timed.summary())[:2] == ["encode", "step"]
