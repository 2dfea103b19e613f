"""`moshi-mlx complete`: the text model Helium."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from . import options
from .console import RawPrinter, make_log, status
from .outputs import check_outputs

EXAMPLES = """
moshi-mlx complete "Aujourd'hui, il est temps"
moshi-mlx complete "The first rule of the sea is" --steps 100 -q 4
"""


def complete(
    text: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="The text's beginning.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", metavar="TEXT", help="The same, as an option."),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", "--nsteps", metavar="N", min=1, help="Tokens to write at most."
        ),
    ] = 100,
    model: options.Model = None,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    bits: Annotated[
        int | None,
        typer.Option(
            *("--quantize", "-q", "--quantized", "--quantize-bits"),
            metavar="BITS",
            help="Quantise the model to so many bits a weight while it loads.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            *("--group-size", "--quantize-group-size"),
            metavar="N",
            help="Weights that share a scale, where -q quantises.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    kv_bits: options.KvBits = None,
    save_quantized: Annotated[
        Path | None,
        typer.Option(
            "--save-quantized",
            metavar="FILE",
            help="Save the quantised weights.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            *("--moshi-weights", "--weights"),
            metavar="FILE",
            help="Weights of the model, instead of its own.",
            rich_help_panel=options.FILES_PANEL,
        ),
    ] = None,
    tokenizer: options.Tokenizer = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Continue a text. The model knows no chat: it goes on where the prompt ends."""
    from ..checkpoint.build import load_tokenizer
    from ..engines.text.engine import complete as run
    from ..utils.sampling import Sampler, new_seed

    start = text if prompt is None else prompt
    if not start:
        raise ConfigError("nothing to continue: give the beginning of a text.")
    if save_quantized is not None and bits is None:
        raise ConfigError("nothing is quantised to be saved: add -q BITS.")
    check_outputs(weights, {"--save-quantized": save_quantized})
    info = find(model, weights, tokenizer, lm_config, bits, kv_bits)
    with status(f"loading {info.name}"):
        lm = load(info, bits, group_size)
        reader = load_tokenizer(info)
    if save_quantized is not None:
        lm.save_weights(str(save_quantized))
        print(make_log("info", f"saved {save_quantized}"), file=sys.stderr)
    seed = new_seed() if seed is None else seed
    sampler = Sampler() if temp is None else Sampler(temp)
    printer, pieces = RawPrinter(), []
    continuation = run(lm, reader, start, steps, sampler, seed)
    if not json_:
        printer.print_token(start)
    started = time.perf_counter()
    for piece in continuation:
        pieces.append(piece)
        if not json_:
            printer.print_token(piece)
    wall_s = time.perf_counter() - started
    if json_:
        result = {"prompt": start, "completion": "".join(pieces), "seed": seed}
        print(json.dumps(result, ensure_ascii=False))
        return
    print()
    if verbose:
        speed = (
            f"{len(pieces)} tokens, {len(pieces) / wall_s:.1f} a second; seed {seed}"
        )
        printer.log("info", speed)


def find(
    model: str | None,
    weights: Path | None,
    tokenizer: Path | None,
    lm_config: Path | None,
    bits: int | None,
    kv_bits: int | None,
) -> Any:
    """The checkpoint; nothing is fetched where all files are given."""
    from ..checkpoint.helium import HELIUM_2B
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.source import Source
    from ..engines.load import DEFAULT_TEXT_REPO

    name = model or DEFAULT_TEXT_REPO
    if model is None and lm_config is None and weights and tokenizer:
        given = {"moshi": weights, "tokenizer": tokenizer}
        return CheckpointInfo(
            name, Source.named(name), dict(HELIUM_2B), given, kv_bits=kv_bits
        )
    return CheckpointInfo.find(
        name,
        config=lm_config,
        moshi_weights=weights,
        tokenizer=tokenizer,
        bits=bits,
        kv_bits=kv_bits,
    )


def load(info: Any, bits: int | None, group_size: int | None) -> Any:
    """The model, quantised where that is asked for and not done yet."""
    from ..checkpoint.build import load_lm
    from ..checkpoint.quantize import quantize

    if bits is None or group_size is None:
        return load_lm(info, bits=bits)
    lm = load_lm(info)
    quantize(lm, bits, group_size)
    return lm
