"""Whom a server's clients talk with, where the model takes a persona and a voice."""

import logging
from dataclasses import dataclass

from ..engines.duplex.batch import Batch, Talker
from ..engines.duplex.persona import Start
from ..engines.duplex.persona_voices import voice_names
from ..errors import ConfigError, MoshiError, ProtocolError

MAX_TEXT = 4000  # characters; NVIDIA's page sends up to 1000
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Personas:
    """Personas of one model.

    Args:
        moshi: the model.
        text: of a client that asks for none.
        voice: likewise; a file's name is the owner's word, and never a client's.
    """

    moshi: Talker
    text: str = ""
    voice: str | None = None

    @property
    def voices(self) -> list[str]:
        """Names that a client may ask for."""
        return voice_names(self.moshi.info)

    @property
    def about(self) -> dict[str, object]:
        """What a page offers."""
        return {"text": self.text, "voices": self.voices}

    def start(self, text: str | None, voice: str | None) -> Start | None:
        """What comes before a conversation; may take a second, on any thread.

        Args:
            text, voice: that the client asked for; None leaves it to the server.

        Raises: ProtocolError, in words for the client, for an unknown voice or a text
            that is too long.
        """
        if voice is not None:
            voice = voice.removesuffix(".pt").removesuffix(".safetensors")
            known = self.voices
            if voice and voice not in known:
                offer = f"use one of {', '.join(known)}" if known else "there are none"
                raise ProtocolError(f"voice_prompt={voice[:40]!r} is unknown: {offer}.")
        try:
            chosen = self.voice if voice is None else voice or None
            return self.moshi.start(self.text if text is None else text, chosen)
        except MoshiError as error:  # its words may name files of the server
            _log.warning("a persona was refused: %s", error)
            raise ProtocolError(
                "text_prompt is too long for this model, or its voice is damaged: "
                "shorten the text, or choose another voice."
            ) from error


def personas_of(
    batch: Batch | None, text: str | None, voice: str | None
) -> Personas | None:
    """Personas of a batch's model; None where it takes none.

    Args:
        text, voice: of clients that ask for none.

    Raises: ConfigError for a model that takes no persona, or none at all, where one is
        given; CheckpointError or AudioError for a voice that is none.
    """
    if batch is None:
        if text is not None or voice is not None:
            raise ConfigError("--persona and --voice need a --model that converses.")
        return None
    if batch.moshi.start(text, voice) is None:
        return None
    return Personas(batch.moshi, text or "", voice)
