"""Charts are drawn to scale, in a page that stands alone."""

import re
from xml.etree import ElementTree

import pytest

from moshi_mlx.bench.charts import (
    Threshold,
    bars,
    lines,
    page,
    short,
    table,
    ticks,
    write,
)
from moshi_mlx.errors import ConfigError


def figure(text: str) -> ElementTree.Element:
    """The parsed picture behind its headline."""
    return ElementTree.fromstring(text[text.index("<svg") : text.index("</section>")])


def test_bars_are_as_long_as_their_values():
    drawn = figure(bars("Size", {"q4": 1.0, "q8": 2.0, "<b>": 0.5}, "MB"))
    widths = [float(bar.attrib["width"]) for bar in drawn.iter("rect")]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)
    assert widths[1] == pytest.approx(4 * widths[2], rel=0.01)
    assert [text.text for text in drawn.iter("text")][4] == "<b>"


def test_lines_go_through_their_points():
    drawn = figure(lines("Growth", {"q4": [(0, 5), (100, 10)]}, "step", "ms"))
    line = next(drawn.iter("polyline")).attrib["points"]
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in line.split())
    bottom = 190
    assert x1 > x0 and (bottom - y1) == pytest.approx(2 * (bottom - y0), rel=0.01)


def marked(drawn: ElementTree.Element) -> list[float]:
    """Where a dashed line lies: x of an upright one, y of a level one."""
    found = [p.attrib["d"] for p in drawn.iter("path") if p.attrib["class"] == "mark"]
    numbers = [re.split("[MVH ]", path)[1:3] for path in found]
    return [
        float(x if "V" in d else y) for d, (x, y) in zip(found, numbers, strict=True)
    ]


def test_a_mark_lies_at_its_value_where_the_chart_reaches_it():
    values, limit = {"q4": 40.0, "q8": 160.0}, Threshold(80.0, "80 ms: real time")
    drawn = figure(bars("Frame", values, "ms", limit))
    short_, long = (float(bar.attrib["width"]) for bar in drawn.iter("rect"))
    left = float(next(drawn.iter("rect")).attrib["x"])
    assert marked(drawn) == [pytest.approx(left + 2 * short_, abs=0.2)]
    assert left + 2 * short_ < left + long
    series = {"q4": [(0.0, 40.0), (9.0, 80.0)], "q8": [(0.0, 20.0), (9.0, 100.0)]}
    drawn = figure(lines("Step", series, "step", "ms", limit))
    points = next(drawn.iter("polyline")).attrib["points"]
    assert marked(drawn) == [float(points.split(",")[-1])]
    for text in (
        bars("Frame", values, "ms", limit),
        lines("Step", series, "", "", limit),
    ):
        assert "80 ms: real time" in [t.text for t in figure(text).iter("text")]
    far = Threshold(1000.0, "far")
    assert "far" not in bars("Frame", values, "ms", far)
    assert "far" not in lines("Step", series, "step", "ms", far)


def test_everything_stays_within_the_picture():
    names = {f"series {i}": [(1.0, 10.0 + i)] for i in range(9)}
    drawn = figure(lines("Many", names, "step", "ms", Threshold(9.0, "limit")))
    x, y, wide, tall = map(float, drawn.attrib["viewBox"].split())
    for text in drawn.iter("text"):
        assert x <= float(text.attrib["x"]) < x + wide - 100 or text.text not in names
        assert y + 10 <= float(text.attrib["y"]) <= y + tall
    drawn = figure(bars("Long", {"a": 0.000398, "b": 1.234e-05}, "nats"))
    ends = [text for text in drawn.iter("text") if "nats" in (text.text or "")]
    assert all(float(text.attrib["x"]) + 110 < 760 for text in ends)


def test_a_page_needs_nothing_from_elsewhere():
    text = page("A & B", "note", [table(["a", "b"], [["1", "<2>"]])])
    assert "A &amp; B" in text and "<td>&lt;2&gt;</td>" in text
    assert not re.search(r"https?://|src=", text)


@pytest.mark.parametrize("top", [0.037, 1.0, 7.3, 80, 99.9, 12345])
def test_ticks_are_round_and_few(top):
    found = ticks(top)
    assert 4 <= len(found) <= 11
    assert found[0] == 0 and 0.75 * top < found[-1] <= top
    assert float(f"{found[1]:.0e}") == pytest.approx(found[1])


def test_empty_charts_are_charts():
    assert "<svg" in bars("nothing", {}) and "<svg" in lines("none", {}, "x", "y")


def test_numbers_are_short():
    assert [short(n) for n in (0.012345, 3.0, 99.94, 12345.6)] == [
        "0.0123",
        "3",
        "99.9",
        "12,346",
    ]


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "none" / "x.html", "")


def test_charts_with_one_scale_can_be_compared():
    small, large = (
        figure(bars("KL", {"text": value}, "nats", top=4.0)) for value in (1.0, 4.0)
    )
    widths = [
        float(next(drawn.iter("rect")).attrib["width"]) for drawn in (small, large)
    ]
    assert widths[1] == pytest.approx(4 * widths[0], rel=0.01)
