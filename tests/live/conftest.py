"""A sound card for every test that asks for one."""

from collections.abc import Iterator

import pytest

from tests.live.pulse import Pulse


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
    yield _daemon
