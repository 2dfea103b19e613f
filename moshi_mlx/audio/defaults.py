"""The system's default devices, as they change.

PortAudio asks once, when it starts. On a Mac, Core Audio is asked directly: this takes
microseconds, and does not open or disturb anything. On Linux, PulseAudio and PipeWire
move streams to a new default by themselves.
"""

import sys
from ctypes import CDLL, Structure, byref, c_int32, c_uint32, c_void_p, sizeof
from functools import cache

_CORE_AUDIO = "/System/Library/Frameworks/CoreAudio.framework/CoreAudio"
_SYSTEM = 1  # kAudioObjectSystemObject


class _Address(Structure):
    """AudioObjectPropertyAddress."""

    _fields_ = (("selector", c_uint32), ("scope", c_uint32), ("element", c_uint32))


def system_defaults() -> tuple[int, int] | None:
    """Numbers of the current default microphone and loudspeaker.

    None if they cannot be asked for, or if the system moves streams by itself.
    """
    if sys.platform != "darwin":
        return None
    return _ask(b"dIn "), _ask(b"dOut")


def _ask(selector: bytes) -> int:
    """A number that Core Audio keeps for the whole system; 0 if there is none."""
    address = _Address(_code(selector), _code(b"glob"), 0)
    number, size = c_uint32(), c_uint32(sizeof(c_uint32))
    failed = _core_audio().AudioObjectGetPropertyData(
        _SYSTEM, byref(address), 0, None, byref(size), byref(number)
    )
    return 0 if failed else number.value


def _code(letters: bytes) -> int:
    return int.from_bytes(letters, "big")


@cache
def _core_audio() -> CDLL:
    library = CDLL(_CORE_AUDIO)
    ask = library.AudioObjectGetPropertyData
    ask.argtypes = [c_uint32, c_void_p, c_uint32, c_void_p, c_void_p, c_void_p]
    ask.restype = c_int32
    return library
