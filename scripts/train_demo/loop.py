"""Training for so much time: its clock, its learning rate, its log, its files."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

SAVE_EVERY_S, LOG_EVERY = 150, 50  # seconds, steps
WARM = 100  # steps in which the learning rate rises
FLOOR = 0.03  # of the learning rate, at the end


def options(parser: argparse.ArgumentParser) -> None:
    """The flags that every training has."""
    option = parser.add_argument
    option("--minutes", type=float, default=60, help="of CPU time")
    option("--steps", type=int, default=10**9, help="at most")
    option("--out", type=Path, help="folder; what was interrupted there goes on")
    option("--init", type=Path, help="folder of a model to start from")
    option("--decay", type=float, default=0.25, help="share of the time, at the end")
    option("--device", default="cpu", help="cuda: with larger batches")
    option("--seed", type=int, default=0)


class Run:
    """The loop of a training; ``save`` writes the model into a folder.

    ``out/state.pt`` holds what it takes to go on after an interruption.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        modules: list[nn.Module],
        save: Callable[[Path], None],
        **adam: Any,
    ):
        self.args, self.save_model = args, save
        self.parameters = [p for module in modules for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, fused=True, **adam)
        self.steps, self.before, self.sums = 0, 0.0, {}  # before: earlier minutes
        self.saved = time.time()
        if (args.out / "state.pt").exists():
            state = torch.load(args.out / "state.pt", map_location=args.device)
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps, self.before = state["steps"], state["minutes"]
        self.began = time.process_time()

    @property
    def minutes(self) -> float:
        """Of CPU time: waiting for the machine does not count."""
        return self.before + (time.process_time() - self.began) / 60

    def fractions(self) -> Iterator[float]:
        """Of the time that is over; saves at the end."""
        args = self.args
        while (gone := self.minutes / args.minutes) < 1 and self.steps < args.steps:
            yield gone
        self._save()
        print("done", self.steps, "steps", flush=True)

    def step(
        self, fraction: float, losses: dict[str, Tensor], extra: dict[str, Tensor]
    ) -> None:
        """Learn from ``losses``; log them and ``extra``; save if it is time."""
        end = max(FLOOR, (1 - fraction) / self.args.decay)
        rate = self.args.lr * min(1, end, (self.steps + 1) / WARM)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        extra["norm"] = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps += 1
        for name, value in (losses | extra).items():
            self.sums.setdefault(name, []).append(float(value.detach()))
        if self.steps % LOG_EVERY == 0:
            means = {name: round(sum(x) / len(x), 4) for name, x in self.sums.items()}
            row = {"step": self.steps, "min": round(self.minutes, 2)}
            print(json.dumps(row | {"lr": round(rate, 7)} | means), flush=True)
            self.sums = {}
        if time.time() - self.saved > SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        out = self.args.out
        out.mkdir(exist_ok=True)
        self.save_model(out)
        state = {"optimizer": self.optimizer.state_dict(), "steps": self.steps}
        state["minutes"] = self.minutes
        torch.save(state, out / "state.tmp")
        os.replace(out / "state.tmp", out / "state.pt")
        self.saved = time.time()


def save_weights(
    module: nn.Module, path: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write a state dict whole or not at all."""
    state = {k: x.cpu().clone() for k, x in module.state_dict().items()}
    state = {k: x.to(dtype) if x.is_floating_point() else x for k, x in state.items()}
    unfinished = path.with_name("tmp.safetensors")
    save_file(state, unfinished)
    os.replace(unfinished, path)
