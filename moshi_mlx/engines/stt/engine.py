"""STTModel: words with times, of files or of live speech."""

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
    """A model that transcribes; see ``Recogniser`` for its arguments.

    All methods may be called from any thread. ``options`` are those of ``listening``.
    """

    def __repr__(self) -> str:
        return f"<STTModel {self.name}: {self.about}, delay {self.delay_s:g} s>"

    def session(self, *, sample_rate: int | None = None, **options: Any) -> STTSession:
        """Transcribe live speech, see ``STTSession``.

        Args:
            sample_rate: Hz of the sound that will be fed; by default the model's.
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
        """Transcribe a sound file, or an array.

        Args:
            sound: a file or its bytes (see ``moshi_mlx.audio.read``), or samples
                ``[S]``: float32, int16 or int32.
            sample_rate: Hz of an array; by default the model's.
            on_event: called with each event as it happens.

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
        """Like ``transcribe``, for asyncio; ``on_event`` is called on another
        thread."""
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
        """Transcribe several sounds of any lengths at once.

        Each result is the same as if its sound were transcribed alone.

        Args:
            sample_rate: Hz of arrays; by default the model's.
            on_event: called with the number of a sound and its event.
            on_progress: called with the seconds of sound done since the last call.
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
        """Transcribe many files: ``moshi-mlx transcribe`` as a function.

        A file that cannot be read does not stop the others. After Ctrl-C the text so
        far is still written, and then ``KeyboardInterrupt`` is raised.

        Args:
            forms: formats of files to write: "json", "srt", "txt", "vtt".
            out_folder: folder for them; by default beside the sound files.
            layout: of subtitles.
            batch_size: number of files to transcribe at once.
            on_file: called with each result as soon as it is ready.
            on_event: called with each file and event.
            on_progress: called with the share of the work done, 0 to 1.
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
