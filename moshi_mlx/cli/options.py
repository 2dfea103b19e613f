"""Options that several commands share: one name and one meaning each.

A command writes ``model: Model = None``; None leaves it to the checkpoint.
"""

from enum import Enum
from pathlib import Path
from typing import Annotated, TypedDict

import typer
from typer.models import OptionInfo

MODEL_PANEL = "Model"
SAMPLING_PANEL = "Sampling"
FILES_PANEL = "Files of a local model"


class CodecPrecision(str, Enum):
    float32 = "float32"
    float16 = "float16"


class Engine(str, Enum):
    """The engines of the Mimi codec."""

    native = "native"
    rust = "rust"


def _model(metavar: str, help: str) -> OptionInfo:
    """--model of a command: names what this command can run."""
    return typer.Option(
        "--model",
        "--hf-repo",
        metavar=metavar,
        help=help,
        rich_help_panel=MODEL_PANEL,
    )


_ANY = "NAME|FOLDER|demo"
_DEMO = "a folder, or 'demo', the small Moshi in this package."
Model = Annotated[
    str | None,
    _model(
        _ANY,
        f"A Moshi on the hub (kyutai/moshiko-mlx-q4), {_DEMO} Default: the Moshi that "
        "fits this machine's memory.",
    ),
]
BaseModel = Annotated[
    str | None,
    _model(
        _ANY,
        f"The base model: one on the hub (kyutai/moshiko-mlx-q4), {_DEMO} Default: "
        "none, so give one.",
    ),
]
AnyModel = Annotated[
    str | None,
    _model(
        _ANY,
        f"Any model on the hub, {_DEMO} Default: the Moshi that fits this machine's "
        "memory.",
    ),
]
TimedModel = Annotated[
    str | None, _model(_ANY, f"A Moshi to time: on the hub, {_DEMO} Default: demo.")
]
RecogniserModel = Annotated[
    str | None,
    _model(
        _ANY,
        "A speech-to-text model: a name on the hub, a folder, or 'demo', the small one "
        "in this package. Default: kyutai/stt-1b-en_fr-candle.",
    ),
]
SpeechModel = Annotated[
    str | None,
    _model(
        _ANY,
        "A text-to-speech model: a name on the hub, a folder, or 'demo', the small one "
        "in this package. Default: kyutai/tts-1.6b-en_fr.",
    ),
]
TranslationModel = Annotated[
    str | None,
    _model(
        "NAME|FOLDER",
        "A Hibiki: a name on the hub or a folder. Default: kyutai/hibiki-1b-mlx-bf16.",
    ),
]
TextModel = Annotated[
    str | None,
    _model(
        "NAME|FOLDER",
        "A text model (Helium): a name on the hub or a folder. Default: "
        "kyutai/helium-1-preview-2b-mlx.",
    ),
]
Quantized = Annotated[
    int | None,
    typer.Option(
        *("--quantized", "-q", "--quantize"),
        metavar="BITS",
        help="Quantise the model to this many bits per weight while it loads; a "
        "quantised one must have them already. Default: as stored.",
        rich_help_panel=MODEL_PANEL,
    ),
]
ImageFile = Annotated[
    Path | None,
    typer.Option(
        "--image",
        metavar="FILE",
        help="A picture to talk about, for a model that sees images, like "
        "kyutai/moshika-vis-mlx: JPEG, PNG, WebP, GIF or BMP. Default: none.",
        rich_help_panel=MODEL_PANEL,
    ),
]
KvBits = Annotated[
    int | None,
    typer.Option(
        "--kv-bits",
        metavar="BITS",
        help="Keep the key-value cache in 8 (or 4) bits, in about half the memory. "
        "Default: unquantised.",
        rich_help_panel=MODEL_PANEL,
    ),
]
Codec = Annotated[
    Engine,
    typer.Option(
        "--codec",
        help="Engine of the Mimi codec: 'native' is MLX, 'rust' is rustymimi on the "
        "CPU.",
        rich_help_panel=MODEL_PANEL,
    ),
]
CodecDtype = Annotated[
    CodecPrecision,
    typer.Option(
        "--codec-dtype",
        help="Precision in which the codec decodes sound; it always encodes in "
        "float32.",
        rich_help_panel=MODEL_PANEL,
    ),
]
MoshiWeights = Annotated[
    Path | None,
    typer.Option(
        *("--moshi-weights", "--moshi-weight"),
        metavar="FILE",
        help="Use these weights of the language model. Default: the model's own.",
        rich_help_panel=FILES_PANEL,
    ),
]
MimiWeights = Annotated[
    Path | None,
    typer.Option(
        *("--mimi-weights", "--mimi-weight"),
        metavar="FILE",
        help="Use these weights of the codec. Default: the model's own.",
        rich_help_panel=FILES_PANEL,
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer",
        metavar="FILE",
        help="Use this SentencePiece model for the text. Default: the model's own.",
        rich_help_panel=FILES_PANEL,
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        *("--adapter", "--lora-weights", "--lora-weight"),
        metavar="DIR|FILE",
        help="Use these adapters (LoRA), from `finetune`, moshi-finetune or mlx-lm: "
        "merged into weights in full precision, beside quantised ones. "
        "Default: none.",
        rich_help_panel=FILES_PANEL,
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        *("--adapter", "--lora-weights", "--lora-weight"),
        metavar="[NAME=]DIR|FILE",
        help="Use these adapters (LoRA) in all conversations. With a name, and given "
        "several times: each conversation chooses one of them, or none. "
        "Default: none.",
        rich_help_panel=FILES_PANEL,
    ),
]
LmConfigFile = Annotated[
    Path | None,
    typer.Option(
        *("--lm-config", "--config"),
        metavar="FILE",
        help="Use this config.json for the language model. Default: the model's own.",
        rich_help_panel=FILES_PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        max=2**63 - 1,
        metavar="N",
        help="Seed of the random numbers: the same seed gives the same result. "
        "Default: random.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temp",
        min=0.0,
        metavar="T",
        help="Temperature of text and audio; 0 always takes the likeliest token. "
        "Default: the model's.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        min=0.0,
        max=1.0,
        metavar="P",
        help="Draw from the likeliest tokens that together reach this probability. "
        "Default: the model's.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TextTemperature = Annotated[
    float | None,
    typer.Option(
        "--text-temperature",
        min=0.0,
        metavar="T",
        help="Temperature of the text. Default: the model's (Moshi: 0.7).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
AudioTemperature = Annotated[
    float | None,
    typer.Option(
        "--audio-temperature",
        min=0.0,
        metavar="T",
        help="Temperature of the audio. Default: the model's (Moshi: 0.8).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
TextTopK = Annotated[
    int | None,
    typer.Option(
        "--text-topk",
        min=1,
        metavar="K",
        help="Sample text from the K likeliest tokens. Default: the model's (Moshi: "
        "25).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
AudioTopK = Annotated[
    int | None,
    typer.Option(
        "--audio-topk",
        min=1,
        metavar="K",
        help="Sample audio from the K likeliest codes. Default: the model's (Moshi: "
        "250).",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--cfg-coef",
        metavar="C",
        min=0.0,  # refuses NaN too
        help="Guidance strength (1 turns it off). Default: the model's.",
        rich_help_panel=SAMPLING_PANEL,
    ),
]
LineWidth = Annotated[
    int,
    typer.Option(
        "--line-width",
        metavar="N",
        min=5,
        help="Characters in a line of a subtitle (srt, vtt).",
    ),
]
CueLines = Annotated[
    int,
    typer.Option(
        "--lines", metavar="N", min=1, help="Lines of a subtitle, at most (srt, vtt)."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON and nothing else.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print more about what is going on.")
]


def voice_repo(panel: str | None = None, looks: str = "to look") -> OptionInfo:
    """The option for the location of voices, in one panel of the help or another."""
    return typer.Option(
        "--voice-repo",
        metavar="REPO|FOLDER",
        help=f"Where {looks} up voices. Default: kyutai/tts-voices.",
        rich_help_panel=panel,
    )


class Draws(TypedDict):
    """How ``Moshi.session`` draws tokens; None leaves it to the model."""

    temp: float | None
    temp_text: float | None
    top_k: int | None
    top_k_text: int | None


def sampling(
    temp: float | None,
    text_temperature: float | None,
    audio_temperature: float | None,
    text_topk: int | None,
    audio_topk: int | None,
) -> Draws:
    """These options as arguments of ``Moshi.session``; --temp is for text and audio."""
    return {
        "temp": temp if audio_temperature is None else audio_temperature,
        "temp_text": temp if text_temperature is None else text_temperature,
        "top_k": audio_topk,
        "top_k_text": text_topk,
    }
