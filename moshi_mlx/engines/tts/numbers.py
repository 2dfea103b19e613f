"""Numbers as English words, for models whose tokenizer has no digits."""

import re

ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
LARGE = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth"}
ORDINALS |= {"eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
MONEY = {"$": "dollar", "€": "euro", "£": "pound"}
MOST_DIGITS = 12  # of a number; longer ones, such as telephones, go digit by digit
_NUMBER = re.compile(
    r"(?P<money>[$€£]?)(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<part>\d+))?"
    r"(?P<end>(?:st|nd|rd|th)\b|%|)"
)


def spelt(text: str) -> str:
    """``text`` with its numbers in words: "$20" is "twenty dollars", "1st" is "first".

    Decimals, percents and thousands with commas are understood. Other signs stay.
    """
    return _NUMBER.sub(lambda found: _room(found, _words(found)), text)


def _room(found: re.Match[str], words: str) -> str:
    """Words with a space where a letter comes right before or after the number."""
    before, after = found.string[: found.start()][-1:], found.string[found.end() :][:1]
    return f"{' ' * before.isalnum()}{words}{' ' * after.isalnum()}"


def _words(found: re.Match[str]) -> str:
    whole, part, end = found["whole"].replace(",", ""), found["part"], found["end"]
    if len(whole) > MOST_DIGITS or (len(whole) > 1 and whole[0] == "0"):
        words = _digits(whole)
    else:
        words = cardinal(int(whole))
    if part:
        words = f"{words} point {_digits(part)}"
    if end == "%":
        words = f"{words} percent"
    elif end:
        words = _ordinal(words)
    if money := MONEY.get(found["money"]):
        words = f"{words} {money}{'s' * (words != 'one')}"
    return words


def _digits(number: str) -> str:
    return " ".join(ONES[int(digit)] for digit in number)


def cardinal(number: int) -> str:
    """A whole number from 0 up to 12 digits, such as "forty two"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        rest = f" {ONES[number % 10]}" if number % 10 else ""
        return TENS[number // 10 - 2] + rest
    unit, name = next(pair for pair in LARGE if number >= pair[0])
    rest = f" {cardinal(number % unit)}" if number % unit else ""
    return f"{cardinal(number // unit)} {name}{rest}"


def _ordinal(words: str) -> str:
    before, _, last = words.rpartition(" ")
    tens = f"{last[:-1]}ieth"
    last = tens if last.endswith("y") else ORDINALS.get(last, f"{last}th")
    return f"{before} {last}".strip()
