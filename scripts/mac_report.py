"""Run the tests and benchmarks that only a Mac can answer, and keep them in a file.

Each step is a command of this project. The file is written anew after every step, so
that an interrupted run leaves what was measured. Names of folders in the home folder
are replaced by ``~``; there are no host or user names in it.

Run it as ``scripts/mac_report``.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TAIL = 60  # lines kept of a command that prints no JSON
CHIP = ("sysctl", "-n", "machdep.cpu.brand_string")
WIRED = ("sysctl", "-n", "iogpu.wired_limit_mb")  # 0: the system's own limit


@dataclass(frozen=True)
class Step:
    """A command to run, and how long it may take."""

    name: str
    command: tuple[str, ...]
    limit_s: float


def moshi(*arguments: str) -> tuple[str, ...]:
    return sys.executable, "-m", "moshi_mlx", *arguments


def planned(short: bool) -> list[Step]:
    """What a report consists of; the short one leaves out sound and large models."""
    pytest = (sys.executable, "-m", "pytest", "-q", "-m", "not network and not slow")
    demo = moshi("bench", "--model", "demo", "--json")
    live = moshi("bench", "--live", "--model", "demo", "--json")
    sizes = "300M" if short else "7B"
    random = moshi("bench", "--size", sizes, "--bits", "q4,q8", "--json")
    found = [
        Step("doctor", moshi("doctor", "--json", "--no-sound"), 300),
        Step("bench_demo", demo, 600),
        Step("bench_random", random, 1800),
        Step("bench_random_paced", (*random, "--paced"), 1800),
        Step("metal_norm", (sys.executable, "-m", "scripts.metal_norm"), 600),
    ]
    if not short:
        found += [
            Step("bench_live_ten_minutes", (*live, "--soak", "600"), 1200),
            Step("tests", pytest, 3600),
        ]
    return found


def run(step: Step) -> dict[str, Any]:
    """The step's command, exit code, seconds, and what it printed.

    ``result`` is its JSON; ``output`` are its last lines if it printed none.
    """
    begun = time.monotonic()
    told: dict[str, Any] = {"command": " ".join(("moshi-mlx", *step.command[3:]))}
    if step.command[2] != "moshi_mlx":
        told["command"] = " ".join(step.command[2:])
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, capture_output=True, text=True, timeout=step.limit_s
        )
        told["exit_code"], out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        told["exit_code"] = None  # it was ended
        out, err = (_text(part) for part in (error.stdout, error.stderr))
    told["seconds"] = round(time.monotonic() - begun, 1)
    try:
        told["result"] = json.loads(out)
    except ValueError:
        told["output"] = _last(out + err)
    else:
        told["log"] = _last(err)
    return told


def _text(output: "str | bytes | None") -> str:
    return (
        output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    )


def _last(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][-TAIL:]


def machine() -> dict[str, Any]:
    """The machine: chip, memory, system, versions."""
    return {
        "date": date.today().isoformat(),
        "system": f"{platform.system()} {platform.mac_ver()[0] or platform.release()}",
        "chip": _printed(CHIP) or platform.processor() or platform.machine(),
        "wired_limit_mb": _printed(WIRED),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "python": platform.python_version(),
        "mlx": version("mlx"),
        "moshi_mlx": version("moshi_mlx"),
        "commit": _printed(("git", "rev-parse", "HEAD")),
        "load_average_before": os.getloadavg(),
    }


def _printed(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the file whole: an interruption leaves the one before."""
    part = path.with_suffix(".part")
    text = json.dumps(report, indent=1).replace(str(Path.home()), "~")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="a few minutes")
    parser.add_argument("--out", type=Path, default=Path("mac-report.json"))
    args = parser.parse_args(arguments)
    report: dict[str, Any] = {"format": 1, "short": args.short, "machine": machine()}
    report["steps"] = {}
    failed = 0
    for step in planned(args.short):
        print(f"{step.name} (at most {step.limit_s / 60:.0f} min) ...", file=sys.stderr)
        told = report["steps"][step.name] = run(step)
        failed += told["exit_code"] != 0
        write(args.out, report)
    print(
        f"{args.out} is complete: {len(report['steps']) - failed} steps went well, "
        f"{failed} failed.",
        file=sys.stderr,
    )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
