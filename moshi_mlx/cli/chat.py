"""`moshi-mlx chat`: talk with Moshi by microphone and speaker."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import RawPrinter, status
from .devices import print_devices
from .main import INTERRUPTED
from .outputs import check_outputs

if TYPE_CHECKING:
    from ..chat.live import Conversation
    from ..chat.moshi import Moshi
    from ..chat.recording import Recording
    from ..chat.talk import Outcome
    from ..chat.trace import Trace
    from ..chat.worker import ModelThread

EXAMPLES = """
moshi-mlx chat
moshi-mlx chat --model demo
moshi-mlx chat --list-devices
moshi-mlx chat --microphone "MacBook Pro" --speaker 3 --record talks
"""
_TRACE_EVENTS = 200_000  # the newest, about an hour of frames
_SOUND_PANEL = "Sound"
_FILES_PANEL = "What is kept"


def chat(
    model: options.Model = None,
    list_devices: Annotated[
        bool,
        typer.Option(
            "--list-devices",
            help="List microphones and speakers, and end.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    microphone: Annotated[
        str | None,
        typer.Option(
            *("--microphone", "--input"),
            metavar="NAME|NUMBER",
            help="A device of --list-devices; a part of its name will do.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(
            *("--speaker", "--output"),
            metavar="NAME|NUMBER",
            help="Likewise.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = None,
    aec: Annotated[
        bool,
        typer.Option(
            "--aec/--no-aec",
            help="Echo cancellation: take Moshi's voice out of the microphone. Not "
            "needed with headphones.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = True,
    half_duplex: Annotated[
        bool,
        typer.Option(
            "--half-duplex",
            help="Do not listen while Moshi speaks.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    noise_suppression: Annotated[
        bool,
        typer.Option(
            "--noise-suppression",
            help="Lower steady noise.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    gain_control: Annotated[
        bool,
        typer.Option(
            "--gain-control",
            help="Bring quiet and loud voices to one level.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    device_buffer: Annotated[
        float | None,
        typer.Option(
            "--device-buffer",
            metavar="MS",
            min=5.0,
            max=1000.0,
            help="Sound that each device holds: more where it crackles. Default: as "
            "little as goes.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FOLDER",
            help="Keep both voices (WAV: you left, Moshi right), the text (JSON, TXT, "
            "SRT) and a report (HTML).",
            rich_help_panel=_FILES_PANEL,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Write how long everything took, for ui.perfetto.dev.",
            rich_help_panel=_FILES_PANEL,
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            "--max-seconds", metavar="S", min=0.0, help="End after that time."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, hidden=True, help="End after so many frames."),
    ] = None,
    codec: Annotated[
        options.Engine | None,
        typer.Option(
            "--codec",
            help="What runs the Mimi codec. Without it MLX does, unless only rustymimi "
            "is fast enough.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    text_temperature: options.TextTemperature = None,
    audio_temperature: options.AudioTemperature = None,
    text_topk: options.TextTopK = None,
    audio_topk: options.AudioTopK = None,
    quantized: options.Quantized = None,
    kv_bits: options.KvBits = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    tokenizer: options.Tokenizer = None,
    lm_config: options.LmConfigFile = None,
    json_: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Talk with Moshi. It hears you while it speaks: just interrupt.

    Weights are loaded and warmed up before the microphone opens. Keys: m mutes, r
    begins a new conversation, + and - change the volume, q ends.
    """
    from contextlib import nullcontext

    from ..chat.sound import SoundOptions
    from ..chat.talk import quiet_c_libraries
    from ..chat.trace import Trace
    from ..chat.worker import ModelThread
    from ..utils.sampling import new_seed

    with nullcontext() if verbose else quiet_c_libraries():
        if list_devices:
            print_devices()
            return
        sound = SoundOptions(
            *(microphone, speaker, aec, half_duplex, noise_suppression, gain_control),
            buffer_ms=device_buffer,
        )
        # Said before gigabytes are loaded.
        check_outputs(None, {"--trace": trace})
        if record is not None:
            from ..audio.files import make_folder

            make_folder(record)
        check_devices(sound)
        files = {
            "config": lm_config,
            "moshi_weights": moshi_weights,
            "mimi_weights": mimi_weights,
            "tokenizer": tokenizer,
            "bits": quantized,
            "kv_bits": kv_bits,
        }
        name = _model_name(model)
        loader = Loader(name, codec.value if codec else None, files)
        thread = ModelThread(loader)
        thread.start()
        try:
            with status(f"loading {name}"):
                thread.wait_ready()
        except KeyboardInterrupt:
            # A load cannot be stopped, and nothing is open yet: no need to wait.
            os._exit(INTERRUPTED)
        seed = new_seed() if seed is None else seed
        timing = Trace(events=_TRACE_EVENTS if trace else 0)
        sampling = options.sampling(
            temp, text_temperature, audio_temperature, text_topk, audio_topk
        )

        def make(moshi: "Moshi") -> Any:
            return moshi.session(seed, first="silence", trace=timing, **sampling)

        about = {"model": name, "seed": seed}
        run = Run(thread, loader, about, record, timing, json_)
        try:
            outcome = run(make, sound, max_seconds, steps)
        finally:
            thread.close()
            if trace is not None:
                timing.write_chrome(trace)
        raise typer.Exit(outcome.exit_code)


