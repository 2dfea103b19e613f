"""Whole sounds and files: encoded side by side, a second at a time, and transcribed."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...audio.inputs import name_of
from ...audio.long import LongSound
from ...documents.transcript import LAYOUT, Layout
from ...documents.word_files import write_words
from ...documents.words import Word
from ...errors import MoshiError
from .events import EndOfTurn, Event
from .model import Pcm, Recogniser, Sound
from .rows import FRAME_S, Frame, is_loud
from .transcript import Transcript

BLOCK_FRAMES = 16  # encoded at once

OnEvent = Callable[[int, Event], None]
OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class FileTranscript:
    """The words of a file, and the text files that were written."""

    path: Path
    transcript: Transcript
    written: list[Path]


@dataclass(frozen=True)
class FileFailure:
    """A file that could not be read, and why."""

    path: Path
    error: MoshiError


def transcribe_sounds(
    stt: Recogniser,
    sounds: Sequence[Sound],
    *,
    sample_rate: int | None = None,
    on_event: OnEvent | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> list[Transcript]:
    """See ``STTModel.transcribe_all``."""
    pcm = [stt.samples(sound, sample_rate) for sound in sounds]
    found: list[list[Event]] = [[] for _ in pcm]
    for seconds, events in stt.owner.iterate(lambda: _listen(stt, pcm, options)):
        for row, event in events:
            if isinstance(event, Word | EndOfTurn):
                found[row].append(event)
            if on_event is not None:
                on_event(row, event)
        if seconds and on_progress is not None:
            on_progress(seconds)
    return [
        Transcript.of(events, len(samples) / stt.sample_rate)
        for events, samples in zip(found, pcm, strict=True)
    ]


def transcribe_files(
    stt: Recogniser,
    files: Sequence[str | Path],
    *,
    forms: Sequence[str] = (),
    out_folder: Path | None = None,
    layout: Layout = LAYOUT,
    batch_size: int = 8,
    on_file: Callable[[FileTranscript | FileFailure], None] = lambda _: None,
    on_event: Callable[[Path, Event], None] = lambda _path, _event: None,
    on_progress: OnProgress = lambda _: None,
    **options: Any,
) -> list[FileTranscript | FileFailure]:
    """See ``STTModel.transcribe_files``."""
    paths = list(dict.fromkeys(map(Path, files)))
    texts = text_files(paths, forms, out_folder)
    results: list[FileTranscript | FileFailure] = []

    def finish(result: FileTranscript | FileFailure) -> None:
        results.append(result)
        on_file(result)

    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        sounds: dict[Path, Pcm | LongSound] = {}
        for path in batch:
            try:
                sounds[path] = stt.samples(path)
            except MoshiError as error:
                finish(FileFailure(path, error))
        names = list(sounds)
        kept = Kept(len(names))
        total_s = sum(map(len, sounds.values())) / stt.sample_rate

        def notice(row: int, event: Event, kept=kept, names=names) -> None:
            kept.notice(row, event)
            on_event(names[row], event)

        def tell(seconds: float, batch=batch, total_s=total_s, start=start) -> None:
            nonlocal heard_s
            heard_s += seconds
            share = start + len(batch) * heard_s / (total_s or 1.0)
            on_progress(min(share, start + len(batch)) / len(paths))

        heard_s = 0.0
        try:
            found = transcribe_sounds(
                stt,
                list(sounds.values()),
                on_event=notice,
                on_progress=tell,
                **options,
            )
        except KeyboardInterrupt:  # the text so far is written
            found = kept.transcripts()
            for path, transcript in zip(names, found, strict=True):
                finish(_write(path, transcript, texts[path], layout))
            raise
        for path, transcript in zip(names, found, strict=True):
            finish(_write(path, transcript, texts[path], layout))
    return results


def text_files(
    paths: Sequence[Path], forms: Sequence[str], folder: Path | None
) -> dict[Path, list[Path]]:
    """The path of each sound file's words: beside it, or in ``folder``.

    The name is the sound's, without its ending. If another sound would get the same
    name, the ending stays (``a.mp3.srt``), and if that does not help, a number is
    added.
    """
    homes = {path: folder or name_of(path).parent for path in dict.fromkeys(paths)}
    stems = Counter(_file(home / name_of(p).stem) for p, home in homes.items())
    names = Counter(_file(home / name_of(p).name) for p, home in homes.items())
    files: dict[Path, list[Path]] = {}
    taken: set[str] = set()
    for path, home in homes.items():
        place = home / name_of(path).stem
        if stems[_file(place)] > 1 and names[_file(home / name_of(path).name)] == 1:
            place = home / name_of(path).name
        numbers = (place.with_name(f"{place.name}-{n}") for n in count(2))
        chosen = next(p for p in chain([place], numbers) if _file(p) not in taken)
        taken.add(_file(chosen))
        forms = list(dict.fromkeys(forms))
        files[path] = [chosen.with_name(f"{chosen.name}.{form}") for form in forms]
    return files


def _file(path: Path) -> str:
    """Equal for paths that mean one file, on a Mac too."""
    return str(path.absolute()).casefold()


class Kept:
    """The words and turns found so far in each of ``count`` sounds."""

    def __init__(self, count: int):
        self._events: list[list[Event]] = [[] for _ in range(count)]

    def notice(self, row: int, event: Event) -> None:
        """Take an event of a sound."""
        if isinstance(event, Word | EndOfTurn):
            self._events[row].append(event)

    def transcripts(self, duration_s: float = 0.0) -> list[Transcript]:
        """The transcript so far; a sound is at least as long as its events."""
        found = []
        for events in self._events:
            ends = [event.end_s for event in events if isinstance(event, Word)]
            found.append(Transcript.of(events, max([duration_s, *ends])))
        return found


def _write(
    path: Path, transcript: Transcript, files: list[Path], layout: Layout
) -> FileTranscript:
    for file in files:
        write_words(file, transcript.words, layout)
    return FileTranscript(path, transcript, files)


async def alisten(
    stt: Recogniser, sound: Sound, **options: Any
) -> AsyncGenerator[Event, None]:
    """The events of a sound, as they happen; leaving the loop ends the work."""
    pcm = await asyncio.to_thread(stt.samples, sound)
    async for _, events in stt.owner.aiterate(lambda: _listen(stt, [pcm], options)):
        for _, event in events:
            yield event


Step = tuple[float, list[tuple[int, Event]]]


def _listen(
    stt: Recogniser, pcm: list[Pcm | LongSound], options: dict[str, Any]
) -> Iterator[Step]:
    """Per step of the model: seconds of sound done, and (sound, event)."""
    listening = stt.listening(**options)
    if not pcm:
        return
    rows = stt.rows(len(pcm), listening)
    for frames in encoded(stt, pcm, listening.before):
        for row, new in zip(rows.rows, frames, strict=True):
            row.waiting.extend(new)
        while rows.waiting:
            yield 0.0, _by_row(rows.step())
        yield sum(f.end_s - f.start_s for new in frames for f in new), []
    yield 0.0, _by_row([rows.finish(b) for b in range(len(pcm))])


def _by_row(events: Sequence[list[Event]]) -> list[tuple[int, Event]]:
    return [(b, event) for b, mine in enumerate(events) for event in mine]


def encoded(
    stt: Recogniser, sounds: Sequence[Pcm | LongSound], lead: Pcm
) -> Iterator[list[list[Frame]]]:
    """The next frames of every sound, after ``lead`` and followed by silence."""
    size, before = stt.mimi.frame_size, len(lead)
    state = stt.mimi.make_state(len(sounds))
    start, total = 0, 1.0
    while start < total:
        pcm = np.zeros((len(sounds), 1, BLOCK_FRAMES * size), np.float32)
        first = start * size - before  # first sample of the sounds
        for row, sound in zip(pcm[:, 0], sounds, strict=True):
            given = lead[start * size :][: len(row)]
            row[: len(given)] = given
            part = sound[max(first, 0) : max(first + len(row), 0)]
            at = max(-first, 0)
            row[at : at + len(part)] = part
        codes = stt.encode(pcm, state)
        lengths = [_length(sound) for sound in sounds]
        totals = [
            math.ceil((before + s) / size) + stt.flush_frames if s < math.inf else s
            for s in lengths
        ]
        yield [
            [
                _frame(
                    codes[b, :, i],
                    pcm[b, 0, i * size :][:size],
                    (start + i) * FRAME_S - before / stt.sample_rate,
                    lengths[b] / stt.sample_rate,
                )
                for i in range(int(min(BLOCK_FRAMES, max(totals[b] - start, 0))))
            ]
            for b in range(len(sounds))
        ]
        start, total = start + BLOCK_FRAMES, max(totals)


def _length(sound: Pcm | LongSound) -> float:
    """Samples of a sound; infinite until its end is known."""
    known = not isinstance(sound, LongSound) or sound.ended
    return len(sound) if known else math.inf


def _frame(codes: NDArray[np.int32], pcm: Pcm, start_s: float, last_s: float) -> Frame:
    """A frame; times outside the sound are moved to its ends."""
    times = [min(max(t, 0.0), last_s) for t in (start_s, start_s + FRAME_S)]
    return Frame(codes, times[0], times[1], is_loud(pcm))
