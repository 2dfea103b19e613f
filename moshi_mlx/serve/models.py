"""The models of a server: found now, loaded on first use."""

from collections.abc import Mapping
from typing import Any

from ..checkpoint.build import footprint
from ..checkpoint.info import CheckpointInfo
from ..checkpoint.source import DEMO, Source
from ..engines.duplex.batch import Batch
from ..engines.duplex.load import load_moshi
from ..engines.load import load_stt, load_text, load_tts
from ..engines.owner import model_thread
from ..engines.stt.batch import STTBatch
from ..engines.text import TextModel
from ..engines.tts.batch import TTSBatch
from .kept_voices import KeptVoices
from .lazy import Lazy
from .places import LISTENS, SPEAKS, TRANSLATES, FrameTime, fitting
from .speech import SpeechService


def family(model: str | None, kind: str) -> str | None:
    """The model of a kind ("stt", "tts") that comes with a Moshi, if any."""
    if model is None:
        return None
    source = Source.named(model)
    if source.sibling(kind) == source:
        return None
    return f"{DEMO}-{kind}" if model == DEMO else model


def speech_service(
    rows: int,
    time: FrameTime,
    *,
    stt: str | None = None,
    tts: str | None = None,
    translate: str | None = None,
    text: str | None = None,
    voice_repo: str | None = None,
    voice_map: Mapping[str, str] | None = None,
    kept: KeptVoices | None = None,
) -> SpeechService:
    """The models that listen, speak, translate and write.

    Args:
        rows: maximum number of live clients of each.
        time: limits the time of their steps, by ``LISTENS``, ``SPEAKS`` and
            ``TRANSLATES``.
        stt, tts, translate, text: names or folders of models, None for none.
        kept: see ``SpeechService``.

    Raises: CheckpointError for a model that does not exist, or has another task.
    """
    return SpeechService(
        model_thread(),
        None if stt is None else _listening(stt, rows, time),
        None if tts is None else _speaking(tts, rows, time, voice_repo),
        None if translate is None else _translating(translate, rows, time),
        None if text is None else _writing(text),
        voice_map,
        kept=kept,
    )


def _listening(name: str, rows: int, time: FrameTime) -> Lazy[STTBatch]:
    info = CheckpointInfo.find(name, kind="stt")
    info.kind.check("transcribes", info.name)

    def make() -> STTBatch:
        stt = load_stt(info=info)
        return fitting(lambda n: STTBatch(stt, n), rows, LISTENS, time)

    return Lazy(info.name, make)


def _speaking(
    name: str, rows: int, time: FrameTime, voice_repo: str | None
) -> Lazy[TTSBatch]:
    info = CheckpointInfo.find(name, kind="tts")
    info.kind.check("speaks", info.name)
    voices: dict[str, Any] = {} if voice_repo is None else {"voice_repo": voice_repo}

    def make() -> TTSBatch:
        tts = load_tts(info=info, **voices)
        return fitting(lambda n: TTSBatch(tts, n), rows, SPEAKS, time)

    return Lazy(info.name, make)


def _translating(name: str, rows: int, time: FrameTime) -> Lazy[Batch]:
    info = CheckpointInfo.find(name)
    info.kind.check("translates", info.name)

    def make() -> Batch:
        moshi = load_moshi(info=info)
        room = footprint(moshi.info, moshi.lm).sessions_that_fit()
        return fitting(lambda n: Batch(moshi, n), min(rows, room), TRANSLATES, time)

    return Lazy(info.name, make)


def _writing(name: str) -> Lazy[TextModel]:
    info = CheckpointInfo.find(name)
    info.kind.check("writes", info.name)
    return Lazy(info.name, lambda: load_text(info=info))
