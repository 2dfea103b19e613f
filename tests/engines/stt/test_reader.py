"""Tokens become words with times; turns end once; names to expect are helped."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.engines.stt import Piece, Word, WordBegun
from moshi_mlx.engines.stt.bias import BONUS, WordBias
from moshi_mlx.engines.stt.reader import TAIL_S, WordReader
from moshi_mlx.engines.stt.turns import TurnDetector
from moshi_mlx.errors import ConfigError
from tests.speech import tokenizer

HELLO, THERE = [53, 49], [18, 13]  # "▁he" "llo", "▁the" "re"
FRAME_S = 0.08


def read(tokens: list[int]) -> list:
    reader = WordReader(tokenizer())
    events = []
    for i, token in enumerate(tokens):
        events += reader.read(token, (i + 1) * FRAME_S)
    return events + reader.close(len(tokens) * FRAME_S)


def words(tokens: list[int]) -> list[Word]:
    return [event for event in read(tokens) if isinstance(event, Word)]


def test_a_word_lasts_from_its_boundary_to_the_next():
    events = read([3, 0, *HELLO, 3, 0, *THERE, 3, 0])
    assert events == [
        Piece(" he"),
        Piece("llo"),
        WordBegun("hello", 0.16),
        Word("hello", 0.16, 0.48),
        Piece(" the"),
        Piece("re"),
        WordBegun("there", 0.48),
        Word("there", 0.48, 0.8),
    ]


def test_words_without_a_boundary_between_get_a_frame_per_token():
    assert words([0, *HELLO, *THERE, 3, 3, 0]) == [
        Word("hello", 0.08, 0.24),
        Word("there", 0.24, 0.64),
    ]


def test_a_word_does_not_last_into_a_long_pause():
    (word,) = words([0, *HELLO, *[3] * 40, 0])
    assert word.end_s == pytest.approx(3 * FRAME_S + TAIL_S)


def test_the_last_word_ends_with_the_sound():
    assert words([0, *HELLO]) == [Word("hello", 0.08, 0.24)]


def test_a_word_that_no_boundary_announced_begins_with_its_piece():
    assert words([3, 3, *HELLO, 0]) == [Word("hello", 0.16, 0.4)]


def test_other_control_tokens_are_padding():
    assert words([0, *HELLO, 2, 1, 0]) == words([0, *HELLO, 3, 3, 0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0, 0, 3, 3, 3, 4, 5, 6, 18, 13, 53, 49]), max_size=80))
def test_any_tokens_make_words_in_order_with_all_the_text(tokens):
    events = read(tokens)
    found = [e for e in events if isinstance(e, Word)]
    times = [t for word in found for t in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert all(0 <= t <= len(tokens) * FRAME_S + 1e-3 for t in times)
    said = "".join(e.text for e in events if isinstance(e, Piece))
    assert "".join(w.text for w in found) == said.replace(" ", "")
    begun = [e for e in events if isinstance(e, WordBegun)]
    assert [e.start_s for e in begun] == [w.start_s for w in found]
    assert all(w.text.startswith(e.text) for e, w in zip(begun, found, strict=True))


def scores(*runs: tuple[int, float]) -> list[float]:
    return [score for count, score in runs for _ in range(count)]


def turns(values: list[float], said_at: set[int], late: int = 0) -> list[int]:
    """Steps in which turns end; words come ``late`` steps after they are said."""
    detector, ends = TurnDetector(), []
    for step, value in enumerate(values):
        if step - late in said_at:
            detector.heard((step - late) * FRAME_S)
        if detector.score(value, step * FRAME_S):
            ends.append(step)
    return ends


def test_a_turn_ends_once_where_the_score_rises():
    values = scores((20, 0.1), (10, 0.9), (10, 0.1), (10, 0.9))
    assert turns(values, {2, 32}) == [20, 40]


def test_a_score_that_trembles_ends_one_turn():
    values = scores((20, 0.1), *[(1, s) for s in (0.65, 0.55, 0.65, 0.5, 0.7)])
    assert turns(values, {2, 21, 23}) == [20]


def test_no_turn_without_words_nor_in_the_first_steps():
    assert turns(scores((60, 0.9)), set()) == []
    assert turns(scores((20, 0.9)), {2}) == [12]


def test_a_word_that_comes_after_its_turn_ended_begins_no_other():
    values = scores((20, 0.1), (10, 0.9), (10, 0.1), (10, 0.9))
    assert turns(values, {14, 18}, late=5) == [20]
    assert turns(values, {18}, late=5) == [23]


def test_without_scores_a_pause_of_two_seconds_ends_a_turn():
    detector, ends = TurnDetector(), []
    for step in range(80):
        if step in (4, 50):
            detector.heard(step * FRAME_S)
        if detector.pause(step * FRAME_S):
            ends.append(step)
    assert ends == [29, 75]


def bias_after(tokens: list[int]) -> dict[int, float]:
    bias = WordBias(tokenizer(), ["hello there"], rows=2)
    for token in tokens:
        bias.heard(1, token)
    logits = mx.zeros((2, 1, 96))
    bias.add_to(logits)
    assert not np.array(logits[0]).any()  # the other speaker's
    return {i: v for i, v in enumerate(np.array(logits[1, 0]).tolist()) if v}


def test_expected_words_are_likelier_where_they_fit():
    assert bias_after([]) == {}
    assert bias_after([3, 0]) == {HELLO[0]: BONUS, THERE[0]: BONUS}
    assert bias_after([0, HELLO[0]]) == {HELLO[1]: BONUS}
    assert bias_after([0, 60]) == {}
    assert bias_after([0, *HELLO]) == {}
    assert bias_after([0, 3]) == {}


def test_a_name_that_cannot_be_written_is_refused():
    with pytest.raises(ConfigError, match="cannot write"):
        WordBias(tokenizer(), ["Жанна"], rows=1)
