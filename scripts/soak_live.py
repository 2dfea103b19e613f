"""A long conversation with `moshi-mlx chat` on a software sound card, with its figures.

    .venv/bin/python scripts/soak_live.py --minutes 10

Needs PulseAudio (scripts/debian-packages.txt). Asks nano Moshi its recorded questions
in turn, with the loudspeaker's sound in the microphone; every minute it prints what an
independent recogniser heard and how much memory the program has.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from moshi_mlx import audio  # noqa: E402
from tests.questions import QUESTIONS  # noqa: E402
from tests.recogniser import hear  # noqa: E402
from tests.sound_devices.pulse import Pulse  # noqa: E402

EVERY_S = 10.0  # a question
SEED = 0


def main() -> None:
    """Run it; the last line is JSON."""
    parser = argparse.ArgumentParser(description="A long conversation.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--no-echo", action="store_true", help="as with headphones")
    args = parser.parse_args()
    pulse = Pulse()
    try:
        if not args.no_echo:
            pulse.echo("100%")
        print(json.dumps(soak(pulse, 60 * args.minutes)))
    finally:
        pulse.close()


def soak(pulse: Pulse, seconds: float) -> dict[str, object]:
    """Talk for so long; returns the figures, and how many answers were right."""
    options = ["--model", "demo", "--seed", str(SEED), "--temp", "0", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        err = Path(folder) / "stderr"
        with err.open("wb") as file:
            chat = subprocess.Popen(
                [sys.executable, "-m", "moshi_mlx", "chat", *options],
                stdout=subprocess.PIPE,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **pulse.env},
            )
        time.sleep(12)
        right, heard, memory = 0, 0, [resident_mib(chat.pid)]
        until = time.monotonic() + seconds
        while time.monotonic() < until and chat.poll() is None:
            question = QUESTIONS[heard % len(QUESTIONS)]
            began, ear = time.monotonic(), pulse.listen()
            pulse.say(audio.read(question.path)[0], wait=False)
            time.sleep(max(0.0, began + EVERY_S - time.monotonic()))
            answer = hear(ear.stop())
            right, heard = right + (answer == question.answer), heard + 1
            if heard % 6 == 0:
                memory.append(resident_mib(chat.pid))
                print(f"{heard} asked, {right} right, {memory[-1]:.0f} MiB", flush=True)
        chat.send_signal(signal.SIGINT)
        out, _ = chat.communicate(timeout=30)
    figures = json.loads(out)
    figures.pop("text")
    return {
        **figures,
        "asked": heard,
        "right": right,
        "resident_mib": [round(m, 1) for m in (memory[0], memory[-1])],
        "exit_code": chat.returncode,
    }


def resident_mib(process: int) -> float:
    """Memory that a process has now (Linux)."""
    status = Path(f"/proc/{process}/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
