"""`moshi-mlx complete`: the text model Helium."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from . import options
from .console import RawPrinter, make_log, status
from .outputs import check_outputs, print_json

if TYPE_CHECKING:
    from ..checkpoint.info import CheckpointInfo

EXAMPLES = """
moshi-mlx complete "Aujourd'hui, il est temps"
moshi-mlx complete "The first rule of the sea is" --steps 100 -q 4
"""


def complete(
    text: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The beginning of the text.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", metavar="TEXT", help="The same as PROMPT, as an option."
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps",
            "--nsteps",
            metavar="N",
            min=1,
            help="Maximum number of tokens to write.",
        ),
    ] = 100,
    model: options.TextModel = None,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            min=1,
            metavar="K",
            help="Draw from the K likeliest tokens, instead of --top-p (0.95).",
            rich_help_panel=options.SAMPLING_PANEL,
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            *("--quantize", "-q", "--quantized", "--quantize-bits"),
            metavar="BITS",
            help="Quantise the model to this many bits per weight while it loads. "
            "Default: as stored.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            *("--group-size", "--quantize-group-size"),
            metavar="N",
            help="Number of weights that share a scale, with -q. Default: 32 for 4 "
            "bits, else 64.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    kv_bits: options.KvBits = None,
    save_quantized: Annotated[
        Path | None,
        typer.Option(
            "--save-quantized",
            metavar="FILE",
            help="Save the quantised weights to this file.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            *("--moshi-weights", "--weights"),
            metavar="FILE",
            help="Use these weights. Default: the model's own.",
            rich_help_panel=options.FILES_PANEL,
        ),
    ] = None,
    tokenizer: options.Tokenizer = None,
    lm_config: options.LmConfigFile = None,
    adapter: options.Adapter = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Continue a text with Helium, a base model: it does not follow instructions."""
    from ..engines.load import load_text

    start = text if prompt is None else prompt
    if not start:
        raise ConfigError("nothing to continue: give the beginning of a text.")
    if save_quantized is not None and bits is None:
        raise ConfigError("--save-quantized has nothing to save: add -q BITS.")
    check_outputs(weights, {"--save-quantized": save_quantized})
    info = find(model, weights, tokenizer, lm_config, bits, kv_bits, adapter)
    with status(f"loading {info.name}"):
        text_model = load_text(info=info, quantize=bits, group_size=group_size)
    if save_quantized is not None:
        text_model.lm.save_weights(str(save_quantized))
        print(make_log("info", f"saved {save_quantized}"), file=sys.stderr)
    sampling = {"temp": temp, "top_p": top_p, "top_k": top_k}
    chosen = {name: value for name, value in sampling.items() if value is not None}
    session = text_model.session(start, seed=seed, **chosen)
    printer, pieces = RawPrinter(), []
    if not json_:
        printer.print_token(start)
    started = time.perf_counter()
    for piece in session.write(steps):
        pieces.append(piece)
        if not json_:
            printer.print_token(piece)
    wall_s = time.perf_counter() - started
    if json_:
        print_json(
            "complete",
            {"prompt": start, "completion": "".join(pieces), "seed": session.seed},
        )
        return
    print()
    if verbose:
        speed = f"{len(pieces)} tokens, {len(pieces) / wall_s:.1f} per second"
        printer.log("info", f"{speed}; seed {session.seed}")


def find(
    model: str | None,
    weights: Path | None,
    tokenizer: Path | None,
    lm_config: Path | None,
    bits: int | None,
    kv_bits: int | None,
    adapter: Path | None,
) -> "CheckpointInfo":
    """The checkpoint; nothing is fetched if all files are given."""
    from ..checkpoint.adapters import local_adapter
    from ..checkpoint.helium import HELIUM_2B
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.source import Source
    from ..engines.load import DEFAULT_TEXT_REPO

    name = model or DEFAULT_TEXT_REPO
    if model is None and lm_config is None and weights and tokenizer:
        given = {"moshi": weights, "tokenizer": tokenizer}
        if adapter is not None:
            given["lora"] = local_adapter(adapter)
        return CheckpointInfo(
            name, Source.named(name), dict(HELIUM_2B), given, kv_bits=kv_bits
        )
    return CheckpointInfo.find(
        name,
        config=lm_config,
        moshi_weights=weights,
        tokenizer=tokenizer,
        lora_weights=adapter,
        bits=bits,
        kv_bits=kv_bits,
    )
