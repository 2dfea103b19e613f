"""What a person sees: whole words, figures that fit, plain text in a pipe."""

import io
import re

import pytest
from rich.console import Console

from moshi_mlx.engines.queue import Dropped
from moshi_mlx.live import screen
from moshi_mlx.live.conversation import Figures
from moshi_mlx.live.screen import LiveScreen, PlainScreen, clock, meter, status_lines

TEXT = " Why did the robot go on holiday? To recharge its batteries! " * 3


def snapshot(**changes) -> Figures:
    values = {
        **dict(elapsed_s=61.0, frames=760, lag_p50=38.0, lag_p95=62.0, step_p50=36.0),
        **dict(
            step_p95=58.0, waiting=0.0, buffered=80.0, jitter=44.0, gaps=0, device=120.0
        ),
        **dict(dropped=Dropped(), echo_delay=100.0, heard_level=0.1, played_level=0.0),
        **dict(muted=False, volume=1.0, paused=False, mic_is_dead=False),
        **dict(memory_mib=137.0),
    }
    return Figures(**{**values, **changes})


def pieces(text: str) -> list[str]:
    """As a model says it: a few letters at a time."""
    return [text[i : i + 3] for i in range(0, len(text), 3)]


def terminal(width: int, **options) -> Console:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=width, height=24, **options)


def shown(console: Console) -> str:
    """Everything that was ever written, without colours and cursor movements."""
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())


@pytest.mark.parametrize("width", [40, 80])
def test_flowing_text_is_wrapped_between_words(
    monkeypatch: pytest.MonkeyPatch, width: int
):
    console = terminal(width)
    view = LiveScreen("demo", console)
    printed: list[str] = []
    # what goes into the terminal's history
    monkeypatch.setattr(view, "_print", printed.append)
    for piece in pieces(TEXT):
        view.text(piece)
    view.close()
    assert " ".join(" ".join(printed).split()) == " ".join(TEXT.split())
    assert all(len(line) < width for line in printed)
    assert len(printed) >= len(TEXT) // width


def test_a_notice_does_not_tear_a_word():
    console = terminal(60)
    view = LiveScreen("demo", console)
    view.text(" Hel")
    view.notice("the microphone has gone.")
    view.text("lo.")
    view.close()
    out = shown(console)
    assert "the microphone has gone." in out and "Hello." in out


def test_a_pause_begins_a_line(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    out, err = io.StringIO(), io.StringIO()
    plain, console = PlainScreen(out, err), terminal(60)
    view = LiveScreen("demo", console)
    printed: list[str] = []
    monkeypatch.setattr(view, "_print", printed.append)
    for words, pause in ((" One.", 0.0), (" Two.", 0.5), (" Three.", 5.0)):
        now[0] += pause
        plain.text(words)
        view.text(words)
    plain.notice("a sentence")
    plain.close()
    view.close()
    assert out.getvalue() == "One. Two.\nThree.\n"
    assert err.getvalue() == "a sentence\n"
    assert printed == ["One. Two.", "Three."]


@pytest.mark.parametrize("width", [16, 24, 39, 59, 60, 79, 200])
@pytest.mark.parametrize("plain", [False, True])
def test_figures_fit_the_terminal(width: int, plain: bool):
    loud = snapshot(
        elapsed_s=40_000.0, paused=True, dropped=Dropped(1200, 300), lag_p95=1e4
    )
    for state in (snapshot(), loud, snapshot(muted=True, mic_is_dead=True)):
        lines = [str(t) for t in status_lines(state, "kyutai/moshiko", width, plain)]
        assert max(map(len, lines)) <= max(width, 14)
        assert not plain or "".join(lines).isascii()


def test_figures_say_what_is():
    text = "\n".join(str(t) for t in status_lines(snapshot(), "demo", 79, False))
    for part in ("1:01", "lag 38 ms (p95 62)", "0 dropped", "137 MiB", "echo 100 ms"):
        assert part in text
    bad = status_lines(snapshot(muted=True, paused=True), "demo", 79, False)
    assert "muted" in str(bad[0]) and "no device" in str(bad[1])


def test_colour_goes_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal(80)
    view = LiveScreen("demo", console)
    view.update(snapshot(dropped=Dropped(3, 0)))
    view.close()
    assert isinstance(console.file, io.StringIO)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", console.file.getvalue())
    assert "3 dropped" in shown(console)


def test_a_meter_grows_with_the_level():
    bars = [meter(level, 20) for level in (0.0, 1e-3, 0.01, 0.1, 1.0)]
    assert [bar.count("█") for bar in bars] == [0, 0, 7, 13, 20]
    assert {len(bar) for bar in bars} == {20}


@pytest.mark.parametrize(
    "seconds, text", [(5.9, "0:05"), (754, "12:34"), (3723, "1:02:03")]
)
def test_time_is_written_as_people_do(seconds: float, text: str):
    assert clock(seconds) == text


def test_a_restart_stands_below_the_old_conversation(monkeypatch: pytest.MonkeyPatch):
    out, console = io.StringIO(), terminal(60)
    plain, view = PlainScreen(out, out), LiveScreen("demo", console)
    printed: list[str] = []
    monkeypatch.setattr(view, "_print", printed.append)
    monkeypatch.setattr(view, "notice", printed.append)
    for shown_on in (plain, view):
        shown_on.text(" What is")
        shown_on.restart("A new conversation.")
        shown_on.text(" Hello.")
        shown_on.close()
    assert out.getvalue() == "What is\nA new conversation.\nHello.\n"
    assert printed == ["What is", "A new conversation.", "Hello."]
