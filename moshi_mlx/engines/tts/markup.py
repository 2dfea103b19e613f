"""Text that arrives in pieces: its words and breaks, as soon as they are complete."""

import re
import unicodedata
from collections.abc import Callable

from ...errors import ConfigError

SPOKEN = str.maketrans({"’": "'", ":": " ", "(": None, ")": None})  # noqa: RUF001
# Nobody sees or says these: soft hyphens, zero-width characters, marks of direction.
_UNSEEN = (0xAD, 0x61C, *range(0x200B, 0x2010), *range(0x202A, 0x202F))
_UNSEEN += (*range(0x2060, 0x2070), 0xFEFF)
SPOKEN |= dict.fromkeys(_UNSEEN)
LONGEST_BREAK_S = 600.0
MOST_TAG = 256  # characters: what is longer without an end is no tag
_SPACE = re.compile(r"[\s:]")  # what ends a word
_NAME = r"[A-Za-z][\w.:-]*"
_ATTRIBUTE = r"""\s+[\w.:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*')"""
_TAG = re.compile(rf"<(/?)({_NAME})((?:{_ATTRIBUTE})*)\s*/?>")
_BEGUN = re.compile(  # a tag whose end has not come yet
    rf"<(?:/?(?:{_NAME}(?:{_ATTRIBUTE})*"
    r"""(?:\s+(?:[\w.:-]+\s*(?:=\s*(?:"[^"<>]*|'[^'<>]*)?)?)?)?/?)?)?"""
)
_TIME = re.compile(r"""\stime\s*=\s*["']\s*(\d+(?:\.\d*)?|\.\d+)(ms|s)\s*["']""")
_EXAMPLE = '<break time="0.5s"/>'


class Markup:
    """Reads text in pieces; the result does not depend on where they are cut.

    Letters and their accents are composed (NFC), as the tokenizers expect. ``<break
    time="500ms"/>`` is a pause and ``<speak>`` is skipped; other tags are refused.
    """

    def __init__(self) -> None:
        self.pending = ""

    def feed(self, text: str) -> list[str | float]:
        """The words, and the breaks in seconds, that ``text`` completes.

        Raises: ConfigError for a tag that is not understood, and for half characters.
        """
        text, half = whole_characters(self.pending + text)
        found, rest = self._tags(text)
        tag = rest.rfind("<")
        open_ = tag >= 0 and len(rest) - tag < MOST_TAG and _BEGUN.fullmatch(rest, tag)
        complete = rest[:tag] if open_ else rest
        ends = [match.end() for match in _SPACE.finditer(complete)]
        cut = ends[-1] if ends else 0
        self.pending = rest[cut:] + half
        return found + _words(rest[:cut])

    def flush(self) -> list[str | float]:
        """The pending text, as if white space followed."""
        text, self.pending = self.pending, ""
        if whole_characters(text)[1]:
            raise _half(text)
        found, rest = self._tags(text)
        return found + _words(rest)

    def _tags(self, text: str) -> tuple[list[str | float], str]:
        """Words and breaks up to the last tag, and the text behind it."""
        found: list[str | float] = []
        start = 0
        for tag in _TAG.finditer(text):
            found += _words(text[start : tag.start()])
            if (seconds := _break_s(tag)) is not None:
                found.append(seconds)
            start = tag.end()
        return found, text[start:]


def outside_tags(text: str, change: Callable[[str], str]) -> str:
    """``text``, changed wherever it is no tag."""
    parts, start = [], 0
    for tag in _TAG.finditer(text):
        parts += [change(text[start : tag.start()]), tag[0]]
        start = tag.end()
    return "".join([*parts, change(text[start:])])


def composed(text: str) -> str:
    """``text`` with its accents composed. Raises: ConfigError for half characters."""
    text, half = whole_characters(text)
    if half:
        raise _half(text + half)
    return unicodedata.normalize("NFC", text)


def whole_characters(text: str) -> tuple[str, str]:
    """``text`` with halves of characters (surrogates, as in JSON) joined.

    Returns: the text, and a first half at its end whose second half may still come.

    Raises: ConfigError for a half without its other half.
    """
    if not text.isascii() and re.search("[\ud800-\udfff]", text):
        half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        data = text[: len(text) - len(half)].encode("utf-16-le", "surrogatepass")
        try:
            return data.decode("utf-16-le"), half
        except UnicodeDecodeError:
            raise _half(text) from None
    return text, ""


def _half(text: str) -> ConfigError:
    near = text.encode("ascii", "backslashreplace").decode()[-30:]
    return ConfigError(
        f"the text holds half a character (a lone surrogate, near {near!r}): save it "
        "as UTF-8 and give it again."
    )


def _words(text: str) -> list[str | float]:
    return [unicodedata.normalize("NFC", w) for w in text.translate(SPOKEN).split()]


def _break_s(tag: re.Match[str]) -> float | None:
    """Seconds of a break; None for a tag without effect."""
    closing, name, attributes = tag.groups()
    if name == "speak" or (closing and name == "break"):
        return None
    if name != "break":
        raise ConfigError(
            f"the tag <{closing}{name}> is not understood: use {_EXAMPLE} for a pause, "
            "and leave other tags out."
        )
    time = _TIME.search(attributes)
    if time is None:
        raise ConfigError(f"{tag[0]} says no time: write {_EXAMPLE}.")
    seconds = float(time[1]) / (1000 if time[2] == "ms" else 1)
    if seconds > LONGEST_BREAK_S:
        raise ConfigError(
            f"{tag[0]} is too long: a break lasts {LONGEST_BREAK_S:.0f} s at most."
        )
    return seconds
