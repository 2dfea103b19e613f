"""The bench of the other models: every task runs, and memory stays."""

import json
from pathlib import Path

import pytest

from moshi_mlx.bench import family, family_models
from moshi_mlx.bench.family import an_hour, begin, measure, memory_line, row
from moshi_mlx.bench.family_models import CONFIGS, random_config, random_model
from moshi_mlx.models import Lm, LmConfig
from tests.family import listening, run, writing
from tests.speech import PREFIX, TTS


@pytest.mark.parametrize("task", CONFIGS)
def test_every_task_is_timed_and_its_memory_does_not_grow(task: str, monkeypatch):
    monkeypatch.setattr(family, "HOUR", 400)
    window = 80  # steps, of every part: what follows are three of them
    monkeypatch.setitem(family_models.TINY, "context", window)
    monkeypatch.setitem(family_models.TINY_TEXT, "max_position_embeddings", window)
    monkeypatch.setitem(family_models.TINY_CODEC["transformer"], "context", window)
    model = random_model(task, "tiny")
    result = measure(model, {"task": task, "model": "tiny", "device": "cpu"}, steps=5)
    told = result.to_json()
    assert result.step.count == 5 and result.first_s > 0
    assert (told["times_real_time"] is None) == (task == "text")
    assert len(row(result)) == len(family.HEAD)
    stream = begin(model)
    held = [arrays for _, arrays, _ in an_hour(stream, 3 * window)]
    assert len(held) == 12
    assert max(held[-4:]) <= max(held[4:8]) + 400 * window  # bytes


@pytest.mark.parametrize("task", ["stt", "tts", "translation"])
def test_the_published_shapes_are_valid(task: str):
    cfg = LmConfig.from_config_dict(random_config(task, "published"))
    assert cfg.transformer.d_model == 2048 and cfg.transformer.num_layers == 16
    assert cfg.generated_codebooks == {"stt": 0, "tts": 32, "translation": 8}[task]


def test_the_command_shows_a_table_and_an_hour(capsys, monkeypatch):
    monkeypatch.setattr("moshi_mlx.bench.family.an_hour", lambda _: [(1.0, 1, 2)] * 12)
    args = ("--task", "stt,text", "--size", "tiny", "--frames", 5, "--hour")
    monkeypatch.setenv("COLUMNS", "120")
    assert run("bench", *args) == 0
    shown = capsys.readouterr()
    assert "stt tiny cpu" in shown.out and "x live" in shown.out
    assert "MiB peak of the process after 1 min" in shown.out
    assert shown.err.count("text tiny cpu, 1 min of sound") == 12
    assert run("bench", *args, "--json") == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [r["task"] for r in results] == ["stt", "text"]
    assert len(results[0]["memory"]) == 12


def prefixed(folder: Path) -> Path:
    """The model that continues a recording, with its codec and tokenizer."""
    for name in ("mimi.safetensors", "mimi_config.json", "tokenizer.model"):
        (folder / name).symlink_to(TTS / name)
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(PREFIX / name)
    return folder


@pytest.mark.parametrize(
    "make, task",
    [
        (listening, "stt"),
        (lambda _: TTS, "tts"),
        (prefixed, "tts"),
        (writing, "text"),
    ],
)
def test_a_checkpoint_is_timed_at_its_own_task(make, task: str, tmp_path, capsys):
    args = ("--model", make(tmp_path), "--frames", 5, "--json", "--task")
    assert run("bench", *args, task) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["task"] == task and result["steps_per_s"] > 0
    assert run("bench", *args, "translation") == 1
    assert f"is for the task {task}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args, sentence",
    [
        (("--task", "sing"), "use one of stt, tts, translation, text"),
        (("--task", "stt", "--size", "7B"), "use published or tiny"),
        (("--task", "stt", "--model", "demo"), "leave --task out"),
    ],
)
def test_refusals_are_one_sentence(args, sentence: str, capsys):
    assert run("bench", *args) == 1
    assert sentence in capsys.readouterr().err


def test_memory_is_told_at_the_start_the_middle_and_the_end():
    model = random_model("text", "tiny")
    label = {"task": "text", "model": "tiny", "device": "cpu"}
    result = measure(model, label, steps=2, hour=False)
    assert isinstance(model.lm, Lm) and not result.memory
    memory = [(5.0 * i, 2**20 * i, 2**21 * i) for i in range(1, 13)]
    line = memory_line(family.TaskResult(label, result.step, 0.1, 1, memory))
    assert "1.0 MiB of arrays, 2.0 MiB peak of the process after 5 min" in line
    assert "after 60 min" in line
