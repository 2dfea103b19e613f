"""Shared by all connections: the model's thread, places, counters."""

import asyncio
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..audio.files import make_folder
from ..checkpoint.build import footprint
from ..checkpoint.memory import check_sessions
from ..documents.recording import Recording
from ..engines.duplex.batch import Batch
from ..engines.duplex.engine import Moshi
from ..engines.duplex.sampling import Sampling
from ..engines.duplex.session import DuplexSession
from ..engines.line import Answer
from ..engines.stt.batch import STTBatch
from ..engines.thread import ModelThread
from ..engines.tts.batch import TTSBatch
from ..errors import AudioError, ProtocolError
from .eyes import Eyes
from .gate.addresses import Network
from .gate.gate import Gate
from .gate.limits import Limits
from .gate.lobby import Lobby
from .lazy import Lazy
from .metrics import Metrics
from .personas import Personas
from .places import CONVERSES, FrameTime, fitting
from .speech import SpeechService

log = logging.getLogger(__name__)

_SPARE_DISK = 100 * 2**20  # bytes to leave free: with less, no recording starts


def build_info(model: str) -> dict[str, str]:
    """Sampling settings; the first ten keys are those of Kyutai's page and servers."""
    unknown = ("build_timestamp", "build_date", "git_branch", "git_timestamp")
    unknown += ("git_date", "git_hash", "rustc_version", "cargo_target_triple")
    return {
        **dict.fromkeys(unknown, ""),
        "git_describe": f"moshi_mlx {__version__}",
        "rustc_host_triple": f"{platform.system()} {platform.machine()}",
        "version": __version__,
        "python": platform.python_version(),
        "model": model,
    }


@dataclass(frozen=True)
class About:
    """A description of the model for clients.

    Attributes:
        model: name or folder of the checkpoint.
        wishes: sampling for clients that ask for nothing.
    """

    model: str
    wishes: Sampling

    @property
    def defaults(self) -> dict[str, float | None]:
        """The sampling settings, with the names that clients use."""
        return {
            "text_temperature": self.wishes.temp_text,
            "text_topk": self.wishes.top_k_text,
            "audio_temperature": self.wishes.temp,
            "audio_topk": self.wishes.top_k,
        }

    def metadata(self, wishes: Sampling) -> dict[str, object]:
        """The metadata before the handshake, with the keys of Kyutai's page."""
        return {
            "text_temperature": _first(wishes.temp_text, self.wishes.temp_text),
            "text_topk": _first(wishes.top_k_text, self.wishes.top_k_text),
            "audio_temperature": _first(wishes.temp, self.wishes.temp),
            "audio_topk": _first(wishes.top_k, self.wishes.top_k),
            "pad_mult": 0,
            "repetition_penalty_context": wishes.repetition_context,
            "repetition_penalty": wishes.repetition_penalty,
            "lm_model_file": self.model,
            "instance_name": "moshi_mlx",
            "build_info": build_info(self.model),
            "seed": wishes.seed,
        }


def _first(wished: float | None, default: float | None) -> float | None:
    return default if wished is None else wished


