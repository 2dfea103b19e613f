"""Scripts become PyTorch's entries, however they are cut into pieces."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moshi_mlx.engines.tts import ScriptReader, TokenIds, script_to_entries
from moshi_mlx.engines.tts.script import shown, without_unknown
from tests.speech import EXPECTED, SCRIPTS, tokenizer

IDS = TokenIds(97)
WITH_BREAKS = 'the quick: <break time="0.8s"/>fox (jumps) <break time="2s"> over\nit'


@pytest.mark.parametrize("script", SCRIPTS)
def test_entries_are_pytorchs(script: str):
    expected = EXPECTED[script]
    entries = script_to_entries(
        tokenizer(),
        IDS,
        12.5,
        expected["script"],
        padding_between=expected["padding_between"],
    )
    assert [[e.tokens, e.text, e.padding] for e in entries] == expected["entries"]


def test_an_empty_first_turn_lets_the_other_speaker_begin():
    entries = script_to_entries(tokenizer(), IDS, 12.5, ["", "hello", "how", "are"])
    assert [e.tokens[0] for e in entries] == [IDS.other, IDS.main, IDS.other]


def test_the_same_speaker_is_named_once():
    entries = script_to_entries(tokenizer(), IDS, 12.5, ["hello", "", "hello"])
    assert entries[0].tokens[0] == IDS.main
    assert entries[1].tokens == entries[0].tokens[1:]


def test_a_model_without_speakers_reads_words_only():
    entries = script_to_entries(
        tokenizer(), IDS, 12.5, ["hello", "hello"], multi_speaker=False
    )
    assert entries[0] == entries[1]
    assert entries[0].tokens == tokenizer().encode("hello")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(WITH_BREAKS)), max_size=8))
def test_pieces_cut_anywhere_make_the_same_entries(cuts):
    whole = script_to_entries(tokenizer(), IDS, 12.5, [WITH_BREAKS], padding_between=1)
    assert [e.text for e in whole] == [
        "the",
        "quick",
        "",
        "fox",
        "jumps",
        "",
        "over",
        "it",
    ]
    assert [e.padding for e in whole if not e.text] == [10, 25]
    reader = ScriptReader(tokenizer(), IDS, 12.5, padding_between=1)
    entries = []
    bounds = sorted([0, *cuts, len(WITH_BREAKS)])
    for start, end in pairwise(bounds):
        entries += reader.feed(WITH_BREAKS[start:end])
    assert entries + reader.flush() == whole


def test_words_come_when_white_space_ends_them():
    reader = ScriptReader(tokenizer(), IDS, 12.5)
    assert [e.text for e in reader.feed("hello the")] == ["hello"]
    assert [e.text for e in reader.feed("re ")] == ["there"]
    assert reader.feed("you") == []
    assert [e.text for e in reader.turn(1)] == ["you"]


def test_a_less_than_sign_does_not_hold_the_text_back():
    reader = ScriptReader(tokenizer(), IDS, 12.5)
    text = "so <break the ice with many words that follow one another on and on "
    assert [e.text for e in reader.feed(text)] == text.split()


def test_decomposed_accents_are_said_as_composed_ones_are():
    texts = [unicodedata.normalize(form, "café à") for form in ("NFC", "NFD")]
    nfc, nfd = (script_to_entries(tokenizer(), IDS, 12.5, [text]) for text in texts)
    assert nfc == nfd and [e.text for e in nfc] == ["café", "à"]
    assert without_unknown(tokenizer(), "e\u0301") == without_unknown(tokenizer(), "é")


def test_characters_without_tokens_are_named_and_left_out():
    text, unknown = without_unknown(tokenizer(), "hello ☃ d\u0436ay")
    assert text == "hello  day"
    assert unknown == ["☃", "\u0436"]


def test_characters_of_a_message_are_few_and_can_be_seen():
    assert shown("é\0\u200b") == "é U+0000 U+200B"
    assert shown("a" * 20) == " ".join("a" * 20)
    assert shown("a" * 21) == " ".join("a" * 20) + " ..."
