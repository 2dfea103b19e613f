"""A conversation on disk: both voices and the text, complete even after a kill."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from ..audio.files import WavWriter, make_folder
from ..audio.framing import FRAME, SAMPLE_RATE
from ..errors import AudioError
from ..utils.private_files import new_private
from .transcript import (
    Timed,
    begins_cue,
    begins_word,
    held,
    srt_cue,
    txt_line,
    with_spaces,
)

RESTART = "[a new conversation]"  # in subtitles and transcript
SUFFIXES = (".wav", ".json", ".txt", ".srt")
Opener = Callable[[str, int], int]


class Recording:
    """Both sides of a conversation in a stereo WAV, and its text in three files.

    The user is on the left, Moshi on the right. Beside ``NAME.wav`` come ``NAME.json``
    (words with times), ``NAME.txt`` and ``NAME.srt``. All are complete and well-formed
    after every ``add``: nothing is lost, whatever ends the process.

    Args:
        path: of the WAV file; its folder must exist.
        sample_rate: of both sides, in Hz.
        about: additional content of the JSON file (model, seed, ...).
        opener: as in ``open``: who may read the files, and whether they must be new.

    Raises: AudioError if the files cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int = SAMPLE_RATE,
        about: Mapping[str, object] | None = None,
        opener: Opener | None = None,
    ):
        self.path = Path(path)
        self._wav = WavWriter(self.path, 2, sample_rate, opener)
        head = {
            "recording": self.path.name,
            "sample_rate": sample_rate,
            **(about or {}),
        }
        start = json.dumps(head, ensure_ascii=False)[:-1] + ', "words": ['
        texts = {suffix: self.path.with_suffix(suffix) for suffix in SUFFIXES[1:]}
        self._json = _Growing(texts[".json"], start, "\n]}\n", opener)
        self._txt = _Growing(texts[".txt"], opener=opener)
        self._srt = _Growing(texts[".srt"], opener=opener)
        self._word: Timed | None = None
        self._cue: Timed | None = None
        self._cues = 0
        self._restarts: list[float] = []
        self._fresh = False  # whether the next piece begins another conversation

    @classmethod
    def in_folder(
        cls,
        folder: str | Path,
        sample_rate: int = SAMPLE_RATE,
        about: Mapping[str, object] | None = None,
    ) -> "Recording":
        """A recording named by the time; ``folder`` is made if it does not exist.

        The files are for their owner alone, because people talk in them. Nothing in the
        folder is overwritten, and links are not followed.
        """
        folder = Path(folder)
        make_folder(folder, private=True)
        name = f"{datetime.now():moshi-%Y%m%d-%H%M%S}"
        path, again = folder / f"{name}.wav", 2
        while any(os.path.lexists(path.with_suffix(suffix)) for suffix in SUFFIXES):
            path, again = folder / f"{name}-{again}.wav", again + 1
        return cls(path, sample_rate, about, new_private)

    @property
    def duration_s(self) -> float:
        """What has been recorded so far, in seconds."""
        return self._wav.duration_s

    def add(
        self,
        user: np.ndarray | None,
        moshi: np.ndarray | None,
        text: str = "",
        at_s: float | None = None,
    ) -> None:
        """Append a frame of both sides, and the piece of text that came with it.

        Args:
            user: ``[S]``, or None for silence.
            moshi: ``[S]``, or None for silence.
            text: a piece as the model says it; one that starts with a space starts a
                word.
            at_s: when it is spoken, if that is not the time of this frame.
        """
        start_s = self.duration_s if at_s is None else at_s
        given = [side for side in (user, moshi) if side is not None]
        size = len(given[0]) if given else FRAME
        silence = np.zeros(size, np.float32)
        self._wav.write(
            np.stack([silence if side is None else side for side in (user, moshi)])
        )
        if text:
            frame_s = size / self._wav.sample_rate
            text = text.replace("\n", " ")
            self._add_text(Timed(text, start_s, start_s + frame_s))

    def close(self) -> None:
        """Close the files; nothing more is written."""
        for file in (self._wav, self._json, self._txt, self._srt):
            file.close()

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def restart(self) -> None:
        """Mark the start of another conversation in all of the text files."""
        self._restarts.append(round(self.duration_s, 3))
        self._json.end_with(f'\n], "restarts_s": {json.dumps(self._restarts)}}}\n')
        self._begin_cue(Timed(RESTART, self.duration_s, self.duration_s))
        self._fresh = True

    def _add_text(self, piece: Timed) -> None:
        if self._word is None or self._fresh or begins_word(self._word, piece):
            comma = "" if self._word is None else ","
            self._json.begin(f"{comma}\n")
            self._word = piece
        else:
            self._word = self._word.grown(piece)
        self._json.show(_word_json(self._word))

        if self._cue is None or self._fresh or begins_cue(self._cue, piece):
            self._begin_cue(piece)
        else:
            self._cue = self._cue.grown(piece)
            self._show_cue(self._cue)
        self._fresh = False

    def _begin_cue(self, piece: Timed) -> None:
        if self._cue is not None:
            self._srt.show(srt_cue(self._cues, held(self._cue, piece.start_s)))
        self._srt.begin()
        self._txt.begin()
        self._cue, self._cues = piece, self._cues + 1
        self._show_cue(piece)

    def _show_cue(self, cue: Timed) -> None:
        self._srt.show(srt_cue(self._cues, held(cue)))
        self._txt.show(txt_line(cue))


