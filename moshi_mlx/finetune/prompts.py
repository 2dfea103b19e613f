"""PersonaPlex's prompt before each window: a voice and a persona, as when it runs.

A recording's JSON file may use NVIDIA's names: ``text_prompt``, who the model is to be,
and ``voice_prompt``, a voice by name or a recording. The prompt is heard and not
learnt. Source: arXiv:2602.06053.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoint.info import CheckpointInfo
from ..codec import Codec, make_codec
from ..engines.duplex.persona import Persona, PersonaPrompts
from ..engines.owner import HERE, Owner
from ..models.lm import Lm
from ..models.mimi import Mimi
from ..models.prompt import Frames
from ..utils.text import Tokenizer


@dataclass
class _Model:
    """The parts of a model that make prompts."""

    info: CheckpointInfo
    lm: Lm
    tokenizer: Tokenizer
    name: str
    make_codec: Callable[[], Codec]
    owner: Owner = HERE


class TrainingPrompts:
    """Prompts of a training's recordings, each made once.

    Args:
        codec: returns the codec of the recordings.
    """

    def __init__(
        self,
        info: CheckpointInfo,
        lm: Lm,
        tokenizer: Tokenizer,
        codec: Callable[[], Mimi],
    ):
        self._model = _Model(
            *(info, lm, tokenizer, info.name),
            lambda: make_codec("native", mimi=codec()),
        )
        self._prompts = PersonaPrompts(self._model)
        self._made: dict[tuple[str, str], Frames] = {}

    def __call__(self, folder: Path, about: dict[str, Any]) -> Frames:
        """The frames that come before a recording's windows.

        Args:
            folder: the recording's folder, which may contain the voice's file.
            about: see ``Recording.about``.

        Raises: ConfigError for a text that is too long and a voice that cannot be used;
            CheckpointError or AudioError for a voice that is none.
        """
        text, voice = about["text_prompt"], about["voice_prompt"]
        if voice and (folder / voice).is_file():
            voice = str(folder / voice)
        key = text, voice
        if key not in self._made:
            self._made[key] = self._prompts.frames(Persona(text, voice or None))
        return self._made[key]
