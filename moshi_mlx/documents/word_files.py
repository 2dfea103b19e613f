"""Files of words with their times: JSON, plain text and subtitles."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import ConfigError
from ..utils.whole_files import write_whole
from .transcript import LAYOUT, Layout, Timed, srt, vtt
from .words import Word, joined


def words_as_json(words: Sequence[Word]) -> str:
    """A JSON list of words with their times."""
    return json.dumps([vars(word) for word in words], ensure_ascii=False) + "\n"


def words_as_srt(words: Sequence[Word], layout: Layout = LAYOUT) -> str:
    """Subtitles in SubRip's format."""
    return srt(_timed(words), layout)


def words_as_vtt(words: Sequence[Word], layout: Layout = LAYOUT) -> str:
    """Subtitles in WebVTT's format."""
    return vtt(_timed(words), layout)


FORMS: dict[str, Callable[[Sequence[Word], Layout], str]] = {
    "json": lambda words, _: words_as_json(words),
    "srt": words_as_srt,
    "txt": lambda words, _: joined(words) + "\n",
    "vtt": words_as_vtt,
}


def write_words(path: Path, words: Sequence[Word], layout: Layout = LAYOUT) -> None:
    """Write words with their times in the format of the file name's ending.

    Args:
        layout: of subtitles.

    Raises: ConfigError for another ending, or a file that cannot be written.
    """
    check_form(path)
    try:
        write_whole(path, FORMS[path.suffix[1:]](words, layout))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def check_form(path: Path) -> None:
    """Raises: ConfigError for a file that ``write_words`` would refuse."""
    if path.suffix[1:] not in FORMS:
        raise ConfigError(
            f"{path} is not a file of words: name it .{', .'.join(FORMS)}."
        )


def _timed(words: Sequence[Word]) -> list[Timed]:
    """Words as the pieces of a transcript."""
    return [Timed(f" {word.text}", word.start_s, word.end_s) for word in words]
