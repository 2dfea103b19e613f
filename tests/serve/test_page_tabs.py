"""The page's tabs for transcribing and speaking, in a real Chromium."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FilePayload, Page, expect

import moshi_mlx
from moshi_mlx.audio import read
from moshi_mlx.audio.encode import encoded
from moshi_mlx.documents.word_files import words_as_srt, words_as_vtt
from moshi_mlx.documents.words import Word
from moshi_mlx.serve.speech import SpeechService
from tests.family import listening
from tests.listening import noise
from tests.serve.conftest import PATIENT
from tests.serve.openai.speaking import speaking
from tests.serve.test_page import CHROMIUM, MISSING, WAIT, Visit, launched, microphone
from tests.speech import TTS

__all__ = ["microphone"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
expect.set_options(timeout=1000 * WAIT)
ENDINGS = ("txt", "srt", "vtt", "json")
TEXT = "hello there how are you today"
WRITE = """async (words) => {
  const { FORMS } = await import("./subtitles.js");
  return [FORMS.srt.write(words), FORMS.vtt.write(words)];
}"""


@pytest.fixture(scope="module")
def browser(microphone) -> Iterator[Browser]:
    """Its microphone asks the question again and again."""
    yield from launched(str(microphone))


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> SpeechService:
    """A random ear and a random voice."""
    stt = moshi_mlx.load_stt(listening(tmp_path_factory.mktemp("stt")))
    return speaking(stt, moshi_mlx.load_tts(TTS, voice_repo=str(TTS)))


def saved(page: Page, button: str) -> tuple[str, bytes]:
    """The file that a button saves: its name, and what is in it."""
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, download.value.path().read_bytes()


def saved_words(page: Page) -> dict[str, str]:
    """The transcript in every form."""
    told = {}
    for ending in ENDINGS:
        name, data = saved(page, f"#hear-keep [data-form={ending}]")
        assert name.endswith(f".{ending}")
        told[ending] = data.decode()
    return told


def check_forms(told: dict[str, str]) -> list[Word]:
    """All forms hold the same words; subtitles are those of `moshi-mlx transcribe`."""
    words = [Word(**word) for word in json.loads(told["json"])]
    assert told["txt"] == " ".join(word.text for word in words) + "\n"
    assert told["srt"] == words_as_srt(words)
    assert told["vtt"] == words_as_vtt(words)
    return words


def sound_file(seconds: float) -> FilePayload:
    data = encoded(noise(seconds), "wav")
    return {"name": "my talk.wav", "mimeType": "audio/wav", "buffer": data}


def test_a_page_shows_tabs_only_for_what_there_is(browser, serve, speech):
    with_all = Visit(browser, serve(limits=PATIENT, speech=speech).url("/"))
    tabs = with_all.page.get_by_role("tab")
    expect(tabs).to_have_text(["Talk", "Transcribe", "Speak"])
    tabs.first.focus()
    with_all.page.keyboard.press("ArrowLeft")
    expect(tabs.last).to_be_focused()
    expect(tabs.last).to_have_attribute("aria-selected", "true")
    expect(with_all.page.get_by_role("tabpanel", name="Speak")).to_be_visible()
    expect(with_all.page.locator("#panel-talk")).to_be_hidden()
    with_all.page.reload()  # the tab is in the address
    expect(with_all.page.get_by_role("tabpanel", name="Speak")).to_be_visible()

    moshi_alone = Visit(browser, serve(limits=PATIENT).url("/"))
    moshi_alone.expect_words("#model", "demo")
    expect(moshi_alone.page.get_by_role("tab")).to_have_count(0)
    expect(moshi_alone.page.locator("#talk")).to_be_visible()

    ear = SpeechService(speech._thread, speech.stt)
    ear_alone = Visit(browser, serve(batch=None, speech=ear).url("/"))
    expect(ear_alone.page.locator("#hear-mic")).to_be_visible()
    expect(ear_alone.page.get_by_role("tab")).to_have_count(0)
    expect(ear_alone.page.locator("#talk")).to_be_hidden()
    for visit in (with_all, moshi_alone, ear_alone):
        assert not visit.errors
        visit.context.close()


def test_a_file_is_transcribed_and_saved_in_four_forms(browser, serve, speech):
    visit = Visit(browser, serve(batch=None, speech=speech).url("/#transcribe"))
    page = visit.page
    sound = sound_file(6)
    with page.expect_file_chooser() as chooser:
        page.click("#hear-choose")
    chooser.value.set_files(sound)
    visit.expect_words("#hear-status", " words.")
    told = saved_words(page)
    words = check_forms(told)
    assert words and " ".join(page.inner_text("#heard").split()) == told["txt"].strip()
    assert saved(page, "#hear-keep [data-form=srt]")[0] == "my talk.srt"
    page.locator("#hear-file").set_input_files(
        {"name": "no.wav", "mimeType": "audio/wav", "buffer": b"this is no sound"}
    )
    expect(page.locator("#hear-status")).to_have_attribute("data-failed", "yes")
    assert not visit.errors
    visit.context.close()


def test_the_microphone_is_transcribed_until_it_is_stopped(browser, serve, speech):
    visit = Visit(browser, serve(batch=None, speech=speech).url("/#transcribe"))
    page = visit.page
    page.click("#hear-mic")
    visit.expect_words("#hear-status", "Listening: ")
    visit.wait_for(lambda: len(page.inner_text("#heard").split()) > 3)
    page.click("#hear-mic")
    visit.expect_words("#hear-status", " words.")
    words = check_forms(saved_words(page))
    assert words[0].start_s < words[-1].end_s
    assert not visit.errors
    visit.context.close()


def test_a_microphone_that_finds_no_place_is_told_so(browser, serve, speech):
    visit = Visit(browser, serve(batch=None, speech=speech).url("/#transcribe"))
    batch = speech.stt.load()
    taken = [batch.open() for _ in range(batch.rows)]
    visit.page.click("#hear-mic")
    visit.expect_words("#hear-status", "All places are taken.")
    for row in taken:
        row.close()
    visit.page.click("#hear-mic")
    visit.expect_words("#hear-status", "Listening: ")
    assert not visit.errors
    visit.context.close()


def test_a_text_is_heard_and_saved_as_it_was_said(browser, serve, speech):
    visit = Visit(browser, serve(batch=None, speech=speech).url("/#speak"))
    page = visit.page
    page.click("#say")
    visit.expect_words("#say-status", "Write what is to be said.")
    expect(page.locator("#say-text")).to_be_focused()
    page.fill("#say-text", TEXT)
    expect(page.locator("#say-voice option")).to_contain_text(["usual", "voice_a"])
    page.select_option("#say-voice", "voice_b.wav")
    page.click("#say")
    visit.expect_words("#say-status", " of speech.")
    name, data = saved(page, "#say-wav")
    said = read(data, 24000)[0]
    assert name.endswith(".wav") and len(said) > 24000 and np.abs(said).max() > 1e-4
    expect(page.locator("#say-again")).to_be_visible()
    assert page.evaluate("document.querySelector('#say-again').duration") > 1
    name, data = saved(page, "#say-mp3")
    assert name.endswith(".mp3")
    again = read(data, 24000)[0]
    # The same speech: a codec's delay apart, and with its losses.
    start = len(said) // 4
    piece = said[start : start + 12000]
    found = np.correlate(again[start - 3000 : start + 18000], piece, "valid").max()
    assert found > 0.8 * np.sum(piece**2)
    heard = sum(map(len, visit.heard))
    assert heard > 0.8 * len(said), "the speakers have not played it"
    assert not visit.errors
    visit.context.close()


def test_a_speech_that_is_stopped_ends(browser, serve, speech):
    visit = Visit(browser, serve(batch=None, speech=speech).url("/#speak"))
    visit.page.fill("#say-text", f"{TEXT} " * 40)
    visit.page.click("#say")
    visit.expect_words("#say-status", " made.")
    visit.page.click("#say")
    visit.expect_words("#say-status", "Stopped.")
    expect(visit.page.locator("#say-keep")).to_be_hidden()
    visit.wait_for(lambda: speech.tts.value.taken == 0)
    assert not visit.errors
    visit.context.close()


def test_what_the_user_says_stands_beside_what_moshi_says(browser, serve, speech):
    visit = Visit(browser, serve(limits=PATIENT, speech=speech).url("/"))
    page = visit.page
    expect(page.get_by_role("tab").first).to_be_visible()
    page.click("#talk")
    visit.expect_state("talking")
    expect(page.locator("#transcript p.you").first).to_be_visible(timeout=1000 * WAIT)
    expect(page.locator("#transcript p.moshi").first).to_contain_text("Moshi ")
    colour = "e => getComputedStyle(e).color"
    orange = page.locator(".who-you").evaluate(colour)
    assert page.locator("#transcript p.you").first.evaluate(colour) == orange
    assert page.inner_text("#transcript p.you b >> nth=0") == "You"
    page.click("#restart")
    visit.expect_words("#transcript", "A new conversation")
    count = page.locator("#transcript .note ~ p.you")
    expect(count.first).to_be_visible(timeout=1000 * WAIT)
    page.click("#talk")
    visit.wait_for(lambda: speech.stt.value.taken == 0)
    told = saved(page, "#save-text")[1].decode()
    assert "] You: " in told and "] Moshi: " in told
    assert "] [a new conversation]\n" in told
    assert not visit.errors
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["talk", "transcribe", "speak"])
def test_axe_finds_nothing_on_any_tab(browser, serve, speech, tab, scheme):
    server = serve(limits=PATIENT, speech=speech)
    screen = {"color_scheme": scheme, "viewport": {"width": 320, "height": 568}}
    visit = Visit(browser, server.url(f"/#{tab}"), **screen)
    expect(visit.page.locator(f"#panel-{tab}")).to_be_visible()
    results = Axe().run(visit.page)
    assert results.violations_count == 0, results.generate_report()
    width = visit.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 320, "the page is wider than the screen"
    visit.context.close()


def test_subtitles_of_the_page_are_those_of_the_command(browser, serve, speech):
    visit = Visit(browser, serve(batch=None, speech=speech).url("/"))
    rng = np.random.default_rng(0)
    told = "well -> it's <b>fine</b> & good --> really. extraordinarily no! yes?"
    words, at = list[Word](), 0.0
    for _ in range(300):
        at += float(rng.choice([0.05, 0.2, 1.2, 4.0], p=[0.5, 0.4, 0.07, 0.03]))
        text = str(rng.choice(told.split()))
        words.append(Word(text, round(at, 2), round(at + 0.3, 2)))
        at += 0.3
    given = [vars(word) for word in words]
    srt, vtt = visit.page.evaluate(WRITE, given)
    assert srt == words_as_srt(words)
    assert vtt == words_as_vtt(words)
    visit.context.close()
