"""NVIDIA's web client of PersonaPlex, unchanged, served and answered by our server.

The folder of scripts/test_clients holds a built checkout of NVIDIA/personaplex (run at
3428dfd: `npm ci && npx vite build` in its folder client).
"""

import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.gate.security import OTHER_PAGE_POLICY, Policy
from moshi_mlx.serve.personas import Personas
from moshi_mlx.serve.service import load_batch
from tests.persona import give_voices, personaplex_folder
from tests.serve.conftest import PATIENT
from tests.serve.test_page import WAIT, Visit, browser, microphone

__all__ = ["browser", "microphone"]
pytestmark = pytest.mark.clients
PRESET = "You are a wise and friendly teacher."


def test_nvidias_client_talks_in_the_chosen_persona_and_voice(
    browser, serve, tmp_path, monkeypatch
):
    [client] = Path(os.environ["MOSHI_CLIENTS"]).rglob("client/dist/index.html")
    folder = personaplex_folder(tmp_path / "tiny", context=1200)
    give_voices(folder, "NATF0", "VARM1")
    batch = load_batch(model_thread(), lambda: moshi_mlx.load(folder), 1)
    personas = Personas(batch.moshi)
    asked = []
    start = Personas.start
    monkeypatch.setattr(
        Personas, "start", lambda *a: (asked.append(a[1:]), start(*a))[1]
    )
    policy = Policy(content_policy=OTHER_PAGE_POLICY)
    server = serve(
        *(1, PATIENT, policy), static=client.parent, batch=batch, personas=personas
    )
    visit = Visit(browser, server.url("/"))
    page, addresses, kinds = visit.page, list[str](), set[int]()

    def watch(socket) -> None:
        addresses.append(socket.url)
        socket.on("framereceived", lambda data: kinds.add(data[0]))

    page.on("websocket", watch)
    expect(page.locator("h1")).to_have_text("PersonaPlex", timeout=1000 * WAIT)
    assert page.input_value("#text-prompt").startswith(PRESET)
    page.get_by_role("button", name="Bank (service)").click()
    page.select_option("#voice-prompt", "VARM1.pt")
    page.get_by_role("button", name="Connect").click()
    button = page.get_by_role("button", name="Disconnect")
    expect(button).to_be_visible(timeout=1000 * WAIT)
    visit.wait_for(lambda: {0, 1} <= kinds)
    [(text, voice)] = asked
    assert text.startswith("You work for First Neuron Bank") and voice == "VARM1.pt"
    query = parse_qs(urlsplit(addresses[0]).query)
    assert query["voice_prompt"] == ["VARM1.pt"] and "audio_seed" in query
    visit.wait_for(lambda: any(abs(piece).max() > 1e-4 for piece in visit.heard))
    button.click()
    visit.wait_for(lambda: server.service.lobby.taken == 0)
    assert not visit.errors
    visit.context.close()
