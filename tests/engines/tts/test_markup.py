"""Words, accents and tags of a text, however it is cut into pieces."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.engines.tts.markup import Markup
from moshi_mlx.errors import ConfigError

TEXT = unicodedata.normalize(
    "NFD",
    "<speak xml:lang='fr'>Un café crème:<break time='500ms'/>brûlée (ça) 3 < 4 <3 "
    '<break  time = "1.5s" >a<b and c>d <john@example.com></speak> \U0001f600 fin',
)
WORDS = [
    *("Un", "café", "crème", 0.5, "brûlée", "ça", "3", "<", "4", "<3", 1.5),
    *("a<b", "and", "c>d", "<john@example.com>", "\U0001f600", "fin"),
]


def parts(*pieces: str) -> list[str | float]:
    markup = Markup()
    return [part for piece in pieces for part in markup.feed(piece)] + markup.flush()


def test_a_decomposed_accent_that_comes_in_the_next_piece_is_composed():
    assert parts("cafe", "\u0301 cre", "\u0300me") == ["café", "crème"]
    for words in (parts(TEXT), parts(*TEXT)):
        assert words == WORDS


def test_what_nobody_sees_is_not_said():
    seen = parts("\ufeffhel\u00adlo\u200b the\u200dre", "\u200f \u2066you\u2069")
    assert seen == ["hello", "there", "you"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_pieces_cut_anywhere_say_the_same(cuts: list[int]):
    bounds = sorted([0, *cuts, len(TEXT)])
    assert parts(*(TEXT[a:b] for a, b in pairwise(bounds))) == WORDS


@pytest.mark.parametrize(
    "tag, seconds",
    [
        ('<break time="500ms"/>', 0.5),
        ("<break time='2s'/>", 2.0),
        ('<break time=".5s">', 0.5),
        ('<break strength="strong" time="1s" />', 1.0),
        ('<break time="0s"></break>', 0.0),
    ],
)
def test_breaks_are_understood_as_people_write_them(tag: str, seconds: float):
    assert parts(f"one{tag}two") == ["one", seconds, "two"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("a <emphasis>b", "the tag <emphasis> is not understood: use <break time="),
        ("a <prosody rate='slow'>b", "the tag <prosody> is not understood"),
        ("</b>", "the tag </b> is not understood"),
        ("<break/>", "<break/> says no time: write <break time="),
        ('<break strength="weak"/>', "says no time"),
        ('<break time="99999999s"/>', "is too long: a break lasts 600 s at most"),
    ],
)
def test_other_tags_are_refused_by_name(text: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        parts(text)
    with pytest.raises(ConfigError, match=sentence):
        parts(*text)


def test_halves_of_characters_are_joined_or_refused():
    assert parts("a \ud83d", "\ude00 b") == ["a", "\U0001f600", "b"]
    for pieces in (["a \ud83d b"], ["a \ude00"], ["a \ud83d"], ["\ud83d", "b"]):
        with pytest.raises(ConfigError, match="half a character"):
            parts(*pieces)
