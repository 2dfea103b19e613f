"""The report shows what happened, needs nothing from elsewhere, and trusts no text."""

import base64
import re
import wave
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest

from moshi_mlx import audio
from moshi_mlx.documents import report as report_module
from moshi_mlx.documents.recording import Recording, read_words
from moshi_mlx.documents.report import write_report
from moshi_mlx.documents.timeline import timeline
from moshi_mlx.documents.transcript import Timed
from moshi_mlx.errors import AudioError
from moshi_mlx.utils.trace import Timing

PIECES = [Timed(" Hel", 1.0, 1.08), Timed("lo", 1.08, 1.16), Timed(" <you>", 1.5, 1.6)]


def stereo(seconds: float = 2.0) -> np.ndarray:
    """A user who speaks in the first half, Moshi in the second."""
    n = int(12000 * seconds)
    loud, quiet = np.full(n, 0.5, np.float32), np.zeros(n, np.float32)
    return np.stack([np.concatenate([loud, quiet]), np.concatenate([quiet, loud])])


class Page(HTMLParser):
    """Every element with its attributes, and the text in it."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())

    def find(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        return [
            a for t, a in self.elements if t == tag and kind in (a.get("class") or "")
        ]


@pytest.fixture
def page(tmp_path):
    def make(**given) -> Page:
        path = tmp_path / "report.html"
        given = {"sound": stereo(), "title": "A <b>joke</b>"} | given
        write_report(path, **given)
        return Page(path.read_text(encoding="utf-8"))

    return make


def test_text_is_shown_at_its_time_and_never_as_html(page):
    shown = page(pieces=PIECES, facts={"Seed": "<0>"})
    words = shown.find("text", "word")
    rate = float(shown.find("svg")[0]["data-rate"])
    assert [float(w["x"]) for w in words] == pytest.approx(
        [1.0 * rate + 3, 1.5 * rate + 3], abs=0.1
    )
    assert [w["data-from"] for w in words] == ["1.000", "1.500"]
    assert not shown.find("b", "x") and not shown.find("you")
    for text in ["A <b>joke</b>", "Hello", "<you>", "Hello <you>", "<0>", "0:01.0"]:
        assert text in shown.text


def test_nothing_is_fetched_from_anywhere(page):
    shown = page(pieces=PIECES, frame_ms=[10.0] * 25)
    for tag, attributes in shown.elements:
        assert tag not in ("link", "img", "iframe")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"https?://|@import|url\(", "".join(shown.text))


def test_the_sound_is_inside(page):
    (player,) = page().find("audio")
    data = base64.b64decode(
        (player["src"] or "").removeprefix("data:audio/wav;base64,")
    )
    with wave.open(BytesIO(data)) as file:
        assert file.getparams()[:4] == (2, 2, 24000, 48000)
        pcm = np.frombuffer(file.readframes(48000), "<i2").reshape(-1, 2).T
    assert np.allclose(pcm / 32767, stereo(), atol=1e-4)


def test_waveforms_are_loud_where_someone_speaks(page):
    for kind, first_half in [("you", True), ("moshi", False)]:
        (wave_path,) = page().find("path", kind)
        bars = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", wave_path["d"] or "")
        x, top, bottom = np.array(bars, dtype=float).T
        loud = bottom - top > 30
        half = x < x.mean()
        assert np.array_equal(loud, half if first_half else ~half)


def test_late_frames_stand_out_and_are_counted(page):
    frame_ms = [20.0] * 20 + [95.0, 120.0, 20.0, 30.0, 20.0]
    shown = page(frame_ms=frame_ms)
    (late,) = shown.find("path", "late")
    (fine,) = shown.find("path", "ok")
    assert (late["d"] or "").count("M") == 2
    assert (fine["d"] or "").count("M") == 23
    assert "20.0 ms" in shown.text and "95.0 ms" in shown.text
    assert f"{80 * 25 / sum(frame_ms):.1f}×" in shown.text  # noqa: RUF001
    assert "of 25 frames late" in shown.text
    assert len(shown.find("div", "tile bad")) == 1


def test_stages_are_listed_with_their_timings(page):
    stages = {
        "encode": Timing(9, 5.0, 4.0, 8.0, 9.5),
        "step": Timing(9, 50, 40, 60, 70),
    }
    shown = page(stages=stages)
    for text in ["encode", "4.0", "8.0", "9.5", "step", "40.0"]:
        assert text in shown.text
    assert [bar["style"] for bar in shown.find("i")] == ["width:5.0%", "width:50.0%"]


def test_a_recording_on_disk_is_reported_and_a_long_one_linked(tmp_path, monkeypatch):
    with Recording(tmp_path / "talk.wav") as recording:
        for i in range(25):
            tone = np.full(1920, 0.3, np.float32)
            recording.add(tone, None, " word" if i == 10 else "")
    words = read_words(tmp_path / "talk.json")
    inside = tmp_path / "inside.html"
    write_report(inside, recording.path, title="Talk", pieces=words)
    assert "data:audio/wav" in inside.read_text()
    monkeypatch.setattr(report_module, "_EMBED_BYTES", 1000)
    (tmp_path / "reports").mkdir()
    beside = tmp_path / "reports" / "beside.html"
    write_report(beside, recording.path, title="Talk", pieces=words)
    shown = Page(beside.read_text())
    assert shown.find("audio")[0]["src"] == "../talk.wav"
    assert "word" in shown.text
    write_report(beside, stereo(), title="Talk")
    assert not Page(beside.read_text()).find("audio")


@pytest.mark.parametrize("duration_s", [0.0, 0.08, 60.0, 7200.0])
def test_any_duration_has_a_picture_of_bounded_size(duration_s):
    peaks = np.full((2, int(200 * duration_s)), 0.5)
    frame_ms = [20.0] * int(12.5 * duration_s)
    said = [Timed(" word", t, t + 0.2) for t in np.arange(0, duration_s, 0.4).tolist()]
    picture = timeline(peaks, duration_s, said, frame_ms, 80)
    assert 'role="img"' in picture
    assert len(picture) < 600_000


def test_overlapping_words_take_rows_of_their_own():
    said = [Timed(" unbelievably", 1.0, 1.1), Timed(" long", 1.1, 1.2)]
    picture = timeline(np.zeros((2, 400)), 10.0, said, [], 80)
    rows = re.findall(r'class="word" x="[\d.]+" y="(\d+)"', picture)
    assert len(set(rows)) == 2


def test_mono_sound_and_closed_folders_are_refused(tmp_path):
    audio.write_wav(tmp_path / "mono.wav", stereo()[0])
    with pytest.raises(AudioError, match="16-bit stereo"):
        write_report(tmp_path / "x.html", tmp_path / "mono.wav", title="x")
    with pytest.raises(AudioError, match=r"gone.*cannot be written"):
        write_report(tmp_path / "gone" / "x.html", stereo(), title="x")


def test_a_restart_is_a_line_in_the_picture_and_in_the_text(page):
    shown = page(pieces=PIECES, restarts=[1.3])
    [line] = shown.find("path", "restart")
    rate = float(shown.find("svg")[0]["data-rate"])
    assert float(str(line["d"]).split(" ")[0][1:]) == pytest.approx(1.3 * rate, abs=0.1)
    said = shown.text[shown.text.index("What was said") :]
    order = [said.index(text) for text in ("Hello", "A new conversation", "<you>")]
    assert order == sorted(order)
    assert not page(pieces=PIECES).find("path", "restart")
