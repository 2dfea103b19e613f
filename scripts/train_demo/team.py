"""Training by the clock, by one process or by several that share the work."""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

SAVE_EVERY_S = 150


class Team:
    """Processes that train one model together, each on batches of its own (CPU, gloo).

    Args:
        rank: which process this is; 0 prints and saves.
        size: how many there are.
        port: of this machine, for them to meet.
    """

    def __init__(self, rank: int, size: int, port: int):
        self.rank, self.size = rank, size
        if size > 1:
            address = f"tcp://127.0.0.1:{port}"
            dist.init_process_group(
                "gloo", init_method=address, rank=rank, world_size=size
            )

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the values of the first."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)

    def average_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        if self.size == 1:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        sizes = [p.numel() for p in parameters]
        for p, grad in zip(parameters, (flat / self.size).split(sizes), strict=True):
            p.grad = grad.view_as(p)

    def leave(self) -> None:
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()


Work = Callable[[int, argparse.Namespace], None]


def launch(work: Work, args: argparse.Namespace) -> None:
    """Run ``work(rank, args)`` in ``args.procs`` processes."""
    if args.procs == 1:
        work(0, args)
    else:
        torch.multiprocessing.spawn(work, (args,), nprocs=args.procs)


class Clock:
    """How much of the time is over, the same for the whole team."""

    def __init__(self, minutes: float, team: Team):
        self._start, self._minutes, self._team = time.time(), minutes, team

    @property
    def gone_min(self) -> float:
        return (time.time() - self._start) / 60

    def fraction(self) -> float:
        """From 0 to 1 and a little beyond. Every process must ask equally often."""
        gone = torch.tensor(self.gone_min / self._minutes)
        self._team.share([gone])
        return float(gone)


def learning_rate(
    peak: float, step: int, fraction: float, warmup: int, floor: float
) -> float:
    """Linear over ``warmup`` steps, then half a cosine down to ``floor * peak``."""
    cosine = 0.5 * (1 + math.cos(math.pi * fraction))
    return peak * min(1, (step + 1) / warmup) * (floor + (1 - floor) * cosine)


class Log:
    """Means over some steps, as a printed row of JSON each; saves the run now and then.

    Args:
        every: steps of a row.
        save: called with all rows, by the leader only.
    """

    def __init__(
        self, team: Team, clock: Clock, every: int, save: Callable[[list[dict]], None]
    ):
        self._team, self._clock, self._every, self._save = team, clock, every, save
        self._sums: dict[str, float] = {}
        self._rows: list[dict] = []
        self._saved = time.time()
        self.steps = 0

    def add(self, values: dict[str, Tensor]) -> dict | None:
        """Count a step; every ``every`` steps, the leader's new row."""
        self.steps += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        if self.steps % self._every:
            return None
        means = {name: round(s / self._every, 4) for name, s in self._sums.items()}
        self._sums = {}
        if not self._team.leads:
            return None
        row = {"step": self.steps, "min": round(self._clock.gone_min, 2)} | means
        self._rows.append(row)
        return row

    def keep(self) -> None:
        """Save if it is time."""
        if self._team.leads and time.time() - self._saved > SAVE_EVERY_S:
            self._save(self._rows)
            self._saved = time.time()

    def finish(self) -> None:
        if self._team.leads:
            self._save(self._rows)
            print("done", self.steps, "steps", flush=True)


def show(row: dict) -> None:
    print(json.dumps(row), flush=True)


def save_weights(module: torch.nn.Module, path: Path) -> None:
    """Write a state dict whole or not at all."""
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    unfinished = path.with_name("tmp.safetensors")
    save_file(state, unfinished)
    os.replace(unfinished, path)
