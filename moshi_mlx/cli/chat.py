"""`moshi-mlx chat`: talk with Moshi by microphone and speaker."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, talk_options
from .chat_run import Loader, Run
from .console import status
from .devices import print_devices
from .loading import ModelFiles, choose_moshi, read_image
from .main import INTERRUPTED
from .outputs import check_outputs
from .resuming import Resuming

if TYPE_CHECKING:
    from ..engines.duplex.session import DuplexSession
    from ..live.sound import SoundOptions

    pass

EXAMPLES = """
moshi-mlx chat
moshi-mlx chat --model demo
moshi-mlx chat --persona "You are a patient teacher." --voice NATF2
moshi-mlx chat --image dog.jpg
moshi-mlx chat --list-devices
moshi-mlx chat --microphone "MacBook Pro" --speaker 3 --record talks
"""
_TRACE_EVENTS = 200_000  # the newest ones, about an hour of frames
_SOUND_PANEL = "Sound"
_FILES_PANEL = "Recording"


def chat(
    model: options.Model = None,
    list_devices: Annotated[
        bool,
        typer.Option(
            "--list-devices",
            help="List microphones and speakers, then exit.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    microphone: Annotated[
        str | None,
        typer.Option(
            *("--microphone", "--input"),
            metavar="NAME|NUMBER",
            help="Microphone to use, by number or part of its name (see "
            "--list-devices). Default: the system's.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = None,
    speaker: Annotated[
        str | None,
        typer.Option(
            *("--speaker", "--output"),
            metavar="NAME|NUMBER",
            help="Speaker to use, by number or part of its name. Default: the "
            "system's.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = None,
    aec: Annotated[
        bool,
        typer.Option(
            "--aec/--no-aec",
            help="Remove Moshi's voice from the microphone (echo cancellation). Not "
            "needed with headphones.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = True,
    half_duplex: Annotated[
        bool,
        typer.Option(
            "--half-duplex",
            help="Stop listening while Moshi speaks.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    noise_suppression: Annotated[
        bool,
        typer.Option(
            "--noise-suppression",
            help="Reduce steady background noise.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = False,
    gain_control: Annotated[
        bool,
        typer.Option(
            "--gain-control",
            help="Bring quiet and loud voices to the same level.",
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
            help="Buffer of each sound device; increase it if the sound crackles. "
            "Default: as small as possible.",
            rich_help_panel=_SOUND_PANEL,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            "--record",
            metavar="FOLDER",
            help="Save both voices (WAV: you left, Moshi right), the text (JSON, TXT, "
            "SRT) and a report (HTML).",
            rich_help_panel=_FILES_PANEL,
        ),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(
            "--trace",
            metavar="FILE",
            help="Write the timing of every stage, to view at ui.perfetto.dev.",
            rich_help_panel=_FILES_PANEL,
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            "--max-seconds",
            metavar="S",
            min=0.0,
            help="End the conversation after this time. Default: no limit.",
        ),
    ] = None,
    image: options.ImageFile = None,
    persona: talk_options.Persona = None,
    voice: talk_options.PersonaVoice = None,
    say_first: talk_options.SayFirst = None,
    save_state: talk_options.SaveState = None,
    resume: talk_options.Resume = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, hidden=True, help="End after this many frames."),
    ] = None,
    codec: Annotated[
        options.Engine | None,
        typer.Option(
            "--codec",
            help="Engine of the Mimi codec. Default: native (MLX), or rust if only "
            "that is fast enough.",
            rich_help_panel=options.MODEL_PANEL,
        ),
    ] = None,
    codec_dtype: options.CodecDtype = options.CodecPrecision.float32,
    seed: options.Seed = None,
    temp: options.Temperature = None,
    text_temperature: options.TextTemperature = None,
    audio_temperature: options.AudioTemperature = None,
    text_topk: options.TextTopK = None,
    audio_topk: options.AudioTopK = None,
    audio_repetition_penalty: talk_options.AudioRepetition = 1.0,
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
    """Talk with Moshi by microphone and speaker. It listens while it speaks, so you may
    interrupt it at any time.

    Keys: m mutes the microphone, r starts a new conversation, + and - change the
    volume, q quits.
    """
    from contextlib import nullcontext

    from ..engines.owner import model_thread
    from ..live.sound import SoundOptions
    from ..live.talk import quiet_c_libraries
    from ..utils.sampling import new_seed
    from ..utils.trace import Trace

    with nullcontext() if verbose else quiet_c_libraries():
        if list_devices:
            print_devices()
            return
        sound = SoundOptions(
            *(microphone, speaker, aec, half_duplex, noise_suppression, gain_control),
            buffer_ms=device_buffer,
        )
        # Checked before gigabytes are loaded.
        check_outputs(None, {"--trace": trace, "--save-state": save_state})
        if record is not None:
            from ..audio.files import make_folder

            make_folder(record)
        engine = codec.value if codec else None
        resuming = Resuming(resume, save_state, engine, say_first)
        if resuming.wanted:
            engine = "native"  # rust is used if only that is fast enough
        seen = read_image(image)
        name, bits = choose_moshi(model, quantized, image, persona, voice)
        check_devices(sound)
        files: ModelFiles = {
            "config": lm_config,
            "moshi_weights": moshi_weights,
            "mimi_weights": mimi_weights,
            "tokenizer": tokenizer,
            "lora_weights": adapter,
            "bits": bits,
            "kv_bits": kv_bits,
        }
        ability = "listens" if image is None else "sees"
        loader = Loader(name, engine, files, ability, codec_dtype.value)
        thread = model_thread()
        try:
            with status(f"loading {name}"):
                moshi = thread.run(loader)
                encoded = None if seen is None else moshi.encode_image(seen)
                start = moshi.start(persona, voice, say_first)
        except KeyboardInterrupt:
            # A load cannot be stopped, and nothing is open yet: no need to wait.
            os._exit(INTERRUPTED)
        seed = new_seed() if seed is None else seed
        timing = Trace(events=_TRACE_EVENTS if trace else 0)
        sampling = options.sampling(
            temp, text_temperature, audio_temperature, text_topk, audio_topk
        )

        def make() -> "DuplexSession":
            session = moshi.session(
                seed,
                first="silence",
                trace=timing,
                start=start,
                audio_repetition_penalty=audio_repetition_penalty,
                **sampling,
            )
            if encoded is not None:
                session.show(encoded)
            return resuming.begin(session)

        about = {"model": name, "seed": seed}
        run = Run(thread, loader, about, record, timing, json_)
        try:
            outcome = run(make, sound, max_seconds, steps)
        finally:
            resuming.end()
            if trace is not None:
                timing.write_chrome(trace)
        raise typer.Exit(outcome.exit_code)


def check_devices(sound: "SoundOptions") -> None:
    """Raise an AudioError for a device that is not there."""
    from ..audio.device import find_device

    find_device("input", sound.microphone)
    find_device("output", sound.speaker)