@dataclass
class Service:
    """A running model and everything around it.

    Attributes:
        thread: owns the model.
        batch: the conversations that share it, or None.
        about: the description of the model for clients of conversations.
        places: number of conversations at a time, the rows of the model's batch.
        limits: for each connection.
        record: folder for recordings, None for none.
        proxies: trusted proxies, whose X-Forwarded-For is used.
        speech: the models that listen, speak, translate and write beside it.
        personas: how conversations start; None if they start with nothing.
    """

    thread: ModelThread
    batch: Batch | None = None
    about: About | None = None
    places: int = 1
    limits: Limits = field(default_factory=Limits)
    record: Path | None = None
    proxies: Sequence[Network] = ()
    speech: SpeechService = field(default_factory=SpeechService)
    personas: Personas | None = None

    def __post_init__(self) -> None:
        self.gate = Gate(self.limits, proxies=self.proxies)
        self.lobby = Lobby(self.places)
        moshi = None if self.batch is None else self.batch.moshi
        self.eyes = Eyes(moshi if isinstance(moshi, Moshi) else None, self.places)
        self.metrics = Metrics()
        self.since = time.time()
        self.closing: asyncio.Event = asyncio.Event()
        self._last_step = 0.0

    @property
    def ready(self) -> bool:
        return self.thread.is_alive

    @property
    def offers(self) -> dict[str, str]:
        """Each task that clients find here, and the name of its model."""
        speech = self.speech
        served = {
            "conversations": None if self.about is None else self.about.model,
            "transcription": speech.stt and speech.stt.name,
            "speech": speech.tts and speech.tts.name,
            "translation": speech.translate and speech.translate.name,
            "completions": speech.text and speech.text.name,
        }
        return {what: name for what, name in served.items() if name}

    @property
    def places_now(self) -> dict[str, int]:
        """Number of live clients of each offer; 0 until its model is loaded."""
        speech = self.speech
        return {
            "conversations": 0 if self.batch is None else self.places,
            "transcription": places_of(speech.stt),
            "speech": places_of(speech.tts),
            "translation": places_of(speech.translate),
        }

    @property
    def build_info(self) -> dict[str, str]:
        """What this server is, in the keys of Kyutai's servers."""
        return build_info("" if self.about is None else self.about.model)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the adapters that a conversation may choose from."""
        return () if self.batch is None else tuple(self.batch.moshi.adapters)

    def check_adapter(self, name: str | None) -> None:
        """Raise a ProtocolError for an unknown adapter."""
        if name is not None and name not in self.adapters:
            offer = f"use one of {', '.join(self.adapters)}"
            raise ProtocolError(
                f"adapter={name[:40]!r} is unknown: "
                f"{offer if self.adapters else 'this server has none'}."
            )

    def new_recording(self, seed: int | None) -> Recording | None:
        """A new recording of a conversation; None if unwanted, or the disk is full."""
        if self.record is None or self.about is None:
            return None
        about = {"model": self.about.model, "seed": seed}
        try:
            make_folder(self.record, private=True)
            if shutil.disk_usage(self.record).free < _SPARE_DISK:
                raise AudioError(f"the disk of {self.record} is nearly full")
            return Recording.in_folder(self.record, about=about)
        except (AudioError, OSError) as error:
            log.error("a conversation is not recorded: %s", error)
            return None

    def count(self, answer: Answer) -> None:
        """Count a frame; a step that conversations share counts once."""
        if answer.began_at != self._last_step:
            self._last_step = answer.began_at
            self.metrics.step.observe(answer.step_s)
        self.metrics.lag.observe(answer.lag_s)
        if answer.reply.pcm is not None:
            self.metrics.frames.add("said")

    async def close_row(self, session: Callable[[], DuplexSession | None]) -> None:
        """Free the row of a conversation that has ended.

        Args:
            session: gives it, on the model's thread: it may just be made there.
        """

        def close() -> None:
            if (made := session()) is not None:
                made.close()

        if self.ready:
            closing = self.thread.call(close)
            await asyncio.shield(asyncio.wrap_future(closing))

    def metrics_text(self) -> str:
        gauges = {
            "moshi_sessions": ("Conversations now.", lambda: self.lobby.taken),
            "moshi_places": ("Conversations at most.", lambda: self.places),
            "moshi_stt_places": (
                "Live transcriptions at most; 0 until the model is loaded.",
                lambda: self.places_now["transcription"],
            ),
            "moshi_tts_places": (
                "Live speeches at most; 0 until the model is loaded.",
                lambda: self.places_now["speech"],
            ),
            "moshi_translation_places": (
                "Live translations at most; 0 until the model is loaded.",
                lambda: self.places_now["translation"],
            ),
            "moshi_waiting": ("Connections in the queue.", lambda: self.lobby.waiting),
            "moshi_memory_bytes": ("Memory of this process.", _resident_bytes),
            "moshi_model_memory_bytes": ("Memory held by MLX.", _mlx_bytes),
        }
        speech = self.speech
        counted = (speech.heard, speech.said, speech.cloned)
        return self.metrics.text(gauges) + "".join(part.text() for part in counted)


def places_of(model: "Lazy[STTBatch] | Lazy[TTSBatch] | Lazy[Batch] | None") -> int:
    """How many live clients a model takes; 0 before it is loaded."""
    return 0 if model is None or model.value is None else model.value.rows


def load_batch(
    thread: ModelThread,
    load: Callable[[], Moshi],
    places: int,
    cfg_coef: float | None = None,
    time: FrameTime | None = None,
) -> Batch:
    """A warmed-up batch for the model of ``load()``, made on ``thread``.

    Args:
        places: maximum number of conversations at a time.
        time: limits the time of their steps, by ``CONVERSES``: there are fewer places
            if that many would take longer. Without it they are not timed.

    Raises: ConfigError, with the number that fits, if the memory is too small for that
        many conversations.
    """

    def make() -> Batch:
        moshi = load()
        check_sessions(footprint(moshi.info, moshi.lm), places, moshi.name)
        if time is not None:
            return fitting(
                lambda rows: Batch(moshi, rows, cfg_coef), places, CONVERSES, time
            )
        batch = Batch(moshi, places, cfg_coef)
        batch.warmup()
        return batch

    return thread.run(make)


def limits_of(batch: Batch | None, session_s: float | None) -> Limits:
    """Limits for clients, of a model that may see images.

    Args:
        session_s: the longest conversation, None for no end.
    """
    limits = Limits(session_s=session_s)
    sees = batch is not None and batch.moshi.kind.sees
    return limits.with_images() if sees else limits


def describe(batch: Batch) -> About:
    """The description of a batch's model for clients."""
    moshi = batch.moshi
    return About(moshi.name, Sampling(seed=0).filled(moshi.kind.sampling))


def _resident_bytes() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        import resource  # macOS: the peak, in bytes

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _mlx_bytes() -> float:
    import mlx.core as mx

    return mx.get_active_memory()
