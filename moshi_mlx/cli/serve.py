"""`moshi-mlx serve`: Moshi in the browser, and for every Moshi client."""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options, talk_options
from . import serve_programs as programs
from . import wyoming_port as ports
from .adapters import read_adapters
from .addresses import Addresses
from .console import status
from .loading import ModelFiles, choose_moshi, read_image, say_what_it_serves
from .signals import at_once

if TYPE_CHECKING:
    from ssl import SSLContext

    from ..engines.duplex.engine import Moshi
    from ..serve.service import Service

EXAMPLES = """
moshi-mlx serve
moshi-mlx serve --model demo --port 9000 --no-browser --say-first "Hello."
moshi-mlx serve --host 0.0.0.0 --https
moshi-mlx serve --model nvidia/personaplex-7b-v1 --voice NATF2
moshi-mlx serve --model kyutai/moshika-vis-mlx -q 4
moshi-mlx serve --max-sessions 4 --record recordings
moshi-mlx serve --model demo --adapter poet=runs/poet --adapter chef=runs/chef
moshi-mlx serve --stt kyutai/stt-1b-en_fr-candle --tts kyutai/tts-1.6b-en_fr
moshi-mlx serve --model kyutai/moshiko-mlx-q4 --stt kyutai/stt-1b-en_fr-candle --preload
moshi-mlx serve --stt kyutai/stt-1b-en_fr-candle --wyoming --wyoming-host 0.0.0.0
"""
PORT = 8998  # the port of every Moshi server
WEB_PANEL = "Server"
SAFETY_PANEL = "Safety"
SPEECH_ROWS = 4  # sounds and speeches at a time, unless --max-sessions differs


