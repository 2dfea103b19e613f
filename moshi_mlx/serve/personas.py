"""How a server's conversations start: persona, voice, and the model's first words."""

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
    """Starts of conversations with one model.

    Args:
        moshi: the model.
        text: persona for clients that ask for none.
        voice: voice for clients that ask for none; only the owner may name a file,
            never a client.
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
        """The choices for a page; None if the model takes no persona."""
        if not self.moshi.kind.takes_persona:
            return None
        return {"text": self.text, "voices": self.voices}

    def start(self, text: str | None = None, voice: str | None = None) -> Start | None:
        """Prepare the start of a conversation; may take a second, on any thread.

        Args:
            text, voice: the client's wishes; None leaves them to the server. They are
                ignored if the model takes no persona.

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
        except MoshiError as error:  # its message may name files on the server
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
    """How conversations with a batch's model start; None if they start with nothing.

    Args:
        text, voice: for clients that ask for none.
        say_first: words that the model says before anything else.

    Raises: ConfigError for a persona or a voice if the model takes none, and for all of
        them if there are no conversations; CheckpointError or AudioError for an invalid
        voice.
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
