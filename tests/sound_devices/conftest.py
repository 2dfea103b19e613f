"""A sound card for every test that asks for one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.sound_devices.pulse import Pulse

_PRIORITY = -11  # PulseAudio's own


@pytest.fixture(scope="session")
def _daemon() -> Iterator[Pulse]:
    pulse = Pulse()
    yield pulse
    pulse.close()


@pytest.fixture
def pulse(_daemon: Pulse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """The virtual sound card, for programs and for PortAudio in this process."""
    from moshi_mlx.audio.device import refresh

    for name, value in _daemon.env.items():
        monkeypatch.setenv(name, value)
    if _daemon.daemon.poll() is not None:
        _daemon.start()
    refresh()
    with _in_a_hurry():
        yield _daemon
    _daemon.tidy()


@contextmanager
def _in_a_hurry() -> Iterator[None]:
    """Go before other programs, as sound does, where we may."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, _PRIORITY))
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)