def _word_json(word: Timed) -> str:
    """A word in the JSON file; it never gets shorter while the word grows."""
    text = json.dumps(word.text.strip(), ensure_ascii=False)
    times = f'"start_s": {word.start_s:.3f}, "end_s": {word.end_s:.3f}'
    return f'{{"text": {text}, {times}}}'


def read_words(path: str | Path) -> list[Timed]:
    """The words of a recording's JSON file, each with the space before it."""
    about = json.loads(Path(path).read_text(encoding="utf-8"))
    found = (Timed(w["text"], w["start_s"], w["end_s"]) for w in about["words"])
    return with_spaces(found)


def read_restarts(path: str | Path) -> list[float]:
    """Seconds at which new conversations start, from a recording's JSON file."""
    about = json.loads(Path(path).read_text(encoding="utf-8"))
    return list(about.get("restarts_s", []))


class _Growing:
    """A text file whose last entry still changes; it is well-formed at any time.

    An entry never gets shorter, and is written in one piece with the end of the file,
    so the file is never broken.

    Args:
        path: file to write.
        start: text before the first entry.
        end: text that closes the file.
        opener: as in ``open``.
    """

    def __init__(
        self, path: Path, start: str = "", end: str = "", opener: Opener | None = None
    ):
        self.path = path
        self._end = end
        self._fixed = 0  # bytes before the last entry
        self._entry = start
        self._before = ""  # separates the last entry from those before it
        try:
            self._file = open(path, "wb", opener=opener)  # noqa: SIM115
        except OSError as error:
            raise self._unwritable(error) from error
        self.show(start)

    def begin(self, separator: str = "") -> None:
        """The last entry is final: the next ``show`` appends one."""
        self._fixed += len((self._before + self._entry).encode())
        self._before, self._entry = separator, ""

    def show(self, entry: str) -> None:
        """Write the last entry again."""
        self._entry = entry
        try:
            self._file.seek(self._fixed)
            self._file.write((self._before + entry + self._end).encode())
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def end_with(self, end: str) -> None:
        """Close the file with another, longer ``end`` from now on."""
        self._end = end
        self.show(self._entry)

    def close(self) -> None:
        self._file.close()

    def _unwritable(self, error: OSError) -> AudioError:
        return AudioError(f"{self.path} cannot be written: {error.strerror}.")
