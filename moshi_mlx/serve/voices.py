"""The voices of a server: its model's, and those that clients made and named."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ..audio.samples import Pcm
from ..engines.tts.batch import TTSBatch
from ..engines.tts.live_voice import LiveVoice
from ..errors import NotServed, ProtocolError
from .kept_voices import KeptVoice, KeptVoices, checked_name

MOST_READY = 32  # voices to keep in memory, 1 MB each
LONGEST_VOICE_S = 20.0  # longest voice that a client may send
CLONED_S = 10.0  # length of a recording that becomes a voice, as in moshi-server
VoiceName = str | LiveVoice
NO_CLONING = (
    "only those who trained this model can make voices for it: choose one by name, or "
    "serve a model that continues a recording (kyutai/tts-0.75b-en-public)."
)


class Voices:
    """Finds voices by name, and makes new ones.

    Args:
        speaking: gives the model that speaks; raises NotServed if there is none.
        kept: the folder for named voices; None keeps none.

    Attributes:
        known: names as they were listed last.
    """

    def __init__(
        self,
        speaking: Callable[[], Awaitable[TTSBatch]],
        kept: KeptVoices | None = None,
    ):
        self._speaking, self._kept = speaking, kept
        self._ready: OrderedDict[str, LiveVoice] = OrderedDict()
        self.known: list[str] = []

    async def names(self) -> list[str]:
        """The voices that can be requested; listing them may ask the hub."""
        tts = (await self._speaking()).tts
        own = await asyncio.to_thread(tts.voices)
        made = [voice.name for voice in await self.made()]
        self.known = list(dict.fromkeys([*own, *made]))
        return self.known

    async def made(self) -> list[KeptVoice]:
        """The voices that clients made for this model."""
        tts = (await self._speaking()).tts
        if self._kept is None or tts.multi_speaker:
            return []
        return await asyncio.to_thread(self._kept.all, tts.name)

    async def usual(self) -> str:
        """The name of the usual voice. Raises: NotServed if there is no voice."""
        tts = (await self._speaking()).tts
        voices = self.known or await self.names()
        if not voices:
            raise NotServed(
                f"{tts.voice_repo} has no voices for this model: start the server with "
                "--voice-repo."
            )
        return tts.usual_voice if tts.usual_voice in voices else voices[0]

    def ready(self, name: str | None) -> LiveVoice | None:
        """A voice that was used recently; without waiting."""
        voice = self._ready.get(name or "")
        if voice is not None:
            self._ready.move_to_end(name or "")
        return voice

    async def find(self, wanted: VoiceName | None = None) -> LiveVoice:
        """A voice, the usual one by default; it may have to be downloaded.

        Raises: NotServed for an unknown name; CheckpointError, AudioError or
            ConfigError for a voice that cannot be used.
        """
        if isinstance(wanted, LiveVoice):
            return wanted
        name = wanted or await self.usual()
        if (voice := self.ready(name)) is None:
            voice = self._ready[name] = await self._loaded(name)
            while len(self._ready) > MOST_READY:
                self._ready.popitem(last=False)
        return voice

    async def _loaded(self, name: str) -> LiveVoice:
        batch = await self._speaking()
        if name not in self.known and name not in await self.names():
            raise NotServed(
                f"there is no voice {name[:80]!r}: choose one by its name, see the "
                "list of voices."
            )
        if self._kept is not None and not batch.tts.multi_speaker:
            made = await asyncio.to_thread(self._kept.find, name, batch.tts.name)
            if made is not None:
                return await self.of_numbers(made.codes, made.codes.shape)
        return await asyncio.to_thread(batch.voice, name)

    async def of_numbers(
        self, numbers: Pcm | NDArray[np.int32], shape: Sequence[int]
    ) -> LiveVoice:
        """A voice from ``/api/voice``, or in the form of Kyutai's servers.

        Raises: CheckpointError, ConfigError or NotServed for one of another model.
        """
        batch = await self._speaking()
        tts = batch.tts
        if shape[-1] > LONGEST_VOICE_S * tts.mimi.frame_rate:
            raise NotServed(f"a voice may have {LONGEST_VOICE_S:g} s at most.")

        def make() -> LiveVoice:
            array = mx.array(numbers).reshape(tuple(shape))
            array = array.reshape((1,) * (3 - array.ndim) + array.shape)
            if tts.multi_speaker:
                return batch.voice_of_embedding(array)
            codes = array[0].astype(mx.int32)
            if codes.shape[0] != 1 + tts.lm.n_q or codes.shape[1] < 1:
                raise NotServed("the voice was made for another model.")
            card = tts.mimi.cfg.quantizer_bins
            if not bool(mx.all((codes[1:] >= 0) & (codes[1:] < card)).item()):
                raise NotServed("the voice is damaged.")
            key = hashlib.sha256(np.array(codes).tobytes()).hexdigest()
            return batch.voice_of_codes(codes, key)

        return await tts.owner.arun(make)

    async def clone(self, recording: Path) -> NDArray[np.int32]:
        """A voice made from the start of a recording: codes ``[1 + n_q, P]``.

        Raises: NotServed for a model that takes no recordings; AudioError if
            it is not a recording.
        """
        tts = (await self._speaking()).tts
        if tts.multi_speaker:
            raise NotServed(NO_CLONING)
        prefix = await asyncio.to_thread(tts.get_prefix, recording, CLONED_S)
        return await tts.owner.arun(lambda: np.array(prefix, np.int32))

    async def keep(self, name: object, codes: NDArray[np.int32]) -> KeptVoice:
        """Keep a voice under a name.

        Raises: ProtocolError for a name that is invalid or taken; NotServed if no
            voices are kept; NoPlace if there are too many.
        """
        tts = (await self._speaking()).tts
        if self._kept is None:
            raise NotServed("this server keeps no voices.")
        wanted = checked_name(name)
        if wanted in await self.names():
            raise ProtocolError(f"there is a voice {wanted!r} already.")
        voice = await asyncio.to_thread(self._kept.keep, wanted, tts.name, codes)
        await self.names()
        return voice

    async def forget(self, name: str) -> bool:
        """Remove a voice that a client made; returns whether there was one."""
        tts = (await self._speaking()).tts
        if self._kept is None:
            return False
        gone = await asyncio.to_thread(self._kept.delete, name, tts.name)
        if gone:
            self._ready.pop(name, None)
            await self.names()
        return gone
