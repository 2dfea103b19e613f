"""Time this package against its peers, side by side in one run, and print ratios.

Each contestant is a process that waits until it is its turn; turns alternate, so that
what else the machine does hits all of them alike. What is reported for each pair is the
median of the rounds' ratios (our median in a round / theirs), and the ratio of medians.

    scripts/compare_peers.py --mlx03 VENV --torch VENV > ratios.json
    scripts/compare_peers.py --before CHECKOUT         # an older version of ours

With --family the other models race: a step of speech to text, text to speech,
translation and text (Helium; 0.3.0 only), see peer_family.py.

VENV is a virtual environment with moshi_mlx 0.3.0, or with PyTorch moshi; CHECKOUT is a
folder with an older version of this repository (`git worktree add`). Contestants that
are not named are left out; rustymimi is in our own environment. Run this from the
environment of this package, on an idle machine if possible.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("peer_worker.py")
FAMILY = Path(__file__).with_name("peer_family.py")
REST_S = 0.4  # between turns: threads of the one before stop spinning

Times = dict[str, list[list[float]]]  # milliseconds by task, round and frame


class Contestant:
    """A process that times frames when it is told to."""

    def __init__(
        self,
        name: str,
        python: Path,
        mimi_file: Path,
        worker: Path | None = None,
        checkout: Path | None = None,
    ):
        self.name = name
        env = dict(os.environ)
        if checkout is not None:  # goes before the installed package
            env["PYTHONPATH"] = str(checkout)
        self._process = subprocess.Popen(
            [str(python), str(worker or WORKER), name, str(mimi_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tempfile.gettempdir(),  # so that no checkout here is imported there
            env=env,
        )
        self.tasks: list[str] = self._answer()
        self.times: Times = {task: [] for task in self.tasks}

    def turn(self, task: str, frames: int) -> list[float]:
        """Milliseconds of each of ``frames``."""
        assert self._process.stdin is not None
        print(task, frames, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> int:
        """Let it end; returns its exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        code = self._process.wait(30)
        self._process.stdout.close()
        return code

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.close()}.")
        return json.loads(line)


def write_mimi(path: Path) -> None:
    """A random codec in the published format, with all its 32 codebooks."""
    sys.path.insert(0, str(ROOT))
    from tests.parity.random_mimi import write

    write(path, codebooks=32, layer_scale=0.01)


def race(contestants: list[Contestant], rounds: int, frames: int) -> dict[str, Any]:
    """Let all take turns at every task they know; first frames of ours at the end."""
    for index in range(rounds):
        for task in sorted({task for c in contestants for task in c.tasks}):
            those = [c for c in contestants if task in c.tasks]
            for contestant in those[index % len(those) :] + those[: index % len(those)]:
                time.sleep(REST_S)
                contestant.times[task].append(contestant.turn(task, frames))
        print(f"round {index + 1} of {rounds}", file=sys.stderr)
    ours = contestants[0]
    result = {
        "median_ms": {c.name: medians(c.times) for c in contestants},
        "ratios": {c.name: ratios(ours.times, c.times) for c in contestants[1:]},
    }
    if "lm8" not in ours.tasks:
        return result
    firsts = {
        task: [ours.turn(f"{task}_first", 1)[0] for _ in range(rounds)]
        for task in ("codec", "lm")
    }
    return {
        **result,
        "batch_of_8_to_one": compared(ours.times["lm8"], ours.times["lm"]),
        "first_frame_to_median": {
            task: median(times) / overall(ours.times[task])
            for task, times in firsts.items()
        },
    }


def overall(rounds: list[list[float]]) -> float:
    return median(ms for times in rounds for ms in times)


def medians(times: Times) -> dict[str, float]:
    return {task: overall(rounds) for task, rounds in times.items()}


def ratios(ours: Times, theirs: Times) -> dict[str, dict[str, float]]:
    """Ours by theirs, for the tasks of both: below 1 ours is faster."""
    return {task: compared(ours[task], theirs[task]) for task in theirs}


def compared(ours: list[list[float]], theirs: list[list[float]]) -> dict[str, float]:
    pairs = zip(ours, theirs, strict=True)
    found = [median(one) / median(other) for one, other in pairs]
    return {
        "median_of_ratios": median(found),
        "lowest": min(found),
        "highest": max(found),
        "ratio_of_medians": overall(ours) / overall(theirs),
    }


def machine() -> dict[str, Any]:
    """Where and when this was measured."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "date": date.today().isoformat(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg(),
        "mlx": version("mlx"),
        "python": platform.python_version(),
    }


def checkout(name: str) -> Path:
    """A folder that holds the package."""
    folder = Path(name).absolute()
    if not (folder / "moshi_mlx" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"{name} holds no folder moshi_mlx.")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mlx03", type=Path, help="venv with moshi_mlx 0.3.0")
    parser.add_argument("--torch", type=Path, help="venv with PyTorch moshi")
    parser.add_argument(
        "--before", type=checkout, help="folder with an older version of ours"
    )
    parser.add_argument(
        "--family", action="store_true", help="speech to text, text to speech ..."
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--frames", type=int, default=10, help="frames of a turn")
    args = parser.parse_args()
    own = Path(sys.executable)
    venvs = {"ours": own}
    if not args.family:
        venvs |= {"ours_slow_blas": own, "rustymimi": own}
    for name in ("mlx03", "torch"):
        if venv := getattr(args, name):
            venvs[name] = venv.absolute() / "bin" / "python"
    if args.before:
        venvs["before"] = own
    if "torch" in venvs:
        venvs["torch_1_thread"] = venvs["torch"]
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        mimi_file = Path(folder) / "mimi.safetensors"
        if not args.family:
            write_mimi(mimi_file)
        worker = FAMILY if args.family else WORKER
        contestants = [
            Contestant(
                *(name, python, mimi_file, worker),
                args.before if name == "before" else None,
            )
            for name, python in venvs.items()
        ]
        result = race(contestants, args.rounds, args.frames)
        for contestant in contestants:
            contestant.close()
    settings = {"rounds": args.rounds, "frames_a_turn": args.frames}
    print(json.dumps({"machine": where, **settings, **result}, indent=1))


if __name__ == "__main__":
    main()
