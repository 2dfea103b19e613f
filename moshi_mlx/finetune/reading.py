"""From settings to windows: recordings, rehearsal, and data for evaluation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from ..checkpoint.build import load_mimi, load_tokenizer
from ..checkpoint.info import CheckpointInfo
from ..models.lm import Lm
from ..models.mimi import Mimi
from .codes import CodeStore
from .examples import Conditions
from .prompts import TrainingPrompts
from .recordings import VALID, DataSource, find_sources
from .rehearsal import Rehearsal, heard_alone
from .settings import TrainSettings
from .windows import Progress, Shape, Windows, recorded
from .words import encoder

Told = Callable[[str, int, int], None]  # what is read, how much of how many


class TrainingData(NamedTuple):
    """Windows of each source.

    Attributes:
        recorded: for the model to learn.
        rehearsed: with the model's own answers, to keep what it can do.
        valid: for evaluation.
    """

    recorded: list[Windows]
    rehearsed: list[Windows]
    valid: list[Windows]

    @property
    def trained(self) -> list[Windows]:
        """All windows for training."""
        return self.recorded + self.rehearsed


def read_data(
    info: CheckpointInfo,
    lm: Lm,
    settings: TrainSettings,
    conditions: Conditions,
    tell: Told | None = None,
) -> TrainingData:
    """Read or encode all recordings, and let the model answer those that it rehearses.

    Args:
        conditions: collects the conditions of the recordings.

    Raises: ConfigError or AudioError for data that cannot be used.
    """
    shape, tokenizer = Shape.of(lm.cfg, info.stt_config), load_tokenizer(info)
    text = replace(shape.text, shift=settings.keep_and_shift)
    layout = replace(shape.layout, steady=settings.steady_silence)
    shape = replace(shape, text=text, layout=layout)
    train = find_sources(settings.data)
    valid = find_sources(settings.eval_data) if settings.eval_data else []
    valid = valid or find_sources(settings.data, VALID)
    load_codec = cache(partial(load_mimi, info))
    codes = _store(train, shape, settings, load_codec)
    encode, prompts = encoder(tokenizer), None
    if info.kind.takes_persona:
        prompts = TrainingPrompts(info, lm, tokenizer, load_codec)

    def progress(source: DataSource) -> Progress | None:
        return None if tell is None else partial(tell, source.name)

    def windows(sources: Sequence[DataSource]) -> list[Windows]:
        return [
            recorded(s, codes, encode, shape, progress(s), prompts, conditions)
            for s in sources
        ]

    found = TrainingData(windows(train), [], windows(valid))
    if settings.rehearse:
        again = find_sources(settings.rehearse)
        alone = heard_alone(shape, lm.cfg.other_codebooks, settings.window)
        heard = _store(again, alone, settings, load_codec)
        model = Rehearsal(
            *(lm, info.kind.sampling, heard, conditions, prompts), seed=settings.seed
        )
        share = sum(source.weight for source in train)  # as often as all the others
        for source in again:
            weighted = replace(source, weight=source.weight * share)
            found.rehearsed.append(model.windows(weighted, progress(source)))
    return found


def _store(
    sources: Sequence[DataSource],
    shape: Shape,
    settings: TrainSettings,
    load_codec: Callable[[], Mimi],
) -> CodeStore:
    beside = sources[0].recordings[0].path.parent / ".codes"
    folder = Path(settings.cache_dir) if settings.cache_dir else beside
    layout, silence = shape.layout, shape.silence
    return CodeStore(folder, load_codec, layout, settings.window, silence)
