"""The small parts: places, allowances, counters."""

import asyncio
from dataclasses import asdict

import pytest

from moshi_mlx.errors import ProtocolError
from moshi_mlx.serve.gate.limits import Account, Allowance, Inflow, Limits
from moshi_mlx.serve.gate.lobby import MAX_WAITING, MAX_WAITING_EACH, Lobby
from moshi_mlx.serve.metrics import Histogram, Metrics


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_allowance_refills_with_time_up_to_its_burst():
    clock = Clock()
    allowance = Allowance(10, 30, "water", clock)
    allowance.spend(30)
    with pytest.raises(ProtocolError, match="too much water"):
        allowance.spend(1)
    clock.now += 1000
    allowance.spend(30)
    clock.now += 1
    allowance.spend(9)
    with pytest.raises(ProtocolError):
        allowance.spend(2)


def test_the_limits_are_those_of_the_documentation():
    assert asdict(Limits()) == {
        "message_bytes": 1_048_576,
        "bytes_per_s": 400_000,
        "burst_bytes": 4_000_000,
        "sound_per_s": 1.5,
        "burst_s": 20,
        "restarts_per_s": 0.2,
        "burst_restarts": 10,
        "idle_s": 30,
        "paused_s": 600,
        "send_s": 10,
        "read_s": 60,
        "ping_s": 5,
        "unsent_frames": 50,
        "waiting_ms": 960,
        "session_s": None,
        "connections": 128,
        "per_address": 48,
        "opening_s": 8,
        "stall_s": 10,
        "linger_s": 3,
        "unsent_bytes": 1_048_576,
        "upload_bytes": 268_435_456,
    }
    seeing = Limits().with_images()
    assert (seeing.message_bytes, seeing.burst_bytes) == (16_777_216, 20_132_659.2)


def test_speech_in_real_time_never_meets_the_limits():
    clock = Clock()
    inflow = Inflow(Limits(), clock)
    for _ in range(100_000):  # two hours of float32 samples
        clock.now += 0.08
        inflow.message(7681)
        inflow.sound(0.08)


def test_tiny_messages_are_not_free():
    clock = Clock()
    inflow = Inflow(Limits(), clock)
    with pytest.raises(ProtocolError, match="data"):
        for _ in range(100_000):
            inflow.message(1)


def test_places_go_to_who_came_first_and_everyone_knows_where_they_stand():
    async def run():
        lobby, told = Lobby(1), {"b": [], "c": []}

        def teller(name):
            async def tell(place):
                told[name].append(place)

            return tell

        await lobby.enter(teller("b"))
        b = asyncio.ensure_future(lobby.enter(teller("b")))
        await asyncio.sleep(0)
        c = asyncio.ensure_future(lobby.enter(teller("c")))
        await asyncio.sleep(0.01)
        assert lobby.waiting == 2 and lobby.busy
        lobby.leave()
        await asyncio.wait_for(b, 60)
        await asyncio.sleep(0.01)
        assert told == {"b": [1], "c": [2, 1]}
        c.cancel()
        await asyncio.gather(c, return_exceptions=True)
        lobby.leave()
        assert (lobby.waiting, lobby.taken, lobby.busy) == (0, 0, False)

    asyncio.run(run())


def test_one_address_cannot_fill_the_queue():
    async def run():
        lobby = Lobby(0)

        async def tell(_place):
            pass

        waiting = [
            asyncio.ensure_future(lobby.enter(tell, "a"))
            for _ in range(MAX_WAITING_EACH)
        ]
        await asyncio.sleep(0)
        assert lobby.full("a") and not lobby.full("b") and not lobby.full()
        waiting.pop().cancel()
        await asyncio.sleep(0)
        assert not lobby.full("a") and lobby.waiting == MAX_WAITING_EACH - 1
        waiting.append(asyncio.ensure_future(lobby.enter(tell, "a")))
        await asyncio.sleep(0)
        assert lobby.full("a"), "one place in the queue was free, not more"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not lobby._from and lobby.waiting == 0

    asyncio.run(run())


