"""`moshi-mlx quantize`: fewer bits per weight, and what they cost in quality."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .console import log_to_stderr, progress, status
from .outputs import Json, check_outputs, print_json, with_schema
from .publish import Private, Upload, check_upload, publish

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.quantize import Recipe

EXAMPLES = """
moshi-mlx quantize kyutai/moshiko-mlx-bf16 moshiko-q4
moshi-mlx quantize kyutai/moshiko-mlx-bf16 moshiko-mixed --recipe mixed --report q.html
moshi-mlx quantize kyutai/hibiki-1b-mlx-bf16 --compare q4,mixed,q6,q8 --report q.html
moshi-mlx quantize my-finetune/ mine-q8 --recipe q8 --upload me/moshi-mine-q8
"""
QUALITY_PANEL = "Quality"


def quantize(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER",
            help="A checkpoint in full precision: MLX, PyTorch, candle or LoRA.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT", help="Folder to write; it loads like any other checkpoint."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="q2, q3, q4, q5, q6 or q8 (with a group size: q4g64), mxfp4, nvfp4, "
            "mxfp8, q4d8 (4 bits, the depth transformer 8), or mixed: 4 bits, and "
            "more for sensitive layers. Default: q4, or q4d8 for PersonaPlex.",
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            *("--bits", "--quantized", "-q"),
            metavar="N",
            help="Bits per weight, instead of --recipe.",
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group-size",
            metavar="N",
            help="Number of weights that share a scale. Default: 32 for 4 "
            "bits, else 64.",
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", metavar="NAME", help="Quantisation mode of MLX.")
    ] = "affine",
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="A,B,...",
            help="Measure these recipes side by side.",
            rich_help_panel=QUALITY_PANEL,
        ),
    ] = None,
    sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Measure the effect of quantising each kind of layer alone.",
            rich_help_panel=QUALITY_PANEL,
        ),
    ] = False,
    kv_bits: Annotated[
        int | None,
        typer.Option(
            "--kv-bits",
            metavar="BITS",
            help="Also measure a key-value cache of 8 (or 4) bits, as with --kv-bits "
            "of other commands.",
            rich_help_panel=QUALITY_PANEL,
        ),
    ] = None,
    recording: Annotated[
        list[Path] | None,
        typer.Option(
            "--recording",
            metavar="FILE",
            help="Recording to measure on. Repeat it for several. Default: the "
            "questions in this package.",
            rich_help_panel=QUALITY_PANEL,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Measure, and write a page with tables and plots (or FILE.json).",
            rich_help_panel=QUALITY_PANEL,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace a checkpoint that is already at OUT."
        ),
    ] = False,
    upload: Upload = None,
    private: Private = False,
    lm_config: options.LmConfigFile = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    adapter: options.Adapter = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a checkpoint smaller and faster, or measure what that costs in quality.

    It needs little more memory than the result. Layers whose width does not divide into
    groups stay as they are; the command lists them.
    """
    from ..audio import frames
    from ..audio.inputs import can_be_read_again
    from ..bench.sequences import shipped_recordings
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.recipes import recipe_named

    if verbose:
        log_to_stderr(logging.INFO)
    measured = sensitivity or report is not None or compare is not None
    measured = measured or kv_bits is not None
    if out is None and not measured:
        raise typer.BadParameter("name a folder OUT to write, or --compare recipes.")
    chosen = _name(recipe, bits, group_size, mode)
    names = compare.split(",") if compare else []
    compared = {name.strip(): recipe_named(name.strip()) for name in names}
    recipe_named(chosen)  # checked before anything is read
    recordings = recording or shipped_recordings()
    for path in filter(can_be_read_again, recordings):
        frames(path)
    check_outputs(None, {"--report": report})
    check_upload(upload, out)
    found = CheckpointInfo.find(
        source,
        config=lm_config,
        moshi_weights=moshi_weights,
        mimi_weights=mimi_weights,
        tokenizer=tokenizer,
        lora_weights=adapter,
    )
    unasked = (recipe, bits, group_size, mode) == (None, None, None, "affine")
    persona = unasked and found.kind.takes_persona
    chosen, compared = _recipes(chosen, compared, persona, out is not None)
    result: Json = {"model": source}
    if out is not None:
        result |= _write(found, out, chosen, overwrite)
        if not json_:
            _tell(result)
    if measured:
        used = {} if sensitivity else compared
        result["quality"] = _measure(found, recordings, used, kv_bits, report, json_)
    if upload is not None and out is not None:
        lines = quality_lines(result.get("quality"), chosen)
        result["uploaded"] = publish(found, out, upload, private, lines)
    if json_:
        print_json("quantize", result)


