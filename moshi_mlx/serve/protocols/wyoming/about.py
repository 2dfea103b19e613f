"""A Wyoming server's description of itself; it needs no loaded model."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .... import __version__
from ....errors import MoshiError
from ...speech import Offer, SpeechService
from ...tasks import within

if TYPE_CHECKING:
    from wyoming.info import AsrProgram, Attribution, Info, TtsProgram

PROGRAM = "moshi-mlx"
USUAL_VOICE = "default"  # a name for the usual voice, whichever it is
_LISTING_S = 0.5  # Home Assistant waits one second for the whole answer


async def describe(speech: SpeechService) -> "Info":
    """The answer to ``describe``.

    All voices are listed if the speaking model is loaded and lists them quickly;
    otherwise only the usual one is.
    """
    from wyoming.info import Info

    hears, says = speech.hears, speech.says
    voices: Sequence[str] = () if says is None else says.voices
    if says is not None and not voices and speech.tts is not None and speech.tts.value:
        try:
            voices = await within(speech.voices.names(), _LISTING_S)
        except (asyncio.TimeoutError, MoshiError):
            voices = ()
    return Info(
        asr=[] if hears is None else [_asr(hears)],
        tts=[] if says is None else [_tts(says, [USUAL_VOICE, *voices])],
    )


def _kyutai() -> "Attribution":
    from wyoming.info import Attribution

    return Attribution(name="Kyutai", url="https://kyutai.org")


def _asr(offer: Offer) -> "AsrProgram":
    from wyoming.info import AsrModel, AsrProgram

    model = AsrModel(
        name=offer.name,
        attribution=_kyutai(),
        installed=True,
        description=f"Speech to text with {offer.name}",
        version=__version__,
        languages=list(offer.languages),
    )
    return AsrProgram(
        name=PROGRAM,
        attribution=_kyutai(),
        installed=True,
        description="Kyutai's speech to text, run locally with MLX",
        version=__version__,
        models=[model],
        supports_transcript_streaming=True,
    )


def _tts(offer: Offer, voices: Sequence[str]) -> "TtsProgram":
    from wyoming.info import TtsProgram, TtsVoice

    return TtsProgram(
        name=PROGRAM,
        attribution=_kyutai(),
        installed=True,
        description="Kyutai's text to speech, run locally with MLX",
        version=__version__,
        voices=[
            TtsVoice(
                name=name,
                attribution=_kyutai(),
                installed=True,
                description=name,
                version=__version__,
                languages=list(offer.languages),
            )
            for name in dict.fromkeys(voices)
        ],
        supports_synthesize_streaming=True,
    )
