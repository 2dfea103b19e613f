"""What clients wait for, measured on small models."""

import asyncio
from typing import Any

from moshi_mlx.serve.measure import waits
from tests.listening import noise
from tests.serve.small import small


def test_waits_are_measured_for_each_number_of_clients_and_refusals_counted():
    found = asyncio.run(waits(small(rows=2), [1, 3], noise(0.3), rounds=2))
    asked = [(wait.what, wait.clients) for wait in found]
    kinds = ("first audio", "final word")
    assert asked == [(kind, clients) for kind in kinds for clients in (1, 3)]
    for wait in found:
        told: dict[str, Any] = wait.to_json()
        assert len(wait.waits_s) + wait.refused == 2 * wait.clients
        assert wait.refused == (2 if wait.clients == 3 else 0)
        assert 0 < told["p50_ms"] <= told["p95_ms"] < 60_000


def test_conversations_are_measured_and_one_goes_on_beside_the_others(batch):
    sound = noise(0.4)
    found = asyncio.run(waits(small(rows=2), [1, 3], sound, rounds=2, batch=batch))
    assert [wait.what for wait in found] == [
        *("reply", "reply", "first audio", "first audio", "final word", "final word")
    ]
    one, three = found[:2]
    assert (one.refused, three.refused) == (0, 2), "two at a time"
    frames = len(sound) // 1920
    assert len(one.waits_s) == 2 * frames and len(three.waits_s) == 4 * frames
    assert all(0 < wait < 60 for found_ in found for wait in found_.waits_s)
    assert batch.free == batch.rows


def test_nothing_to_measure_is_one_sentence(capsys):
    from moshi_mlx.cli.main import main

    assert main(["bench", "--serve"]) == 1
    err = capsys.readouterr().err
    assert "add --stt or --tts" in err and err.count("\n") == 1
    assert main(["bench", "--serve", "--stt", "x", "--clients", "no"]) == 1
    assert "not a number of clients" in capsys.readouterr().err
