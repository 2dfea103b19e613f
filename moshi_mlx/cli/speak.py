"""`moshi-mlx speak`: text in, speech out, as it is typed or from files."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from . import options
from .console import status
from .outputs import Json, check_outputs, print_json
from .speak_run import speak_all, speak_one

EXAMPLES = """
moshi-mlx speak "Hey, how are you?" -o hey.wav
moshi-mlx speak --model demo "Tell me a joke." -o question.wav
moshi-mlx speak article.txt -o article.mp3 --words article.srt
some-chatbot | moshi-mlx speak - --play
moshi-mlx speak dialogue.txt --voice a.wav --voice b.wav -o dialogue.wav
moshi-mlx speak scripts.jsonl --out-folder speech --batch-size 8
"""
VOICE_PANEL = "Voice"
PACE_PANEL = "Pace"
BATCH_PANEL = "Many scripts"
DEFAULT_FOLDER = Path("tts-outputs")


def speak(
    text: Annotated[
        str,
        typer.Argument(
            metavar="TEXT|FILE|-",
            help="What to say: a text, a text file, '-' for standard input as it "
            "arrives, or a .jsonl file of scripts.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            *("-o", "--out"),
            metavar="OUT.wav",
            help="Sound file to write, as .wav, .mp3, .opus, .flac or .aac.",
        ),
    ] = None,
    play: Annotated[
        bool, typer.Option("--play", help="Play the sound while it is generated.")
    ] = False,
    speaker: Annotated[
        str | None,
        typer.Option(
            "--speaker",
            metavar="NAME",
            help="Speaker for --play, by number or part of its name. "
            "Default: the system's.",
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            "--words",
            metavar="FILE.json|.srt|.vtt",
            help="Write the words with their times.",
        ),
    ] = None,
    line_width: options.LineWidth = 42,
    lines: options.CueLines = 2,
    voice: Annotated[
        list[str] | None,
        typer.Option(
            "--voice",
            metavar="NAME|FILE",
            help="A voice (see 'moshi-mlx voices'). With two, lines take turns.",
            rich_help_panel=VOICE_PANEL,
        ),
    ] = None,
    voice_repo: Annotated[
        str | None,
        options.voice_repo(VOICE_PANEL),
    ] = None,
    cfg_coef: Annotated[
        float,
        typer.Option(
            "--cfg-coef",
            "--guidance",
            metavar="NUMBER",
            min=1.0,
            help="How closely to follow the voice and the text: 1 to 4 in steps of "
            "0.5.",
            rich_help_panel=VOICE_PANEL,
        ),
    ] = 2.0,
    padding_between: Annotated[
        int,
        typer.Option(
            "--padding-between",
            metavar="N",
            min=0,
            help="Least number of steps (80 ms) between words.",
            rich_help_panel=PACE_PANEL,
        ),
    ] = 1,
    padding_bonus: Annotated[
        float,
        typer.Option(
            "--padding-bonus",
            metavar="NUMBER",
            help="From -2 to 2: above 0 slows the speech down.",
            rich_help_panel=PACE_PANEL,
        ),
    ] = 0.0,
    max_padding: Annotated[
        int,
        typer.Option(
            "--max-padding",
            metavar="N",
            min=1,
            help="Longest pause that the model may choose, in steps.",
            rich_help_panel=PACE_PANEL,
        ),
    ] = 8,
    initial_padding: Annotated[
        int,
        typer.Option(
            "--initial-padding",
            metavar="N",
            min=0,
            help="Steps before the first word.",
            rich_help_panel=PACE_PANEL,
        ),
    ] = 2,
    final_padding: Annotated[
        int,
        typer.Option(
            "--final-padding",
            metavar="N",
            min=0,
            help="Steps after the last word.",
            rich_help_panel=PACE_PANEL,
        ),
    ] = 4,
    out_folder: Annotated[
        Path,
        typer.Option(
            "--out-folder",
            metavar="FOLDER",
            help="Folder for the files of a .jsonl.",
            rich_help_panel=BATCH_PANEL,
        ),
    ] = DEFAULT_FOLDER,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            help="Number of scripts to speak at once.",
            rich_help_panel=BATCH_PANEL,
        ),
    ] = 1,
    only_wav: Annotated[
        bool,
        typer.Option(
            "--only-wav",
            help="Write the sound files only, without codes, words and settings.",
            rich_help_panel=BATCH_PANEL,
        ),
    ] = False,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl",
            help="Read TEXT as a .jsonl file whatever its name; '-' is standard input.",
            rich_help_panel=BATCH_PANEL,
        ),
    ] = False,
    model: options.SpeechModel = None,
    nq: Annotated[
        int,
        typer.Option(
            "--nq",
            metavar="N",
            min=1,
            help="Number of codebooks to generate: fewer are faster and sound rougher.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = 32,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    top_p: options.TopP = None,
    quantize: Annotated[
        int | None,
        typer.Option(
            *("--quantize", "-q"),
            metavar="BITS",
            help="Quantise the model to this many bits per weight while it loads. "
            "Default: as stored.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    kv_bits: options.KvBits = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    adapter: options.Adapter = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
) -> None:
    """Say a text. The sound begins before the text ends.

    <break time="0.5s"/> in a text is a pause (or "500ms"); other tags are refused. A
    .jsonl file holds a script a line, as {"turns": ["..."], "voices": ["..."], "id":
    "name-of-the-file"}.
    """
    from ..audio.device import find_device
    from ..documents.transcript import Layout
    from ..documents.word_files import check_form
    from ..engines.tts.texts import TextSource

    source = TextSource(text, jsonl)  # a missing file is reported before loading
    if words is not None:
        check_form(words)
    read = [path for path in (source.path, *map(Path, voice or [])) if path is not None]
    check_outputs(read, {"--words": words}, sound={"-o": out})
    single = {"-o": out, "--play": play, "--words": words, "--voice": voice}
    if source.jsonl and (given := [name for name, value in single.items() if value]):
        raise ConfigError(
            f"{', '.join(given)} applies to one text only: scripts name their own "
            "voices, and their files go to --out-folder."
        )
    if not (source.jsonl or out or play):
        raise ConfigError(
            "there is nowhere to send the speech: add -o OUT.wav or --play."
        )
    if play:
        find_device("output", speaker)
    from ..checkpoint.info import CheckpointInfo
    from ..engines.load import load_tts
    from ..engines.tts import DEFAULT_DSM_TTS_REPO, DEFAULT_DSM_TTS_VOICE_REPO

    name = model or DEFAULT_DSM_TTS_REPO
    sampling: Json = {} if temp is None else {"temp": temp}
    with status(f"loading {name}"):
        info = CheckpointInfo.find(
            name,
            kind="tts",
            config=lm_config,
            moshi_weights=moshi_weights,
            mimi_weights=mimi_weights,
            tokenizer=tokenizer,
            lora_weights=adapter,
            bits=quantize,
            kv_bits=kv_bits,
        )
        tts = load_tts(
            info=info,
            quantize=quantize,
            **sampling,
            top_p=top_p,
            n_q=nq,
            final_padding=final_padding,
            padding_bonus=padding_bonus,
            initial_padding=initial_padding,
            max_padding=max_padding,
            voice_repo=voice_repo or info.own_voices or DEFAULT_DSM_TTS_VOICE_REPO,
        )
        tts.warmup(cfg_coef)
    if source.jsonl:
        about = {
            "hf_repo": name,
            "voice_repo": tts.voice_repo,
            "model_id": info.model_id,
        }
        say = partial(
            tts.say_scripts,
            batch_size=batch_size,
            guidance=cfg_coef,
            padding_between=padding_between,
            only_wav=only_wav,
            seed=seed,
            about=about,
        )
        summary = speak_all(say, source.read_bytes(), out_folder)
    else:
        speech = partial(
            tts.speak,
            source,
            voice or None,
            out=out,
            words=words,
            layout=Layout(line_width, lines),
            guidance=cfg_coef,
            padding_between=padding_between,
            seed=seed,
        )
        summary = speak_one(speech, (speaker,) if play else None)
    if json_:
        print_json("speak-scripts" if source.jsonl else "speak", summary)
    if summary.get("failures"):
        raise typer.Exit(1)
