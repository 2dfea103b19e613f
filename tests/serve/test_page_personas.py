"""The page's box for a persona, in a real Chromium."""

from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe

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
