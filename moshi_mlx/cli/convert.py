"""`moshi-mlx convert`: any checkpoint as an MLX folder that loads again."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import progress, status
from .outputs import print_json
from .publish import Private, Upload, check_upload, publish

EXAMPLES = """
moshi-mlx convert kyutai/hibiki-2b-pytorch-bf16 hibiki-2b-mlx
moshi-mlx convert checkpoints/checkpoint_000300 my-moshi --upload me/my-moshi
moshi-mlx convert kyutai/moshiko-pytorch-bf16 mine --lora-weights lora.safetensors
"""


class Precision(str, Enum):
    """What numbers can be stored in."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER", help="A PyTorch, candle, LoRA or MLX checkpoint."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder to write; it loads like any other checkpoint."
        ),
    ],
    adapter: options.Adapter = None,
    dtype: Annotated[
        Precision | None,
        typer.Option("--dtype", help="Number type to store. Default: unchanged."),
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
    json_: options.Json = False,
) -> None:
    """Save a checkpoint in the MLX format, with merged adapters, codec and tokenizer.

    To make it smaller as well, use `moshi-mlx quantize`, which reads every format.
    """
    import mlx.core as mx

    from ..checkpoint.build import load_image_encoder, load_tokenizer, open_lm
    from ..checkpoint.cost import cost
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.quantize import materialise
    from ..checkpoint.save import check_free, save

    check_upload(upload, out)
    found = CheckpointInfo.find(
        source,
        config=lm_config,
        moshi_weights=moshi_weights,
        mimi_weights=mimi_weights,
        tokenizer=tokenizer,
        lora_weights=adapter,
    )
    out = out.expanduser()
    check_free(out, overwrite, found.source.folder)
    lm = open_lm(found, as_stored=True)
    load_tokenizer(found)  # what is copied is a tokenizer, not any file
    if dtype is not None:
        lm.set_dtype(getattr(mx, dtype.value))
    weight = cost(lm)
    with progress(f"reading {source}", 1.0) as advance:
        done = 0.0

        def share(now: float) -> None:
            nonlocal done
            advance(now - done)
            done = now

        materialise(lm, f"the weights of {source}", share)
    with status(f"writing {out}"):
        save(
            out,
            lm,
            found.config,
            mimi=found.mimi_weights if lm.n_q else None,
            mimi_config=found.mimi_config if lm.n_q else None,
            tokenizer=found.tokenizer,
            image_encoder=load_image_encoder(found, as_stored=True),
            overwrite=overwrite,
        )
    result = {"folder": str(out), "bytes": weight.nbytes}
    result["bits_per_weight"] = weight.bits_per_weight
    if upload is not None:
        result["uploaded"] = publish(found, out, upload, private)
    if json_:
        print_json("convert", result)
    else:
        print(
            f"{out}: {weight.parameters / 1e6:,.1f} M parameters, {weight.nbytes:,} B"
        )
