"""`moshi-mlx translate`: speech in one language in, in another out."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError
from . import options
from .console import RawPrinter, log_to_stderr, make_log, status
from .outputs import check_outputs, print_json

if TYPE_CHECKING:
    from ..documents.transcript import Layout

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
        typer.Argument(metavar="OUT.wav", help="Where to write the translation."),
    ] = None,
    mic: Annotated[
        bool, typer.Option("--mic", help="Translate the microphone until Ctrl-C.")
    ] = False,
    microphone: Annotated[
        str | None,
        typer.Option(
            "--microphone",
            metavar="NAME",
            help="Microphone for --mic, by number or part of its name.",
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
            help="Speaker for --play, by number or part of its name.",
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
    model: options.Model = None,
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
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Translate speech with Hibiki while it is spoken.

    After a recording the model is told that it has ended, and the translation goes on
    until the model ends it. --cfg-coef above 1 steers it away from bad translations.
    """
    from ..audio import frames
    from ..audio.device import find_device
    from ..checkpoint.info import CheckpointInfo
    from ..documents.transcript import Layout
    from ..documents.word_files import check_form
    from ..engines.duplex.engine import load
    from ..engines.load import DEFAULT_TRANSLATION_REPO
    from ..utils.sampling import new_seed

    if (infile is None) != mic:
        raise ConfigError("name a sound file, or use --mic for the microphone.")
    if words is not None:
        check_form(words)
    sound = {"OUT.wav": outfile, "--both": both}
    check_outputs(infile, {"--words": words}, sound)
    recorded = None if infile is None else frames(infile)
    if mic:
        find_device("input", microphone)
    if play:
        find_device("output", speaker)
    if verbose:
        log_to_stderr(logging.INFO)
    name = model or DEFAULT_TRANSLATION_REPO
    with status(f"loading {name}"):
        info = CheckpointInfo.find(
            name,
            config=lm_config,
            moshi_weights=moshi_weights,
            mimi_weights=mimi_weights,
            tokenizer=tokenizer,
            bits=quantized,
            kv_bits=kv_bits,
        )
        if info.model_type != "hibiki":
            raise ConfigError(
                f"{name} is a {info.model_type} model and does not translate: use one "
                f"like {DEFAULT_TRANSLATION_REPO}."
            )
        moshi = load(info=info, codec=codec.value, quantize=quantized)
        moshi.warmup()
    seed = new_seed() if seed is None else seed
    session = moshi.session(
        seed,
        cfg_coef=cfg_coef,
        **options.sampling(
            temp, text_temperature, audio_temperature, text_topk, audio_topk
        ),
        first="twice" if recorded is not None else "silence",
    )
    about = {
        "input": "microphone" if infile is None else str(infile),
        "model": name,
        "seed": seed,
    }
    layout = Layout(line_width, lines)
    result = Translation(about, RawPrinter() if not json_ else None)
    with ExitStack() as stack:
        result.open(stack, outfile, both, (speaker,) if play else None)
        if recorded is not None:
            exchanges = from_file(session, recorded, moshi)
        else:
            blocks = stack.enter_context(microphone_blocks(microphone))
            exchanges = live(session, blocks)
        started = time.perf_counter()
        # also after Ctrl-C, with what was translated so far
        stack.callback(
            lambda: result.finish(words, layout, time.perf_counter() - started, json_)
        )
        for exchange in exchanges:
            result.add(exchange)


def from_file(session: Any, recorded: Iterator[Any], moshi: Any) -> Iterator[Any]:
    """The recording, its end, and what the model still has to say."""
    from ..engines.duplex.files import respond

    return respond(session, recorded, moshi)


def microphone_blocks(choice: str | None) -> Any:
    from ..live.devices import hear

    return hear(choice)


def live(session: Any, blocks: Iterator[Any]) -> Iterator[Any]:
    """The microphone, until Ctrl-C."""
    from ..audio.framing import Framer
    from ..engines.duplex.files import Exchange

    print(make_log("info", "listening, Ctrl-C ends"), file=sys.stderr)
    framer = Framer(session.frame_size)
    try:
        for block in blocks:
            for frame in framer.push(block):
                yield Exchange(frame, session.step(frame))
    except KeyboardInterrupt:
        return


class Translation:
    """What comes of a translation: its files, its text, how long it took.

    Args:
        about: what the JSON says of its making.
        printer: prints the text as it comes.
    """

    def __init__(self, about: dict[str, Any], printer: RawPrinter | None):
        self._about = about
        self._printer = printer
        self._pieces: list[Any] = []
        self._sinks: list[Any] = []
        self._both: Any = None
        self._frames = 0

    def open(
        self,
        stack: ExitStack,
        outfile: Path | None,
        both: Path | None,
        play: tuple[str | None] | None,
    ) -> None:
        """Open what was asked for."""
        from ..audio import SAMPLE_RATE, WavWriter
        from ..documents.recording import Recording
        from ..live.devices import Player

        if outfile is not None:
            writer = stack.enter_context(WavWriter(outfile, 1, SAMPLE_RATE))
            self._sinks.append(writer.write)
        if both is not None:
            self._both = stack.enter_context(Recording(both, about=self._about))
        if play is not None:
            self._sinks.append(stack.enter_context(Player(*play)).play)

    def add(self, exchange: Any) -> None:
        """Take a frame of both sides."""
        from ..audio import FRAME, SAMPLE_RATE
        from ..documents.transcript import Timed

        reply, frame_s = exchange.reply, FRAME / SAMPLE_RATE
        if reply.text:
            start_s = self._frames * frame_s
            self._pieces.append(Timed(reply.text, start_s, start_s + frame_s))
            if self._printer is not None:
                self._printer.print_token(reply.text)
        self._frames += 1
        if self._both is not None:
            self._both.add(exchange.heard, reply.pcm, reply.text)
        for sink in self._sinks if reply.pcm is not None else []:
            sink(reply.pcm)

    def finish(
        self, words: Path | None, layout: "Layout", wall_s: float, as_json: bool
    ) -> None:
        """Write the words and say how it went."""
        from ..audio import FRAME, SAMPLE_RATE
        from ..documents.transcript import words as of_pieces
        from ..documents.word_files import write_words
        from ..documents.words import Word

        found = [Word(w.text, w.start_s, w.end_s) for w in of_pieces(self._pieces)]
        if words is not None:
            write_words(words, found, layout)
        audio_s = self._frames * FRAME / SAMPLE_RATE
        summary = {
            **self._about,
            "text": " ".join(word.text for word in found),
            "words": [vars(word) for word in found],
            "audio_s": round(audio_s, 3),
            "wall_s": round(wall_s, 3),
            "times_real_time": round(audio_s / wall_s, 2) if wall_s else 0.0,
        }
        if as_json:
            print_json("translate", summary)
            return
        print()
        speed = f"{audio_s:.1f} s in {wall_s:.1f} s, seed {self._about['seed']}"
        print(make_log("info", speed), file=sys.stderr)
