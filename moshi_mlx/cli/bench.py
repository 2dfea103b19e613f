"""`moshi-mlx bench`: what a frame takes on this machine, stage by stage."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import status

EXAMPLES = """
moshi-mlx bench --model demo
moshi-mlx bench --model kyutai/moshiko-mlx-q4 --codec native,rust
moshi-mlx bench --size 7B --bits 16,q8,q4,mixed --plot bench.html
moshi-mlx bench --size 100M --batch 1,2,4,8,16,32 --growth --json
"""


def bench(
    model: options.Model = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="SIZES",
            help="Random models instead: 10M, 30M, 100M, 300M, 1B, 2B, 7B, with commas "
            "between several. As fast and large as trained ones; nothing is fetched.",
        ),
    ] = None,
    bits: Annotated[
        str,
        typer.Option(
            "--bits",
            metavar="RECIPES",
            help="Of random models: 16 (not quantised), 8, q4, mixed ...",
        ),
    ] = "16",
    batch: Annotated[
        str,
        typer.Option("--batch", metavar="N,...", help="Conversations side by side."),
    ] = "1",
    codec: Annotated[
        str,
        typer.Option(
            "--codec", metavar="NAMES", help="native, rust, or none (LM alone)."
        ),
    ] = "native",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAMES", help="cpu, gpu. Default: every one."),
    ] = None,
    kv_bits: options.KvBits = None,
    frames: Annotated[
        int, typer.Option("--frames", min=5, metavar="N", help="Frames to time.")
    ] = 50,
    growth: Annotated[
        bool,
        typer.Option(
            "--growth",
            help="Also time steps late in a conversation, to 8 x the context.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.html", help="Write a page with charts."),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Time every stage of a frame (80 ms of sound): median, 95 %, worst.

    The codec's encode and decode, the model's step, the first frame against later ones,
    memory and tokens a second.
    """
    from ..bench import charts
    from ..bench.sweep import Outcome, Plan, available_devices, page, run
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.memory import fitting_moshi

    sizes = _several(size or "", "size", None)
    name = None if sizes else model or fitting_moshi()
    plan = Plan(
        info=None if name is None else CheckpointInfo.find(name, kv_bits=kv_bits),
        sizes=sizes,
        bits=_several(bits, "bits", None),
        batches=[_count(text) for text in _several(batch, "batch", None)],
        codecs=_several(codec, "codec", ["native", "rust", "none"]),
        devices=_several(device or "", "device", available_devices()),
        frames=frames,
        growth=growth,
        kv_bits=kv_bits,
    )
    outcome = Outcome()
    with status("timing"):
        for done, outcome in run(plan):  # noqa: B007
            typer.echo(done, err=True)
    if plot is not None:
        charts.write(plot, page(machine(), outcome))
    if json_:
        print(json.dumps(as_json(outcome)))
    else:
        _show(outcome)


def _several(text: str, name: str, known: list[str] | None) -> list[str]:
    """The parts of a list with commas.

    Raises: ConfigError for one that is not ``known``.
    """
    from ..errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if known is not None and part not in known:
            raise ConfigError(
                f"--{name} {part!r} is unknown here: use {', '.join(known)}."
            )
    return parts


def _count(text: str) -> int:
    from ..errors import ConfigError

    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise ConfigError(f"--batch {text!r} is no batch size: use 1 to 256.")
    return int(text)


def machine() -> str:
    """This machine in a line, for tables that travel."""
    import mlx.core as mx

    from ..checkpoint.memory import machine_memory

    device = mx.device_info(mx.default_device()).get(
        "device_name", platform.processor()
    )
    return (
        f"{platform.system()} {platform.machine()}, {device}, "
        f"{machine_memory() / 1e9:.0f} GB, mlx {version('mlx')}, "
        f"Python {platform.python_version()}"
    )


def as_json(outcome: Any) -> dict[str, Any]:
    """Everything that was measured, with the machine."""
    return {
        "machine": machine(),
        "results": [result.to_json() for result in outcome.results],
        "growth_ms": {
            name: [{"position": p, "step_ms": ms} for p, ms in line]
            for name, line in outcome.growth.items()
        },
    }


def _show(outcome: Any) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from ..bench.sweep import HEAD, row

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(HEAD[0], no_wrap=True)
    for name in HEAD[1:]:
        table.add_column(name, justify="right")
    for result in outcome.results:
        table.add_row(*row(result))
    console = Console()
    console.print(f"{machine()}; milliseconds of the whole batch", highlight=False)
    console.print(table)
    for name, line in outcome.growth.items():
        steps = ", ".join(f"{ms:.1f} at {position:,}" for position, ms in line)
        console.print(f"{name}, ms a step by position: {steps}", highlight=False)
