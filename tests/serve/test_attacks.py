"""Twenty kinds of attack at once, and an honest conversation beside them.

``scripts/attack`` prints what it costs that conversation.
"""

import asyncio
import os
import signal
import time

import pytest

from tests.serve.attacks import KINDS
from tests.serve.under_attack import (
    DESCRIPTIONS,
    FRAMES,
    Server,
    conversation_under_attack,
    converse,
)
from tests.serve.wyoming_attacks import WIRE

REST_S = 12  # after which what was stalled has been let go
NO_PROC = not os.path.exists("/proc/self/statm")


@pytest.mark.slow
@pytest.mark.skipif(NO_PROC, reason="not on systems without /proc")
def test_an_honest_conversation_goes_on_under_attack_and_nothing_is_left(tmp_path):
    assert len(KINDS) >= 20
    server = Server(tmp_path)
    try:
        asyncio.run(converse(server.port, 25))
        before = server.state()
        assert asyncio.run(converse(server.port)).replies == FRAMES
        during = conversation_under_attack(server, list(KINDS | WIRE))
        assert during.replies == FRAMES
        assert len(during.described_s) == DESCRIPTIONS
        time.sleep(REST_S)
        assert asyncio.run(converse(server.port)).replies == FRAMES
        time.sleep(1)
        after = server.state()
    finally:
        code = server.end()
    log = server.log.read_text()
    assert code == -signal.SIGTERM, log
    assert after.memory - before.memory < 10 * 2**20
    assert after.handles <= before.handles
    assert after.log < 20_000 and "Traceback" not in log, log
    assert after.recordings < 200
