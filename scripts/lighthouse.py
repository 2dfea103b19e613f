"""Lighthouse's accessibility score of the page's tabs, as JSON.

    .venv/bin/python scripts/lighthouse.py

Needs Node, npm's network, and the Chromium of `playwright install chromium` (or one on
the path). The models are the demo's Moshi, and small random ones for speech.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.family import listening  # noqa: E402
from tests.speech import TTS  # noqa: E402

LIGHTHOUSE = "lighthouse@12.8.2"
TABS = ("talk", "transcribe", "speak")
FLAGS = "--headless --no-sandbox --disable-gpu"


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        stt = listening(Path(made))
        models = ["--model", "demo", "--stt", str(stt), "--tts", str(TTS)]
        serve = [sys.executable, "-m", "moshi_mlx", "serve", *models, "--port", "0"]
        server = subprocess.Popen(
            [*serve, "--voice-repo", str(TTS), "--no-browser"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the server has not said where it is"
            print(json.dumps({tab: judged(f"{found[0]}#{tab}") for tab in TABS}))
        finally:
            server.terminate()
            server.wait()


def judged(url: str) -> dict[str, object]:
    """The score of a page, 0 to 100, and what it lost points for."""
    asked = ["--only-categories=accessibility", "--output=json", "--quiet"]
    asked += ["--max-wait-for-load=300000", "--throttling-method=provided"]
    done = subprocess.run(
        ["npx", "--yes", LIGHTHOUSE, url, *asked, f"--chrome-flags={FLAGS}"],
        env={**os.environ, "CHROME_PATH": chromium()},
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    category = told["categories"]["accessibility"]
    weighted = [ref["id"] for ref in category["auditRefs"] if ref["weight"]]
    lost = [id for id in weighted if told["audits"][id]["score"] == 0]
    return {"score": round(100 * category["score"]), "lost": lost}


def chromium() -> str:
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else shutil.which("chromium") or path


if __name__ == "__main__":
    main()
