"""The second minute: what a newcomer tries with things of their own, step by step.

Runs in the environment that it tests, with nothing but the package and its extra
`serve`; prints a line of JSON for each step and ends with 1 if one failed. Needs no
network. The microphone is one of PulseAudio's; without PulseAudio (on a Mac, where
nobody speaks into the real one) that step is left out.

    python second_minute.py FOLDER
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

import moshi_mlx
from moshi_mlx.documents.transcript import srt
from moshi_mlx.engines.duplex.sampling import Sampling

PACKAGE = Path(moshi_mlx.__file__).parent
QUESTION, ANSWER = PACKAGE / "demo" / "questions" / "planet.wav", "Jupiter"
ASKED = "planet"
COMMAND = Path(sys.executable).with_name("moshi-mlx")
WAIT_S = 120
PULSE = """load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=mouth rate=48000
load-module module-remap-source source_name=microphone master=mouth.monitor
set-default-source microphone
"""
ALSA = """</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
"""


def run(*arguments: str | Path, given: bytes | None = None) -> str:
    """Run a command of the package; its output.

    Raises: RuntimeError with what it said, if it failed.
    """
    done = subprocess.run([COMMAND, *arguments], input=given, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip())
    return done.stdout.decode()


def check(text: str, wanted: str = ANSWER) -> str:
    """The text, if it holds the answer."""
    if wanted not in text:
        raise RuntimeError(f"{wanted} was wanted, and this came: {text!r}")
    return text


def wait_for(done: Callable[[], bool]) -> None:
    """Wait until something is so. Raises: RuntimeError if it never is."""
    until = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > until:
            raise RuntimeError("it took too long")
        time.sleep(0.1)


@contextmanager
def software_microphone() -> Iterator[dict[str, str]]:
    """A PulseAudio of its own; yields the variables by which programs reach it.

    What is played into its sink ``mouth`` is what the microphone hears.
    """
    folder = Path(tempfile.mkdtemp(prefix="pulse-"))
    address = folder / "native"
    (folder / "asound.conf").write_text(ALSA)
    (folder / "daemon.pa").write_text(PULSE.format(socket=address))
    env = {**os.environ, "HOME": str(folder), "PULSE_SERVER": f"unix:{address}"}
    env |= {name: str(folder) for name in ("XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH")}
    env["ALSA_CONFIG_PATH"] = str(folder / "asound.conf")
    daemon = subprocess.Popen(
        ["pulseaudio", "-n", "-F", folder / "daemon.pa", "--exit-idle-time=-1"],
        env=env,
        stderr=subprocess.DEVNULL,
    )
    try:
        quiet = {"env": env, "capture_output": True}
        wait_for(lambda: subprocess.run(["pactl", "info"], **quiet).returncode == 0)
        yield env
    finally:
        daemon.kill()
        daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def own_microphone(folder: Path) -> str:
    """A question that is spoken into the microphone, written down."""
    if shutil.which("pulseaudio") is None or sys.platform == "darwin":
        return "left out: there is no PulseAudio here"
    log, text = folder / "microphone.log", folder / "microphone.txt"
    with ExitStack() as stack:
        env = stack.enter_context(software_microphone())
        hearing = subprocess.Popen(
            [COMMAND, "transcribe", "--mic", "--model", "demo"],
            env=env,
            stdout=stack.enter_context(text.open("wb")),
            stderr=stack.enter_context(log.open("wb")),
        )
        stack.callback(hearing.kill)
        wait_for(lambda: "listening" in log.read_text() or hearing.poll() is not None)
        if hearing.poll() is None:
            play = ["paplay", "--device=mouth", QUESTION]
            subprocess.run(play, env=env, check=True, timeout=WAIT_S)
            time.sleep(2)
            hearing.send_signal(signal.SIGINT)
        if hearing.wait(WAIT_S):
            raise RuntimeError(log.read_text())
    return check(text.read_text(), ASKED)


def own_question(folder: Path) -> str:
    """A recording of another rate and kind: 44.1 kHz, 16 bits, two channels."""
    pcm = moshi_mlx.audio.read(QUESTION, 44_100)[0]
    path = folder / "mine.wav"
    moshi_mlx.audio.write_wav(path, np.stack([pcm, pcm]), 44_100)
    run("respond", path, folder / "reply.wav", "--model", "demo")
    return check(moshi_mlx.load("demo").respond(path, seed=0).text)


def own_pipe(folder: Path) -> str:
    """A recording that comes through a pipe."""
    del folder
    given = QUESTION.read_bytes()
    return check(run("respond", "-", "--model", "demo", "--seed", "0", given=given))


def own_loop(folder: Path) -> str:
    """A loop of one's own, which hears the answer to its end."""
    del folder
    with moshi_mlx.load("demo").session(seed=0) as session:
        said = [session.step(f).text for f in moshi_mlx.audio.frames(QUESTION)]
        said += [reply.text for reply in session.flush(8)]
    return check("".join(said))


