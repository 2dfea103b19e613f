"""Numbers are said in words by models whose tokenizer has no digits."""

import pytest

import moshi_mlx
from moshi_mlx.engines.tts.numbers import spelt
from moshi_mlx.engines.tts.script import without_unknown

SPELT = {
    "I have 3 cats and 12 dogs.": "I have three cats and twelve dogs.",
    "It costs $20, or 24.": "It costs twenty dollars, or twenty four.",
    "$1 is 1.05 euros": "one dollar is one point zero five euros",
    "the 1st, 3rd, 12th and 20th": "the first, third, twelfth and twentieth",
    "1,234,500": "one million two hundred thirty four thousand five hundred",
    "100% of 07 or 110": "one hundred percent of zero seven or one hundred ten",
    "MP3 or 4K": "MP three or four K",
    "0401234": "zero four zero one two three four",
    "no number": "no number",
}


@pytest.mark.parametrize("text", SPELT)
def test_a_number_becomes_words(text):
    assert spelt(text) == SPELT[text]


class Letters:
    """A tokenizer of letters and signs, perhaps with digits."""

    def __init__(self, digits: bool):
        self.digits = digits

    def encode(self, text: str) -> list[int]:
        return [0 if self.lacks(c) else 1 + ord(c) for c in text]

    def lacks(self, letter: str) -> bool:
        return letter in "-/" or (letter.isdigit() and not self.digits)

    def unk_id(self) -> int:
        return 0


def said(digits: bool, text: str) -> tuple[str, list[str]]:
    return without_unknown(Letters(digits), text)  # type: ignore[arg-type]


def test_digits_stay_where_the_tokenizer_has_them():
    assert said(True, "at 9") == ("at 9", [])
    assert said(False, "at 9") == ("at nine", [])


def test_marks_without_tokens_part_words_and_are_not_named():
    assert said(True, "well-known/new") == (
        "well known new",
        [],
    )


def test_a_break_keeps_its_time():
    text = 'wait 2 <break time="0.5s"/> or 3'
    known, _ = said(False, text)
    assert known == 'wait two <break time="0.5s"/> or three'


def test_the_demo_says_every_number_as_words_with_times_whole_and_streamed():
    tts = moshi_mlx.load_tts("demo")
    said = tts.say("I have 12-year-old cats.", seed=0)
    words = [word.text for word in said.words]
    assert words == ["I", "have", "twelve", "year", "old", "cats."]
    with tts.session(seed=0) as session:
        for piece in ("I have 1", "2-year-", "old cats."):
            for _ in session.feed(piece):
                pass
        for _ in session.finish():
            pass
        assert session.words == said.words
