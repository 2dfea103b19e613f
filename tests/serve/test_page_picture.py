"""The page's place for a picture, where the model sees: chosen, dropped, removed."""

import base64
import io
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

import moshi_mlx
from moshi_mlx.engines.owner import model_thread
from moshi_mlx.serve.service import load_batch
from tests.serve.conftest import PATIENT
from tests.serve.test_page import CHROMIUM, MISSING, Visit, browser, microphone
from tests.vision import vis_folder

__all__ = ["browser", "microphone"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=MISSING),
]
DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const moved = new DataTransfer();
  moved.items.add(new File([bytes], name));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true }));
}"""


def photo(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (2000, 1000), colour).save(out, "PNG")
    return out.getvalue()


def test_a_picture_is_chosen_shown_and_changed_while_talking(
    browser, serve, tmp_path_factory
):
    folder = vis_folder(tmp_path_factory.mktemp("vis"))
    batch = load_batch(model_thread(), lambda: moshi_mlx.load(folder), 1)
    server = serve(batch=batch, limits=PATIENT.with_images())
    visit = Visit(browser, server.url("/"))
    page, files, addresses = visit.page, list[bytes](), list[str]()

    def watch(socket) -> None:
        addresses.append(socket.url)
        socket.on("framesent", lambda data: files.append(data) if data[0] == 8 else 0)

    page.on("websocket", watch)
    expect(page.locator("#picture")).to_be_visible()
    with page.expect_file_chooser() as chooser:
        page.click("#picture-choose")
    chooser.value.set_files(
        {"name": "red.png", "mimeType": "image/png", "buffer": photo("red")}
    )
    visit.expect_words("#picture-words", "Moshi can see this picture.")
    expect(page.locator("#picture-canvas")).to_have_attribute(
        "aria-label", "Your picture: red.png"
    )
    assert Axe().run(page).response["violations"] == []
    page.click("#talk")
    visit.expect_state("talking")
    visit.wait_for(lambda: bool(visit.received))
    assert "xa_start=16" in addresses[0] and len(files) == 1
    shown = Image.open(io.BytesIO(files[0][1:]))
    assert shown.format == "JPEG" and shown.size == (896, 448)
    assert np.allclose(np.array(shown)[200, 400], (255, 0, 0), atol=8)

    blue = [base64.b64encode(photo("blue")).decode(), "blue.png"]
    page.evaluate(DROP, blue)
    visit.wait_for(lambda: len(files) == 2)
    page.evaluate(DROP, [base64.b64encode(b"no picture").decode(), "note.txt"])
    visit.expect_words("#picture-words", "note.txt is no picture")
    page.click("#picture-remove")
    expect(page.locator("#picture-canvas")).not_to_be_visible()
    page.click("#restart")
    visit.wait_for(lambda: len(addresses) == 2)
    visit.expect_state("talking")
    assert not re.search("xa_start", addresses[1]) and len(files) == 2
    assert not visit.errors
    visit.context.close()


def test_a_model_that_sees_none_has_no_place_for_a_picture(browser, serve):
    visit = Visit(browser, serve(limits=PATIENT).url("/"))
    visit.wait_for(lambda: "demo" in visit.page.locator("#model").inner_text())
    expect(visit.page.locator("#picture")).not_to_be_visible()
    visit.context.close()
