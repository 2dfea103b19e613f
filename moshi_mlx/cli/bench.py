"""`moshi-mlx bench`: what a frame takes on this machine, stage by stage."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .bench_table import print_table
from .console import status
from .outputs import Json, check_outputs, print_json

if TYPE_CHECKING:
    from ..bench.sweep import SweepOutcome

EXAMPLES = """
moshi-mlx bench --model demo
moshi-mlx bench --model kyutai/moshiko-mlx-q4 --codec native,rust
moshi-mlx bench --size 7B --bits 16,q8,q4,mixed --plot bench.html
moshi-mlx bench --size 7B --bits q4 --paced
moshi-mlx bench --size 7B --bits 16,q8,q4 --predict
moshi-mlx bench --size 100M --batch 1,2,4,8,16,32 --growth --json
moshi-mlx bench --task stt,tts,translation,text
moshi-mlx bench --task stt --size tiny --hour
moshi-mlx bench --live --model demo --soak 600
moshi-mlx bench --serve --stt kyutai/stt-1b-en_fr-candle --tts kyutai/tts-1.6b-en_fr
"""
TASKS = ["stt", "tts", "translation", "text", "finetune"]


def bench(
    model: options.AnyModel = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="SIZES",
            help="Time random models instead: 10M, 30M, 100M, 300M, 1B, 2B, 7B, "
            "separated by commas. They are as fast and as large as trained ones, "
            "and need no download.",
        ),
    ] = None,
    bits: Annotated[
        str,
        typer.Option(
            "--bits",
            metavar="RECIPES",
            help="Recipes for random models: 16 (unquantised), q8, q4, mixed ...",
        ),
    ] = "16",
    batch: Annotated[
        str,
        typer.Option(
            "--batch", metavar="N,...", help="Batch sizes: conversations side by side."
        ),
    ] = "1",
    codec: Annotated[
        str,
        typer.Option(
            "--codec",
            metavar="NAMES",
            help="Codecs to time: native, rust, or none (language model only).",
        ),
    ] = "native",
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAMES",
            help="cpu, gpu. Default: every device there is.",
        ),
    ] = None,
    kv_bits: options.KvBits = None,
    frames: Annotated[
        int,
        typer.Option("--frames", min=5, metavar="N", help="Number of frames to time."),
    ] = 50,
    paced: Annotated[
        bool,
        typer.Option(
            "--paced",
            help="Begin a frame every 80 ms, as in a conversation, instead of back to "
            "back: a GPU that rests in between runs more slowly.",
        ),
    ] = False,
    predict: Annotated[
        bool,
        typer.Option(
            "--predict",
            help="Run nothing: compute how long a frame takes on each Apple chip, from "
            "kernels, bytes read and published bandwidths.",
        ),
    ] = False,
    growth: Annotated[
        bool,
        typer.Option(
            "--growth",
            help="Also time steps late in a conversation, up to 8 times the context.",
        ),
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="TASKS",
            help="Time other tasks: stt, tts, translation, text. Without --model, "
            "random models of the published shapes (or --size tiny). finetune: how "
            "fast random models of --size train over --bits.",
        ),
    ] = None,
    hour: Annotated[
        bool,
        typer.Option(
            "--hour",
            help="With --task: run for an hour of sound (45,000 steps; minutes even "
            "for tiny models) and show the memory over time.",
        ),
    ] = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Measure the delay from microphone to speaker, part by part, and the "
            "cost of the idle loop. Nothing is recorded or played.",
        ),
    ] = False,
    soak: Annotated[
        float,
        typer.Option(
            "--soak",
            metavar="SECONDS",
            min=0.0,
            help="With --live: also run a conversation of this length and report on "
            "it every minute.",
        ),
    ] = 0.0,
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            metavar="S",
            min=3.0,
            help="With --live: length of each measurement.",
        ),
    ] = 20.0,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help="Measure how long clients of `serve` wait: for the first sound of a "
            "sentence, and for the final word after they stop speaking.",
        ),
    ] = False,
    stt: Annotated[
        str | None,
        typer.Option(
            "--stt",
            metavar="REPO|FOLDER",
            help="With --serve: the model that listens. Default: that of --model demo.",
        ),
    ] = None,
    tts: Annotated[
        str | None,
        typer.Option(
            "--tts",
            metavar="REPO|FOLDER",
            help="With --serve: the model that speaks. Default: that of --model demo.",
        ),
    ] = None,
    voice_repo: Annotated[str | None, options.voice_repo(None, "--tts looks")] = None,
    clients: Annotated[
        str,
        typer.Option(
            "--clients", metavar="N,...", help="With --serve: clients at once."
        ),
    ] = "1,2,4,8",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.html", help="Write a page with charts."),
    ] = None,
    json_: options.Json = False,
) -> None:
    """Time every stage of a frame (80 ms of sound): median, 95 %, worst.

    Covers the codec's encoder and decoder, the model's step, the first frame compared
    with later ones, memory, and tokens per second.
    """
    if serve:
        from .bench_serve import bench_serve

        counts = [
            _count(text, "clients") for text in _several(clients, "clients", None)
        ]
        bench_serve(model, (stt, tts, voice_repo), counts, json_)
        return
    if task is not None:
        tasks = _several(task, "task", TASKS)
        if tasks == ["finetune"]:
            from .bench_training import bench_training

            bench_training(_several(size or "10M", "size", None), bits, json_)
            return
        _several(task, "task", TASKS[:-1])
        bench_tasks(model, tasks, size or "published", (frames, hour), json_)
        return
    if live or soak:
        from ..checkpoint.memory import fitting_moshi
        from .bench_live import bench_live

        [engine] = _several(codec, "codec", ["native", "rust"])[:1]
        bench_live(model or fitting_moshi(), engine, seconds, soak, json_)
        return
    from ..bench import charts
    from ..bench.machine import machine
    from ..bench.sweep import SweepOutcome, SweepPlan, available_devices, page, run
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.memory import fitting_moshi

    check_outputs(None, {"--plot": plot})
    sizes = _several(size or "", "size", None)
    name = None if sizes else model or fitting_moshi()
    info = None if name is None else CheckpointInfo.find(name, kv_bits=kv_bits)
    recipes = _several(bits, "bits", None)
    if predict:
        from .bench_predict import bench_predict

        bench_predict(info, sizes, recipes, kv_bits, json_)
        return
    plan = SweepPlan(
        info=info,
        sizes=sizes,
        bits=recipes,
        batches=[_count(text) for text in _several(batch, "batch", None)],
        codecs=_several(codec, "codec", ["native", "rust", "none"]),
        devices=_several(device or "", "device", available_devices()),
        frames=frames,
        growth=growth,
        paced=paced,
        kv_bits=kv_bits,
    )
    outcome = SweepOutcome()
    with status("timing"):
        for done, outcome in run(plan):  # noqa: B007
            print(done, file=sys.stderr, flush=True)  # above the spinner
    if plot is not None:
        charts.write(plot, page(machine(), outcome))
    if json_:
        print_json("bench", as_json(outcome))
    else:
        _show(outcome)


def bench_tasks(
    model: str | None,
    tasks: list[str],
    size: str,
    steps: tuple[int, bool],
    as_json: bool,
) -> None:
    """Time models that listen, speak, translate or write.

    Args:
        steps: number of steps, and whether to run for an hour of sound.
    """
    from ..bench.family import HEAD, memory_line, row, run_tasks
    from ..bench.machine import machine
    from ..checkpoint.info import CheckpointInfo

    info = None if model is None else CheckpointInfo.find(model)
    results = []

    def tell(done: str) -> None:
        print(done, file=sys.stderr, flush=True)

    with status("timing"):
        for result in run_tasks(info, tasks, size, *steps, tell):
            tell(" ".join(result.label.values()))
            results.append(result)
    if as_json:
        found = [result.to_json() for result in results]
        print_json("bench-tasks", {"machine": machine(), "results": found})
        return
    notes = [memory_line(result) for result in results if result.memory]
    print_table(HEAD, [row(result) for result in results], notes)


def _several(text: str, name: str, known: list[str] | None) -> list[str]:
    """The parts of a comma-separated list.

    Raises: ConfigError for one that is not ``known``.
    """
    from ..errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if known is not None and part not in known:
            raise ConfigError(
                f"--{name} {part!r} is unknown: use one of {', '.join(known)}."
            )
    return parts


def _count(text: str, name: str = "batch") -> int:
    from ..errors import ConfigError

    if not text.isdigit() or not 1 <= int(text) <= 256:
        what = "a batch size" if name == "batch" else "a number of clients"
        raise ConfigError(f"--{name} {text!r} is not {what}: use 1 to 256.")
    return int(text)


def as_json(outcome: "SweepOutcome") -> Json:
    """All measurements, with the machine."""
    from ..bench.machine import machine

    return {
        "machine": machine(),
        "results": [result.to_json() for result in outcome.results],
        "growth_ms": {
            name: [{"position": p, "step_ms": ms} for p, ms in line]
            for name, line in outcome.growth.items()
        },
    }


def _show(outcome: "SweepOutcome") -> None:
    from ..bench.sweep import HEAD, row

    notes = [
        f"{name}, ms per step, by position: "
        + ", ".join(f"{ms:.1f} at {position:,}" for position, ms in line)
        for name, line in outcome.growth.items()
    ]
    print_table(HEAD, [row(result) for result in outcome.results], notes)