def test_the_queue_has_an_end():
    assert (MAX_WAITING, MAX_WAITING_EACH) == (16, 8)

    async def run():
        lobby = Lobby(0)

        async def tell(_place):
            pass

        waiting = [asyncio.ensure_future(lobby.enter(tell)) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        assert lobby.full()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not lobby.full() and lobby.waiting == 0

    asyncio.run(run())


def test_a_histogram_counts_into_buckets_that_add_up():
    histogram = Histogram("t", "Time.", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert histogram.lines()[2:] == [
        't_bucket{le="0.1"} 2',
        't_bucket{le="1.0"} 3',
        't_bucket{le="+Inf"} 4',
        "t_sum 7.650000",
        "t_count 4",
    ]


def test_metrics_name_and_explain_every_value():
    text = Metrics().text({"moshi_x": ("Something.", lambda: 1.5)})
    names = {line.split(" ")[2] for line in text.splitlines() if "# TYPE" in line}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0].split(" ")[0]
            assert any(name.startswith(known) for known in names)
    assert text.endswith("moshi_x 1.5\n")


@pytest.mark.parametrize(
    "left, amount, missing, after", [(30, 10, 0, 20), (30, 30, 0, 0), (30, 45, 15, 0)]
)
def test_what_is_taken_is_what_was_there(left, amount, missing, after):
    allowance = Allowance(1, 30, "water", Clock())
    assert allowance.left == left
    assert allowance.take(amount) == missing
    assert allowance.left == after
    assert allowance.full is (after == 30)


def test_an_allowance_tells_when_there_will_be_enough():
    clock = Clock()
    allowance = Allowance(4, 30, "water", clock, first=2)
    assert allowance.wait_s(2) == 0 and allowance.wait_s(10) == 2
    assert allowance.wait_s(1000) == 7, "never more than it can hold"
    clock.now = 2
    assert allowance.left == 10 and not allowance.full
    clock.now = 100
    assert allowance.full


def test_a_flood_says_how_much_is_taken():
    allowance = Allowance(1.5, 1, "sound (seconds)", Clock())
    with pytest.raises(ProtocolError, match=r"at most 1\.5 a second is taken"):
        allowance.spend(1.01)
    assert allowance.left == 0, "what came counts"


def test_a_connection_begins_with_little_of_its_own_and_saves_two_seconds():
    clock = Clock()
    limits = Limits(bytes_per_s=10_000, burst_bytes=0, sound_per_s=2, burst_s=0)
    inflow = Inflow(limits, clock)
    inflow.message(2500 - 1024)
    with pytest.raises(ProtocolError):
        inflow.message(0)
    inflow.sound(0.5)
    with pytest.raises(ProtocolError):
        inflow.sound(0.001)
    clock.now = 1000
    inflow.message(20_000 - 1024)
    inflow.sound(4)
    with pytest.raises(ProtocolError):
        inflow.message(0)
    with pytest.raises(ProtocolError):
        inflow.sound(0.001)


def test_a_frame_of_a_patient_protocol_costs_a_quarter_and_a_little():
    inflow = Inflow(Limits(bytes_per_s=10_000, burst_bytes=1000), Clock())
    assert inflow.owed_s(4 * 1476) == 0  # 1,024 + 1,476: what a connection begins with
    assert inflow.owed_s(4 * 976) == pytest.approx(0.1)  # 2,000, and a store of 1,000


def test_sound_that_comes_too_fast_waits_for_what_is_missing(monkeypatch):
    clock, waits = Clock(), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.now += seconds

    monkeypatch.setattr("asyncio.sleep", sleep)
    inflow = Inflow(Limits(sound_per_s=2, burst_s=1), clock)
    asyncio.run(inflow.paced(1.5))  # half a second of its own, one of the address
    assert waits == []
    asyncio.run(inflow.paced(0.4))  # both refill: at 4 a second
    assert waits == [pytest.approx(0.21)]
    asyncio.run(inflow.paced(8))
    # a second at most; meanwhile its own rate brings 2, the address's store holds 1
    assert waits[1:] == pytest.approx([1.01, 1.01, 0.77])


@pytest.mark.parametrize("spend", [Inflow.image, Inflow.restart])
def test_pictures_and_restarts_share_ten_at_once_and_then_one_in_five_seconds(spend):
    clock = Clock()
    inflow = Inflow(Limits(), clock)
    for _ in range(5):
        inflow.image()
        inflow.restart()
    with pytest.raises(ProtocolError, match="too many"):
        spend(inflow)
    clock.now += 5
    spend(inflow)
    with pytest.raises(ProtocolError, match="too many"):
        spend(inflow)


def test_an_account_is_kept_while_it_owes_or_has_connections():
    clock = Clock()
    account = Account(Limits(), clock)
    assert not account.spent
    account.connections = 1
    assert account.spent
    account.connections = 0
    for kind in (account.data, account.sound, account.restarts):
        kind.take(1)
        assert account.spent
        clock.now += 1000
        assert not account.spent


@pytest.mark.parametrize("patience_s", [None, 1000.0])
def test_who_loses_patience_has_taken_no_place(patience_s, monkeypatch):
    waited: list[float | None] = []

    async def no_patience(work, seconds) -> None:
        work.close()
        waited.append(seconds)
        raise asyncio.TimeoutError

    async def run() -> None:
        lobby = Lobby(1)
        await lobby.enter(nobody)
        with pytest.raises(asyncio.TimeoutError):
            await lobby.enter(nobody, "10.0.0.1", patience_s)
        assert (lobby.taken, lobby.waiting) == (1, 0) and not lobby.full("10.0.0.1")
        lobby.leave()
        await lobby.enter(nobody, "10.0.0.1", patience_s)
        assert lobby.taken == 1

    async def nobody(_place: int) -> None: ...

    monkeypatch.setattr("moshi_mlx.serve.gate.lobby.within", no_patience)
    asyncio.run(run())
    assert waited == [patience_s and pytest.approx(patience_s, abs=200)]
