"""The programs in examples/ run offline on the demo, and do what they say."""

import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moshi_mlx.audio import read
from tests.family import trio

EXAMPLES = Path(__file__).parents[1] / "examples"
JOKE = "Why did the robot go on holiday?"
Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys) -> Run:
    """Runs an example in an empty folder; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def start(name: str, *args: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *args])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return start


def test_every_example_is_tested():
    source = Path(__file__).read_text(encoding="utf-8")
    names = [path.stem for path in EXAMPLES.glob("*.py")]
    assert names
    for name in names:
        assert f'run("{name}"' in source, name


def test_a_file_is_answered_and_the_answer_kept(run):
    assert JOKE in run("answer_a_file")
    answer = read("answer.wav")[0]
    assert np.abs(answer).max() > 0.1
    assert "holiday" in Path("answer.html").read_text(encoding="utf-8")


def test_two_conversations_go_on_at_once(run):
    said = run("two_conversations").splitlines()
    assert said[0].startswith(f"joke.wav: {JOKE}")
    assert said[1] == "planet.wav: Jupiter is the biggest planet."


def test_a_protocol_of_ones_own_carries_a_conversation(run):
    shown = run("own_protocol")
    assert JOKE in shown and "frames came back" in shown


def test_the_live_loop_hears_and_speaks_in_blocks_of_its_own(run, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)  # as fast as it goes
    assert JOKE in run("live_loop")
    assert np.abs(read("heard.wav", 48_000)[0]).max() > 0.1


def test_a_folder_becomes_codes_and_sound_again(run):
    shown = run("tokenise_folder")
    assert "joke.wav: codes [8, 79]" in shown
    assert "left out: " in shown  # the folder holds a JSON file too
    codes = np.load("codes/joke.npz")["codes"]
    assert codes.shape == (8, 79)
    assert read("codes/joke.wav").shape == (1, 79 * 1920)


def test_recipes_are_compared(run):
    lines = run("quantise_and_compare", "q4", "q8").splitlines()
    assert lines[0].startswith("full precision: ")
    divergence = [float(line.split("KL ")[1].split()[0]) for line in lines[1:]]
    assert divergence[0] > divergence[1]  # 4 bits lose more than 8


def test_a_conversation_goes_on_from_a_file_in_the_middle_of_a_word(run):
    shown = run("save_and_resume")
    assert " ...\n" in shown and JOKE in shown.replace(" ...\n", "")
    assert shown.replace(" ...\n", "").strip().endswith("batteries!")


def test_a_sampler_of_ones_own_draws_the_words(run):
    assert JOKE in run("own_sampler")
    assert not os.listdir()  # it writes nothing


def test_a_voice_agent_hears_itself_for_five_turns(run, tmp_path):
    folder = trio(tmp_path / "trio")  # random: what it hears makes no sense
    shown = run("voice_agent", str(folder)).splitlines()
    says = [line.split("says:   ")[1] for line in shown[::2]]
    hears = [line.split("hears:  ")[1] for line in shown[1::2]]
    assert len(says) == len(hears) == 5
    agent = runpy.run_path(str(EXAMPLES / "voice_agent.py"))
    assert says == [agent["GREETING"], *map(agent["answer"], hears[:-1])]


def test_the_agents_rules_lead_through_a_talk_of_five_turns():
    agent = runpy.run_path(str(EXAMPLES / "voice_agent.py"))
    talk = [agent["GREETING"]]
    for _ in range(5):  # with ears that hear every word
        talk.append(agent["answer"](talk[-1]))
    assert len(set(talk)) == 6 and agent["LOST"] not in talk
