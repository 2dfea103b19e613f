"""The page in a real Chromium, with a microphone that plays a recorded question."""

import base64
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

import moshi_mlx
from moshi_mlx.audio import resample, write_wav
from moshi_mlx.serve.gate.security import Policy
from tests.serve.conftest import PATIENT

WAIT = 120  # seconds: only ever used up by a test that fails
BROWSERS = (
    "chromium",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
MISSING = "not on a Mac without Chrome" if sys.platform == "darwin" else "no chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--host-resolver-rules=MAP moshi.test 127.0.0.1",
)
# Whatever reaches the loudspeakers is told on the console, 16-bit, with its rate.
EAVESDROP = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const ear = this.context.createScriptProcessor(4096, 1, 1);
    ear.onaudioprocess = ({ inputBuffer }) => {
      const heard = Int16Array.from(inputBuffer.getChannelData(0), (x) => x * 32767);
      const bytes = new Uint8Array(heard.buffer);
      const text = btoa(String.fromCharCode(...bytes));
      console.log(`HEARD ${inputBuffer.sampleRate} ${text}`);
    };
    connect.call(this, ear);
    connect.call(ear, to);
  }
  return connect.call(this, to, ...rest);
};
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]


@pytest.fixture(scope="module")
def microphone(tmp_path_factory) -> Path:
    """What the fake microphone plays: a second of silence, a question, silence."""
    path = tmp_path_factory.mktemp("microphone") / "question.wav"
    demo = Path(moshi_mlx.__file__).parent / "demo" / "questions"
    question = moshi_mlx.audio.read(demo / "planet.wav", 48000)[0]
    second = np.zeros(48000, np.float32)
    write_wav(path, np.concatenate([second, question, *[second] * 20]), 48000)
    return path


@pytest.fixture(scope="module")
def browser(microphone) -> Iterator[Browser]:
    yield from launched(f"{microphone}%noloop")


def launched(heard: str) -> Iterator[Browser]:
    """A browser whose microphone plays a file."""
    plays = f"--use-file-for-fake-audio-capture={heard}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, plays]
        )
        yield browser
        browser.close()


