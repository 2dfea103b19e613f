"""Training for so much CPU time: its clock, its learning rate, its log, its files."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

SAVE_EVERY_S = 150
WARM = 100  # steps in which the learning rate rises
FLOOR = 0.03  # of the learning rate, at the end


def options(parser: argparse.ArgumentParser) -> None:
    """The flags that every training has."""
    option = parser.add_argument
    option("--minutes", type=float, default=60, help="of CPU time")
    option("--out", type=Path, help="folder; what was interrupted there goes on")
    option("--init", type=Path, help="folder of a model to start from")
    option("--decay", type=float, default=0.25, help="share of the time, at the end")
    option("--log-every", type=int, default=100, help="steps")
    option("--device", default="cpu", help="cuda: with larger batches")
    option("--threads", type=int, default=1)
    option("--seed", type=int, default=0)


class Run:
    """The loop of a training: its clock, its learning rate, its log, what it saves.

    ``out/state.pt`` holds what it takes to go on after an interruption.

    Args:
        parameters: what is trained.
        optimizer: over them.
        save: writes the model into a folder.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        save: Callable[[Path], None],
    ):
        self.args, self.save_model = args, save
        self.parameters, self.optimizer = parameters, optimizer
        self.steps, self.rows, self.sums, self.summed = 0, [], {}, 0
        self.began, self.saved = time.process_time(), time.time()
        if (args.out / "state.pt").exists():
            state = torch.load(args.out / "state.pt", map_location=args.device)
            optimizer.load_state_dict(state["optimizer"])
            self.steps, self.rows = state["steps"], state["rows"]
            self.began -= state["minutes"] * 60

    @property
    def minutes(self) -> float:
        """Of CPU time: waiting for the machine does not count."""
        return (time.process_time() - self.began) / 60

    def fractions(self) -> Iterator[float]:
        """Of the time that is over; saves at the end."""
        while (gone := self.minutes / self.args.minutes) < 1:
            yield gone
        self._save()
        print("done", self.steps, "steps", flush=True)

    def step(
        self, fraction: float, losses: dict[str, Tensor], extra: dict[str, Tensor]
    ) -> None:
        """Learn from ``losses``; log them and ``extra``; save if it is time."""
        warm = min(1, (self.steps + 1) / WARM)
        low = min(1, max(FLOOR, (1 - fraction) / self.args.decay))
        rate = self.args.lr * warm * low
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        extra["norm"] = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps, self.summed = self.steps + 1, self.summed + 1
        for name, value in (losses | extra).items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        if self.steps % self.args.log_every == 0:
            means = {name: round(s / self.summed, 4) for name, s in self.sums.items()}
            row = {"step": self.steps, "min": round(self.minutes, 2)}
            row["lr"] = round(rate, 7)
            self.rows.append(row | means)
            print(json.dumps(self.rows[-1]), flush=True)
            self.sums, self.summed = {}, 0
        if time.time() - self.saved > SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        out = self.args.out
        out.mkdir(exist_ok=True)
        self.save_model(out)
        (out / "log.json").write_text(json.dumps(self.rows))
        state = {"optimizer": self.optimizer.state_dict(), "steps": self.steps}
        state |= {"minutes": self.minutes, "rows": self.rows}
        torch.save(state, out / "state.tmp")
        os.replace(out / "state.tmp", out / "state.pt")
        self.saved = time.time()


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a state dict whole or not at all."""
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    unfinished = path.with_name("tmp.safetensors")
    save_file(state, unfinished)
    os.replace(unfinished, path)
