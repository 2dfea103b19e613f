"""Training for so much CPU time, by one process or by several that share the work."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

SAVE_EVERY_S = 150
WARM = 100  # steps in which the learning rate rises
FLOOR = 0.03  # of the learning rate, at the end


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

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
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


def launch(
    work: Callable[[int, argparse.Namespace], None], args: argparse.Namespace
) -> None:
    """Run ``work(rank, args)`` in ``args.procs`` processes."""
    if args.procs == 1:
        work(0, args)
    else:
        torch.multiprocessing.spawn(work, (args,), nprocs=args.procs)


def options(parser: argparse.ArgumentParser, port: int) -> None:
    """The flags that every training has."""
    option = parser.add_argument
    option("--minutes", type=float, default=60, help="of CPU time, each process")
    option("--out", type=Path, help="folder; what was interrupted there goes on")
    option("--init", type=Path, help="folder of a model to start from")
    option("--decay", type=float, default=0.25, help="share of the time, at the end")
    option("--log-every", type=int, default=100, help="steps")
    option("--device", default="cpu", help="cuda: with --procs 1 and larger batches")
    option("--procs", type=int, default=2, help="processes, of one thread each")
    option("--seed", type=int, default=0)
    option("--port", type=int, default=port)


class Run:
    """The loop of a training: its clock, its learning rate, its log, what it saves.

    ``out/state.pt`` holds what it takes to go on after an interruption.

    Args:
        parameters: what is trained.
        optimizer: over them.
        save: writes the model into a folder; called by the leader only.
    """

    def __init__(
        self,
        team: Team,
        args: argparse.Namespace,
        parameters: list[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        save: Callable[[Path], None],
    ):
        self.team, self.args, self.save_model = team, args, save
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
        """Of the time that is over, the same for the whole team; saves at the end."""
        while True:
            gone = torch.tensor(self.minutes / self.args.minutes)
            self.team.share([gone])
            if gone >= 1:
                break
            yield float(gone)
        if self.team.leads:
            self._save()
            print("done", self.steps, "steps", flush=True)
        self.team.leave()

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
        self.team.average_gradients(self.parameters)
        extra["norm"] = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.steps, self.summed = self.steps + 1, self.summed + 1
        for name, value in (losses | extra).items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        if not self.team.leads:
            return
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