class Visit:
    """A visitor's page, with what came over its WebSockets and from its speakers."""

    def __init__(self, browser: Browser, url: str, may_listen: bool = True, **screen):
        permissions = ["microphone"] if may_listen else []
        self.context = browser.new_context(permissions=permissions, **screen)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(1000 * WAIT)
        self.errors: list[str] = []
        self.received: list[np.ndarray] = []
        self.sent: list[np.ndarray] = []
        self.heard: list[np.ndarray] = []
        self.page.add_init_script(EAVESDROP)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self._console(message.text))
        self.page.on("websocket", self._watch)
        self.page.goto(url)

    def _watch(self, socket) -> None:
        if "format=pcm" not in socket.url:
            return  # another page's, in Opus
        socket.on("framereceived", lambda data: _keep(self.received, data))
        socket.on("framesent", lambda data: _keep(self.sent, data))

    def _console(self, text: str) -> None:
        if not text.startswith("HEARD "):
            return
        _, rate, data = text.split(" ")
        samples = np.frombuffer(base64.b64decode(data), "<i2") / 32767
        self.heard.append(
            resample(samples.astype(np.float32)[None], int(rate), 24000)[0]
        )

    def wait_for(self, condition: Callable[[], bool], seconds: float = WAIT) -> None:
        """Wait until something is so; fails where it never is."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "what was waited for has not come"
            self.page.wait_for_timeout(100)

    def expect_state(self, state: str, seconds: float = WAIT) -> None:
        expect(self.page.locator("body")).to_have_attribute(
            "data-state", state, timeout=1000 * seconds
        )

    def expect_words(self, place: str, words: str, seconds: float = WAIT) -> None:
        expect(self.page.locator(place)).to_contain_text(words, timeout=1000 * seconds)


def _keep(frames: list[np.ndarray], data: str | bytes) -> None:
    if isinstance(data, bytes) and data[0] == 1:
        frames.append(np.frombuffer(data[1:], "<f4"))


def likeness(heard: np.ndarray, said: np.ndarray) -> float:
    """Highest correlation of ``said`` with any stretch of ``heard``, 0 to 1."""
    dots = np.correlate(heard, said, "valid")
    energy = np.cumsum(np.concatenate([[0], heard**2]))
    norms = np.sqrt((energy[len(said) :] - energy[: -len(said)]) * (said**2).sum())
    return float((np.abs(dots) / (norms + 1e-3)).max())


def test_a_spoken_question_is_answered_in_words_and_sound(browser, serve, tmp_path):
    server = serve(limits=PATIENT)
    visit = Visit(browser, server.url("/"), viewport={"width": 390, "height": 844})
    page = visit.page
    page.click("#talk")
    visit.expect_state("talking")
    visit.expect_words("#transcript", "Jupiter is the biggest planet.")
    said = np.concatenate(visit.received)
    loud = [
        part
        for part in said[: len(said) // 6000 * 6000].reshape(-1, 6000)
        if np.sqrt(np.mean(part**2)) > 0.02
    ]
    assert len(loud) >= 3, "Moshi said next to nothing"

    def is_heard() -> bool:  # what was said last is still on its way to the ear
        heard = np.concatenate([np.zeros(6000, np.float32), *visit.heard])
        return float(np.median([likeness(heard, part) for part in loud])) > 0.9

    visit.wait_for(is_heard)

    page.click("#mute")
    expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
    before = len(visit.sent)
    visit.wait_for(lambda: len(visit.sent) >= before + 5)
    assert not np.concatenate(visit.sent[before + 1 :]).any()
    page.keyboard.press("m")
    expect(page.locator("#mute")).to_have_attribute("aria-pressed", "false")

    page.click("#restart")
    visit.expect_words("#transcript", "A new conversation")
    before = len(visit.received)
    page.click("#open-settings")
    page.locator("#seed").fill("77")
    page.keyboard.press("Enter")
    expect(page.locator("#settings")).not_to_be_visible()
    visit.wait_for(lambda: len(visit.received) > before)  # it goes on meanwhile
    page.click("#restart")
    visit.expect_words("#model", "seed 77")
    visit.expect_state("talking")

    page.click("#talk")
    visit.expect_state("idle")
    with page.expect_download() as download:
        page.click("#save-audio")
    download.value.save_as(tmp_path / "talk.wav")
    saved = moshi_mlx.audio.read(tmp_path / "talk.wav", mono=False)
    assert saved.shape[0] == 2 and saved.shape[1] > 4 * 24000
    assert np.median([likeness(saved[1], part) for part in loud]) > 0.9
    with page.expect_download() as download:
        page.click("#save-text")
    download.value.save_as(tmp_path / "talk.txt")
    assert "Jupiter is the biggest planet." in (tmp_path / "talk.txt").read_text()
    assert not visit.errors
    visit.context.close()


def test_a_second_tab_waits_and_a_lost_server_is_found_again(browser, serve):
    server = serve(limits=PATIENT)
    first, second = (Visit(browser, server.url("/")) for _ in range(2))
    first.page.click("#talk")
    first.expect_state("talking")
    second.page.click("#talk")
    second.expect_words("#status", "You are number 1 in the queue")
    first.page.click("#talk")
    second.expect_state("talking")
    server.stop()
    second.expect_words("#status", "The server does not answer")
    serve(limits=PATIENT, port=server.port)
    second.expect_state("talking")
    for visit in (first, second):
        assert not visit.errors
        visit.context.close()


def test_a_refused_microphone_is_explained(browser, serve):
    visit = Visit(browser, serve().url("/"), may_listen=False)
    visit.page.click("#talk")
    visit.expect_state("failed")
    visit.expect_words("#status", "The microphone is blocked. Allow it for this page")
    assert visit.page.locator("#talk").inner_text() == "Start"
    visit.context.close()


def test_a_server_that_is_gone_is_named_and_takes_nothing_along(browser, serve):
    server = serve(limits=PATIENT)
    visit = Visit(browser, server.url("/"))
    visit.page.click("#talk")
    visit.expect_state("talking")
    visit.expect_words("#transcript", "Jupiter is the biggest planet.")
    visit.page.click("#talk")
    visit.expect_state("idle")
    server.stop()
    visit.page.click("#talk")
    visit.expect_state("failed")
    visit.expect_words("#status", "The server cannot be reached")
    visit.expect_words("#transcript", "Jupiter is the biggest planet.")
    expect(visit.page.locator("#save-audio")).to_be_visible()
    assert not visit.errors
    visit.context.close()


def test_a_page_that_is_not_secure_says_what_to_do(browser, serve):
    server = serve(policy=Policy(origins=["http://moshi.test"]))
    visit = Visit(browser, f"http://moshi.test:{server.port}/", may_listen=False)
    visit.expect_words("#status", "start the server with --https")
    visit.context.close()


@pytest.mark.parametrize("width, height", [(320, 568), (1280, 400)])
def test_a_long_status_covers_nothing(browser, serve, width, height):
    screen = {"width": width, "height": height}
    visit = Visit(browser, serve().url("/"), may_listen=False, viewport=screen)
    visit.page.click("#talk")
    visit.expect_words("#status", "The microphone is blocked")
    boxes = [
        visit.page.locator(name).bounding_box()
        for name in ("#orbs", ".who-you", "#status", "#transcript")
    ]
    for above, below in pairwise(boxes):
        assert above and below
        assert above["y"] + above["height"] <= below["y"] + 1  # a pixel of rounding
    assert not visit.errors
    visit.context.close()


@pytest.mark.parametrize("width, height", [(320, 568), (390, 844), (1280, 800)])
def test_everything_fits_the_screen(browser, serve, width, height):
    screen = {"width": width, "height": height}
    visit = Visit(browser, serve().url("/"), viewport=screen)
    for name in ("#talk", "#mute", "#restart", "#transcript", "#status", ".figures"):
        box = visit.page.locator(name).bounding_box()
        assert box is not None, name
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, name
        assert box["y"] >= 0 and box["y"] + box["height"] <= height, name
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_object_to(browser, serve, scheme):
    server = serve(limits=PATIENT)
    visit = Visit(browser, server.url("/"), color_scheme=scheme)
    visit.expect_words("#model", "demo")
    found = [Axe().run(visit.page)]
    visit.page.click("#open-settings")
    found.append(Axe().run(visit.page))
    for results in found:
        assert results.violations_count == 0, results.generate_report()
    assert not visit.errors


def test_sliders_have_names_of_their_own_and_reach_the_server(browser, serve):
    server = serve(limits=PATIENT)
    visit = Visit(browser, server.url("/"))
    page = visit.page
    visit.expect_words("#suggestions", "Tell me a joke.")
    page.click("#open-settings")
    for name in ("Volume", "Text top-k", "Voice top-k", "Repetition penalty"):
        slider = page.get_by_role("slider", name=name, exact=True)
        slider.focus()
        page.keyboard.press("ArrowRight")
    chosen = {
        name: page.input_value(f"#{name}")
        for name in ("text-topk", "audio-topk", "repetition")
    }
    page.click("#settings button[type=submit]")
    with page.expect_websocket() as opened:
        page.click("#talk")
    visit.expect_state("talking")
    address = opened.value.url
    assert f"text_topk={chosen['text-topk']}" in address
    assert f"audio_topk={chosen['audio-topk']}" in address
    assert f"repetition_penalty={chosen['repetition']}" in address
    visit.expect_words("#transcript", "Jupiter")
    expect(page.locator("#suggestions")).to_be_hidden()
    page.click("#talk")
    with page.expect_download() as saved:
        page.click("#save-audio")
    name = saved.value.suggested_filename
    assert re.fullmatch(r"moshi-\d{4}-\d\d-\d\d-\d{6}\.wav", name)
