"""`moshi-mlx transcribe`: speech in, words with times out."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError, MoshiError
from . import options
from .console import make_log, progress, status
from .lines import Kept, Lines
from .outputs import check_outputs

MICROPHONE = Path("microphone")  # what its texts are called
EXAMPLES = """
moshi-mlx transcribe talk.mp3
moshi-mlx transcribe *.wav -f srt -f json --out-folder texts
moshi-mlx transcribe --mic
moshi-mlx transcribe meeting.wav --expect "Anneke van der Meer" --json
moshi-mlx transcribe talk.wav --prompt "Loonah met Kaoru." --prompt-file names.wav
"""


def transcribe(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Sound files, of any format and rate."),
    ] = None,
    mic: Annotated[
        bool, typer.Option("--mic", help="Listen to the microphone, until Ctrl-C.")
    ] = False,
    microphone: Annotated[
        str | None,
        typer.Option("--microphone", metavar="NAME", help="Which one, for --mic."),
    ] = None,
    forms: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--format",
            metavar="txt|json|srt|vtt",
            help="Write the words to a file of this form; may be repeated.",
        ),
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option(
            "--out-folder",
            metavar="FOLDER",
            help="Where those files go (default: beside the sound files).",
        ),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect", metavar="NAME", help="A name or word that will be said."
        ),
    ] = None,
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="What is said first, written as the rest should be: names, spelling. "
            "Given up where nothing like it is said for ten seconds.",
        ),
    ] = "",
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE",
            help="A recording of --prompt to be heard before each file, a few seconds "
            "long; its words are not written down.",
        ),
    ] = None,
    no_refresh: Annotated[
        bool,
        typer.Option(
            "--no-refresh",
            help="Never let the model listen afresh, for comparison.",
        ),
    ] = False,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size", metavar="N", min=1, help="Files to work on at once."
        ),
    ] = 8,
    model: options.Model = None,
    quantized: options.Quantized = None,
    kv_bits: options.KvBits = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
) -> None:
    """Write down what is said, with the time of every word and the speaker's turns.

    Recordings of hours work in constant memory: at pauses the model listens afresh.
    """
    from ..audio import frames
    from ..audio.device import find_device
    from ..audio.files import make_folder
    from ..checkpoint.info import CheckpointInfo
    from ..engines.load import DEFAULT_STT_REPO, load_stt
    from ..engines.tts.texts import FORMS

    if bool(files) == mic:
        raise ConfigError("name sound files, or use --mic for the microphone.")
    for form in forms or []:
        if form not in FORMS:
            raise ConfigError(f"no form {form!r}: use {', '.join(FORMS)}.")
    listening = {
        "refresh": not no_refresh,
        "phrases": expect or [],
        "prompt": prompt,
        "prompt_sound": prompt_sound(prompt, prompt_file),
    }
    texts = {
        f"the {form} of {path}": text_file(path, form, out_folder)
        for path in dict.fromkeys(files or [MICROPHONE])
        for form in dict.fromkeys(forms or [])
        if mic or path.exists()  # the others are named when they are read
    }
    if forms and out_folder is not None:
        make_folder(out_folder)
    check_outputs(files, texts)
    if mic:
        find_device("input", microphone)
    elif not any(path.exists() for path in files or []):
        frames((files or [])[0])  # says so
    name = model or DEFAULT_STT_REPO
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
        stt = load_stt(info=info, quantize=quantized)
    work = Work(stt, forms or [], out_folder, json_, listening)
    if mic:
        work.microphone(microphone)
        return
    failed = work.all_files(files or [], batch_size)
    if failed:
        raise typer.Exit(1)


def prompt_sound(prompt: str, file: Path | None) -> Any:
    """The recording of a prompt, read before anything is loaded."""
    from ..audio.files import read

    if file is None:
        return None
    if not prompt.strip():
        raise ConfigError(
            "--prompt-file needs its text: say with --prompt what is in it."
        )
    return read(file)[0]


def text_file(path: Path, form: str, folder: Path | None) -> Path:
    """Where the words of a sound file go."""
    return (folder or path.parent) / f"{path.stem}.{form}"


class Work:
    """Files to texts.

    Args:
        forms: of the files to write; without any the text is printed.
        folder: where they go.
        as_json: print everything as JSON instead.
        listening: options of ``STTModel.transcribe_all``.
    """

    def __init__(
        self,
        stt: Any,
        forms: list[str],
        folder: Path | None,
        as_json: bool,
        listening: dict[str, Any],
    ):
        self._stt = stt
        self._forms = forms
        self._folder = folder
        self._as_json = as_json
        self._listening = listening

    def all_files(self, files: list[Path], batch_size: int) -> bool:
        """Work through ``files``; true if one of them could not be read."""
        live = len(files) == 1 and not self._forms and not self._as_json
        lines = Lines() if live else None
        started, total_s, failed = time.perf_counter(), 0.0, False
        files = list(dict.fromkeys(files))
        shown = progress("listening", len(files))
        with nullcontext(lambda _files: None) if live else shown as advance:
            for start in range(0, len(files), batch_size):
                batch = files[start : start + batch_size]
                sounds = self._read(batch)
                failed |= len(sounds) < len(batch)
                batch_s = sum(map(len, sounds.values())) / self._stt.sample_rate
                share = len(sounds) / (batch_s or 1.0)  # of a file, per second
                kept = Kept(len(sounds), lines)
                try:
                    found = self._stt.transcribe_all(
                        list(sounds.values()),
                        on_event=kept.notice,
                        on_progress=lambda s, share=share: advance(s * share),
                        **self._listening,
                    )
                except KeyboardInterrupt:  # what was heard so far is written down
                    self._report_all(list(sounds), kept.transcripts(), lines)
                    raise
                self._report_all(list(sounds), found, lines, several=len(files) > 1)
                total_s += batch_s
        wall_s = time.perf_counter() - started
        if total_s and not self._as_json:
            speed = f"{total_s:.1f} s of sound in {wall_s:.1f} s"
            print(make_log("info", speed), file=sys.stderr)
        return failed

    def microphone(self, choice: str | None) -> None:
        """What is said into it, until Ctrl-C."""
        from ..live.devices import hear

        session = self._stt.session(**self._listening)
        lines = None if self._as_json else Lines()
        kept = Kept(1, lines)
        with hear(choice) as blocks:
            print(make_log("info", "listening, Ctrl-C ends"), file=sys.stderr)
            for event in heard(session, blocks):
                kept.notice(0, event)
        self._report_all([MICROPHONE], kept.transcripts(session.time_s), lines)

    def _read(self, files: list[Path]) -> dict[Path, Any]:
        """The sound of files; those that cannot be read are named and left out."""
        from ..audio.long import open_sound

        sounds: dict[Path, Any] = {}
        for path in files:
            try:
                sounds[path] = open_sound(path, self._stt.sample_rate)
            except MoshiError as error:
                print(make_log("error", str(error)), file=sys.stderr)
        return sounds

    def _report_all(
        self,
        paths: list[Path],
        transcripts: list[Any],
        lines: Lines | None,
        several: bool = False,
    ) -> None:
        for path, transcript in zip(paths, transcripts, strict=True):
            self._report(path, transcript, lines, several)

    def _report(
        self, path: Path, transcript: Any, lines: Lines | None, several: bool
    ) -> None:
        from ..engines.tts.texts import write_words

        for form in self._forms:
            write_words(text_file(path, form, self._folder), transcript.words)
        if self._as_json:
            print(json.dumps(as_json(path, transcript), ensure_ascii=False))
        elif lines is not None:
            lines.end()
        elif not self._forms:
            if several:
                print(f"{path}:")
            print("\n".join(turn.text for turn in transcript.turns))
        if not transcript.words:
            nothing = f"no words were heard in {path}"
            print(make_log("warning", nothing), file=sys.stderr)


def as_json(path: Path, transcript: Any) -> dict[str, Any]:
    """A transcript, for programs."""
    return {
        "input": str(path),
        "duration_s": round(transcript.duration_s, 3),
        "text": transcript.text,
        "words": [vars(word) for word in transcript.words],
        "turns": [
            {"start_s": turn.start_s, "end_s": turn.end_s, "text": turn.text}
            for turn in transcript.turns
        ],
    }


def heard(session: Any, blocks: Iterator[Any]) -> Iterator[Any]:
    """What is noticed in blocks of sound, to the last word before Ctrl-C."""
    try:
        for block in blocks:
            yield from session.feed(block)
    except KeyboardInterrupt:
        pass
    yield from session.flush()
