"""`moshi-mlx bench --live`: a conversation's delay and cost, on this machine's
devices."""

import json
from typing import TYPE_CHECKING

from .console import status
from .outputs import print_json

if TYPE_CHECKING:
    from ..audio.samples import Pcm
    from ..bench.live import Delay, Minute
    from ..engines.duplex.engine import Moshi
    from ..engines.thread import ModelThread
    from ..live.sound import SoundOptions


def bench_live(
    name: str, codec: str, seconds: float, soak_s: float, as_json: bool
) -> None:
    """Time a conversation with a model; nothing is recorded or played.

    Args:
        seconds: length of each measurement.
        soak_s: length of a long conversation after that, 0 for none.

    Raises: AudioError if there is no microphone or no loudspeaker.
    """
    from ..bench.machine import machine
    from ..engines.owner import model_thread
    from ..live.sound import SoundOptions
    from ..live.talk import quiet_c_libraries
    from .chat import Loader, check_devices

    sound = SoundOptions()
    with quiet_c_libraries():
        check_devices(sound)  # before anything is loaded
        thread = model_thread()
        with status(f"loading {name}"):
            moshi = thread.run(Loader(name, codec, {"bits": None}))
        delay, shares, marks = _measure(thread, moshi, sound, seconds, soak_s)
    if as_json:
        found = {
            "machine": machine(),
            "model": name,
            "delay_ms": delay.to_json(),
            "idle_percent": shares,
            "soak": [mark.to_json() for mark in marks],
        }
        print_json("bench-live", found)
    else:
        _show(f"{machine()}; {name}", delay, shares, marks)


def _measure(
    thread: "ModelThread",
    moshi: "Moshi",
    sound: "SoundOptions",
    seconds: float,
    soak_s: float,
) -> "tuple[Delay, dict[str, float], list[Minute]]":
    from ..bench.live import delay, idle, soak

    with status(f"timing the way from microphone to speaker, {seconds:.0f} s"):
        found = delay(thread, moshi, seconds, sound)
    with status(f"the loop without a model, 3 x {seconds:.0f} s"):
        shares = idle(seconds, sound)
    marks = []
    if soak_s:
        with status(f"a conversation of {soak_s:.0f} s"):
            marks = list(soak(thread, moshi, soak_s, sound, demo_questions()))
    return found, shares, marks


def demo_questions() -> "list[tuple[Pcm, str]]":
    """The recorded questions of the package, and the demo's answers to them."""
    from importlib.resources import files

    from ..audio.files import read

    folder = files("moshi_mlx") / "demo" / "questions"
    about = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    return [
        (read(str(folder / f"{q['name']}.wav"))[0], str(q["answer"])) for q in about
    ]


def _show(
    title: str, delay: "Delay", shares: dict[str, float], marks: "list[Minute]"
) -> None:
    from rich.console import Console
    from rich.table import Table

    d, console = delay, Console()
    console.print(title, highlight=False)
    table = Table("from a sample at the microphone to its answer", box=None)
    table.add_column("ms", justify="right")
    for what, ms in (
        ("the frame itself", d.frame),
        ("computation (median)", d.computation),
        ("playback buffer, for frames that arrive late", d.buffer),
        ("resampling and block boundaries", d.rest),
        (f"measured with {d.clicks} clicks (p95 {d.measured_p95:.0f})", d.measured),
        ("the model's acoustic delay", d.acoustic),
        ("microphone, as reported", d.microphone),
        ("speaker, as reported", d.speaker),
        ("all together", d.total),
    ):
        style = "bold" if what.startswith(("measured", "all")) else ""
        table.add_row(what, f"{ms:.0f}", style=style)
    console.print(table)
    if d.dropped:
        console.print(f"{d.dropped} frames dropped: too slow", style="bold red")
    for name, share in shares.items():
        console.print(f"{share:.1f} % of a core: {name}, without a model, idle")
    for mark in marks:
        s = mark.snapshot
        console.print(
            f"{s.elapsed_s:.0f} s: lag p50 {s.lag_p50:.0f}, p95 {s.lag_p95:.0f} ms; "
            f"{s.dropped.total} dropped; {s.gaps} gaps; {mark.resident_mib:.0f} MiB; "
            f"{mark.answered} right answers",
            highlight=False,
        )
