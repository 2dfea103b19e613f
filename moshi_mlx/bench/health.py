"""What could keep Moshi from running on this machine, checked part by part."""

import platform
import queue
import sys
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from ..audio.device import Microphone, Speaker, find_device, list_devices
from ..audio.framing import FRAME_MS, rms
from ..checkpoint.memory import fitting_moshi, machine_memory
from ..codec.native import NativeCodec
from ..engines.duplex.engine import load
from ..errors import MoshiError
from ..fast import ops
from ..linux_cpu import use_fast_products
from ..live.devices import lacking
from ..models.mimi import Mimi, mimi_202407
from ..models.presets import config_v0_1
from ..modules.transformer import Transformer
from ..utils.extras import how_to_install, missing
from ..utils.trace import percentile
from .speed import Speed, measure

State = Literal["ok", "warning", "error"]

_SEVEN_B = 7.7e9  # weights that a step of Moshi 7B reads
_CODEBOOKS = 8
_TIMED = 6  # calls of each part
_LISTEN_S = 1.0
_QUIET_RMS = 1e-5  # below, a microphone is switched off
_BITS = {4: "q4", 8: "q8", 16: "bf16"}
_EXTRAS = {
    "serve": "moshi-mlx serve",
    "rust": "the codec's second engine, --codec rust",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        state: "ok"; "warning" where something is missing that not everybody needs;
            "error" where Moshi cannot run or be talked to.
        text: what was found, and what to do.
    """

    what: str
    state: State
    text: str


def check(model: str = "demo", sound: bool = True) -> Iterator[Finding]:
    """Look at everything; findings come as they are made.

    Args:
        model: is loaded and timed.
        sound: whether to open the microphone and the loudspeaker.
    """
    yield _python()
    yield _mlx()
    yield _memory()
    yield from _packages()
    yield from _sound(sound)
    yield _guarded(f"model {model}", lambda: _model(model))
    yield from _seven_b()


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
    if _on_gpu():
        return Finding("MLX", "ok", f"{version('mlx')} on the GPU, {name}")
    return Finding(
        "MLX",
        "warning",
        f"{version('mlx')} on the CPU ({name}): fine for the demo, too slow for Moshi "
        f"7B.{_faster()}",
    )


def _faster() -> str:
    """What would make a CPU compute faster, if anything is missing."""
    if sys.platform != "linux" or (len(use_fast_products()) == 2 and ops.compiles()):
        return ""
    return (
        " It would compute twice as fast with gcc, g++ and pip install "
        "'moshi_mlx[cpu]'."
    )


def _memory() -> Finding:
    there = machine_memory()
    if there < 7e9:
        return Finding(
            *("memory", "warning"),
            f"{there / 1e9:.0f} GB: too little for Moshi 7B (7 GB with 4 bits); the "
            "demo runs.",
        )
    return Finding("memory", "ok", f"{there / 1e9:.0f} GB: {fitting_moshi(there)} fits")


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
    if level < _QUIET_RMS:
        return Finding(
            *("microphone", "warning"),
            f"{what}, gives pure silence: is it muted? On a Mac, allow it for this "
            "terminal (System Settings, Privacy & Security, Microphone).",
        )
    return Finding("microphone", "ok", f"{what}, level {20 * np.log10(level):.0f} dB")


def _speaker() -> Finding:
    device = find_device("output")
    speaker = Speaker(device, lambda n: np.zeros(n, np.float32), lambda: None)
    speaker.start()
    latency_ms = 1000 * speaker.latency_s
    speaker.close()
    return Finding(
        "speaker", "ok", f"'{device.name}', {speaker.rate} Hz, {latency_ms:.0f} ms"
    )


def _model(name: str) -> Finding:
    speed: Speed = measure(load(name))
    state: State = "ok" if speed.holds else "warning"
    return Finding(f"model {name}", state, str(speed))


def _seven_b() -> Iterator[Finding]:
    """Moshi 7B's speed with each quantisation, from one of its layers and its codec."""
    codec_ms = time_codec()
    memory = machine_memory()
    for bits, name in _BITS.items():
        size_gb = _SEVEN_B * (bits + (0.5 if bits < 16 else 0)) / 8e9
        step_ms = time_layer(bits)
        total = step_ms + codec_ms
        text = (
            f"about {total:.0f} ms a frame of {FRAME_MS:.0f} (step {step_ms:.0f}, "
            f"codec {codec_ms:.0f}), {size_gb:.1f} GB"
        )
        if 1e9 * size_gb > 0.9 * memory:
            yield Finding(f"Moshi 7B {name}", "warning", f"{text}: does not fit")
        elif total > FRAME_MS:
            yield Finding(f"Moshi 7B {name}", "warning", f"{text}: too slow to talk to")
        else:
            yield Finding(f"Moshi 7B {name}", "ok", f"{text}: in real time")


def time_layer(bits: int) -> float:
    """Milliseconds of a step of Moshi 7B, from one layer with random weights.

    A step reads every weight once, and that is what takes its time.
    """
    cfg = copy(config_v0_1().transformer)
    cfg.num_layers = 1
    if not _on_gpu():  # a smaller one will do, and is made sooner
        cfg.d_model, cfg.num_heads, cfg.dim_feedforward = 2048, 16, 4 * 2048
    layer = Transformer(cfg)
    weights = sum(_size(w) for _, w in tree_flatten(layer.parameters()))
    if bits < 16:
        nn.quantize(layer, group_size=32, bits=bits)
    else:
        layer.set_dtype(_sixteen_bits())
    mx.eval(layer.parameters())
    cache = layer.make_rot_cache()
    x = mx.ones((1, 1, cfg.d_model), dtype=_sixteen_bits())
    return _median_ms(lambda: mx.eval(layer(x, cache))) * _SEVEN_B / weights


def _size(weight: object) -> int:
    assert isinstance(weight, mx.array)
    return weight.size


def _sixteen_bits() -> mx.Dtype:
    """What activations are computed in: on a CPU, 16 bits only cost time."""
    return mx.bfloat16 if _on_gpu() else mx.float32


def _on_gpu() -> bool:
    return mx.default_device().type == mx.DeviceType.gpu


def time_codec() -> float:
    """Milliseconds for a frame of the released Mimi, with random weights."""
    codec = NativeCodec(Mimi(mimi_202407(_CODEBOOKS)))
    frame = np.zeros((1, 1, codec.frame_size), np.float32)
    return _median_ms(lambda: codec.decode_step(codec.encode_step(frame)))


def _median_ms(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - began))
    return percentile(times, 50)
