"""`moshi-mlx codec`: sound to Mimi's codes and back, without a language model."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from . import options
from .console import status
from .outputs import check_outputs, print_json

if TYPE_CHECKING:
    from ..engines.codec import MimiCodec

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
            run = _encode if action is Action.to_codes else _decode
            shape = run(mimi, file, path, codebooks)
        if json_:
            facts = {"file": str(file), "output": str(path)}
            print_json("codec", {**facts, "codebooks": shape[0], "frames": shape[1]})
        else:
            print(f"{path}: {shape[0]} codebooks, {shape[1]} frames")


def _encode(
    mimi: "MimiCodec", file: Path, path: Path, count: int | None
) -> tuple[int, int]:
    from ..audio.long import open_sound
    from ..engines.codec.files import CodeFile, write_codes

    heard = open_sound(file, mimi.sample_rate)  # reads sound of any length
    codes = mimi.encode(heard, count)
    held = CodeFile(codes, mimi.sample_rate, mimi.frame_rate, len(heard))
    write_codes(path, held)
    return codes.shape[0], codes.shape[1]


def _decode(
    mimi: "MimiCodec", file: Path, path: Path, count: int | None
) -> tuple[int, int]:
    from ..audio.save import write_sound
    from ..engines.codec.files import read_codes

    held = read_codes(file)
    if held.sample_rate not in (0.0, mimi.sample_rate) or (
        held.frame_rate and abs(held.frame_rate - mimi.frame_rate) > 1e-3
    ):
        raise ConfigError(
            f"{file} was made by a codec of {held.sample_rate:g} Hz and "
            f"{held.frame_rate:g} frames a second, not by {mimi.name}: name its codec "
            "with --model."
        )
    codes = held.codes[:count]
    try:
        pcm = mimi.decode(codes)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error
    write_sound(path, pcm[: held.samples], mimi.sample_rate)
    return codes.shape[0], codes.shape[1]
