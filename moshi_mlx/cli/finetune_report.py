"""The page that `finetune` writes: curves, and the model's answers before and after."""

import base64
import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ..bench import charts
from ..finetune import samples

if TYPE_CHECKING:
    from ..finetune.prepare import PreparedTraining

Point = tuple[float, float]


def take_samples(prepared: "PreparedTraining", folder: Path, when: str) -> None:
    """Let the model answer two recordings, and keep its answers in a folder."""
    from ..checkpoint.build import load_mimi, load_tokenizer

    if not samples.can_sample(prepared.lm):
        return
    info = prepared.info
    mimi, tokenizer = load_mimi(info), load_tokenizer(info)
    said = [
        samples.say(
            *(prepared.lm, mimi, tokenizer, windows[n], info.kind.sampling),
            condition=prepared.condition(windows, n),
            seed=prepared.settings.seed,
            prompt=windows.prompt(n),
        )
        for windows, n in samples.chosen(prepared.data.valid or prepared.data.recorded)
    ]
    samples.keep(folder, when, said)


def write_report(run: Path) -> Path:
    """Write ``report.html`` from a run's files. Raises: ConfigError if it cannot."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    noted = [json.loads(line) for line in text.splitlines()]
    steps = [line for line in noted if "loss" in line]
    valid = [line for line in noted if "valid_loss" in line]
    parts = [_losses(steps, valid)]
    parts.append(
        charts.lines(
            "Learning rate", {"rate": _curve(steps, "learning_rate")}, "step", "rate"
        )
    )
    parts.append(
        charts.lines("Gradients", {"norm": _curve(steps, "grad_norm")}, "step", "norm")
    )
    parts += _said(run / "samples")
    last = steps[-1] if steps else {"step": 0, "tokens": 0}
    note = f"{last['step']} steps, {last['tokens']:,} tokens. {_settings(run)}"
    page = run / "report.html"
    charts.write(page, charts.page("Fine-tuning", note, parts))
    return page


def _curve(lines: list[dict[str, float]], name: str) -> list[Point]:
    return [(line["step"], line[name]) for line in lines]


def _losses(steps: list[dict[str, float]], valid: list[dict[str, float]]) -> str:
    series = {"training": _curve(steps, "loss")}
    series |= {"text": _curve(steps, "text_loss"), "sound": _curve(steps, "audio_loss")}
    if valid:
        series["evaluation"] = _curve(valid, "valid_loss")
    return charts.lines("Loss", series, "step", "loss")


def _settings(run: Path) -> str:
    data = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    shown = ("model", "data", "rank", "scale", "learning_rate", "window", "seed")
    return ", ".join(f"{name.replace('_', ' ')} {data[name]}" for name in shown)


def _said(folder: Path) -> list[str]:
    """The model's answers to the same recordings, before and after."""
    pairs = zip(
        samples.kept(folder, "before"), samples.kept(folder, "after"), strict=False
    )
    parts = []
    for number, (before, after) in enumerate(pairs, 1):
        rows = "".join(
            f"<tr><th>{when}</th><td>{_player(sound)}</td><td>{escape(text)}</td></tr>"
            for when, (text, sound) in (("before", before), ("after", after))
        )
        parts.append(
            f'<section class="card"><h2>What it says to recording {number}</h2>'
            f'<div class="scroll"><table>{rows}</table></div></section>'
        )
    return parts


def _player(sound: Path | None) -> str:
    if sound is None:
        return ""
    data = base64.b64encode(sound.read_bytes()).decode()
    return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'
