"""Text with its times: pieces into words, and words into subtitles.

Models say pieces (" Hel", "lo"); a piece that starts with a space starts a word.
Japanese and Chinese have no spaces: there each piece is a word, and a line may break
anywhere.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from textwrap import wrap

_PAUSE_S = 1.0  # a longer silence starts a new subtitle
_LONGEST_S = 7.0  # longest time of a subtitle
_HOLD_S = 1.0  # a subtitle stays after its last word, if nothing follows
# Letters of Japanese and Chinese: hiragana, katakana, and the characters of both.
_UNSPACED = re.compile(r"[\u3041-\u3096\u30a1-\u30fa\u3400-\u9fff\uf900-\ufaff]")
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")  # noqa: RUF001


def has_no_spaces(text: str) -> bool:
    """Whether a text is in a script without spaces, if only in part."""
    return _UNSPACED.search(text) is not None


@dataclass(frozen=True)
class Layout:
    """The layout of a subtitle on the screen.

    Attributes:
        line_width: characters in a line; a longer word has a line of its own.
        lines: maximum number of lines.
    """

    line_width: int = 42
    lines: int = 2

    def takes(self, text: str) -> bool:
        """Whether ``text`` fits into one subtitle."""
        if len(text) <= self.line_width:
            return True
        whole = len(text) <= self.line_width * self.lines
        return whole and len(self.wrapped(text, self.line_width)) <= self.lines

    def wrapped(self, text: str, width: int) -> list[str]:
        """``text`` in lines of up to ``width`` characters, without splitting a word."""
        anywhere = has_no_spaces(text)
        return wrap(text, width, break_long_words=anywhere, break_on_hyphens=False)

    def folded(self, text: str) -> str:
        """The text of a subtitle in as few lines as it needs, of similar length."""
        text = " ".join(text.split())
        least = min(len(self.wrapped(text, self.line_width)), self.lines)
        for width in range(len(text) // max(least, 1) or 1, self.line_width):
            if len(lines := self.wrapped(text, width)) <= least:
                return "\n".join(lines)
        return "\n".join(self.wrapped(text, self.line_width))


LAYOUT = Layout()


@dataclass(frozen=True)
class Timed:
    """A text and when it is spoken, in seconds from the start."""

    text: str
    start_s: float
    end_s: float

    def grown(self, piece: "Timed") -> "Timed":
        """This text followed by another."""
        end_s = max(self.end_s, piece.end_s)
        return Timed(self.text + piece.text, self.start_s, end_s)


def begins_word(last: Timed | None, piece: Timed) -> bool:
    """Whether ``piece`` starts another word than ``last``."""
    return last is None or piece.text.startswith(" ") or _joins(last.text, piece.text)


def begins_cue(last: Timed | None, piece: Timed, layout: Layout = LAYOUT) -> bool:
    """Whether ``piece`` starts another subtitle than ``last``.

    A word is never split, unless it is as long as a subtitle.
    """
    if last is None or not layout.takes(last.text + piece.text):
        return True
    if not begins_word(last, piece):
        return False
    return (
        piece.start_s - last.end_s >= _PAUSE_S
        or piece.end_s - last.start_s > _LONGEST_S
        or last.text.endswith(_SENTENCE_ENDS)
    )


def _joins(before: str, after: str) -> bool:
    """Whether two words may follow each other without a space."""
    letters = before[-1:].isalnum() and after[:1].isalnum()
    ended = before.endswith(_SENTENCE_ENDS)
    unspaced = _UNSPACED.match(after[:1]) or _UNSPACED.match(before[-1:])
    return (letters or ended) and unspaced is not None


def with_spaces(words: Iterable[Timed]) -> list[Timed]:
    """Words whose spaces were removed, each with the space that belongs before it."""
    spaced: list[Timed] = []
    before = ""
    for word in words:
        joined = before and _joins(before, word.text)
        spaced.append(word if joined else replace(word, text=f" {word.text}"))
        before = word.text
    return spaced


def words(pieces: Iterable[Timed]) -> list[Timed]:
    """Pieces joined into words, without the spaces between them."""
    found: list[Timed] = []
    for piece in pieces:
        if begins_word(found[-1] if found else None, piece):
            found.append(piece)
        else:
            found[-1] = found[-1].grown(piece)
    return [replace(word, text=word.text.strip()) for word in found]


def cues(pieces: Iterable[Timed], layout: Layout = LAYOUT) -> Iterator[Timed]:
    """Pieces joined into subtitles, split at sentences, pauses and by length.

    Each stays for a second after its last word, or until the next one.
    """
    last: Timed | None = None
    for piece in pieces:
        if last is None or not begins_cue(last, piece, layout):
            last = piece if last is None else last.grown(piece)
        else:
            yield held(last, piece.start_s)
            last = piece
    if last is not None:
        yield held(last)


def held(cue: Timed, next_s: float | None = None) -> Timed:
    """A subtitle as it is shown: it stays a little, but not into the next one."""
    end_s = cue.end_s + _HOLD_S
    if next_s is not None:
        end_s = max(cue.start_s, min(end_s, next_s))
    return replace(cue, end_s=end_s)


def clock(seconds: float, separator: str = ",") -> str:
    """Time in the format of subtitles: ``00:01:02,345``."""
    total_ms = round(1000 * seconds)
    minutes, ms = divmod(total_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}{separator}{ms % 1000:03}"


def srt_cue(number: int, cue: Timed, layout: Layout = LAYOUT) -> str:
    """One subtitle in SubRip's format; numbers start at 1."""
    times = f"{clock(cue.start_s)} --> {clock(cue.end_s)}"
    text = layout.folded(cue.text.replace("-->", "->"))  # players look for the arrow
    return f"{number}\n{times}\n{text}\n\n"


def srt(pieces: Iterable[Timed], layout: Layout = LAYOUT) -> str:
    """Subtitles in SubRip's format."""
    found = enumerate(cues(pieces, layout), 1)
    return "".join(srt_cue(number, cue, layout) for number, cue in found)


def vtt(pieces: Iterable[Timed], layout: Layout = LAYOUT) -> str:
    """Subtitles in WebVTT's format, as browsers read them."""
    blocks = ["WEBVTT\n\n"]
    for cue in cues(pieces, layout):
        times = f"{clock(cue.start_s, '.')} --> {clock(cue.end_s, '.')}"
        text = layout.folded(cue.text).replace("&", "&amp;").replace("<", "&lt;")
        blocks.append(f"{times}\n{text.replace('-->', '--&gt;')}\n\n")
    return "".join(blocks)


def short_clock(seconds: float, decimals: int = 1) -> str:
    """Time as people write it: ``1:02.3``."""
    minutes, rest = divmod(round(seconds, decimals), 60)
    width = 3 + decimals if decimals else 2
    return f"{int(minutes)}:{rest:0{width}.{decimals}f}"


def txt_line(cue: Timed) -> str:
    """One subtitle as a line of plain text, with its start time."""
    return f"[{short_clock(cue.start_s)}] {cue.text.strip()}\n"


def txt(pieces: Iterable[Timed]) -> str:
    """The text in lines, each with its start time."""
    return "".join(txt_line(cue) for cue in cues(pieces))
