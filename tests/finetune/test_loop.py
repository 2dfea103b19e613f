"""Nothing is lost: trainings that were ended go on as if they had not been."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moshi_mlx.errors import CheckpointError, ConfigError
from moshi_mlx.finetune import run_folder
from moshi_mlx.finetune.loop import Training
from moshi_mlx.finetune.optimizer import CycledAdamW
from moshi_mlx.finetune.ranks import Ranks
from moshi_mlx.finetune.run_folder import RunFolder
from moshi_mlx.finetune.settings import TrainSettings
from moshi_mlx.finetune.step import TrainingStep
from moshi_mlx.finetune.trainable import add_adapters
from tests import tiny
from tests.tiny import BASE, MINIMAL

CONFIG = {**BASE, **MINIMAL}
CODES = [tiny.codes(CONFIG, 1, 6, seed=n) for n in range(5)]
STEPS = 12


class Repeated:
    def __getitem__(self, number: int) -> mx.array:
        return CODES[number % 4]


def export(trained: TrainingStep):
    def write(folder: Path) -> None:
        arrays = trained.trainable.arrays
        mx.save_safetensors(str(folder / "lora.safetensors"), arrays)
        (folder / "config.json").write_text("{}")

    return write


def training(
    folder: Path, resume: bool = True, tell: Any = lambda _: None, **changes: Any
) -> Training:
    values = {"model": "x", "data": "y", "iters": STEPS, "save_every": 4} | changes
    values = {"learning_rate": 1e-2, "dropout": 0.2, "steps_per_eval": 5} | values
    settings = TrainSettings().with_values(values).check()
    lm = tiny.lm(**MINIMAL)
    trainable = add_adapters(lm, rank=2, dropout=settings.dropout)
    adamw = CycledAdamW(settings.betas, 1e-8, settings.weight_decay)
    step = TrainingStep(lm, trainable, adamw, settings.rates(), seed=settings.seed)
    return Training(
        *(settings, step, Repeated(), lambda: CODES[4:]),
        RunFolder(folder, settings, resume),
        Ranks(),
        export(step),
        tell,
    )


def remains(folder: Path) -> dict[str, Any]:
    """What a training leaves, without what time it took."""
    text = (folder / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        line.pop("tokens_per_second", None)
        line.pop("peak_memory_gb", None)
    last = folder / "checkpoints" / f"checkpoint_{STEPS:06d}"
    state = json.loads((last / "state.json").read_text())
    return {
        "lines": lines,
        "best": (folder / "lora.safetensors").read_bytes(),
        "state": (last / "state.safetensors").read_bytes(),
        "progress": (state["step"], state["best"], state["tokens"]),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a training leaves that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    training(folder).run()
    return remains(folder)


def test_it_learns_and_keeps_the_newest_and_the_best(tmp_path: Path, whole: Any):
    progress = training(tmp_path, keep=2).run()
    assert progress.step == STEPS
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["checkpoint_000008", "checkpoint_000012"]
    assert remains(tmp_path) == whole
    losses = [line["loss"] for line in whole["lines"] if "loss" in line]
    assert losses[-1] < losses[0]
    valid = [line["step"] for line in whole["lines"] if "valid_loss" in line]
    assert valid == [0, 5, 10, STEPS]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_and_nothing_is_lost(
    tmp_path: Path, whole: Any, number: int
):
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda n, _: caught.append(n))

    def interrupt(line: dict[str, Any]) -> None:
        if line.get("step") == 6 and "loss" in line:
            os.kill(os.getpid(), number)

    try:
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                training(tmp_path, tell=interrupt).run()
        else:
            training(tmp_path, tell=interrupt).run()
            assert caught == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "checkpoints" / "checkpoint_000006").is_dir()
    training(tmp_path).run()
    assert remains(tmp_path) == whole


def killed(folder: str, after: float) -> None:
    """Train in a process of its own, which kills itself at some moment."""
    import threading

    threading.Timer(after, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    training(Path(folder), save_every=1).run()


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path):
    training(tmp_path / "whole", save_every=1).run()
    expected = remains(tmp_path / "whole")
    spawn = multiprocessing.get_context("spawn")
    folder = tmp_path / "run"
    for attempt in range(10):
        child = spawn.Process(target=killed, args=(str(folder), 0.2 + attempt * 0.15))
        child.start()
        child.join()
    training(folder, save_every=1).run()
    assert remains(folder) == expected


def test_a_torn_save_leaves_the_checkpoint_before_it(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
):
    """What kill -9 leaves, at each place where it can strike a save."""
    real = os.replace
    for strike in range(1, 7):
        calls = 0

        def replaced(a: Any, b: Any, strike: int = strike, real: Any = real) -> None:
            nonlocal calls
            calls += "checkpoint_" in str(b) or "lora" in str(b)
            if calls == strike:
                raise SystemExit(9)
            real(a, b)

        monkeypatch.setattr(run_folder.os, "replace", replaced)
        with pytest.raises(SystemExit):
            training(tmp_path).run()
        monkeypatch.setattr(run_folder.os, "replace", real)
        for checkpoint in (tmp_path / "checkpoints").glob("checkpoint_*"):
            assert (checkpoint / "state.json").is_file()
        if strike > 2:
            break
    training(tmp_path).run()
    assert remains(tmp_path) == whole


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
):
    real = run_folder.save_tensors

    def full(path: Path, arrays: Any) -> None:
        if "000008" in str(path):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(path, arrays)

    monkeypatch.setattr(run_folder, "save_tensors", full)
    with pytest.raises(
        CheckpointError, match=r"disk is full.*checkpoint_000004 is who"
    ):
        training(tmp_path).run()
    assert not list((tmp_path / "checkpoints").glob(".*"))
    monkeypatch.setattr(run_folder, "save_tensors", real)
    training(tmp_path).run()
    assert remains(tmp_path) == whole


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path):
    run = training(tmp_path)
    real = run.step.trainable.put

    def broken(arrays: Any) -> None:
        real(arrays)
        if run.step.optimizer.step == 6:
            real({name: a * float("nan") for name, a in arrays.items()})

    run.step.trainable.put = broken  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match=r"not a number in step 7.*000004 is as it"):
        run.run()
    kept = tmp_path / "checkpoints" / "checkpoint_000004" / "state.safetensors"
    arrays: Any = mx.load(str(kept))
    assert all(mx.all(mx.isfinite(a)).item() for a in arrays.values())


def test_a_training_is_not_overwritten_or_changed(tmp_path: Path):
    training(tmp_path, iters=4).run()
    with pytest.raises(ConfigError, match=r"holds a training of 4 steps.*--resume"):
        training(tmp_path, resume=False, iters=4)
    with pytest.raises(ConfigError, match=r"begun with --window 30\.0 and not 20\.0"):
        training(tmp_path, iters=4, window=20)


def test_a_folder_with_a_model_is_left_alone(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"dim": 8}')
    with pytest.raises(ConfigError, match="holds a model or other adapters"):
        training(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"dim": 8}'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json"]


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(CheckpointError, match="name another --adapter-path"):
        training(tmp_path / "run")