def _name(
    recipe: str | None, bits: int | None, group_size: int | None, mode: str
) -> str:
    """The recipe that the options ask for, by name."""
    from ..checkpoint.quantize import Choice
    from ..errors import ConfigError

    if recipe is None:
        choice = Choice.of(bits, group_size, mode)
        affine = f"q{choice.bits}g{choice.group_size}"
        short = choice == Choice.of(choice.bits)
        name = affine.partition("g")[0] if short else affine
        return name if mode == "affine" else mode
    if bits is not None or group_size is not None or mode != "affine":
        raise ConfigError(
            f"--recipe {recipe} sets everything: leave out --bits, --group-size and "
            "--mode."
        )
    return recipe


def _recipes(
    chosen: str, compared: "dict[str, Recipe]", persona: bool, written: bool
) -> "tuple[str, dict[str, Recipe]]":
    """The recipe to write, and those to measure.

    Args:
        persona: whether it is PersonaPlex, which has a default of its own.
        written: whether a checkpoint is written.
    """
    from ..checkpoint.recipes import PERSONA, recipe_named

    named = bool(compared)
    if persona:
        chosen, compared = PERSONA, compared or {chosen: recipe_named(chosen)}
    if written or not named:
        compared = {chosen: recipe_named(chosen), **compared}
    return chosen, compared


def _write(found: "CheckpointInfo", out: Path, name: str, overwrite: bool) -> Json:
    """Quantise into a folder; returns what was written."""
    from ..checkpoint.belongings import Belongings
    from ..checkpoint.build import open_lm
    from ..checkpoint.cost import cost
    from ..checkpoint.quantize import quantize
    from ..checkpoint.recipes import recipe_named
    from ..checkpoint.save import check_free

    out = out.expanduser()
    check_free(out, overwrite, found.source.folder)
    lm = open_lm(found, as_stored=True)
    belongings = Belongings.of(found)
    before = cost(lm)
    with progress(f"quantising {found.name} ({name})", 1.0) as advance:
        done = 0.0

        def share(now: float) -> None:
            nonlocal done
            advance(now - done)
            done = now

        decided = quantize(lm, recipe=recipe_named(name), progress=share)
    after = cost(lm)
    with status(f"writing {out}"):
        belongings.save(out, lm, overwrite=overwrite)
    return {
        "folder": str(out),
        "recipe": name,
        "bytes": after.nbytes,
        "bytes_before": before.nbytes,
        "bits_per_weight": after.bits_per_weight,
        "step_bytes": after.step_bytes,
        "unquantised": decided.kept,
    }


def quality_lines(quality: Json | None, name: str) -> list[str]:
    """Measurements of the recipe that was written, for the model's card."""
    rows = quality["recipes"] if quality else []
    lines = []
    for row in (row for row in rows if row["recipe"] == name):
        parts = [f"text {row['text_kl']:.2g} nats, {100 * row['text_top1']:.1f} %"]
        if row["audio_kl"] is not None:
            parts.append(
                f"audio {row['audio_kl']:.2g} nats, {100 * row['audio_top1']:.1f} %"
            )
        lines.append(
            "- divergence from full precision, and how often the likeliest token is "
            f"the same, teacher-forced: {'; '.join(parts)}"
        )
    return lines


def _tell(result: Json) -> None:
    print(
        "{folder}: {recipe}, {bits_per_weight:.2f} bits per weight, ".format(**result)
        + f"{result['bytes'] / 1e6:,.1f} MB of {result['bytes_before'] / 1e6:,.1f} MB"
    )
    for path, reason in result["unquantised"].items():
        print(f"  not quantised: {path} ({reason})")


def _measure(
    found: "CheckpointInfo",
    recordings: list[Path],
    recipes: "Mapping[str, Recipe]",
    kv_bits: int | None,
    report: Path | None,
    quiet: bool,
) -> Json:
    """Compare recipes with full precision; if there are none, kinds of layers at 4
    bits."""
    from ..bench import charts
    from ..bench.compare import Comparison
    from ..bench.report import HEAD, quality_page
    from ..checkpoint.quantize import Choice

    with status("running in full precision"):
        comparison = Comparison(found, recordings)
    rows = []
    for name, recipe in recipes.items():
        with status(f"measuring {name}"):
            rows.append(comparison.measure(name, recipe))
    if kv_bits is not None:
        with status(f"measuring keys and values in {kv_bits} bits"):
            rows.append(comparison.measure_kv(kv_bits))
    if not recipes:
        with status("measuring each kind of layer alone"):
            rows += comparison.sensitivity(Choice(64, 4))
    names = [path.name for path in recordings]
    outcome = {"recordings": names, "recipes": [row.to_json() for row in rows]}
    if report is not None:
        page = quality_page(found.name, ", ".join(names), rows)
        whole = with_schema("quantize-report", {"model": found.name, **outcome})
        text = json.dumps(whole, indent=1) + "\n"
        charts.write(report, text if report.suffix == ".json" else page)
    if not quiet:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column(HEAD[0], no_wrap=True)
        for name in HEAD[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row.row())
        Console().print(table)
    return outcome
