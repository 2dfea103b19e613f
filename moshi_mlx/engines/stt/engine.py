"""STTModel: sound in, words with times out; from files, or while it is spoken."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...documents.transcript import LAYOUT, Layout
from . import files
from .events import Event
from .files import FileFailure, FileTranscript
from .model import Recogniser, Sound
from .session import STTSession
from .transcript import Transcript


class STTModel(Recogniser):
    """A listening model: see ``Recogniser`` for its arguments.

    All methods may be called from any thread. The options of ``session`` and of all
    others are those of ``listening``.
    """

    def __repr__(self) -> str:
        return f"<STTModel {self.name}: {self.about}, delay {self.delay_s:g} s>"

    def session(self, *, sample_rate: int | None = None, **options: Any) -> STTSession:
        """Listen to something that is being said, see ``STTSession``.

        Args:
            sample_rate: Hz of what will be fed; the model's own by default.
        """
        return self.owner.run(
            lambda: STTSession(self, self.listening(**options), sample_rate)
        )

    def transcribe(
        self,
        sound: Sound,
        *,
        sample_rate: int | None = None,
        on_event: Callable[[Event], None] | None = None,
        **options: Any,
    ) -> Transcript:
        """The words of a sound file, or of an array.

        Args:
            sound: a file (see ``moshi_mlx.audio.read``), or samples ``[S]``: float32,
                int16 or int32.
            sample_rate: Hz of an array; the model's own by default.
            on_event: called with everything as it is noticed.

        Raises: AudioError for anything else.
        """

        def tell(_row: int, event: Event) -> None:
            if on_event is not None:
                on_event(event)

        found = self.transcribe_all(
            [sound], sample_rate=sample_rate, on_event=tell, **options
        )
        return found[0]

    async def atranscribe(self, sound: Sound, **options: Any) -> Transcript:
        """As ``transcribe``, for asyncio; ``on_event`` is called on another thread."""
        return await asyncio.to_thread(self.transcribe, sound, **options)

    def transcribe_all(
        self,
        sounds: Sequence[Sound],
        *,
        sample_rate: int | None = None,
        on_event: Callable[[int, Event], None] | None = None,
        on_progress: Callable[[float], None] | None = None,
        **options: Any,
    ) -> list[Transcript]:
        """Several sounds at once, of any lengths; each gets what it would alone.

        Args:
            sample_rate: Hz of arrays; the model's own by default.
            on_event: called with each sound's number and event.
            on_progress: called with seconds of sound that were worked through since the
                last call.
        """
        return files.transcribe_sounds(
            self,
            sounds,
            sample_rate=sample_rate,
            on_event=on_event,
            on_progress=on_progress,
            **options,
        )

    def transcribe_files(
        self,
        paths: Sequence[str | Path],
        *,
        forms: Sequence[str] = (),
        out_folder: Path | None = None,
        layout: Layout = LAYOUT,
        batch_size: int = 8,
        on_file: Callable[[FileTranscript | FileFailure], None] = lambda _: None,
        on_event: Callable[[Path, Event], None] = lambda _path, _event: None,
        on_progress: Callable[[float], None] = lambda _: None,
        **options: Any,
    ) -> list[FileTranscript | FileFailure]:
        """Many files: ``moshi-mlx transcribe`` as a function.

        A file that cannot be read does not hold up the others. After Ctrl-C what was
        heard so far is still written, and ``KeyboardInterrupt`` is raised.

        Args:
            forms: "json", "srt", "txt", "vtt": files of words to write.
            out_folder: where they go; beside the sound files by default.
            layout: of subtitles.
            batch_size: files to listen to at once.
            on_file: called with each result, as it is there.
            on_event: called with each file and event.
            on_progress: called with the share of the work that is done, 0 to 1.
        """
        return files.transcribe_files(
            self,
            paths,
            forms=forms,
            out_folder=out_folder,
            layout=layout,
            batch_size=batch_size,
            on_file=on_file,
            on_event=on_event,
            on_progress=on_progress,
            **options,
        )
