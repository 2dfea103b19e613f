"""`moshi-mlx bench --serve`: how long clients of `serve` wait."""

import asyncio
from collections.abc import Sequence

from .console import status
from .outputs import print_json


def bench_serve(
    model: str | None,
    models: Sequence[str | None],
    counts: Sequence[int],
    as_json: bool,
) -> None:
    """Print how long clients wait for a reply, a first sound, and a final word.

    Args:
        model: a Moshi, and the models that come with it.
        models: the model that listens, the one that speaks, and where its voices are;
            the family's by default.
        counts: numbers of clients that ask at once.

    Raises: ConfigError if there is nothing to measure.
    """
    from ..audio.files import read
    from ..bench.machine import machine
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.source import DEMO_FOLDER
    from ..engines.duplex.load import load_moshi
    from ..engines.owner import model_thread
    from ..errors import ConfigError
    from ..serve.measure import waits
    from ..serve.models import family, speech_service
    from ..serve.places import CONVERSES, LISTENS, SPEAKS, FrameTime
    from ..serve.service import load_batch

    stt, tts, voices = models
    stt, tts = stt or family(model, "stt"), tts or family(model, "tts")
    steps = {CONVERSES: model, LISTENS: stt, SPEAKS: tts}
    if not any(steps.values()):
        raise ConfigError(
            "bench --serve needs a model: name a Moshi with --model, or add --stt or "
            "--tts."
        )
    time = FrameTime(name for name, there in steps.items() if there)
    speech = speech_service(max(counts), time, stt=stt, tts=tts, voice_repo=voices)
    sound = read(DEMO_FOLDER / "questions" / "planet.wav")[0]
    with status("timing"):
        batch = None
        if model is not None:
            info = CheckpointInfo.find(model)
            info.kind.check("listens", info.name)
            thread, most = model_thread(), max(counts)
            batch = load_batch(thread, lambda: load_moshi(info=info), most, time=time)
        found = asyncio.run(waits(speech, counts, sound, batch=batch))
    if as_json:
        results = [wait.to_json() for wait in found]
        print_json("bench-serve", {"machine": machine(), "results": results})
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("time to", "clients", "50 %", "95 %", "refused", box=SIMPLE_HEAD)
    for wait in found:
        told = wait.to_json()
        times = (
            "-" if told[k] is None else f"{told[k]:.0f}" for k in ("p50_ms", "p95_ms")
        )
        table.add_row(wait.what, str(wait.clients), *times, str(wait.refused))
    console = Console()
    console.print(f"{machine()}; milliseconds", highlight=False)
    console.print(table)
