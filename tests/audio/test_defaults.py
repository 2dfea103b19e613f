"""What is asked of Core Audio, and where nothing is asked."""

import sys
from ctypes import POINTER, c_uint32, cast

import pytest

from moshi_mlx.audio import defaults


class CoreAudio:
    """Knows a default microphone, and no loudspeaker."""

    def AudioObjectGetPropertyData(self, object_, address, _n, _q, size, out):
        address = address._obj
        assert object_ == 1 and address.element == 0 and size._obj.value == 4
        assert address.scope.to_bytes(4, "big") == b"glob"
        if address.selector.to_bytes(4, "big") != b"dIn ":
            return -1
        cast(out, POINTER(c_uint32))[0] = 77
        return 0


def test_the_defaults_are_core_audios(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(defaults, "_core_audio", CoreAudio)
    assert defaults.system_defaults() == (77, 0)


def test_other_systems_are_not_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert defaults.system_defaults() is None
