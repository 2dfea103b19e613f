"""`moshi-mlx respond`: a sound file in, the model's answer out."""

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, talk_options
from .console import RawPrinter, log_to_stderr, make_log
from .loading import choose_moshi, load_moshi, read_image
from .outputs import check_outputs, print_json
from .resuming import Resuming

if TYPE_CHECKING:
    from ..engines.duplex.response import Exchange, Response

EXAMPLES = """
moshi-mlx respond --model demo question.wav reply.wav
moshi-mlx respond --model kyutai/moshika-mlx-q4 question.mp3 reply.wav --seed 7
moshi-mlx respond --model demo question.wav --recording talk.wav --report talk.html
moshi-mlx respond question.wav reply.wav --persona "You are a teacher." --voice NATF2
moshi-mlx respond --image dog.jpg question.wav reply.wav
moshi-mlx respond --model kyutai/hibiki-1b-mlx-bf16 french.wav english.wav
"""


def respond(
    infile: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="The question: a sound file of any format and sample rate; - is "
            "standard input.",
        ),
    ],
    outfile: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT.wav",
            help="Where to write the answer, as .wav, .mp3, .opus, .flac or .aac.",
        ),
    ] = None,
    model: options.Model = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            "--recording",
            metavar="FILE.wav",
            help="Save both voices (user left, Moshi right), and the text with times "
            "as FILE.json, FILE.txt and FILE.srt.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.html",
            help="Write one page with both waveforms, each word at its time, and the "
            "timing.",
        ),
    ] = None,
    tail: Annotated[
        float,
        typer.Option(
            "--tail",
            min=0.0,
            metavar="SECONDS",
            help="Longest silence to add after the recording, so that Moshi can "
            "finish.",
        ),
    ] = 10.0,
    image: options.ImageFile = None,
    persona: talk_options.Persona = None,
    voice: talk_options.PersonaVoice = None,
    say_first: talk_options.SayFirst = None,
    save_state: talk_options.SaveState = None,
    resume: talk_options.Resume = None,
    codec: options.Codec = options.Engine.native,
    codec_dtype: options.CodecDtype = options.CodecPrecision.float32,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    text_temperature: options.TextTemperature = None,
    audio_temperature: options.AudioTemperature = None,
    text_topk: options.TextTopK = None,
    audio_topk: options.AudioTopK = None,
    audio_repetition_penalty: talk_options.AudioRepetition = 1.0,
    cfg_coef: options.Guidance = None,
    quantized: options.Quantized = None,
    kv_bits: options.KvBits = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    adapter: options.Adapter = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Answer a recorded question, frame by frame as in a live conversation.

    Moshi answers, Hibiki translates, and a speech-to-text model transcribes. The text
    is printed while it is generated. If you stop with Ctrl-C, the files hold everything
    up to the last frame.
    """
    from ..audio import frames

    sound, wav = {"OUT.wav": outfile}, {"--recording": recording}
    written = {"--report": report, "--save-state": save_state}
    check_outputs(infile, written, sound, wav)
    heard = frames(infile)  # an invalid file is refused before anything is loaded
    resuming = Resuming(resume, save_state, codec.value, say_first)
    seen = read_image(image)
    model, bits = choose_moshi(model, quantized, image, persona, voice)
    if verbose:
        log_to_stderr(logging.INFO)
    moshi = load_moshi(
        model,
        codec.value,
        config=lm_config,
        moshi_weights=moshi_weights,
        mimi_weights=mimi_weights,
        tokenizer=tokenizer,
        adapter=adapter,
        bits=bits,
        kv_bits=kv_bits,
        ability="listens" if image is None else "sees",
        codec_dtype=codec_dtype.value,
    )
    response = moshi.responding(
        heard,
        tail_s=tail,
        keep_sound=report is not None,
        seed=seed,
        cfg_coef=cfg_coef,
        image=seen,
        persona=persona,
        voice=voice,
        say_first=say_first,
        audio_repetition_penalty=audio_repetition_penalty,
        **options.sampling(
            temp, text_temperature, audio_temperature, text_topk, audio_topk
        ),
    )
    resuming.begin(response.session)
    printer = None if json_ else RawPrinter(flush_left=True)

    def show(exchange: "Exchange") -> None:
        if printer is not None:
            printer.print_token(exchange.reply.text)

    with ExitStack() as stack:
        # also after Ctrl-C, with the answer so far
        named = {"output": outfile, "recording": recording, "report": report}
        stack.callback(finish, response, infile, named, json_)
        stack.callback(resuming.end)
        response.write(
            outfile,
            recording=recording,
            report=report,
            source=infile,
            on_exchange=show,
        )


def finish(
    response: "Response", infile: Path, named: dict[str, Path | None], as_json: bool
) -> None:
    """Print a summary, unless a file could not be written from the start."""
    if not response.began:
        return
    if not response.frames:
        named = {**named, "report": None}  # there was nothing to show
    summary = {"input": str(infile), **response.to_dict()}
    summary |= {what: str(path) for what, path in named.items() if path is not None}
    if as_json:
        print_json("respond", summary)
        return
    print(flush=True)
    if response.frames and not response.text.strip():
        nothing = (
            f"{response.model} said nothing: try another --seed, or a longer --tail"
        )
        print(make_log("warning", f"{nothing}."), file=sys.stderr)
    speed = "{audio_s:.1f} s of sound in {wall_s:.1f} s ({times_real_time:.1f} x real "
    print(f"{speed}time), seed {{seed}}".format(**summary), file=sys.stderr)
    stages = {
        name: f"{ms['p50']:.1f} / {ms['p95']:.1f}"
        for name, ms in summary["stages_ms"].items()
    }
    frame = stages.pop("frame", "")
    if frame:
        parts = ", ".join(f"{name} {ms}" for name, ms in stages.items())
        print(f"ms a frame, p50 / p95: {frame} ({parts})", file=sys.stderr)
