"""The page's box for a persona, in a real Chromium."""

from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.personas import personas_of
from moshi_mlx.serve.service import load_batch
from tests.persona import give_voices, personaplex_folder
from tests.serve.conftest import PATIENT
from tests.serve.test_page import CHROMIUM, MISSING, Visit, browser, microphone  # noqa: F401

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


def test_preset_text_and_voice_reach_the_server(browser, serve):  # noqa: F811
    asked = []
    personas = SimpleNamespace(
        about={"text": "You wait.", "voices": ["NATF0", "NATM1"]},
        start=lambda text, voice: asked.append((text, voice)),
    )
    server = serve(limits=PATIENT, personas=personas)
    visit = Visit(browser, server.url("/"))
    page = visit.page
    visit.expect_words("#model", "demo")
    page.click("#open-settings")
    assert page.input_value("#persona-text") == "You wait."
    page.select_option("#preset", "Bookshop")
    assert page.input_value("#persona-text").startswith("You work in a small bookshop")
    page.fill("#persona-text", "You sell maps & globes.")
    page.select_option("#persona-voice", "NATM1")
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    page.click("#settings button[type=submit]")
    page.click("#talk")
    visit.expect_state("talking")
    assert asked == [("You sell maps & globes.", "NATM1")]
    page.click("#talk")
    assert not visit.errors


def test_a_model_without_personas_shows_no_box(browser, serve):  # noqa: F811
    visit = Visit(browser, serve(limits=PATIENT).url("/"))
    visit.expect_words("#model", "demo")
    visit.page.click("#open-settings")
    assert not visit.page.is_visible("#persona")


def test_a_model_that_takes_personas_is_talked_with(
    browser,  # noqa: F811
    serve,
    tmp_path,
):
    folder = personaplex_folder(tmp_path / "tiny", context=1200)
    give_voices(folder, "NATF2")
    batch = load_batch(model_thread(), lambda: moshi_mlx.load(folder), 1)
    personas = personas_of(batch, "You teach.", None)
    server = serve(limits=PATIENT, batch=batch, personas=personas)
    visit = Visit(browser, server.url("/"))
    page = visit.page
    expect(page.locator("#persona-voice option")).to_contain_text(["choice", "NATF2"])
    page.click("#open-settings")
    assert page.input_value("#persona-text") == "You teach."
    page.select_option("#preset", "Interviewer")
    page.select_option("#persona-voice", "NATF2")
    page.click("#settings button[type=submit]")
    page.click("#talk")
    visit.expect_state("talking")
    visit.wait_for(lambda: len(visit.received) > 5)
    page.click("#talk")
    assert not visit.errors
    visit.context.close()
