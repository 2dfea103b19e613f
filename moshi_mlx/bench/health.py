"""What could keep Moshi from running on this machine, checked part by part."""

import math
import os
import platform
import queue
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

import mlx.core as mx
import numpy as np

from ..audio.device import Microphone, Speaker, find_device, list_devices
from ..audio.framing import FRAME_MS, rms
from ..checkpoint.build import footprint
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.memory import USABLE, fitting_moshi, machine_memory
from ..checkpoint.outline import outline
from ..engines import residency
from ..engines.duplex.load import load_moshi
from ..errors import MoshiError
from ..fast import ops
from ..linux_cpu import use_fast_products
from ..live.devices import lacking
from ..utils.extras import how_to_install, missing
from . import estimate
from .speed import Speed, measure

State = Literal["ok", "warning", "error"]

_LISTEN_S = 1.0
TF32_SINCE = 5  # generation of Apple's chips
_QUIET_RMS = 1e-5  # below, a microphone is switched off
_EXTRAS = {
    "serve": "moshi-mlx serve",
    "rust": "the codec's second engine, --codec rust",
}


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        what: its name.
        state: "ok"; "warning" if something is missing that not everybody needs; "error"
            if Moshi cannot run or nobody can talk to it.
        text: the result, and what to do.
        numbers: the same for programs; the names end in units.
    """

    what: str
    state: State
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def check(model: str = "demo", sound: bool = True) -> Iterator[Finding]:
    """Check everything; findings come as they are made.

    A model that does not exist is reported at once, and ends the list.

    Args:
        model: a model to load and time.
        sound: whether to open the microphone and the loudspeaker.
    """
    try:
        size = _size(CheckpointInfo.find(model))
    except MoshiError as error:
        yield Finding(f"model {model}", "error", str(error))
        return
    yield _python()
    yield _mlx()
    yield _memory()
    yield from _packages()
    yield from _sound(sound)
    yield size
    yield _load()
    yield _guarded(f"model {model}", lambda: _model(model))
    yield from _seven_b()


def _size(info: CheckpointInfo) -> Finding:
    """The size of a model, before anything of it is fetched."""
    lm, here = outline(info)
    needed, what = footprint(info, lm), f"size of {info.name}"
    numbers = {f"{name}_bytes": value for name, value in asdict(needed).items()}
    if here:
        return Finding(what, "ok", f"{_parts(numbers)}: on this machine", numbers)
    text = f"{_parts(numbers)}: not on this machine, will be downloaded"
    return Finding(what, "warning", text, numbers)


def _parts(numbers: Mapping[str, float]) -> str:
    """Bytes of parts, for people."""
    return ", ".join(
        f"{name.removesuffix('_bytes')} {value / 1e6:,.1f} MB"
        for name, value in numbers.items()
        if value
    )


def _guarded(what: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except MoshiError as error:
        return Finding(what, "error", str(error))


def _python() -> Finding:
    version, machine = platform.python_version(), platform.machine()
    if sys.platform == "darwin" and machine != "arm64":
        return Finding(
            "Python",
            "error",
            f"{version} for {machine}: MLX needs a Python built for Apple Silicon "
            "(arm64), as from python.org or Homebrew.",
        )
    return Finding("Python", "ok", f"{version}, {platform.system()} {machine}")


def _mlx() -> Finding:
    from importlib.metadata import version

    name = mx.device_info().get("device_name", "")
    if estimate.on_gpu():
        text = f"{version('mlx')} on the GPU, {name}"
        return Finding("MLX", "ok", text + _rounding(str(name)))
    return Finding(
        "MLX",
        "warning",
        f"{version('mlx')} on the CPU ({name}): fine for the demo, too slow for Moshi "
        f"7B.{_faster()}",
    )


def _rounding(chip: str) -> str:
    """What MLX rounds on this chip, if anything: 32-bit products on M5 and later."""
    generation = re.match(r"Apple M(\d+)", chip)
    off = os.environ.get("MLX_ENABLE_TF32") == "0"
    if off or generation is None or int(generation[1]) < TF32_SINCE:
        return ""
    return (
        "; MLX rounds float32 products of two or more rows to TF32 on this chip, so a "
        "file's codes may differ from a live stream's (MLX_ENABLE_TF32=0 prevents it)"
    )


def _faster() -> str:
    """What would make a CPU faster, if anything is missing."""
    if sys.platform != "linux" or (len(use_fast_products()) == 2 and ops.compiles()):
        return ""
    return (
        " It would compute twice as fast with gcc, g++ and pip install "
        "'moshi_mlx[cpu]'."
    )


def _memory() -> Finding:
    there = machine_memory()
    numbers = {"bytes": there}
    if there < 7e9:
        return Finding(
            *("memory", "warning"),
            f"{there / 1e9:.0f} GB: too little for Moshi 7B (7 GB with 4 bits); the "
            "demo runs.",
            numbers,
        )
    text = f"{there / 1e9:.0f} GB: {fitting_moshi(there)} fits"
    if residency.can_wire():
        text += f"; {residency.describe()}"
    return Finding("memory", "ok", text, numbers)


def _packages() -> Iterator[Finding]:
    for extra, what_for in _EXTRAS.items():
        absent = missing(extra)
        if not absent:
            yield Finding(extra, "ok", f"installed: {what_for}")
        elif extra == "rust" and sys.version_info >= (3, 14):
            yield Finding(
                extra, "ok", "has no wheel for this Python, and is not needed"
            )
        else:
            yield Finding(
                *(extra, "warning"),
                f"not installed ({what_for}): {how_to_install(extra)}",
            )


def _sound(opened: bool) -> Iterator[Finding]:
    try:
        devices = list_devices()
    except MoshiError as error:
        yield Finding("PortAudio", "error", str(error))
        return
    if sentence := lacking(devices):
        yield Finding("PortAudio", "error" if opened else "warning", sentence)
    else:
        yield Finding("PortAudio", "ok", f"{len(devices)} devices")
    if opened:
        yield _guarded("microphone", _microphone)
        yield _guarded("speaker", _speaker)


def _microphone() -> Finding:
    device = find_device("input")
    blocks: queue.Queue[np.ndarray] = queue.Queue()
    microphone = Microphone(device, blocks.put, lambda: None)
    microphone.start()
    heard, until = [], time.monotonic() + 4 * _LISTEN_S
    try:
        while sum(map(len, heard)) < _LISTEN_S * microphone.rate:
            heard.append(blocks.get(timeout=max(0.01, until - time.monotonic())))
    except queue.Empty:
        return Finding(
            *("microphone", "error"),
            f"'{device.name}' gives no sound at all: choose another in the system's "
            "settings, or with --microphone.",
        )
    finally:
        microphone.close()
    level = rms(np.concatenate(heard))
    what = f"'{device.name}', {microphone.rate} Hz"
    numbers = {"rate_hz": microphone.rate, "level_db": _decibel(level)}
    if level < _QUIET_RMS:
        return Finding(
            *("microphone", "warning"),
            f"{what}, gives pure silence: is it muted? On a Mac, allow it for this "
            "terminal (System Settings, Privacy & Security, Microphone).",
            numbers,
        )
    text = f"{what}, level {_decibel(level):.0f} dB"
    return Finding("microphone", "ok", text, numbers)


def _decibel(level: float) -> float:
    return 20 * math.log10(max(level, 1e-9))


def _speaker() -> Finding:
    device = find_device("output")
    speaker = Speaker(device, lambda n: np.zeros(n, np.float32), lambda: None)
    speaker.start()
    latency_ms = 1000 * speaker.latency_s
    speaker.close()
    return Finding(
        *("speaker", "ok"),
        f"'{device.name}', {speaker.rate} Hz, {latency_ms:.0f} ms",
        {"rate_hz": speaker.rate, "latency_ms": latency_ms},
    )


def _load() -> Finding:
    """How busy other programs keep this machine."""
    what, cores = "other programs", os.cpu_count() or 1
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return Finding(what, "ok", "this system does not say how busy it is")
    text, numbers = f"load {load:.1f} on {cores} cores", {"load": load, "cores": cores}
    if load <= cores:
        return Finding(what, "ok", text, numbers)
    text += (
        ": this machine is busy, and a conversation would lose frames now. The times "
        "of Moshi 7B below leave out the waiting; that of the model includes it."
    )
    return Finding(what, "warning", text, numbers)


def _model(name: str) -> Finding:
    speed: Speed = measure(load_moshi(name))
    state: State = "ok" if speed.holds else "warning"
    return Finding(f"model {name}", state, str(speed), _with_unit(speed))


def _with_unit(speed: Speed) -> dict[str, float]:
    return {f"{name}_ms": value for name, value in asdict(speed).items()}


def _seven_b() -> Iterator[Finding]:
    """Moshi 7B's speed in each of its published forms."""
    codec_ms = estimate.time_codec()
    memory = machine_memory()
    for name in estimate.RECIPES:
        needed, step_ms = estimate.nbytes(name), estimate.time_step(name)
        total = step_ms + codec_ms
        text = (
            f"about {total:.0f} ms a frame of {FRAME_MS:.0f} (step {step_ms:.0f}, "
            f"codec {codec_ms:.0f}), {needed / 1e9:.1f} GB"
        )
        state: State = "ok"
        if needed > USABLE * memory:
            state, text = "warning", f"{text}: does not fit"
        elif total > FRAME_MS:
            state, text = "warning", f"{text}: too slow to talk to"
        else:
            text = f"{text}: in real time"
        numbers = {"frame_ms": total, "step_ms": step_ms, "codec_ms": codec_ms}
        yield Finding(f"Moshi 7B {name}", state, text, numbers | {"bytes": needed})