def own_server(folder: Path) -> str:
    """Two conversations in asyncio, side by side."""
    del folder
    frames = list(moshi_mlx.audio.frames(QUESTION))

    async def talk(moshi: Any, seed: int) -> str:
        async with await moshi.asession(seed) as session:
            said = [(await session.astep(frame)).text for frame in frames]
            said += [reply.text async for reply in session.aflush(8)]
        return "".join(said)

    async def both() -> list[str]:
        moshi = moshi_mlx.load("demo")
        return list(await asyncio.gather(talk(moshi, 0), talk(moshi, 0)))

    first, second = asyncio.run(both())
    if first != second:
        raise RuntimeError(f"two equal conversations differ: {first!r}, {second!r}")
    return check(first)


def own_batch(folder: Path) -> str:
    """Two conversations in one batch, each step one call."""
    del folder
    with moshi_mlx.load("demo").batch(2) as batch:
        sessions = [batch.open(Sampling(seed=0), first="twice") for _ in range(2)]
        said = ["", ""]
        silence = [np.zeros(1920, np.float32)] * 80
        for frame in [*moshi_mlx.audio.frames(QUESTION), *silence]:
            replies = batch.step(sessions, [frame] * 2)
            said = [s + r.text for s, r in zip(said, replies, strict=True)]
    return check(said[0])


def own_model(folder: Path) -> str:
    """A checkpoint of one's own making, from the folder it was saved in."""
    saved = folder / "converted"
    run("convert", "demo", saved)
    return check(run("respond", QUESTION, "--model", saved, "--seed", "0"))


def own_page(folder: Path) -> str:
    """The page, its settings and its health, from a server that is ended."""
    del folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--model", "demo", "--no-browser", "--port", str(port)]
    server = subprocess.Popen([COMMAND, "serve", *options], stderr=subprocess.PIPE)
    address, until = f"http://localhost:{port}", time.monotonic() + WAIT_S
    try:
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health") as answer:
                    health = json.load(answer)["status"]
                    break
            except OSError:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.2)
        with urllib.request.urlopen(address) as answer:
            page = answer.read().decode()
    finally:
        server.terminate()
        server.communicate(timeout=WAIT_S)
    if "<title>Moshi" not in page:
        raise RuntimeError(f"the page is none: {page[:80]!r}")
    return health


def own_voice(folder: Path) -> str:
    """A voice of one's own, between two of the demo's, and what it says."""
    both: list[Any] = [
        mx.load(str(next((PACKAGE / "demo").glob(f"{name}.*.safetensors"))))
        for name in ("heart", "low")
    ]
    own = {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}
    file = next((PACKAGE / "demo").glob("heart.*.safetensors")).name
    voice = folder / file.replace("heart", "mine")
    mx.save_safetensors(str(voice), own)
    out = folder / "mine.wav"
    run("speak", "Tell me a joke.", "--model", "demo", "--voice", voice, "-o", out)
    loudest = float(np.abs(moshi_mlx.audio.read(out)).max())
    if loudest < 0.05:
        raise RuntimeError(f"the speech is silent: its loudest sample is {loudest:g}")
    return f"{out.name}, loudest sample {loudest:.2f}"


def own_subtitles(folder: Path) -> str:
    """Subtitles of a recording, and of what Moshi answers to it."""
    run("transcribe", QUESTION, "--model", "demo", "-f", "srt", "--out-folder", folder)
    heard = (folder / QUESTION.with_suffix(".srt").name).read_text(encoding="utf-8")
    response = moshi_mlx.load("demo").respond(QUESTION, seed=0)
    response.save(folder / "answer.wav")
    response.report(folder / "answer.html")
    path = folder / "answer.srt"
    path.write_text(srt(response.pieces), encoding="utf-8")
    return check(heard, ASKED) + check(path.read_text(encoding="utf-8"))


STEPS: list[Callable[[Path], str]] = [
    *(own_question, own_microphone, own_pipe, own_loop, own_server, own_batch),
    *(own_model, own_page, own_voice, own_subtitles),
]


def main() -> int:
    # A shell's `&` leaves it ignored, for what is started here too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for step in STEPS:
        begun = time.monotonic()
        told = {"step": step.__name__, "what": (step.__doc__ or "").strip()}
        try:
            told["said"] = step(folder).strip()
        except Exception as error:  # every step is tried, whatever became of another
            failed += 1
            told["failed"] = f"{type(error).__name__}: {error}"
        print(json.dumps({**told, "seconds": round(time.monotonic() - begun, 1)}))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
