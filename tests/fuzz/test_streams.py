"""Mutated byte streams end in a close, never in a traceback of the server."""

from tests.fuzz.harness import fuzz
from tests.fuzz.streams import StreamTarget


def test_mutated_streams_are_answered_or_closed_without_a_traceback(tmp_path):
    target = StreamTarget()
    try:
        assert fuzz("websocket streams", target.attempt, 200, tmp_path).cases == 200
        counts = target.service.metrics.connections.counts
        assert counts["misused"] > 5 and counts["closed"] > 5
        assert counts["failed"] == 0
    finally:
        target.close()
