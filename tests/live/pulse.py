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
from pathlib import Path

import numpy as np
import pytest

RATE = 24_000  # Hz, of what is played and recorded here
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
        self.start()

    def start(self) -> None:
        """Start the daemon, again if it was killed."""
        command = ["pulseaudio", "-n", "-F", str(self.folder / "daemon.pa")]
        options = ["--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        options += ["--high-priority=yes", "--realtime=yes"]  # where we may
        self.daemon = self.run(*command, *options)
        for _ in range(100):
            if self.control("info", check=False).returncode == 0:
                break
            time.sleep(0.05)
        # A null sink takes its time, up to 2 s at once, unless somebody is in a hurry.
        for name in ("speaker", "mouth"):
            quick = ("parec", "--latency-msec=20", "-d", f"{name}.monitor")
            self.run(*quick)
        time.sleep(2.2)

    def kill(self) -> None:
        """End the daemon, as a crash would."""
        self.daemon.kill()
        self.daemon.wait()

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
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
            timeout=10,
        )

    def echo(self, volume: str = "50%") -> str:
        """Let the microphone hear the loudspeaker; returns the module's number."""
        module = self.control(
            *("load-module", "module-loopback", "source=speaker.monitor"),
            *("sink=mouth", "latency_msec=30"),
        ).stdout.strip()
        for line in self.control("list", "short", "sink-inputs").stdout.splitlines():
            number, _, _, driver, *_ = line.split("\t")
            if "loopback" in driver:
                self.control("set-sink-input-volume", number, volume)
        return module

    def say(self, pcm: np.ndarray, wait: bool = True) -> None:
        """Speak ``pcm [S]`` at 24 kHz into the microphone."""
        path = self.folder / "mouth"
        (pcm * 32767).astype("<i2").tofile(path)
        with path.open("rb") as file:
            player = self.run(*_raw("pacat", "mouth"), stdin=file.fileno())
        if wait:
            player.wait()

    def listen(self) -> "Ear":
        """Record the loudspeaker from now on."""
        return Ear(self)


class Ear:
    """Records the loudspeaker into a file."""

    def __init__(self, pulse: Pulse):
        self._path = pulse.folder / f"ear-{time.monotonic_ns()}"
        with self._path.open("wb") as file:
            self._process = pulse.run(
                *_raw("parec", "speaker.monitor"), stdout=file.fileno()
            )

    def stop(self) -> np.ndarray:
        """What was heard, float32 ``[S]`` at 24 kHz."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        heard = np.fromfile(self._path, "<i2")
        return heard.astype(np.float32) / 32768


def _raw(program: str, device: str) -> list[str]:
    raw = ["--raw", "--format=s16le", f"--rate={RATE}", "--channels=1"]
    return [program, *raw, "--latency-msec=20", "-d", device]


def _alsa_plugin() -> bool:
    folders = Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")
    return any(folders)
