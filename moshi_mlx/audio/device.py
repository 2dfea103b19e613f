"""Microphone and loudspeaker: mono NumPy blocks at the device's own rate.

PortAudio calls back on its own threads. There, blocks are only copied; everything that
takes time runs on the caller's thread.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

_log = logging.getLogger(__name__)

# Per callback. Two blocks of the microphone make a frame, so they add no time to it.
# The loudspeaker's blocks wait before they sound, so they are short.
BLOCK_MS = {"input": 40, "output": 20}
_CLOSE_S = 3.0  # a device that takes longer to close is left alone
_OTHER_RATES = (48_000, 44_100, 24_000, 32_000, 16_000, 96_000, 192_000)  # Hz

Kind = Literal["input", "output"]
Block = NDArray[np.float32]


@dataclass(frozen=True)
class Device:
    """A sound device as PortAudio sees it.

    Attributes:
        number: PortAudio's; changes when devices come and go.
        name: as the system calls it.
        host: the system's sound service, "Core Audio" or "ALSA".
        inputs, outputs: channels.
        rate: the device's usual sample rate in Hz.
        default_input, default_output: what the system uses when nobody chooses.
    """

    number: int
    name: str
    host: str
    inputs: int
    outputs: int
    rate: int
    default_input: bool
    default_output: bool

    def channels(self, kind: Kind) -> int:
        return self.inputs if kind == "input" else self.outputs

    def is_default(self, kind: Kind) -> bool:
        return self.default_input if kind == "input" else self.default_output


def portaudio() -> ModuleType:
    """The sounddevice module.

    Raises: AudioError if PortAudio is not installed.
    """
    try:
        import sounddevice
    except OSError as error:
        raise AudioError(
            "PortAudio is not installed, so no sound device can be used: install it "
            "with 'apt-get install libportaudio2' (Debian, Ubuntu) or 'dnf install "
            "portaudio' (Fedora); on a Mac it comes with sounddevice."
        ) from error
    return sounddevice


def refresh() -> None:
    """Look for devices again. PortAudio lists them once; no stream may be open."""
    sounddevice = portaudio()
    sounddevice._terminate()
    sounddevice._initialize()


def list_devices() -> list[Device]:
    """All sound devices, in PortAudio's order."""
    sounddevice = portaudio()
    hosts = sounddevice.query_hostapis()
    inputs, outputs = sounddevice.default.device
    return [
        Device(
            number=number,
            name=str(found["name"]),
            host=hosts[found["hostapi"]]["name"],
            inputs=found["max_input_channels"],
            outputs=found["max_output_channels"],
            rate=int(found["default_samplerate"]),
            default_input=number == inputs,
            default_output=number == outputs,
        )
        for number, found in enumerate(sounddevice.query_devices())
    ]


def find_device(kind: Kind, choice: str | int | None = None) -> Device:
    """The device of that kind that ``choice`` means.

    Args:
        choice: its number, its name, or a part of the name that no other has, in upper
            or lower case; None for the system's default.

    Raises: AudioError if there is none, or more than one.
    """
    what = "microphone" if kind == "input" else "loudspeaker"
    able = [device for device in list_devices() if device.channels(kind)]
    if not able:
        raise AudioError(
            f"this machine has no {what}: plug one in, or "
            "allow it in the system's settings."
        )
    if choice is None:
        defaults = [device for device in able if device.is_default(kind)]
        return (defaults or able)[0]
    text = str(choice).strip().lower()
    if text.isdecimal():
        matches = [device for device in able if device.number == int(text)]
    else:
        matches = [device for device in able if device.name.lower() == text]
        matches = matches or [d for d in able if text in d.name.lower()]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(f"{d.number} '{d.name}'" for d in matches or able)
    if matches:
        raise AudioError(f"{what} '{choice}' could be any of {names}: use its number.")
    raise AudioError(f"there is no {what} '{choice}': choose one of {names}.")


