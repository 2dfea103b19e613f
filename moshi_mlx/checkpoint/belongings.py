"""What belongs to a language model in its checkpoint, to be written with a new one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.nn as nn

from ..models.lm import Lm
from ..utils.tensor_files import Weights
from .build import load_image_encoder, load_tokenizer
from .codec import codec_to_save
from .companions import companions
from .info import CheckpointInfo
from .save import save


@dataclass(frozen=True)
class Belongings:
    """Codec, tokenizer, image encoder and voices of a checkpoint.

    ``convert``, ``quantize`` and ``fuse`` change the language model, and write all of
    this beside it.
    """

    info: CheckpointInfo
    mimi: Path | Weights | None
    mimi_config: dict[str, Any] | None
    image_encoder: nn.Module | None
    voices: dict[str, Path]

    @classmethod
    def of(cls, info: CheckpointInfo) -> "Belongings":
        """Fetch them, before any long work.

        Raises: CheckpointError if one is missing, or is not what it should be: only a
            tokenizer and voices are copied, not any file that a stranger names.
        """
        load_tokenizer(info)
        mimi, config = codec_to_save(info)
        encoder = load_image_encoder(info, as_stored=True)
        return cls(info, mimi, config, encoder, companions(info))

    def save(
        self,
        folder: Path,
        lm: Lm,
        *,
        names: Callable[[Weights], Weights] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write them and ``lm``; see ``save``."""
        return save(
            folder,
            lm,
            self.info.config,
            mimi=self.mimi,
            mimi_config=self.mimi_config,
            tokenizer=self.info.tokenizer,
            beside=self.voices,
            image_encoder=self.image_encoder,
            names=names,
            overwrite=overwrite,
        )
