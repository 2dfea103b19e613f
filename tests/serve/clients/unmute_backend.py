"""Unmute's back end as a process, the language model that it asks, and what it imports
of fastrtc, whose package brings Gradio."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FASTRTC = '''
"""As much of fastrtc as Unmute's back end uses."""
import asyncio
import numpy as np

def audio_to_float32(audio):
    return audio.astype(np.float32) / 32768 if audio.dtype == np.int16 else audio

def audio_to_int16(audio):
    return audio if audio.dtype == np.int16 else (audio * 32767).astype(np.int16)

class CloseStream:
    def __init__(self, msg=""):
        self.msg = msg

class AdditionalOutputs:
    def __init__(self, *args):
        self.args = args

class AsyncStreamHandler:
    def __init__(self, expected_layout="mono", output_sample_rate=24000,
                 output_frame_size=None, input_sample_rate=48000, fps=30):
        self.expected_layout = expected_layout
        self.output_sample_rate = output_sample_rate
        self.output_frame_size = output_frame_size
        self.input_sample_rate = input_sample_rate
        self.fps = fps
        self._clear_queue = None

async def wait_for_item(queue, timeout=0.1):
    try:
        return await asyncio.wait_for(queue.get(), timeout)
    except (TimeoutError, asyncio.TimeoutError):
        return None
'''


def stand_ins(folder: Path) -> Path:
    """A folder for PYTHONPATH."""
    (folder / "fastrtc.py").write_text(FASTRTC)
    (folder / "librosa.py").touch()
    return folder


@contextlib.contextmanager
def language_model(replies: list[str]) -> Iterator[int]:
    """A server with OpenAI's chat API that says these in turn; yields its port."""
    said: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("application/json", {"data": [{"id": "a", "object": "model"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            text = replies[min(len(said), len(replies) - 1)]
            said.append(text)
            words = [f"{word} " for word in text.split()]
            chunks = [
                {"choices": [{"index": 0, "delta": {"content": w}}]} for w in words
            ]
            self._answer("text/event-stream", *chunks)

        def _answer(self, media_type: str, *parts: object) -> None:
            self.send_response(200)
            self.send_header("content-type", media_type)
            self.end_headers()
            for part in parts:
                text = json.dumps(part)
                if media_type.endswith("stream"):
                    text = f"data: {text}\n\n"
                self.wfile.write(text.encode())
            if media_type.endswith("stream"):
                self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def settings(speech_port: int, llm_port: int, folder: Path, checkout: Path):
    """The environment of Unmute's programs."""
    paths = os.pathsep.join([str(stand_ins(folder)), str(checkout)])
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "KYUTAI_STT_URL": f"ws://localhost:{speech_port}",
        "KYUTAI_TTS_URL": f"ws://localhost:{speech_port}",
        "KYUTAI_VOICE_CLONING_URL": f"http://localhost:{speech_port}",
        "KYUTAI_LLM_URL": f"http://localhost:{llm_port}",
    }


@contextlib.contextmanager
def backend(python: Path, environment: dict[str, str], folder: Path) -> Iterator[int]:
    """Unmute's back end; yields its port when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "uvicorn", "unmute.main_websocket:app"]
    log = (folder / "backend.log").open("wb")
    process = subprocess.Popen(
        [*command, "--port", str(port), "--ws-per-message-deflate=false"],
        env=environment,
        cwd=folder,
        stdout=log,
        stderr=log,
    )
    try:
        until = time.monotonic() + 90
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).close()
                break
            time.sleep(0.2)
        assert process.poll() is None, (folder / "backend.log").read_text()[-3000:]
        yield port
    finally:
        process.terminate()
        process.wait(20)
        log.close()
