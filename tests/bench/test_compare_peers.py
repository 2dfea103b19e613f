"""scripts/compare_peers.py: turns alternate, ratios are taken round by round."""

import argparse
import sys
from pathlib import Path

import pytest

from scripts import compare_peers

# A contestant that always takes the same: its name says how many milliseconds.
WORKER = """
import json, sys
tasks = ["codec", "lm", "lm8"] if sys.argv[1] != "7" else ["codec"]
print(json.dumps(tasks), flush=True)
for line in sys.stdin:
    task, count = line.split()
    each = float(sys.argv[1]) * (2 if task == "lm8" else 3 if "first" in task else 1)
    with open(sys.argv[2], "a") as log:
        log.write(f"{sys.argv[1]} {task} {count}\\n")
    print(json.dumps([each] * int(count)), flush=True)
"""
FAILING = "import sys; sys.exit(3)"


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(compare_peers, "REST_S", 0)
    monkeypatch.setattr(compare_peers, "WORKER", tmp_path / "worker.py")
    log = tmp_path / "log"

    def begin(name: str, program: str = WORKER) -> compare_peers.Contestant:
        (tmp_path / "worker.py").write_text(program)
        return compare_peers.Contestant(name, Path(sys.executable), log)

    return begin


def test_turns_alternate_and_ratios_come_out(start, tmp_path):
    contestants = [start("2"), start("8"), start("7")]
    result = compare_peers.race(contestants, rounds=3, frames=2)
    for contestant in contestants:
        contestant.close()
    assert result["median_ms"]["2"] == {"codec": 2, "lm": 2, "lm8": 4}
    assert result["ratios"]["8"]["lm"]["median_of_ratios"] == 0.25
    assert set(result["ratios"]["7"]) == {"codec"}
    assert result["batch_of_8_to_one"]["ratio_of_medians"] == 2
    assert result["first_frame_to_median"] == {"codec": 3, "lm": 3}
    turns = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [name for name, task, _ in turns if task == "codec"] == [
        *("2", "8", "7"),
        *("8", "7", "2"),
        *("7", "2", "8"),
    ]


def test_a_round_that_was_disturbed_does_not_count_much():
    ours, theirs = [[1.0], [30.0], [1.0]], [[2.0], [60.0], [2.0]]
    found = compare_peers.compared(ours, theirs)
    assert found["median_of_ratios"] == 0.5
    lopsided = compare_peers.compared([[1.0], [1.0], [90.0]], theirs)
    assert lopsided["median_of_ratios"] == 0.5
    assert (lopsided["lowest"], lopsided["highest"]) == (pytest.approx(1 / 60), 45)


def test_a_contestant_that_fails_is_named(start):
    with pytest.raises(SystemExit, match="9 ended with 3"):
        start("9", FAILING)


def test_the_family_races_without_codec(start):
    contestants = [start("2", WORKER.replace('"lm", "lm8"', '"lm"')), start("7")]
    result = compare_peers.race(contestants, rounds=1, frames=1)
    for contestant in contestants:
        contestant.close()
    assert set(result) == {"median_ms", "ratios"}


def test_our_own_contestant_of_the_family_takes_every_task(tmp_path):
    contestant = compare_peers.Contestant(
        "ours", Path(sys.executable), tmp_path, compare_peers.FAMILY
    )
    assert contestant.tasks == ["stt", "text", "translation", "tts"]
    for task in contestant.tasks:
        (milliseconds,) = contestant.turn(task, 1)
        assert milliseconds > 0
    assert contestant.close() == 0


def test_an_older_checkout_takes_part(tmp_path, start):
    package = tmp_path / "older" / "moshi_mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    program = "import json, moshi_mlx; print(json.dumps([moshi_mlx.__file__]))"
    start("2", program).close()
    folder = compare_peers.checkout(str(package.parent))
    before = compare_peers.Contestant(
        "before", Path(sys.executable), tmp_path / "log", None, folder
    )
    assert before.tasks == [str(package / "__init__.py")]
    before.close()
    with pytest.raises(argparse.ArgumentTypeError, match="holds no folder moshi_mlx"):
        compare_peers.checkout(str(tmp_path))
