"""`moshi-mlx convert`: any checkpoint as an MLX or PyTorch folder."""

from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import progress, status
from .info import size
from .outputs import print_json
from .publish import Private, Upload, check_upload, publish

EXAMPLES = """
moshi-mlx convert kyutai/hibiki-2b-pytorch-bf16 hibiki-2b-mlx
moshi-mlx convert checkpoints/checkpoint_000300 my-moshi --upload me/my-moshi
moshi-mlx convert kyutai/moshiko-pytorch-bf16 mine --lora-weights lora.safetensors
moshi-mlx convert my-moshi-mlx my-moshi-torch --format pytorch
"""


class Precision(str, Enum):
    """The number types for storage."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


class Names(str, Enum):
    """The naming schemes of tensors."""

    mlx = "mlx"
    pytorch = "pytorch"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FOLDER",
            help="A PyTorch, candle, GGUF, transformers, LoRA or MLX checkpoint.",
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
    format_: Annotated[
        Names,
        typer.Option(
            "--format",
            help="Names of the tensors: MLX's, or those of Kyutai's PyTorch package.",
        ),
    ] = Names.mlx,
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
    """Save a checkpoint in MLX's or PyTorch's format, with codec and tokenizer.

    Adapters (LoRA) are merged. The folder loads like any other checkpoint; with
    --format pytorch, Kyutai's PyTorch package loads it too.

    To make it smaller as well, use `moshi-mlx quantize`, which reads every format.
    """
    import mlx.core as mx

    from ..checkpoint.belongings import Belongings
    from ..checkpoint.build import open_lm
    from ..checkpoint.cost import cost
    from ..checkpoint.info import CheckpointInfo
    from ..checkpoint.pytorch_names import check_codec_names, pytorch_names
    from ..checkpoint.quantize import materialise
    from ..checkpoint.save import check_free

    if upload is not None and format_ is Names.pytorch:
        raise typer.BadParameter(
            "--upload makes a repository for MLX: leave out --format pytorch."
        )
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
    belongings = Belongings.of(found)
    if dtype is not None:
        lm.set_dtype(getattr(mx, dtype.value))
    names = None
    if format_ is Names.pytorch:
        check_codec_names(belongings.mimi, source)
        pytorch_names(lm, {})  # raises: a quantised one, before anything is read
        names = partial(pytorch_names, lm)
    weight = cost(lm)
    with progress(f"reading {source}", 1.0) as advance:
        done = 0.0

        def share(now: float) -> None:
            nonlocal done
            advance(now - done)
            done = now

        materialise(lm, f"the weights of {source}", share)
    with status(f"writing {out}"):
        belongings.save(out, lm, names=names, overwrite=overwrite)
    result = {"folder": str(out), "bytes": weight.nbytes}
    result["bits_per_weight"] = weight.bits_per_weight
    if upload is not None:
        result["uploaded"] = publish(found, out, upload, private)
    if json_:
        print_json("convert", result)
    else:
        parameters = f"{weight.parameters / 1e6:,.1f} M parameters"
        print(f"{out}: {parameters}, {size(weight.nbytes)}")
