"""What a server's conversations begin with: whom the model is, where it takes a persona
and a voice, and the words that it says first."""

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
    """Beginnings of conversations with one model.

    Args:
        moshi: the model.
        text: of a client that asks for no persona.
        voice: likewise; a file's name is the owner's word, and never a client's.
        say_first: words that the model says before anything else.
    """

    moshi: Talker
    text: str = ""
    voice: str | None = None
    say_first: str | None = None

    @property
    def voices(self) -> list[str]:
        """Names that a client may ask for."""
        return voice_names(self.moshi.info)

    @property
    def about(self) -> dict[str, object] | None:
        """What a page offers; None where the model takes no persona."""
        if not self.moshi.kind.takes_persona:
            return None
        return {"text": self.text, "voices": self.voices}

    def start(self, text: str | None = None, voice: str | None = None) -> Start | None:
        """What comes before a conversation; may take a second, on any thread.

        Args:
            text, voice: that the client asked for; None leaves it to the server. A
                model that takes no persona pays no heed to them.

        Raises: ProtocolError, in words for the client, for an unknown voice or a text
            that is too long.
        """
        if not self.moshi.kind.takes_persona:
            return self.moshi.start(say_first=self.say_first)
        if voice is not None:
            voice = voice.removesuffix(".pt").removesuffix(".safetensors")
            known = self.voices
            if voice and voice not in known:
                offer = f"use one of {', '.join(known)}" if known else "there are none"
                raise ProtocolError(f"voice_prompt={voice[:40]!r} is unknown: {offer}.")
        chosen = self.voice if voice is None else voice or None
        text = self.text if text is None else text
        try:
            return self.moshi.start(text, chosen, self.say_first)
        except MoshiError as error:  # its words may name files of the server
            _log.warning("a persona was refused: %s", error)
            raise ProtocolError(
                "text_prompt is too long for this model, or its voice is damaged: "
                "shorten the text, or choose another voice."
            ) from error


def personas_of(
    batch: Batch | None,
    text: str | None,
    voice: str | None,
    say_first: str | None = None,
) -> Personas | None:
    """What conversations with a batch's model begin with; None where nothing comes
    before them.

    Args:
        text, voice: of clients that ask for none.
        say_first: words that the model says before anything else.

    Raises: ConfigError for a persona or a voice where the model takes none, and for
        anything where nobody converses; CheckpointError or AudioError for a voice that
        is none.
    """
    if batch is None:
        if (text, voice, say_first) != (None, None, None):
            raise ConfigError(
                "--persona, --voice and --say-first need a --model that converses."
            )
        return None
    if batch.moshi.start(text, voice, say_first) is None:
        return None
    return Personas(batch.moshi, text or "", voice, say_first)
