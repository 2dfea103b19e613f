"""A sound card made of software: PulseAudio with null sinks, and nothing of the user's.

The daemon has its own folder, socket and configuration; programs reach it by the
variables in ``Pulse.env``. What is played into the sink ``mouth`` is what the default
microphone hears; the default loudspeaker is the sink ``speaker``.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

RATE = 24_000  # Hz, of what is played and recorded here
# What each program holds of the sound, so that a machine which lets it wait for so long
# loses none of it. Tests that open devices themselves ask for as much.
BUFFER_MS = 200
_QUICK_MS = 20  # at which the null sinks run, and what is heard is written
_ECHO_MS = 100
_LOUD = 0.02  # of full scale
_PROGRAMS = ("pulseaudio", "pactl", "pacat", "parec")
_ALSA = """</usr/share/alsa/alsa.conf>
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.headset { type pulse hint { show on description "headset" } }
"""
_DAEMON = """load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=speaker rate=48000
load-module module-null-sink sink_name=mouth rate=48000
load-module module-remap-source source_name=microphone master=mouth.monitor
set-default-sink speaker
set-default-source microphone
"""


class Pulse:
    """A running daemon. Raises: pytest's skip where PulseAudio is not installed."""

    def __init__(self) -> None:
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        if missing or not _alsa_plugin():
            pytest.skip(
                "no PulseAudio here: apt-get install pulseaudio pulseaudio-utils "
                "libasound2-plugins libportaudio2"
            )
        # Sockets have short names, pytest's folders long ones.
        self.folder = Path(tempfile.mkdtemp(prefix="pulse-"))
        socket = self.folder / "native"
        (self.folder / "asound.conf").write_text(_ALSA)
        (self.folder / "daemon.pa").write_text(_DAEMON.format(socket=socket))
        self.env = {
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder),
            "PULSE_RUNTIME_PATH": str(self.folder),
            "PULSE_SERVER": f"unix:{socket}",
            "ALSA_CONFIG_PATH": str(self.folder / "asound.conf"),
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self._ears: list[Ear] = []
        self.start()

    def start(self) -> None:
        """Start the daemon, again if it was killed."""
        command = ["pulseaudio", "-n", "-F", str(self.folder / "daemon.pa")]
        options = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        options += ["--high-priority=yes", "--realtime=yes"]  # where we may
        self.daemon = self.run(*command, *options)
        wait_for(lambda: self.control("info", check=False).returncode == 0)
        # A null sink takes its time, up to 2 s at once, unless somebody is in a hurry.
        ears = [Ear(self, f"{name}.monitor") for name in ("speaker", "mouth")]
        for ear in ears:
            wait_for(lambda ear=ear: ear.heard().size > 0.1 * RATE)

    def kill(self) -> None:
        """End the daemon, as a crash would."""
        self.daemon.kill()
        self.daemon.wait()

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(
        self, *command: str, stdin: int = subprocess.DEVNULL, stdout: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """A program with this sound card."""
        process = subprocess.Popen(
            command,
            env={**os.environ, **self.env},
            stdin=stdin,
            stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def control(
        self, *command: str, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """``pactl COMMAND``."""
        return subprocess.run(
            ["pactl", *command],
            env={**os.environ, **self.env},
            check=check,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def echo(self, volume: str = "50%") -> str:
        """Let the microphone hear the loudspeaker; returns the module's number."""
        module = self.control(
            *("load-module", "module-loopback", "source=speaker.monitor"),
            *("sink=mouth", f"latency_msec={_ECHO_MS}"),
        ).stdout.strip()
        for line in self.control("list", "short", "sink-inputs").stdout.splitlines():
            number, _, _, driver, *_ = line.split("\t")
            if "loopback" in driver:
                self.control("set-sink-input-volume", number, volume)
        return module

    def say(self, pcm: np.ndarray, wait: bool = True) -> "subprocess.Popen[bytes]":
        """Speak ``pcm [S]`` at 24 kHz into the microphone; returns who does."""
        path = self.folder / "mouth"
        (pcm * 32767).astype("<i2").tofile(path)
        with path.open("rb") as file:
            player = self.run(*_raw("pacat", "mouth", BUFFER_MS), stdin=file.fileno())
        if wait:
            player.wait()
        return player

    def listen(self) -> "Ear":
        """Record the loudspeaker from now on."""
        self._ears.append(Ear(self))
        return self._ears[-1]

    def tidy(self) -> None:
        """End what a test that failed has left running."""
        while self._ears:
            self._ears.pop().stop()


class Ear:
    """Records what a source gives, the loudspeaker by default, into a file."""

    def __init__(self, pulse: Pulse, source: str = "speaker.monitor"):
        self._path = pulse.folder / f"ear-{time.monotonic_ns()}"
        with self._path.open("wb") as file:
            self._process = pulse.run(
                *_raw("parec", source, _QUICK_MS), stdout=file.fileno()
            )

    def heard(self) -> np.ndarray:
        """What was heard so far, float32 ``[S]`` at 24 kHz."""
        data = self._path.read_bytes()
        heard = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        return heard.astype(np.float32) / 32768

    def hears_an_end(self) -> bool:
        """Whether there was sound, and has been none for a second."""
        loud = np.flatnonzero(np.abs(heard := self.heard()) > _LOUD)
        return bool(loud.size) and len(heard) - loud[-1] > RATE

    def stop(self) -> np.ndarray:
        """All that was heard."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        return self.heard()


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so; fails where it never is."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "what was waited for has not come"
        time.sleep(0.05)


def _raw(program: str, device: str, latency_ms: int) -> list[str]:
    raw = ["--raw", "--format=s16le", f"--rate={RATE}", "--channels=1"]
    return [program, *raw, f"--latency-msec={latency_ms}", "-d", device]


def _alsa_plugin() -> bool:
    folders = Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")
    return any(folders)
