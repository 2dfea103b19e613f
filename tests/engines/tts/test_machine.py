"""The state machine: PyTorch's decisions, and what holds for any text and model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.engines.tts import Entry, State, StateMachine, TokenIds
from tests.speech import EXPECTED, SCRIPTS, SETTINGS

CARD = 97
NEW_WORD, PAD = 0, 3


def machine(ahead: int = 2) -> StateMachine:
    return StateMachine(TokenIds(CARD), ahead, max_padding=8, initial_padding=2)


def entries_of(script: str) -> list[Entry]:
    return [Entry(list(t), text, p) for t, text, p in EXPECTED[script]["entries"]]


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("script", SCRIPTS)
def test_feeds_what_pytorch_feeds(script: str, as_list: bool):
    expected = EXPECTED[script]
    assert SETTINGS["max_padding"] == 8 and SETTINGS["second_stream_ahead"] == 2
    m = machine()
    state = m.new_state(entries_of(script))
    for step, (predicted, read) in enumerate(expected["logged_text_tokens"]):
        token = [predicted] if as_list else predicted
        assert m.process(step, state, token)[0] == read, step
    assert state.end_step == expected["end_step"]
    assert state.consumption_times == expected["consumption_times"]
    assert [list(word) for word in state.transcript] == expected["transcript"]


words = st.lists(st.integers(4, CARD - 1), min_size=1, max_size=5)
entries = st.lists(
    st.one_of(
        st.builds(Entry, words, st.text("ab", min_size=1), st.integers(0, 6)),
        st.builds(Entry, st.just([]), st.just(""), st.integers(0, 20)),
    ),
    max_size=12,
)
predictions = st.lists(st.sampled_from([NEW_WORD, PAD, 7]), max_size=40)


def run(m: StateMachine, text: list[Entry], told: list[int], default: int) -> State:
    """Steps until the end, predicting ``told`` and then ``default``; checks each."""
    state = m.new_state(list(text))
    budget = m.initial_padding + 1
    budget += sum(len(e.tokens) + e.padding + m.max_padding + 1 for e in text)
    first, second = [], []
    for step in range(budget):
        token = told[step] if step < len(told) else default
        out, starts = m.process(step, state, token)
        assert starts == (bool(state.transcript) and state.transcript[-1][1] == step)
        if m.second_stream_ahead:
            second.append(out // CARD - 1)
        first.append(out % CARD if m.second_stream_ahead else out)
        if state.end_step is not None:
            break
    assert state.end_step is not None, "the speech did not end within its budget"
    said = [token for token in first if token not in (NEW_WORD, PAD)]
    assert said == [token for e in text for token in e.tokens]
    if m.second_stream_ahead:
        assert second.count(NEW_WORD) == len(state.transcript) + 1
        ahead = [e for e in text if e.tokens][m.second_stream_ahead :]
        read = [t for t in second if t > NEW_WORD]
        assert read == [t for e in ahead for t in e.tokens][: len(read)]
    return state


@settings(max_examples=150, deadline=None)
@given(entries, predictions, st.sampled_from([NEW_WORD, PAD]), st.integers(0, 3))
def test_says_every_word_once_in_order_and_ends(text, told, default, ahead):
    state = run(machine(ahead), text, told, default)
    assert [word for word, _ in state.transcript] == [e.text for e in text if e.tokens]
    assert len(state.consumption_times) == len(text)
    assert not state.entries and not state.queued


@settings(max_examples=100, deadline=None)
@given(entries, predictions)
def test_keeps_the_forced_distance_between_words(text, told):
    state = run(machine(), text, told, NEW_WORD)
    times = [*state.consumption_times, state.end_step]
    for entry, now, then in zip(text, times, times[1:], strict=False):
        tokens = max(len(entry.tokens) - 1, 0)
        assert then - now >= max(1, tokens, entry.padding)


def test_never_waits_longer_than_the_greatest_padding():
    text = [Entry([5, 6], "a"), Entry([7], "b"), Entry([8], "c")]
    state = run(machine(), text, [], PAD)
    assert state.consumption_times == [2, 11, 20]
    assert state.end_step == 29


def test_takes_a_word_as_soon_as_the_model_wants_one_also_given_as_a_list():
    m = machine()
    state = m.new_state([Entry([5], "a"), Entry([6], "b")])
    for step, token in enumerate([[PAD], [PAD], [NEW_WORD], [PAD], [NEW_WORD]]):
        m.process(step, state, token)
    assert state.transcript == [("a", 2), ("b", 4)]


def test_special_tokens_and_paddings_are_those_of_kyutais_models():
    """As in moshi 0.2.13, models/tts.py: TokenIds and StateMachine."""
    ids = TokenIds(CARD)
    assert (ids.new_word, ids.pad, ids.main, ids.other) == (0, 3, 1, 2)
    assert (ids.zero, ids.ungenerated) == (-1, -2)
    usual = StateMachine(ids)
    assert (usual.second_stream_ahead, usual.max_padding) == (0, 6)
    state = usual.new_state([])
    assert (state.forced_padding, state.remaining_padding) == (2, 2)


def test_words_ahead_are_counted_without_breaks():
    words = [Entry([5], "a"), Entry([], "", 3), Entry([6, 7], "b"), Entry([8], "c")]
    state = StateMachine(TokenIds(CARD), 2).new_state(words)
    ahead = [state.get_tokens_ahead(n) for n in (1, 2, 3, 4)]
    assert ahead == [[5], [6, 7], [8], []]
