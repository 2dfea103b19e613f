"""scripts/mac_report.py keeps what each step printed, whatever happens to the next."""

import json
import sys
from pathlib import Path

import pytest

from scripts import mac_report
from scripts.mac_report import Step

SECRET = str(Path.home() / "somebody")
GOOD = "import json; print(json.dumps({'ms': 3}))"
BAD = f"import sys; print({SECRET!r}); sys.exit(2)"
SLOW = "import time; print('begun', flush=True); time.sleep(60)"


def step(name: str, program: str, limit_s: float = 30) -> Step:
    return Step(name, (sys.executable, "-c", program), limit_s)


def test_a_report_holds_every_step_even_those_that_fail(tmp_path, monkeypatch):
    steps = [step("good", GOOD), step("bad", BAD), step("slow", SLOW, 1.0)]
    monkeypatch.setattr(mac_report, "planned", lambda _: steps)
    path = tmp_path / "report.json"
    assert mac_report.main(["--short", "--out", str(path)]) == 1
    found = json.loads(path.read_text())
    assert found["steps"]["good"]["result"] == {"ms": 3}
    assert found["steps"]["bad"]["exit_code"] == 2
    assert found["steps"]["bad"]["output"] == ["~/somebody"]
    assert found["steps"]["slow"]["exit_code"] is None
    assert found["steps"]["slow"]["output"] == ["begun"]
    assert found["machine"]["mlx"] and found["short"] is True
    assert SECRET not in path.read_text()


def test_what_was_measured_is_on_disk_when_the_next_step_is_interrupted(
    tmp_path, monkeypatch
):
    def run(now: Step) -> dict:
        if now.name == "second":
            raise KeyboardInterrupt
        return {"exit_code": 0}

    monkeypatch.setattr(mac_report, "run", run)
    both = [step("first", GOOD), step("second", GOOD)]
    monkeypatch.setattr(mac_report, "planned", lambda _: both)
    path = tmp_path / "report.json"
    with pytest.raises(KeyboardInterrupt):
        mac_report.main(["--out", str(path)])
    assert list(json.loads(path.read_text())["steps"]) == ["first"]


@pytest.mark.parametrize("short", [True, False])
def test_its_commands_are_ones_that_this_package_has(short):
    from moshi_mlx.cli.main import available

    for found in mac_report.planned(short):
        if found.command[2] == "moshi_mlx":
            assert found.command[3] in available()
            assert "--json" in found.command
