"""The printers of moshi_mlx 0.3.0, seen on a terminal that understands backspace."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moshi_mlx import client_utils
from moshi_mlx.cli.console import Printer, RawPrinter, make_log


def screen(text: str) -> list[str]:
    """What a terminal shows after ``text``: lines, without colours."""
    lines, at = [[]], 0
    for char in re.sub(r"\033\[[0-9;]*m", "", text):
        if char == "\n":
            lines.append([])
            at = 0
        elif char == "\b":
            at -= 1
        else:
            lines[-1][at : at + 1] = char
            at += 1
    return ["".join(line) for line in lines]


def framed(tokens: list[str], width: int) -> list[str]:
    stream = io.StringIO()
    printer = Printer(width, stream, io.StringIO())
    printer.print_header()
    for token in tokens:
        printer.print_pending()
        printer.print_token(token)
    return screen(stream.getvalue())


def test_text_wraps_at_words():
    assert framed([" The", " quick", " bro", "wn", " fox", " jumps"], 12) == [
        " --------------",
        "|  The quick   |",
        "| brown fox    |",
        "| jumps",
    ]


def test_a_word_longer_than_a_line_is_cut():
    assert framed(["abcde", "fghij", "klm"], 6)[1:] == [
        "| abcdef |",
        "| ghijkl |",
        "| m",
    ]


@given(st.lists(st.text("ab ", min_size=1, max_size=9), max_size=30))
def test_no_letter_is_lost_and_no_line_too_long(tokens):
    lines = framed(tokens, 10)[1:]
    text = "".join(line.removeprefix("| ").removesuffix(" |") for line in lines)
    assert text.replace(" ", "") == "".join(tokens).replace(" ", "")
    assert all(len(line) <= 14 for line in lines)


def test_a_log_line_leaves_the_text_and_the_lag_mark_is_red():
    stream, errors = io.StringIO(), io.StringIO()
    printer = Printer(20, stream, errors)
    printer.print_token(" Hello")
    printer.print_lag()
    printer.log("warning", "slow")
    printer.print_token(" again")
    assert "\033[31m [LAG]\033[0m" in stream.getvalue()
    assert screen(stream.getvalue()) == [" Hello [LAG]", " again"]
    assert errors.getvalue() == "Warning: slow\n"


def test_plain_text_goes_to_pipes_as_it_comes():
    stream, errors = io.StringIO(), io.StringIO()
    printer = RawPrinter(stream, errors)
    printer.print_header()
    printer.print_token(" Hello")
    printer.print_pending()
    printer.print_lag()
    printer.log("info", "done")
    assert stream.getvalue() == " Hello"
    assert errors.getvalue() == " [LAG]Info: done\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert make_log("error", "no", Terminal()) == "\033[1;31mError:\033[0m no"
    assert make_log("error", "no", io.StringIO()) == "Error: no"
    monkeypatch.setenv("NO_COLOR", "1")
    assert make_log("error", "no", Terminal()) == "Error: no"


def test_an_unknown_level_is_named():
    with pytest.raises(ValueError, match="'loud'"):
        make_log("loud", "hey")


def test_the_old_import_path_gives_the_same_classes():
    assert client_utils.Printer is Printer
    assert client_utils.AnyPrinter == Printer | RawPrinter
