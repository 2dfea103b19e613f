"""`moshi-mlx translate`: speech in one language in, in another out."""

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from . import options
from .console import RawPrinter, log_to_stderr, make_log
from .loading import load_moshi
from .outputs import check_outputs, print_json

if TYPE_CHECKING:
    from ..audio.samples import Pcm
    from ..engines.duplex.response import Exchange, Response
    from ..engines.duplex.session import DuplexSession

EXAMPLES = """
moshi-mlx translate french.wav english.wav
moshi-mlx translate talk.mp3 --both both.wav --words talk.srt
moshi-mlx translate french.wav english.wav --cfg-coef 3
moshi-mlx translate --mic --play
"""


def translate(
    infile: Annotated[
        Path | None,
        typer.Argument(
            metavar="IN",
            help="The speech: a sound file of any format and sample rate; - is "
            "standard input.",
        ),
    ] = None,
    outfile: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT.wav",
            help="Where to write the translation, as .wav, .mp3, .opus, .flac or .aac.",
        ),
    ] = None,
    mic: Annotated[
        bool, typer.Option("--mic", help="Translate the microphone until Ctrl-C.")
    ] = False,
    microphone: Annotated[
        str | None,
        typer.Option(
            "--microphone",
            metavar="NAME",
            help="Microphone for --mic, by number or part of its name. "
            "Default: the system's.",
        ),
    ] = None,
    play: Annotated[
        bool, typer.Option("--play", help="Play the translation while it is generated.")
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
    both: Annotated[
        Path | None,
        typer.Option(
            "--both",
            metavar="FILE.wav",
            help="Save both in stereo (speaker left, translation right), and the text "
            "with times as FILE.json, FILE.txt and FILE.srt.",
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            "--words",
            metavar="FILE.json|.srt|.txt|.vtt",
            help="Write the words of the translation with their times.",
        ),
    ] = None,
    line_width: options.LineWidth = 42,
    lines: options.CueLines = 2,
    codec: options.Codec = options.Engine.native,
    codec_dtype: options.CodecDtype = options.CodecPrecision.float32,
    model: options.TranslationModel = None,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    text_temperature: options.TextTemperature = None,
    audio_temperature: options.AudioTemperature = None,
    text_topk: options.TextTopK = None,
    audio_topk: options.AudioTopK = None,
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
    """Translate speech with Hibiki while it is spoken.

    After a recording the model gets a sign that it has ended, and the translation
    continues until the model ends it. --cfg-coef above 1 steers it away from bad
    translations.
    """
    from ..audio import frames
    from ..audio.device import find_device
    from ..checkpoint.kinds import DEFAULT_TRANSLATION_REPO
    from ..documents.transcript import Layout
    from ..documents.word_files import check_form
    from ..engines.duplex.response import Response
    from ..live.devices import Player, hear

    if (infile is None) != mic:
        raise ConfigError("name a sound file, or use --mic for the microphone.")
    if words is not None:
        check_form(words)
    sound, wav = {"OUT.wav": outfile}, {"--both": both}
    check_outputs(infile, {"--words": words}, sound, wav)
    recorded = None if infile is None else frames(infile)
    if mic:
        find_device("input", microphone)
    if play:
        find_device("output", speaker)
    if verbose:
        log_to_stderr(logging.INFO)
    moshi = load_moshi(
        model or DEFAULT_TRANSLATION_REPO,
        codec.value,
        config=lm_config,
        moshi_weights=moshi_weights,
        mimi_weights=mimi_weights,
        tokenizer=tokenizer,
        adapter=adapter,
        bits=quantized,
        kv_bits=kv_bits,
        codec_dtype=codec_dtype.value,
        ability="translates",
    )
    drawn = options.sampling(
        temp, text_temperature, audio_temperature, text_topk, audio_topk
    )
    with ExitStack() as stack:
        if recorded is not None:
            response = moshi.responding(
                recorded, keep_sound=False, seed=seed, cfg_coef=cfg_coef, **drawn
            )
        else:
            session = moshi.session(seed, first="silence", cfg_coef=cfg_coef, **drawn)
            blocks = stack.enter_context(hear(microphone))
            exchanges = live(session, blocks)
            response = Response(session, exchanges, moshi.name, keep_sound=False)
        player = stack.enter_context(Player(speaker)) if play else None
        printer = None if json_ else RawPrinter(flush_left=True)

        def show(exchange: "Exchange") -> None:
            if player is not None and exchange.reply.pcm is not None:
                player.play(exchange.reply.pcm)
            if printer is not None:
                printer.print_token(exchange.reply.text)

        source = "microphone" if infile is None else str(infile)
        # also after Ctrl-C, with the translation so far
        stack.callback(finish, response, source, json_)
        response.write(
            outfile,
            recording=both,
            words=words,
            layout=Layout(line_width, lines),
            source=source,
            on_exchange=show,
        )


def live(session: "DuplexSession", blocks: "Iterator[Pcm]") -> Iterator["Exchange"]:
    """The microphone, until Ctrl-C."""
    from ..engines.duplex.files import live_exchanges

    print(make_log("info", "listening, Ctrl-C ends"), file=sys.stderr)
    with suppress(KeyboardInterrupt):
        yield from live_exchanges(session, blocks)


def finish(response: "Response", source: str, as_json: bool) -> None:
    """Print a summary, unless a file could not be written from the start."""
    if not response.began:
        return
    found = response.to_dict()
    if as_json:
        shown = ("model", "seed", "text", "words", "audio_s", "wall_s")
        kept = {key: found[key] for key in (*shown, "times_real_time")}
        print_json("translate", {"input": source, **kept})
        return
    print()
    speed = "{audio_s:.1f} s in {wall_s:.1f} s, seed {seed}".format(**found)
    print(make_log("info", speed), file=sys.stderr)
