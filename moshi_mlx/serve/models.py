"""The models that a server serves: found now, loaded when they are first needed."""

from collections.abc import Mapping
from typing import Any

from ..checkpoint.info import CheckpointInfo
from ..checkpoint.source import DEMO, Source
from ..engines.duplex.engine import Moshi
from ..engines.duplex.load import load_moshi
from ..engines.load import load_stt, load_tts
from ..engines.owner import model_thread
from ..engines.stt.batch import STTBatch
from ..engines.tts.batch import TTSBatch
from .lazy import Lazy, fitting
from .speech import SpeechService


def family(model: str | None, kind: str) -> str | None:
    """The model of a kind ("stt", "tts") that comes with a Moshi, None without one."""
    if model is None:
        return None
    source = Source.named(model)
    if source.sibling(kind) == source:
        return None
    return f"{DEMO}-{kind}" if model == DEMO else model


def speech_service(
    stt: str | None,
    tts: str | None,
    translate: str | None,
    rows: int,
    voice_repo: str | None = None,
    voice_map: Mapping[str, str] | None = None,
) -> SpeechService:
    """What listens, speaks and translates.

    Args:
        stt, tts, translate: names or folders of models, None for none.
        rows: most live clients of each.

    Raises: CheckpointError for a model that there is not, or that does something else.
    """
    return SpeechService(
        model_thread(),
        None if stt is None else _listening(stt, rows),
        None if tts is None else _speaking(tts, rows, voice_repo),
        None if translate is None else _translating(translate),
        voice_map,
    )


def _listening(name: str, rows: int) -> Lazy[STTBatch]:
    info = CheckpointInfo.find(name, kind="stt")
    info.kind.check("transcribes", info.name)

    def make() -> STTBatch:
        stt = load_stt(info=info)
        return fitting(lambda n: STTBatch(stt, n), rows, info.name)

    return Lazy(info.name, make)


def _speaking(name: str, rows: int, voice_repo: str | None) -> Lazy[TTSBatch]:
    info = CheckpointInfo.find(name, kind="tts")
    info.kind.check("speaks", info.name)
    voices: dict[str, Any] = {} if voice_repo is None else {"voice_repo": voice_repo}

    def make() -> TTSBatch:
        tts = load_tts(info=info, **voices)
        return fitting(lambda n: TTSBatch(tts, n), rows, info.name)

    return Lazy(info.name, make)


def _translating(name: str) -> Lazy[Moshi]:
    info = CheckpointInfo.find(name)
    info.kind.check("translates", info.name)
    return Lazy(info.name, lambda: load_moshi(info=info))