def serve(
    model: options.Model = None,
    persona: talk_options.Persona = None,
    voice: talk_options.PersonaVoice = None,
    say_first: talk_options.SayFirst = None,
    stt: programs.STT = None,
    tts: programs.TTS = None,
    translate: programs.Translate = None,
    text: programs.Text = None,
    preload: programs.Preload = False,
    voice_repo: Annotated[
        str | None,
        options.voice_repo(programs.API_PANEL, "--tts looks"),
    ] = None,
    voice_map: programs.VoiceMap = None,
    voice_folder: programs.VoiceFolder = None,
    wyoming: ports.Wyoming = False,
    wyoming_host: ports.WyomingHost = "127.0.0.1",
    wyoming_port: ports.WyomingPortNumber = ports.WYOMING_PORT,
    wyoming_zeroconf: ports.WyomingZeroconf = False,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on; 0.0.0.0 for the whole network.",
            rich_help_panel=WEB_PANEL,
        ),
    ] = "localhost",
    port: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port to listen on; 0 takes a free one.",
            rich_help_panel=WEB_PANEL,
        ),
    ] = PORT,
    max_sessions: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=64,
            help="Maximum number of clients of each model at a time. Default: 1 "
            "conversation; as many transcriptions and speeches as fit, up to "
            f"{SPEECH_ROWS}.",
            rich_help_panel=WEB_PANEL,
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            min=1,
            help="End each conversation after this time. Default: no limit.",
            rich_help_panel=WEB_PANEL,
        ),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Save every conversation: a stereo WAV file and a transcript.",
            rich_help_panel=WEB_PANEL,
        ),
    ] = None,
    static: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|none",
            help="Serve the page in this folder instead of ours; 'none' serves no "
            "page.",
            rich_help_panel=WEB_PANEL,
        ),
    ] = None,
    no_browser: Annotated[
        bool,
        typer.Option(
            "--no-browser", help="Do not open a browser.", rich_help_panel=WEB_PANEL
        ),
    ] = False,
    ssl: Annotated[
        Path | None,
        typer.Option(
            "--ssl",
            metavar="FOLDER",
            help="Use HTTPS with cert.pem and key.pem from this folder.",
            rich_help_panel=SAFETY_PANEL,
        ),
    ] = None,
    https: Annotated[
        bool,
        typer.Option(
            "--https",
            help="Use HTTPS with a certificate made on the spot, so that phones on "
            "the network may use their microphones.",
            rich_help_panel=SAFETY_PANEL,
        ),
    ] = False,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            envvar="MOSHI_TOKEN",
            help="Secret that clients must give. Default: random if other machines "
            "can connect, else none.",
            rich_help_panel=SAFETY_PANEL,
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Another site whose pages may connect (https://example.org), or the "
            "address of a proxy. Repeat it for several.",
            rich_help_panel=SAFETY_PANEL,
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="A proxy in front of this server, or its network: its "
            "X-Forwarded-For names the client that limits count for. May be given "
            "again.",
            rich_help_panel=SAFETY_PANEL,
        ),
    ] = None,
    image: options.ImageFile = None,
    codec: options.Codec = options.Engine.native,
    codec_dtype: options.CodecDtype = options.CodecPrecision.float32,
    cfg_coef: options.Guidance = None,
    quantized: options.Quantized = None,
    kv_bits: options.KvBits = None,
    steps: Annotated[
        int | None,
        typer.Option(hidden=True, help="Ignored: accepted for moshi_mlx 0.3.0."),
    ] = None,
    tokenizer: options.Tokenizer = None,
    adapter: options.Adapters = None,
    moshi_weights: options.MoshiWeights = None,
    mimi_weights: options.MimiWeights = None,
    lm_config: options.LmConfigFile = None,
    verbose: options.Verbose = False,
) -> None:
    """Talk with Moshi in the browser, and give programs speech.

    Open the page and press the button; with --stt and --tts it has tabs for
    transcribing and speaking. Kyutai's web client, python -m moshi.client and the Rust
    client can connect to /api/chat too. With --stt, --tts, --translate and --text,
    programs can transcribe, speak, translate and complete texts: those that know
    OpenAI's API at /v1, those that know Kyutai's moshi-server (Unmute, Kyutai's
    scripts) at /api. Then there is a Moshi only if --model names one. --model demo
    serves the whole demo.
    """
    del steps
    from ..utils.extras import require

    require("serve", "moshi-mlx serve")
    from ..engines.owner import model_thread
    from ..serve import app, server
    from ..serve.gate import logs, security
    from ..serve.gate.addresses import read_proxies
    from ..serve.kept_voices import KeptVoices, default_folder
    from ..serve.models import family, speech_service
    from ..serve.personas import personas_of
    from ..serve.places import CONVERSES, LISTENS, SPEAKS, TRANSLATES, FrameTime
    from ..serve.protocols.openai.models import read_voice_map
    from ..serve.service import Service, describe, limits_of, load_batch

    assistant = ports.make_port(wyoming, wyoming_host, wyoming_port, wyoming_zeroconf)
    local = security.is_local(host)
    if token is None and not local:
        token = security.new_token()
    talks = bool(model or image) or not (stt or tts or translate or text)
    folder = None
    if static != "none":
        folder = app.page_folder() if static is None else app.check_static(static)
    own_page = static is None
    policy = security.Policy(
        host,
        token,
        allow_origin or (),
        security.OWN_PAGE_POLICY if own_page else security.OTHER_PAGE_POLICY,
    )
    context, fingerprint = _certificate(ssl, https)
    if record is not None:
        from ..audio.files import make_folder

        make_folder(record, private=True)
    logs.log_lines(verbose)
    proxies = read_proxies(trusted_proxy or ())
    adapters = read_adapters(adapter or ())
    files: ModelFiles = {
        "config": lm_config,
        "moshi_weights": moshi_weights,
        "mimi_weights": mimi_weights,
        "tokenizer": tokenizer,
        "lora_weights": adapters.single,
        "kv_bits": kv_bits,
    }
    seen = read_image(image)

    def load() -> "Moshi":
        chosen = choose_moshi(model, quantized, image, persona, voice)
        given = codec.value, codec_dtype.value, files
        return _load(*chosen, *given, adapters.named, image)

    stt, tts = stt or family(model, "stt"), tts or family(model, "tts")
    served = {CONVERSES: talks, LISTENS: stt, SPEAKS: tts, TRANSLATES: translate}
    time = FrameTime(name for name, there in served.items() if there)
    speech = speech_service(
        max_sessions or SPEECH_ROWS,
        time,
        stt=stt,
        tts=tts,
        translate=translate,
        text=text,
        voice_repo=voice_repo,
        voice_map=read_voice_map(voice_map or ()),
        kept=KeptVoices(voice_folder or default_folder()),
    )
    with status("loading the model"):
        thread, batch = model_thread(), None
        if talks:
            batch = load_batch(thread, load, max_sessions or 1, cfg_coef, time)
        personas = personas_of(batch, persona, voice, say_first)
        if preload:
            speech.load()
    service = Service(
        *(thread, batch, batch and describe(batch), batch.rows if batch else 1),
        *(limits_of(batch, max_seconds), record, proxies, speech, personas),
    )
    service.eyes.show(seen)
    addresses = Addresses(host, context is not None, token, fingerprint)

    def started(port: int) -> None:
        print(addresses.words(port, _served(service)), flush=True)
        if not no_browser and folder is not None and (talks or static is not None):
            webbrowser.open(addresses.urls(port)[0])

    answers = app.make_app(service, policy, folder)
    beside = ports.opened_beside(assistant, service.speech)
    with at_once(lambda: thread.is_alive):  # a model may be loading
        server.run_server(answers, service, host, port, context, started, beside)


def _certificate(folder: Path | None, https: bool) -> "tuple[SSLContext | None, str]":
    """The TLS context for HTTPS, and the fingerprint of a self-signed certificate."""
    from ..serve.gate import tls

    if folder is not None:
        return tls.from_folder(folder), ""
    return tls.made_on_the_spot(tls.own_names()) if https else (None, "")


def _served(service: "Service") -> list[str]:
    """What programs find here, one line each."""
    known = {what: f" ({n} at a time)" for what, n in service.places_now.items() if n}
    offers = service.offers.items()
    return [f"  {what}: {name}{known.get(what, '')}" for what, name in offers]


def _load(
    model: str,
    quantized: int | None,
    codec: str,
    codec_dtype: str,
    files: ModelFiles,
    adapters: dict[str, Path],
    image: Path | None,
) -> "Moshi":
    from ..checkpoint.info import CheckpointInfo
    from ..engines.duplex.load import load_moshi

    wanted: ModelFiles = {**files, "bits": quantized}
    info = CheckpointInfo.find(model, **wanted)
    if image is not None:
        info.kind.check("sees", model)
    say_what_it_serves(info)
    how = {"codec": codec, "quantize": quantized, "codec_dtype": codec_dtype}
    return load_moshi(info=info, adapter=adapters, **how)
