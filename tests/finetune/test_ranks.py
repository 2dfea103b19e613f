"""Two processes that share each batch train as one with the whole batch."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

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
# rows of a batch differ in how much of them counts
ROWS = [tiny.codes(CONFIG, 2, 6, seed=n, missing=0.2 * n) for n in range(3)]
ROOT = Path(__file__).parents[2]


class Shared:
    """A rank's rows of each batch."""

    def __init__(self, ranks: Ranks):
        self._own = 2 // ranks.size
        self._first = ranks.rank * self._own

    def __getitem__(self, number: int) -> mx.array:
        return ROWS[number % 2][self._first : self._first + self._own]


def train(folder: Path) -> None:
    """Six steps, stopped after three and resumed."""
    ranks = Ranks()
    mine = Shared(ranks)
    for until in (3, 6):
        values = {"model": "x", "data": "y", "iters": 6, "batch_size": 2}
        values |= {"learning_rate": 1e-2, "grad_accumulation_steps": 2}
        settings = TrainSettings().with_values(values).check()
        lm = tiny.lm(**MINIMAL)
        # each rank begins with other adapters: the first one's count
        trainable = add_adapters(lm, rank=2, seed=ranks.rank)
        adamw = CycledAdamW(settings.betas, 1e-8, settings.weight_decay)
        step = TrainingStep(lm, trainable, adamw, settings.rates(), add=ranks.add)

        def interrupt(line: dict[str, Any], until: int = until) -> None:
            if until == 3 == line.get("step") and ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGINT)  # one is asked, all of them stop

        run = Training(
            *(settings, step, mine, lambda: [mine[2]]),
            RunFolder(folder, settings, resume=True) if ranks.first else None,
            *(ranks, lambda _: None, interrupt),
        )
        with contextlib.suppress(KeyboardInterrupt):
            run.run()


def ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.skipif(not mx.distributed.is_available(), reason="MLX without ring")
def test_two_processes_give_the_losses_of_the_joined_batch(tmp_path: Path):
    hosts = [[f"127.0.0.1:{port}"] for port in ports(2)]
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    code = f"from tests.finetune.test_ranks import *; train(Path({str(tmp_path)!r}))"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={
                **os.environ,
                "MLX_RANK": str(rank),
                "MLX_HOSTFILE": str(tmp_path / "hosts.json"),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [child.communicate(timeout=600)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], told
    train(tmp_path / "alone")
    shared, alone = lines(tmp_path), lines(tmp_path / "alone")
    assert len(shared) == len(alone) == 8
    for one, two in zip(shared, alone, strict=True):
        for name in ("loss", "text_loss", "audio_loss", "grad_norm", "valid_loss"):
            if name in two:
                assert one[name] == pytest.approx(two[name], rel=1e-4), name
        assert one.get("tokens") == two.get("tokens")
