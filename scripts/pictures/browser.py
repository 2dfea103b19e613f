"""Pictures of the page of `moshi-mlx serve`, in a Chromium that asks a question."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from playwright.sync_api import expect, sync_playwright

from moshi_mlx.audio import read, write_wav

BROWSERS = ("chromium", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream")
RATE = 48_000  # Hz, of Chromium's fake microphone
PATIENCE = 60_000  # milliseconds


def photograph(
    command: Sequence[str], question: Path, folder: Path, pictures: Path
) -> None:
    """Talk with the page and take its picture, in the light and in the dark.

    Args:
        command: starts the server, on a free port, without a browser.
        question: the sound file that the microphone plays.
        folder: for what is only needed meanwhile.
        pictures: where page-light.png and page-dark.png are written.
    """
    heard = folder / "microphone.wav"
    sound = np.concatenate([read(question, RATE)[0], np.zeros(20 * RATE, np.float32)])
    write_wav(heard, sound, RATE)
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    plays = f"--use-file-for-fake-audio-capture={heard}%noloop"
    with _served(command) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=[*FLAGS, plays]
        )
        for scheme in ("light", "dark"):
            context = browser.new_context(
                permissions=["microphone"],
                color_scheme=scheme,
                viewport={"width": 900, "height": 760},
            )
            page = context.new_page()
            page.goto(url)
            page.locator("#talk").click()
            said = page.locator("#transcript .moshi").first
            expect(said).to_have_text(re.compile(r"(\w+\W+){5}"), timeout=PATIENCE)
            page.screenshot(path=pictures / f"page-{scheme}.png")
            context.close()
        browser.close()


@contextmanager
def _served(command: Sequence[str]) -> Iterator[str]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the server has not said where it is"
        yield found[0]
    finally:
        process.terminate()
        process.wait()
