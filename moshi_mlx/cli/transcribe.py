"""`moshi-mlx transcribe`: speech in, words with times out."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from ..errors import ConfigError
from . import options
from .console import make_log, progress, status
from .lines import WordLines
from .outputs import check_outputs, print_json
from .shares import my_share

if TYPE_CHECKING:
    from ..documents.transcript import Layout
    from ..engines.stt import Event, STTModel, STTSession
    from ..engines.stt.files import FileFailure, FileTranscript
    from ..engines.stt.model import Pcm, Sound

MICROPHONE = Path("microphone")  # the name of its text files
EXAMPLES = """
moshi-mlx transcribe talk.mp3
moshi-mlx transcribe --model demo question.wav
moshi-mlx transcribe *.wav -f srt -f json --out-folder texts
moshi-mlx transcribe --mic
moshi-mlx transcribe meeting.wav --expect "Anneke van der Meer" --json
moshi-mlx transcribe talk.wav --prompt "Loonah met Kaoru." --prompt-file names.wav
"""


class Hears(TypedDict):
    """How the model listens, as ``Recogniser.listening`` takes it."""

    refresh: bool
    phrases: list[str]
    prompt: str
    prompt_sound: "Sound | None"


def transcribe(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help="Sound files of any format and sample rate; - is standard input.",
        ),
    ] = None,
    mic: Annotated[
        bool, typer.Option("--mic", help="Transcribe the microphone until Ctrl-C.")
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
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--format",
            metavar="txt|json|srt|vtt",
            help="Write the words to a file of this format. Repeat it for several.",
        ),
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out-folder",
            metavar="FOLDER",
            help="Folder for those files. Default: beside the sound files.",
        ),
    ] = None,
    line_width: options.LineWidth = 42,
    lines: options.CueLines = 2,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="NAME",
            help="A name or word to expect. Repeat it for several.",
        ),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="Text that the sound begins with, written the way the rest should be "
            "(names, spelling). Dropped if nothing like it is said within ten "
            "seconds.",
        ),
    ] = "",
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE",
            help="A recording of --prompt, a few seconds long, played to the model "
            "before each file. It does not appear in the result.",
        ),
    ] = None,
    no_refresh: Annotated[
        bool,
        typer.Option(
            "--no-refresh",
            help="Never restart the model at pauses (to compare).",
        ),
    ] = False,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=1,
            help="Number of files to transcribe at once.",
        ),
    ] = 8,
    model: options.RecogniserModel = None,
    quantized: options.Quantized = None,
    kv_bits: options.KvBits = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    adapter: options.Adapter = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
) -> None:
    """Transcribe speech, with the time of every word and the speaker's turns.

    Recordings of any length work, in constant memory: the model is restarted at pauses.
    """
    from ..audio import frames
    from ..audio.device import find_device
    from ..audio.files import make_folder
    from ..audio.inputs import exists
    from ..checkpoint.info import CheckpointInfo
    from ..documents.transcript import Layout
    from ..engines.load import DEFAULT_STT_REPO, load_stt
    from ..engines.stt.files import text_files
    from ..live.devices import hear

    check_wishes(files, mic, forms, out_folder)
    listening: Hears = {
        "refresh": not no_refresh,
        "phrases": expect or [],
        "prompt": prompt,
        "prompt_sound": prompt_sound(prompt, prompt_file),
    }
    # Missing sounds are named when they are read.
    there = [MICROPHONE] if mic else [path for path in files or [] if exists(path)]
    texts = {
        f"the {file.suffix[1:]} of {path}": file
        for path, found in text_files(there, forms or [], out_folder).items()
        for file in found
    }
    if forms and out_folder is not None:
        make_folder(out_folder)
    check_outputs(files, texts)
    if mic:
        find_device("input", microphone)
    elif not there:
        frames((files or [])[0])  # raises the error
    name = model or DEFAULT_STT_REPO
    with status(f"loading {name}"):
        info = CheckpointInfo.find(
            name,
            kind="stt",
            config=lm_config,
            moshi_weights=moshi_weights,
            mimi_weights=mimi_weights,
            tokenizer=tokenizer,
            lora_weights=adapter,
            bits=quantized,
            kv_bits=kv_bits,
        )
        stt = load_stt(info=info, quantize=quantized)
    several = len(set(files or [])) > 1
    show = Shown(forms or [], json_, several, Layout(line_width, lines))
    if mic:
        with hear(microphone) as blocks:
            print(make_log("info", "listening, Ctrl-C ends"), file=sys.stderr)
            show.live(stt, blocks, listening, out_folder)
        return
    failed = show.files(stt, my_share(files or []), batch_size, listening, out_folder)
    if failed:
        raise typer.Exit(1)


def check_wishes(
    files: list[Path] | None,
    mic: bool,
    forms: list[str] | None,
    out_folder: Path | None,
) -> None:
    """Raises: ConfigError for options that exclude or lack each other."""
    from ..documents.word_files import FORMS

    if files and mic:
        raise ConfigError("use --mic or sound files, not both.")
    if not files and not mic:
        raise ConfigError("name sound files, or use --mic for the microphone.")
    for form in forms or []:
        if form not in FORMS:
            raise ConfigError(f"{form!r} is not a format: use {', '.join(FORMS)}.")
    if out_folder is not None and not forms:
        raise ConfigError(
            f"there is nothing to write to {out_folder}: add a format, such as -f txt."
        )


def prompt_sound(prompt: str, file: Path | None) -> "Pcm | None":
    """The recording of a prompt, read before anything is loaded."""
    from ..audio.long import short_sound

    if file is None:
        return None
    if not prompt.strip():
        raise ConfigError(
            "--prompt-file needs its text: add what is said in it with --prompt."
        )
    return short_sound(file)


class Shown:
    """The output while sound becomes text.

    Args:
        forms: formats of the files to write; if there are none, the text is printed.
        as_json: print everything as JSON instead.
        layout: of subtitles.
        several: whether there are several files, so that each text needs a headline.
    """

    def __init__(
        self, forms: list[str], as_json: bool, several: bool, layout: "Layout"
    ):
        self._forms = forms
        self._as_json = as_json
        self._several = several
        self._layout = layout
        self._sound_s = 0.0
        self._lines: WordLines | None = None

    def files(
        self,
        stt: "STTModel",
        files: list[Path],
        batch_size: int,
        listening: Hears,
        folder: Path | None,
    ) -> bool:
        """Work through ``files``; true if one of them could not be read."""
        from ..engines.stt.files import FileFailure

        live = not (self._several or self._forms or self._as_json)
        self._lines = WordLines() if live else None
        started, done = time.perf_counter(), 0.0
        with nullcontext() if live else progress("listening", 1.0) as advance:

            def tell(share: float) -> None:
                nonlocal done
                if advance is not None:
                    advance(share - done)
                done = share

            results = stt.transcribe_files(
                files,
                forms=self._forms,
                out_folder=folder,
                layout=self._layout,
                batch_size=batch_size,
                on_file=self.result,
                on_event=lambda _path, event: self.event(event),
                on_progress=tell,
                **listening,
            )
        if self._sound_s and not self._as_json:
            wall_s = time.perf_counter() - started
            speed = f"{self._sound_s:.1f} s of sound in {wall_s:.1f} s"
            print(make_log("info", speed), file=sys.stderr)
        return any(isinstance(result, FileFailure) for result in results)

    def live(
        self,
        stt: "STTModel",
        blocks: "Iterator[Pcm]",
        listening: Hears,
        folder: Path | None,
    ) -> None:
        """What is said into a microphone, until Ctrl-C."""
        from ..documents.word_files import write_words
        from ..engines.stt.files import FileTranscript, Kept, text_files

        self._lines = None if self._as_json else WordLines()
        kept = Kept(1)
        with stt.session(**listening) as session:
            for event in heard(session, blocks):
                kept.notice(0, event)
                self.event(event)
            [transcript] = kept.transcripts(session.time_s)
        written = text_files([MICROPHONE], self._forms, folder)[MICROPHONE]
        for path in written:
            write_words(path, transcript.words, self._layout)
        self.result(FileTranscript(MICROPHONE, transcript, written))

    def event(self, event: "Event") -> None:
        """Show an event."""
        if self._lines is not None:
            self._lines.print_event(event)

    def result(self, result: "FileTranscript | FileFailure") -> None:
        """Show the result of a file."""
        from ..engines.stt.files import FileFailure

        if isinstance(result, FileFailure):
            print(make_log("error", str(result.error)), file=sys.stderr)
            return
        path, transcript = result.path, result.transcript
        self._sound_s += transcript.duration_s
        if self._as_json:
            print_json("transcribe", {"input": str(path), **transcript.to_dict()})
        elif self._lines is not None:
            self._lines.end()
        elif not self._forms:
            if self._several:
                print(f"{path}:")
            print("\n".join(turn.text for turn in transcript.turns))
        if not transcript.words:
            nothing = f"no words were heard in {path}"
            print(make_log("warning", nothing), file=sys.stderr)


def heard(session: "STTSession", blocks: "Iterator[Pcm]") -> "Iterator[Event]":
    """Events of blocks of sound, up to the last word before Ctrl-C."""
    try:
        for block in blocks:
            yield from session.feed(block)
    except KeyboardInterrupt:
        pass
    yield from session.flush()
