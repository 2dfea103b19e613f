"""One colour for the user and one for Moshi, on every page and in the terminal."""

import re
from pathlib import Path

import pytest

import moshi_mlx
from moshi_mlx.bench.charts import page
from moshi_mlx.documents.looks import MOSHI, YOU, looks
from tests.live.test_screen import snapshot

SERVED = Path(moshi_mlx.__file__).parent / "serve" / "static" / "style.css"


def colours(css: str, name: str) -> list[str]:
    """Values of a CSS variable: in light, then in dark."""
    return re.findall(rf"--{name}: *(#\w+);", css)


@pytest.mark.parametrize("name", ["you", "moshi"])
def test_what_is_served_and_what_is_written_have_the_same_colours(name: str):
    found = colours(looks(), name)
    assert len(found) == 2
    assert found == colours(SERVED.read_text(encoding="utf-8"), name)
    assert found[0] == {"you": YOU, "moshi": MOSHI}[name]


def test_the_terminal_has_them_too():
    from moshi_mlx.live.screen import status_lines

    meters = status_lines(snapshot(), "demo", 100, plain=False)[0]
    styles = [str(span.style) for span in meters.spans]
    assert styles.index(YOU) < styles.index(MOSHI)


def test_charts_and_reports_share_a_style_sheet_with_a_dark_half():
    text = page("T", "N", [])
    assert looks() in text and "prefers-color-scheme: dark" in looks()
    report = Path(moshi_mlx.__file__).parent / "documents" / "report.html"
    assert "$looks" in report.read_text(encoding="utf-8")


def test_no_page_names_a_colour_of_its_own():
    report = Path(moshi_mlx.__file__).parent / "documents" / "report.html"
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", report.read_text(encoding="utf-8"))
    own = page("T", "N", []).replace(looks(), "")
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", own)
