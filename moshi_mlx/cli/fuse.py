"""`moshi-mlx fuse`: adapters into weights, or into the form of another program."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from . import options
from .console import status
from .outputs import print_json

if TYPE_CHECKING:
    from ..checkpoint.info import CheckpointInfo

EXAMPLES = """
moshi-mlx fuse --model kyutai/moshiko-mlx-q4 --adapter-path adapters --save-path mine
moshi-mlx fuse --model kyutai/moshiko-mlx-bf16 --adapter-path adapters -q 4
moshi-mlx fuse --model demo --adapter-path adapters --save-adapter other --form mlx-lm
"""


class Form(str, Enum):
    """The program whose format adapters are saved in."""

    kyutai = "kyutai"
    mlx_lm = "mlx-lm"


def fuse(
    model: options.BaseModel = None,
    adapter_path: Annotated[
        Path,
        typer.Option(
            *("--adapter-path", "--adapter"),
            metavar="DIR|FILE",
            help="The adapters: the folder of a run, or files of moshi-finetune or "
            "mlx-lm.",
        ),
    ] = Path("adapters"),
    save_path: Annotated[
        Path, typer.Option("--save-path", metavar="DIR", help="Folder to write.")
    ] = Path("fused_model"),
    dequantize: Annotated[
        bool,
        typer.Option(
            *("--dequantize", "--de-quantize"),
            help="Save a quantised model in 16 bits, which keeps all that was learnt.",
        ),
    ] = False,
    bits: Annotated[
        int | None,
        typer.Option(
            *("--quantize", "-q"),
            metavar="BITS",
            help="Quantise a full-precision model after merging. Default: no "
            "quantisation.",
        ),
    ] = None,
    save_adapter: Annotated[
        Path | None,
        typer.Option(
            "--save-adapter",
            metavar="DIR",
            help="Do not merge: save the adapters in this folder, as --form says.",
        ),
    ] = None,
    form: Annotated[
        Form,
        typer.Option("--form", help="Format of --save-adapter's files."),
    ] = Form.kyutai,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing checkpoint.")
    ] = False,
    json_: options.Json = False,
) -> None:
    """Merge adapters into a model's weights, and save the new model.

    Quantised weights are quantised again in the same way, which loses some of what was
    learnt. To use adapters without merging them, give --adapter to the other commands.
    """
    from ..checkpoint.info import CheckpointInfo

    if model is None:
        raise ConfigError("there is no model to merge into: give --model.")
    with status(f"loading {model}"):
        info = CheckpointInfo.find(model)
    if save_adapter is not None:
        written = _convert(info, adapter_path, save_adapter, form)
    else:
        written = _merge(info, adapter_path, save_path, dequantize, bits, overwrite)
    if json_:
        print_json("fuse", {"folder": str(written)})
    else:
        print(f"{written} is written")


def _convert(info: "CheckpointInfo", source: Path, out: Path, form: Form) -> Path:
    """Save adapters in another program's form."""
    from ..checkpoint.adapters import local_adapter
    from ..checkpoint.exchange import save_as_kyutai, save_as_mlx_lm

    save = save_as_kyutai if form is Form.kyutai else save_as_mlx_lm
    save(info, local_adapter(source), out.expanduser())
    return out


def _merge(
    info: "CheckpointInfo",
    source: Path,
    out: Path,
    dequantized: bool,
    bits: int | None,
    overwrite: bool,
) -> Path:
    from ..checkpoint.adapters import local_adapter
    from ..checkpoint.belongings import Belongings
    from ..checkpoint.build import load_lm
    from ..checkpoint.exchange import adapters_of
    from ..checkpoint.fuse import dequantize, fuse
    from ..checkpoint.quantize import quantize
    from ..checkpoint.save import check_free

    out = out.expanduser()
    check_free(out, overwrite, info.source.folder)
    belongings = Belongings.of(info)
    with status(f"merging {source}"):
        lm = load_lm(info, as_stored=True)
        if dequantized:  # first: the change would be rounded to few bits
            dequantize(lm)
        fuse(lm, *adapters_of(info, local_adapter(source)))
        if bits is not None:
            quantize(lm, bits)
    with status(f"writing {out}"):
        return belongings.save(out, lm, overwrite=overwrite)
