"""STTModel: sound in, words with times out; from files, or while it is spoken."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...documents.words import Word
from .events import EndOfTurn, Event
from .files import encoded
from .model import Recogniser, Sound
from .rows import Frame, Rows
from .session import STTSession
from .transcript import Transcript


class STTModel(Recogniser):
    """A listening model: see ``Recogniser`` for its arguments."""

    def session(self, **options: Any) -> STTSession:
        """Listen to something that is being said, see ``STTSession``.

        Args:
            options: those of ``listening``.
        """
        return STTSession(self, self.listening(**options))

    def transcribe(
        self,
        sound: Sound,
        *,
        on_event: Callable[[Event], None] | None = None,
        **options: Any,
    ) -> Transcript:
        """The words of a sound.

        Args:
            sound: a file (see ``moshi_mlx.audio.read``), or samples ``[S]`` at
                ``sample_rate``: float32, int16 or int32.
            on_event: is told everything as it is noticed.
            options: those of ``listening``.

        Raises: AudioError for what is no sound.
        """

        def tell(_row: int, event: Event) -> None:
            if on_event is not None:
                on_event(event)

        return self.transcribe_all([sound], on_event=tell, **options)[0]

    def transcribe_all(
        self,
        sounds: Sequence[Sound],
        *,
        on_event: Callable[[int, Event], None] | None = None,
        on_progress: Callable[[float], None] | None = None,
        **options: Any,
    ) -> list[Transcript]:
        """Several sounds at once, of any lengths; each gets what it would alone.

        Args:
            on_event: is told each sound's number and event.
            on_progress: is told seconds of sound that were worked through.
            options: those of ``listening``.
        """
        listening = self.listening(**options)
        pcm = [self._samples(sound) for sound in sounds]
        if not pcm:
            return []
        rows = self.rows(len(pcm), listening)
        found: list[list[Event]] = [[] for _ in pcm]
        for row, event in _listen(
            rows, encoded(self, pcm, listening.before), on_progress
        ):
            if isinstance(event, Word | EndOfTurn):
                found[row].append(event)
            if on_event is not None:
                on_event(row, event)
        return [
            Transcript.of(events, len(samples) / self.sample_rate)
            for events, samples in zip(found, pcm, strict=True)
        ]


def _listen(
    rows: Rows,
    sounds: Iterator[list[list[Frame]]],
    on_progress: Callable[[float], None] | None,
) -> Iterator[tuple[int, Event]]:
    """Everything that is noticed, with the sound's number."""
    for frames in sounds:
        for row, new in zip(rows.rows, frames, strict=True):
            row.waiting.extend(new)
        while rows.waiting:
            for b, events in enumerate(rows.step()):
                yield from ((b, event) for event in events)
        if on_progress is not None:
            on_progress(sum(f.end_s - f.start_s for new in frames for f in new))
    for b in range(len(rows.rows)):
        yield from ((b, event) for event in rows.finish(b))
