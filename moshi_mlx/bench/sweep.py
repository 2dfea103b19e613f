"""Which settings to time, one after another, and the page that shows them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import mlx.core as mx

from ..checkpoint.build import load_mimi
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.quantize import describe
from ..codec import Codec, make_codec
from ..engines.duplex.engine import Moshi
from ..engines.duplex.load import load_moshi
from ..errors import ConfigError
from ..models.lm import Lm
from . import charts
from .synthetic import FULL, check_size, recipe_of, synthetic_codec, synthetic_lm
from .timing import FRAME_MS, Result, growth, measure

HEAD = (
    *("model, bits, device,\ncodec, batch", "enc", "step", "dec"),
    *("frame", "p95", "max", "1st", "x live", "tok/s", "GB"),
)


LIVE = charts.Threshold(FRAME_MS, f"{FRAME_MS:.0f} ms: real time")


@dataclass(frozen=True)
class SweepPlan:
    """What to time.

    Attributes:
        info: a checkpoint, or None for random models of ``sizes``.
        bits: "16" or recipes, for random models.
        codecs: "native", "rust"; "none" leaves the codec out.
        devices: "cpu", "gpu".
        growth: also time steps late in a conversation.
        kv_bits: of keys and values, for random models; ``info`` has its own.
        paced: start a frame every 80 ms, as in a conversation, instead of back to back.
    """

    info: CheckpointInfo | None
    sizes: Sequence[str] = ()
    bits: Sequence[str] = (FULL,)
    batches: Sequence[int] = (1,)
    codecs: Sequence[str] = ("native",)
    devices: Sequence[str] = ()
    frames: int = 50
    growth: bool = False
    kv_bits: int | None = None
    paced: bool = False


@dataclass
class SweepOutcome:
    """Results so far, and per model the cost of a step by position."""

    results: list[Result] = field(default_factory=list)
    growth: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def available_devices() -> list[str]:
    """MLX's devices on this machine, the fastest first."""
    return ["gpu", "cpu"] if mx.is_available(mx.Device(mx.gpu)) else ["cpu"]


def run(plan: SweepPlan) -> Iterator[tuple[str, SweepOutcome]]:
    """Time every setting; yields its name, and the results so far.

    Raises: CheckpointError for a model that does not fit, ConfigError for settings that
        do not go together.
    """
    _check(plan)
    outcome, before = SweepOutcome(), mx.default_device()
    try:
        for device in plan.devices or available_devices():
            mx.set_default_device(mx.Device(getattr(mx, device)))
            for name, bits, lm, make in _models(plan):
                if plan.kv_bits is not None:
                    bits = f"{bits} kv{plan.kv_bits}"
                for label, batch in _settings(plan, name, bits, device):
                    codec = make(label["codec"])
                    result = measure(lm, codec, label, batch, plan.frames, plan.paced)
                    outcome.results.append(result)
                    yield title(result), outcome
                if plan.growth:
                    line = f"{name} {bits} {device}"
                    outcome.growth[line] = growth(lm)
                    yield f"{line}, growth", outcome
                del lm, make
                mx.clear_cache()
    finally:
        mx.set_default_device(before)


def _check(plan: SweepPlan) -> None:
    """Check settings for random models before the first one is timed."""
    if plan.info is not None:
        return
    for size in plan.sizes:
        check_size(size)
    for bits in plan.bits:
        recipe_of(bits)
    if "rust" in plan.codecs:
        raise ConfigError(
            "the rust codec needs the weights of a real one: name a checkpoint with "
            "--model."
        )


def _settings(
    plan: SweepPlan, name: str, bits: str, device: str
) -> Iterator[tuple[dict[str, str], int]]:
    for codec in plan.codecs:
        for batch in plan.batches:
            if codec == "rust" and batch > 1:
                continue  # one stream at a time: batches are the native codec's
            label = {"model": name, "bits": bits, "device": device, "codec": codec}
            if plan.paced:
                label["pace"] = "paced"
            yield label, batch


Make = Callable[[str], Callable[[int], Codec] | None]


def _models(plan: SweepPlan) -> Iterator[tuple[str, str, Lm, Make]]:
    """Name, bits, model, and a maker of its codecs, one model at a time."""
    if plan.info is not None:
        moshi = load_moshi(info=plan.info)
        bits = sorted({str(c.bits) for c in describe(moshi.lm).layers.values()})
        stored = "+".join(bits) or FULL

        yield moshi.name, stored, moshi.lm, partial(_real_codec, moshi)
        return
    for size in plan.sizes:
        for bits in plan.bits:
            lm = synthetic_lm(size, bits, plan.kv_bits)
            native = synthetic_codec(lm) if "native" in plan.codecs else None

            yield size, bits, lm, partial(_random_codec, native)


def _random_codec(
    native: Callable[[int], Codec] | None, name: str
) -> Callable[[int], Codec] | None:
    return native if name == "native" else None


def _real_codec(moshi: Moshi, name: str) -> Callable[[int], Codec] | None:
    if name == "none":
        return None
    if name == "native":
        mimi = load_mimi(moshi.info)
        return lambda batch: make_codec("native", mimi=mimi, batch_size=batch)
    weights, count = moshi.info.mimi_weights, moshi.info.num_codebooks
    return lambda batch: make_codec(
        name, weights=weights, num_codebooks=count, batch_size=batch
    )


def title(result: Result) -> str:
    """One setting in a few words."""
    return " ".join([*result.label.values(), f"x{result.batch}"])


def row(result: Result) -> list[str]:
    """Cells for ``HEAD``; times in milliseconds, medians unless stated."""
    stages, frame = result.stages, result.stages["frame"]
    medians = [
        charts.short(stages[name].p50_ms) if name in stages else "-"
        for name in ("encode", "step", "decode")
    ]
    return [
        title(result),
        *medians,
        *(charts.short(ms) for ms in (frame.p50_ms, frame.p95_ms, frame.max_ms)),
        charts.short(result.first_ms),
        charts.short(result.times_real_time),
        f"{result.tokens_hz:,.0f}",
        f"{(result.memory['weights'] + result.memory['conversations']) / 1e9:.2f}",
    ]


def page(machine: str, outcome: SweepOutcome) -> str:
    """Everything as one HTML page."""
    results = outcome.results
    medians = {title(r): r.stages["frame"].p50_ms for r in results}
    parts = [charts.table(HEAD, [row(r) for r in results])]
    parts.append(charts.bars("Median of a frame", medians, "ms", LIVE))
    batches: dict[str, list[tuple[float, float]]] = {}
    for r in results:
        step = r.batch, r.stages["step"].p50_ms
        batches.setdefault(" ".join(r.label.values()), []).append(step)
    if any(len(line) > 1 for line in batches.values()):
        name = "LM step by batch"
        parts.append(charts.lines(name, batches, "conversations", "ms", LIVE))
    if outcome.growth:
        lines = {name: [*line] for name, line in outcome.growth.items()}
        name = "LM step by position"
        parts.append(charts.lines(name, lines, "steps heard", "ms", LIVE))
    note = (
        f"{machine}. A frame is {FRAME_MS:.0f} ms of sound: what takes longer is late. "
        "Times in milliseconds, of the whole batch."
    )
    return charts.page("moshi-mlx bench", note, parts)
