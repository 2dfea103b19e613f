"""Pieces become words and subtitles; every letter stays, times go forward."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx.documents.transcript import (
    LAYOUT,
    Layout,
    Timed,
    clock,
    cues,
    short_clock,
    srt,
    txt,
    vtt,
    words,
)

HELLO = [
    Timed(" Hel", 1.0, 1.08),
    Timed("lo.", 1.08, 1.16),
    Timed(" How", 1.24, 1.32),
    Timed(" are", 1.4, 1.48),
    Timed(" you", 4.0, 4.08),
    Timed("?", 4.08, 4.16),
]


def test_pieces_become_words():
    assert words(HELLO) == [
        Timed("Hello.", 1.0, 1.16),
        Timed("How", 1.24, 1.32),
        Timed("are", 1.4, 1.48),
        Timed("you?", 4.0, 4.16),
    ]


def test_subtitles_break_at_sentences_and_pauses():
    assert srt(HELLO) == (
        "1\n00:00:01,000 --> 00:00:01,240\nHello.\n\n"
        "2\n00:00:01,240 --> 00:00:02,480\nHow are\n\n"
        "3\n00:00:04,000 --> 00:00:05,160\nyou?\n\n"
    )
    assert txt(HELLO) == "[0:01.0] Hello.\n[0:01.2] How are\n[0:04.0] you?\n"
    assert vtt([Timed(" a<b", 0, 3661.5)]) == (
        "WEBVTT\n\n00:00:00.000 --> 01:01:02.500\na&lt;b\n\n"
    )


def test_clock_rounds_to_milliseconds_and_carries():
    assert clock(59.9996) == "00:01:00,000"
    assert clock(36000, ".") == "10:00:00.000"
    assert short_clock(59.96) == "1:00.0"
    assert short_clock(59.4, 0) == "0:59"


def test_a_long_subtitle_has_two_lines_of_like_length():
    text = " one two three four five six seven eight nine ten"
    first, second = LAYOUT.folded(text).split("\n")
    assert f"{first} {second}" == text.strip()
    assert abs(len(first) - len(second)) <= 6


@pytest.mark.parametrize("width, lines", [(20, 1), (32, 2), (15, 3), (80, 1)])
def test_subtitles_keep_to_the_lines_that_were_asked_for(width: int, lines: int):
    said = "it was the best of times it was the worst of times it was the age of wisdom"
    pieces = [
        Timed(f" {word}", i / 5, i / 5 + 0.2) for i, word in enumerate(said.split())
    ]
    for form in (srt, vtt):
        blocks = form(pieces, Layout(width, lines)).strip().split("\n\n")
        texts = [b.split("-->")[1].split("\n")[1:] for b in blocks if "-->" in b]
        assert " ".join(line for text in texts for line in text) == said
        assert max(len(text) for text in texts) <= lines
        assert max(len(line) for text in texts for line in text) <= width
        assert len(texts) > 1 or width * lines >= len(said)


def test_an_arrow_in_the_text_is_no_time():
    pieces = [Timed(" a --> b", 0, 1), Timed(" &-->&", 1, 2)]
    assert srt(pieces).count("-->") == srt(pieces).count("00:00:00,000 -->")
    assert vtt(pieces).splitlines()[3] == "a --&gt; b &amp;--&gt;&amp;"


PIECES = st.lists(st.tuples(st.text(" ab.", min_size=1, max_size=6), st.floats(0, 3)))


@given(PIECES)
def test_nothing_is_lost_and_times_go_forward(drawn):
    now, pieces = 0.0, []
    for text, gap in drawn:
        now += gap
        pieces.append(Timed(text, now, now + 0.08))
    text = "".join(piece.text for piece in pieces)
    found = list(cues(pieces))
    assert "".join(cue.text for cue in found) == text
    for cue, following in pairwise(found):
        assert cue.start_s <= cue.end_s <= following.start_s
        assert len(cue.text) <= 84
    spoken = [word.text for word in words(pieces)]
    assert "".join(spoken).replace(" ", "") == text.replace(" ", "")
    assert len(re.findall(r" --> ", srt(pieces))) == len(found)