class _Stream:
    """Shared by both directions: opening at a rate that the device takes, and its
    loss."""

    kind: Kind

    def __init__(
        self, device: Device, on_lost: Callable[[], None], buffer_s: float | None
    ):
        self.device = device
        self.hiccups = 0  # blocks that the device reports as lost
        self._on_lost = on_lost
        self._closing = False
        sounddevice = portaudio()
        self.channels, self.rate = self._settings(sounddevice)
        block_s = BLOCK_MS[self.kind] / 1000
        make = (
            sounddevice.RawInputStream
            if self.kind == "input"
            else sounddevice.RawOutputStream
        )
        try:
            self._stream: Any = make(
                device=device.number,
                channels=self.channels,
                samplerate=self.rate,
                blocksize=self.rate * BLOCK_MS[self.kind] // 1000,
                latency=buffer_s or 2 * block_s,  # one in use, one waiting
                dtype="float32",
                callback=self._callback,
                finished_callback=self._finished,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise self._broken("opened", error) from error

    @property
    def latency_s(self) -> float:
        """The device's own latency between the air and the callback."""
        return float(self._stream.latency)

    def start(self) -> None:
        """Raises: AudioError if the device refuses."""
        sounddevice = portaudio()
        try:
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise self._broken("started", error) from error

    def close(self) -> None:
        """Close the device; ``on_lost`` is not called any more."""
        self._closing = True
        # A sound system that hangs must not stop the program.
        closer = threading.Thread(target=self._close, daemon=True)
        closer.start()
        closer.join(_CLOSE_S)

    def _close(self) -> None:
        sounddevice = portaudio()
        try:
            # Not abort(): on Linux that cancels the thread which runs the callback,
            # anywhere, with whatever locks it holds.
            if self._stream.active:
                self._stream.stop()
            self._stream.close()
        except sounddevice.PortAudioError as error:  # a lost device cannot be closed
            _log.debug("closing %s: %s", self.device.name, error)

    def _settings(self, sounddevice: ModuleType) -> tuple[int, int]:
        """Channels and rate: the device's own, or the first others that it accepts."""
        check = (
            sounddevice.check_input_settings
            if self.kind == "input"
            else sounddevice.check_output_settings
        )
        most = self.device.channels(self.kind)
        counts = dict.fromkeys(
            (1, 2, most) if self.kind == "input" else (min(2, most), 1, most)
        )
        reason: Exception | None = None
        for rate in dict.fromkeys((self.device.rate, *_OTHER_RATES)):
            for channels in counts:
                try:
                    check(
                        device=self.device.number,
                        channels=channels,
                        samplerate=rate,
                        dtype="float32",
                    )
                except (sounddevice.PortAudioError, ValueError) as error:
                    reason = reason or error
                else:
                    return channels, rate
        raise self._broken("opened", reason)

    def _broken(self, verb: str, error: Exception | None) -> AudioError:
        what = "microphone" if self.kind == "input" else "loudspeaker"
        return AudioError(
            f"the {what} '{self.device.name}' cannot be {verb} ({error}): close other "
            "programs that hold it, or choose another (see --list-devices)."
        )

    def _callback(self, data: Any, frames: int, times: object, status: Any) -> None:
        """PortAudio's: ``data`` is its own memory, ``[frames, channels]`` samples."""
        raise NotImplementedError

    def _finished(self) -> None:
        if not self._closing:
            self._on_lost()


class Microphone(_Stream):
    """Passes every recorded block to ``on_block``, mono float32 ``[S]``.

    Args:
        device: from ``find_device("input", ...)``.
        on_block: called on PortAudio's thread with a block of its own; must return at
            once.
        on_lost: called there when the device is gone.
        buffer_s: sound that the device buffers, in seconds; None for as little as
            possible.

    Raises: AudioError if it cannot be opened.
    """

    kind = "input"

    def __init__(
        self,
        device: Device,
        on_block: Callable[[Block], None],
        on_lost: Callable[[], None],
        buffer_s: float | None = None,
    ):
        self._on_block = on_block
        super().__init__(device, on_lost, buffer_s)

    def _callback(self, data: Any, frames: int, times: object, status: Any) -> None:  # noqa: ARG002
        if status and status.input_overflow:
            self.hiccups += 1
        block = np.frombuffer(data, np.float32)
        if self.channels > 1:
            self._on_block(block.reshape(-1, self.channels).mean(axis=1))
        else:
            self._on_block(block.copy())


class Speaker(_Stream):
    """Plays what ``read(num_samples)`` returns, mono float32 ``[S]``, on all channels.

    Args:
        device: from ``find_device("output", ...)``.
        read: called on PortAudio's thread; must return at once.
        on_lost: called there when the device is gone.
        buffer_s: sound that the device buffers, in seconds; None for as little as
            possible.

    Raises: AudioError if it cannot be opened.
    """

    kind = "output"

    def __init__(
        self,
        device: Device,
        read: Callable[[int], Block],
        on_lost: Callable[[], None],
        buffer_s: float | None = None,
    ):
        self._read = read
        super().__init__(device, on_lost, buffer_s)

    def _callback(self, data: Any, frames: int, times: object, status: Any) -> None:  # noqa: ARG002
        if status and status.output_underflow:
            self.hiccups += 1
        data[:] = self._read(frames).repeat(self.channels)
