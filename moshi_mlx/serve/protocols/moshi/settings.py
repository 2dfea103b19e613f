"""The settings in a client's address, `/api/chat?...`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ....engines.duplex.sampling import MAX_REPETITION_CONTEXT, Sampling
from ....engines.duplex.sights import IMAGE_START
from ....errors import ProtocolError
from ....utils.sampling import new_seed
from ...eyes import Look
from ...opus import OpusReader, OpusWriter, PcmReader, PcmWriter, Reader, Writer
from ...personas import MAX_TEXT

FORMATS = ("opus", "pcm")
MAX_TEMPERATURE = 5.0
MAX_TOP_K = 100_000
MAX_IMAGE_SIZE = 4096  # pixels; the model may take fewer
MAX_IMAGE_START = 1_000_000  # steps
MAX_SEED = 2**53  # what a page's numbers can hold exactly


@dataclass(frozen=True)
class Settings:
    """A client's settings, checked.

    Attributes:
        wishes: sampling settings.
        format: of sound in both directions, "opus" (Ogg-Opus) or "pcm" (float32).
        queue: wait for a place if all are taken.
        stats: send lag and dropped frames, as metadata, twice a second.
        look: how the model is to see the client's picture.
        seeded: whether the client chose the seed; otherwise a restart draws a new one.
        persona, voice: the client's wishes, if the model takes a persona; None leaves
            them to the server.
        adapter: the name of an adapter; None for the model as it is.
    """

    wishes: Sampling
    format: str = "opus"
    queue: bool = False
    stats: bool = False
    seeded: bool = False
    persona: str | None = None
    voice: str | None = None
    adapter: str | None = None
    look: Look = field(default_factory=Look)

    def reader(self) -> Reader:
        return PcmReader() if self.format == "pcm" else OpusReader()

    def writer(self) -> Writer:
        return PcmWriter() if self.format == "pcm" else OpusWriter()


def read_settings(query: Mapping[str, str]) -> Settings:
    """Read the query of a connection; unknown names (`email`, ...) are ignored.

    The names are those of Kyutai's page, and ``text_prompt`` and ``voice_prompt`` of
    NVIDIA's. Its two seeds become one here, because text and audio draw from one
    generator; ``seed`` sets it directly.

    Raises: ProtocolError for values that are not numbers, or out of range.
    """
    chosen = query.get("format", "opus").lower()
    if chosen not in FORMATS:
        raise ProtocolError(f"format={chosen!r} is unknown: use opus or pcm.")
    seed = _seed(query)
    context = _whole(query, "repetition_penalty_context", 0, MAX_REPETITION_CONTEXT)
    wishes = Sampling(
        seed=new_seed() if seed is None else seed,
        temp=_decimal(query, "audio_temperature", 0, MAX_TEMPERATURE),
        top_k=_whole(query, "audio_topk", 0, MAX_TOP_K),
        temp_text=_decimal(query, "text_temperature", 0, MAX_TEMPERATURE),
        top_k_text=_whole(query, "text_topk", 0, MAX_TOP_K),
        repetition_penalty=_decimal(query, "repetition_penalty", 0.1, 10) or 1.0,
        repetition_context=64 if context is None else context,
        audio_repetition_penalty=_decimal(query, "audio_repetition_penalty", 0.1, 10)
        or 1.0,
    )
    persona = query.get("text_prompt")
    if persona is not None and len(persona) > MAX_TEXT:
        raise ProtocolError(
            f"text_prompt has {len(persona)} characters: use up to {MAX_TEXT}."
        )
    return Settings(
        *(wishes, chosen, _flag(query, "queue"), _flag(query, "stats")),
        seeded=seed is not None,
        persona=persona,
        voice=query.get("voice_prompt"),
        adapter=query.get("adapter") or None,
        look=_look(query),
    )


def _look(query: Mapping[str, str]) -> Look:
    """Names that MoshiVis's client adds if its user has chosen a picture.

    ``text_temperature_gating_influence``, which only its Rust server has, is not read.
    """
    size = _whole(query, "image_resolution", 1, MAX_IMAGE_SIZE)
    start = _whole(query, "xa_start", 0, MAX_IMAGE_START)
    return Look(
        promised=size is not None or start is not None,
        size=size,
        centre_crop=_flag(query, "center_crop"),
        start=IMAGE_START if start is None else start,
    )


def _seed(query: Mapping[str, str]) -> int | None:
    seed = _whole(query, "seed", 0, MAX_SEED)
    if seed is not None:
        return seed
    text = _whole(query, "text_seed", 0, MAX_SEED)
    audio = _whole(query, "audio_seed", 0, MAX_SEED)
    if text is None or audio is None:
        return audio if text is None else text
    return text if text == audio else (text * 1_000_003 + audio) % 2**53


def _decimal(
    query: Mapping[str, str], name: str, least: float, most: float
) -> float | None:
    written = query.get(name)
    if not written:
        return None
    try:
        value = float(written)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ProtocolError(
            f"{name}={written[:40]!r} must be a number from {least:g} to {most:g}."
        )
    return value


def _whole(query: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    value = _decimal(query, name, least, most)
    if value is None:
        return None
    if value != int(value):
        raise ProtocolError(f"{name}={value:g} must be a whole number.")
    return int(value)


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true", "yes")
