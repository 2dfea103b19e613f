"""Learning again what a model can do already, so that it is not lost.

Recordings of users are enough: before the training, the model answers them itself, and
then it learns its own tokens. They come from the very distribution that is to be kept,
unlike recordings of somebody else's answers.
Source: arXiv:2402.13669 (self-distillation), arXiv:2403.01244 (self-synthesised
rehearsal).
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..checkpoint.kinds import SamplingDefaults
from ..models.lm import Lm
from ..models.prompt import Frames
from ..models.snapshot import fingerprint
from .codes import CodeLayout, CodeStore
from .examples import Conditions, condition_of_rows
from .recordings import DataSource, TrainingRecording
from .replies import replies
from .windows import Progress, Prompts, Shape, Windows

ROWS = 8  # windows that are answered at once
LAST = -1  # channel of the user, whether there is one or two
Place = tuple["RehearsedRecording", int]  # a window of a recording


def heard_alone(shape: Shape, other: int, window: float) -> Shape:
    """The shape of recordings of which a model hears only one channel.

    Args:
        shape: of the recordings that it is trained on.
        other: number of codebooks that it hears.
        window: in seconds; silence fills the last one, so that there is time to answer.
    """
    if shape.layout.sides == 1:
        return shape
    layout = CodeLayout(1, other, channel=LAST)
    return replace(shape, layout=layout, silence=(0.0, window))


@dataclass
class RehearsedRecording:
    """A recording of a user: codes ``[other, T]`` of its windows, and the replies."""

    recording: TrainingRecording
    heard: list[np.ndarray]
    told: int
    prompt: Frames | None
    file: Path | None
    replies: list[np.ndarray] | None = None


class Rehearsal:
    """A model that answers recordings, in its current state.

    Args:
        sampling: how it draws tokens.
        codes: of what it hears.
        conditions: collects the conditions of the recordings.
        prompts: for each recording, what comes before each of its windows.
    """

    def __init__(
        self,
        lm: Lm,
        sampling: SamplingDefaults,
        codes: CodeStore,
        conditions: Conditions,
        prompts: Prompts | None = None,
        seed: int = 0,
    ):
        self._lm = lm
        self._sampling = sampling
        self._codes = codes
        self._conditions = conditions
        self._prompts = prompts
        self._seed = seed
        self._model = fingerprint(lm)

    def windows(self, source: DataSource, progress: Progress | None = None) -> Windows:
        """The windows of recordings, with the model's own replies.

        Replies are kept beside the codes. Raises: as ``CodeStore.of``.
        """
        found, count = Windows(source, self._codes.window), len(source.recordings)
        for start in range(0, count, ROWS):
            if progress is not None:
                progress(start, count)
            group = [self._asked(r) for r in source.recordings[start : start + ROWS]]
            self._answer([asked for asked in group if asked.replies is None])
            for asked in group:
                for heard, said in zip(asked.heard, asked.replies or [], strict=True):
                    streams = np.concatenate([said, heard])
                    found.add(streams, asked.prompt, asked.told)
        return found

    def _asked(self, recording: TrainingRecording) -> RehearsedRecording:
        about, prompt = recording.about(), None
        where = str(recording.transcript)
        told = self._conditions.number(about["text_conditions"], where)
        if self._prompts is not None:
            prompt = self._prompts(recording.path.parent, about)
        key = self._model, self._sampling, self._seed, str(about)
        file = self._codes.file(recording, *key)
        heard, kept = self._codes.of(recording), self._codes.kept(file)
        return RehearsedRecording(recording, heard, told, prompt, file, kept)

    def _answer(self, group: Sequence[RehearsedRecording]) -> None:
        """Let the model answer recordings, and keep its answers."""
        for asked in group:
            asked.replies = []
        for places in _together(group):
            heard = [asked.heard[number] for asked, number in places]
            longest = max(codes.shape[1] for codes in heard)
            rows = [
                np.pad(codes, [(0, 0), (0, longest - codes.shape[1])], mode="edge")
                for codes in heard
            ]
            said = replies(
                *(self._lm, np.stack(rows), self._sampling),
                seed=[self._seed_of(place) for place in places],
                condition=condition_of_rows(
                    self._lm.condition_provider,
                    self._conditions.attributes,
                    mx.array([asked.told for asked, _ in places]),
                ),
                prompt=places[0][0].prompt,
            )
            for (asked, number), row in zip(places, said, strict=True):
                assert asked.replies is not None
                asked.replies.append(row[:, : asked.heard[number].shape[1]])
        for asked in group:
            self._codes.keep(asked.file, asked.replies or [])

    def _seed_of(self, place: Place) -> int:
        asked, number = place
        name = f"{asked.recording.path.name} {number} {self._seed}"
        return zlib.crc32(name.encode())


def _together(group: Sequence[RehearsedRecording]) -> Iterator[list[Place]]:
    """All windows, as many at once as possible: one with a prompt is alone."""
    places = [(asked, n) for asked in group for n in range(len(asked.heard))]
    plain = [place for place in places if place[0].prompt is None]
    for start in range(0, len(plain), ROWS):
        yield plain[start : start + ROWS]
    yield from ([place] for place in places if place[0].prompt is not None)
