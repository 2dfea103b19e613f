"""Whoever hangs up gives the place back, in every protocol; `scripts/hangups` tries 500
of each."""

import os

import pytest

from tests.serve.hangups import KINDS, Target, hang_up, held, target

NO_PROC = not os.path.exists("/proc/self/statm")


@pytest.fixture(scope="module")
def there():
    with target() as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_the_only_place_is_free_again_when_its_client_has_gone(there: Target, kind):
    for rudely in (False, True):
        hang_up(there, kind, rudely)
        assert there.taken == 0
    assert there.service.ready


@pytest.mark.slow
@pytest.mark.skipif(NO_PROC, reason="not on systems without /proc")
@pytest.mark.parametrize("kind", [k for k in KINDS if not k.endswith("_backlog")])
def test_many_hang_ups_leave_memory_and_handles_as_they_were(there: Target, kind):
    for n in range(6):
        hang_up(there, kind, n % 2 > 0)
    handles = held()[1]

    def grown() -> float:
        """MiB, by forty of them."""
        memory = held()[0]
        for n in range(40):
            hang_up(there, kind, n % 2 > 0)
        return held()[0] - memory

    # Perhaps once more: a worker thread that begins keeps 15 MiB of its own.
    assert grown() < 15 or grown() < 15
    assert held()[1] <= handles + 2
