"""`moshi-mlx codec`: sound to Mimi's codes and back, without a language model."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from . import options
from .console import status
from .outputs import check_outputs, print_json

EXAMPLES = """
moshi-mlx codec encode speech.wav
moshi-mlx codec encode *.flac --out-folder codes --codebooks 8 --format safetensors
moshi-mlx codec decode codes/speech.npz --model kyutai/mimi
"""
DEFAULT_CODEC_REPO = "kyutai/mimi"


class Action(str, Enum):
    """The direction."""

    to_codes = "encode"  # ``encode`` is a method of str
    to_sound = "decode"


class CodeForm(str, Enum):
    """Formats of files of codes."""

    npz = "npz"
    safetensors = "safetensors"


def codec(
    action: Annotated[
        Action,
        typer.Argument(
            metavar="encode|decode",
            help="'encode' turns sound into codes, 'decode' codes into sound.",
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Sound files (- is standard input), or files of codes.",
        ),
    ],
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out-folder",
            metavar="FOLDER",
            help="Folder for the results. Default: beside the files.",
        ),
    ] = None,
    codebooks: Annotated[
        int | None,
        typer.Option(
            "--codebooks",
            metavar="K",
            min=1,
            help="Use the first K codebooks: fewer bits, less detail. Default: all "
            "that the codec has, or the file.",
        ),
    ] = None,
    form: Annotated[
        CodeForm, typer.Option("--format", help="Format of the files of codes.")
    ] = CodeForm.npz,
    sound: Annotated[
        str,
        typer.Option(
            "--sound",
            metavar="FORMAT",
            help="Format of decoded sound: wav, flac, mp3, opus or aac.",
        ),
    ] = "wav",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME|FOLDER|FILE|demo",
            help="A codec, or any model that has one.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = DEFAULT_CODEC_REPO,
    json_: options.Json = False,
) -> None:
    """Encode sound files as Mimi's codes, or decode codes to sound.

    A file of codes holds int32 [K, T]: K codebooks, 12.5 frames a second. Codes fit
    only the codec that made them.
    """
    from ..audio.files import make_folder
    from ..audio.inputs import exists, name_of
    from ..engines.codec import load_codec
    from ..engines.codec.files import form_of

    suffix = form.value if action is Action.to_codes else sound.removeprefix(".")
    for file in files:
        if not (exists(file) if action is Action.to_codes else file.is_file()):
            raise ConfigError(f"there is no file {str(file)!r}: check its path.")
        if action is Action.to_sound:
            form_of(file)
    if out_folder is not None:
        make_folder(out_folder)
    results = {
        file: (out_folder or name_of(file).parent) / f"{name_of(file).stem}.{suffix}"
        for file in files
    }
    named = {f"the result of {file}": path for file, path in results.items()}
    if action is Action.to_codes:
        check_outputs(files, named)
    else:
        check_outputs(files, None, named)
    with status(f"loading {model}"):
        mimi = load_codec(model)
    if codebooks is not None and codebooks > mimi.num_codebooks:
        raise ConfigError(
            f"--codebooks {codebooks}: the codec of {model} has {mimi.num_codebooks}."
        )
    for file, path in results.items():
        with status(f"{file}"):
            run = mimi.encode_file if action is Action.to_codes else mimi.decode_file
            count, frames = run(file, path, codebooks).shape
        if json_:
            facts = {"file": str(file), "output": str(path)}
            print_json("codec", {**facts, "codebooks": count, "frames": frames})
        else:
            print(f"{path}: {count} codebooks, {frames} frames")
