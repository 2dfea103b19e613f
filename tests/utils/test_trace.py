"""Timings are summed up exactly, kept in bounds, and exported in Chrome's form."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.utils.trace import Trace, percentile


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=50), st.sampled_from([50, 95]))
def test_percentiles_are_those_of_numpy(values, percent):
    want = np.percentile(values, percent, method="inverted_cdf")
    assert percentile(values, percent) == want


def test_a_summary_counts_all_calls_and_ranks_the_newest():
    trace = Trace(window=4)
    for ms in [900, 10, 20, 30, 40]:
        trace.add("step", 5.0, 5.0 + ms / 1000)
    timing = trace.summary()["step"]
    assert timing.count == 5
    assert timing.max_ms == pytest.approx(900)
    assert timing.mean_ms == pytest.approx(200)
    assert (timing.p50_ms, timing.p95_ms) == pytest.approx((20, 40))
    assert trace.durations_ms("step") == pytest.approx([10, 20, 30, 40])
    assert trace.durations_ms("unknown") == []


def test_stages_nest_and_a_failing_one_is_timed_too():
    trace = Trace()
    with pytest.raises(KeyError), trace.stage("frame"), trace.stage("step"):
        raise KeyError
    summary = trace.summary()
    assert list(summary) == ["step", "frame"]
    assert summary["frame"].max_ms >= summary["step"].max_ms > 0


def test_memory_does_not_grow():
    trace = Trace(window=10, events=10)
    for i in range(1000):
        trace.add("step", i, i + 1)
    assert len(trace.durations_ms("step")) == 10
    assert len(trace._events) == 10


def test_chrome_events_carry_threads_and_microseconds(tmp_path):
    trace = Trace(events=2)
    trace.add("old", 0, 1)
    trace.add("encode", 1.5, 1.501)
    thread = threading.Thread(target=trace.add, args=("step", 2, 3), name="moshi-model")
    thread.start()
    thread.join()
    trace.write_chrome(tmp_path / "trace.json")
    rows = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    events = {row["name"]: row for row in rows if row["ph"] == "X"}
    assert list(events) == ["encode", "step"]
    assert events["encode"]["ts"] == pytest.approx(1.5e6)
    assert events["encode"]["dur"] == pytest.approx(1000)
    names = {row["tid"]: row["args"]["name"] for row in rows if row["ph"] == "M"}
    assert names[events["step"]["tid"]] == "moshi-model"


def test_without_events_no_thread_is_remembered(tmp_path):
    trace = Trace()
    trace.add("step", 0, 1)
    trace.write_chrome(tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text()) == {"traceEvents": []}