class Loader:
    """Loads and times the model, on the model thread; keeps what to tell the user."""

    def __init__(self, name: str, codec: str | None, files: dict[str, Any]):
        self.name = name
        self.notices: list[str] = []
        self.speed: Any = None
        self._codec = codec
        self._files = files

    def __call__(self) -> "Moshi":
        from ..chat.moshi import load
        from ..chat.speed import advice, measure, with_faster_codec
        from ..checkpoint.info import CheckpointInfo

        info = CheckpointInfo.find(self.name, **self._files)
        moshi = load(
            info=info, codec=self._codec or "native", quantize=self._files["bits"]
        )
        self.speed = measure(moshi)
        if self._codec is None:
            moshi, self.speed, notice = with_faster_codec(moshi, self.speed)
            self.notices += [notice] if notice else []
        slow = advice(self.speed, moshi)
        self.notices += [slow] if slow else []
        return moshi


class Run:
    """One conversation, from the first word to the summary."""

    def __init__(
        self,
        thread: "ModelThread[Moshi]",
        loader: Loader,
        about: dict[str, object],
        record: Path | None,
        trace: "Trace",
        as_json: bool,
    ):
        self._thread = thread
        self._loader = loader
        self._about = about
        self._record = record
        self._trace = trace
        self._json = as_json
        self._text: list[str] = []

    def __call__(
        self,
        make: Callable[["Moshi"], Any],
        sound: Any,
        max_seconds: float | None,
        max_frames: int | None,
    ) -> "Outcome":
        from ..chat.live import Conversation
        from ..chat.recording import Recording
        from ..chat.talk import Talk

        recording = None
        if self._record is not None:
            recording = Recording.in_folder(self._record, about=self._about)
        talk = Talk(self._screen(), max_seconds, max_frames)

        def on_text(piece: str) -> None:
            self._text.append(piece)
            talk.on_text(piece)

        conversation = Conversation(
            self._thread,
            make,
            sound,
            on_text if self._json else talk.on_text,
            talk.on_notice,
            talk.on_end,
            recording,
            self._trace,
        )
        for notice in self._loader.notices:
            talk.on_notice(notice)
        try:
            outcome = talk.run(conversation)
        finally:
            if recording is not None:
                self._report(recording, conversation)
        self._sum_up(outcome, recording)
        return outcome

    def _screen(self) -> Any:
        from rich.console import Console

        from ..chat.screen import LiveScreen, PlainScreen

        if self._json:
            return PlainScreen(sys.stderr)
        console = Console()
        if console.is_terminal and not console.is_dumb_terminal:
            return LiveScreen(self._loader.name, console)
        return PlainScreen()

    def _report(self, recording: "Recording", conversation: "Conversation") -> None:
        from ..chat.recording import read_words
        from ..chat.report import write_report

        path = recording.path
        write_report(
            path.with_suffix(".html"),
            path,
            title=f"A conversation with {self._loader.name}",
            pieces=read_words(path.with_suffix(".json")),
            frame_ms=list(conversation.step_ms),
            stages=self._trace.summary(),
            facts=self._about,
        )

    def _sum_up(self, outcome: "Outcome", recording: "Recording | None") -> None:
        s = outcome.snapshot
        figures = {
            **self._about,
            "elapsed_s": round(s.elapsed_s, 2),
            "frames": s.frames,
            "lag_ms": {"p50": round(s.lag_p50, 1), "p95": round(s.lag_p95, 1)},
            "step_ms": {"p50": round(s.step_p50, 1), "p95": round(s.step_p95, 1)},
            "dropped": {"silent": s.dropped.silent, "spoken": s.dropped.spoken},
            "gaps": s.gaps,
            "buffer_ms": round(s.jitter, 1),
            "response_ms": round(s.response_ms, 1),
            "device_ms": round(s.device, 1),
            "echo_delay_ms": None if s.echo_delay is None else round(s.echo_delay, 1),
            "memory_mib": round(s.memory_mib, 1),
        }
        if self._json:
            figures["text"] = "".join(self._text).strip()
            figures["recording"] = str(recording.path) if recording else None
            print(json.dumps(figures, ensure_ascii=False))
            return
        printer = RawPrinter()
        printer.log(
            "info",
            "{elapsed_s:.0f} s, {frames} frames; ".format(**figures)
            + f"lag p50 {s.lag_p50:.0f}, p95 {s.lag_p95:.0f} ms; {s.dropped.total} "
            f"frames dropped; {s.gaps} gaps; seed {self._about['seed']}",
        )
        if recording is not None:
            printer.log("info", f"recorded in {recording.path}, with text and report")


def check_devices(sound: Any) -> None:
    """Raise an AudioError for a device that is not there."""
    from ..audio.device import find_device

    find_device("input", sound.microphone)
    find_device("output", sound.speaker)


def _model_name(model: str | None) -> str:
    if model is not None:
        return model
    from ..checkpoint.memory import fitting_moshi

    return fitting_moshi()
