"""A model's memory stays resident, against a fake of MLX's memory functions.

Whether macOS then keeps it is for a Mac to show: scripts/mac_report measures it.
"""

import pytest

import moshi_mlx
from moshi_mlx.checkpoint.memory import Footprint
from moshi_mlx.engines import residency
from moshi_mlx.engines.base import BaseEngine
from moshi_mlx.engines.duplex.engine import Moshi
from moshi_mlx.engines.residency import CACHE_BYTES, Residency, describe
from moshi_mlx.engines.stt.batch import STTBatch
from moshi_mlx.engines.tts.batch import TTSBatch
from tests.listening import listener
from tests.speech import speaker

GB = 10**9
SEVEN_B = Footprint(weights=4 * GB, session=GB // 2, codec=GB // 2)


class Metal:
    """Limits as MLX keeps them: setting one returns the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, recommended: int = 20 * GB):
        self.wired, self.cache, self.recommended = 7, 9, recommended
        monkeypatch.setattr(residency.mx, "set_wired_limit", self.set_wired)
        monkeypatch.setattr(residency.mx, "set_cache_limit", self.set_cache)
        info = {"max_recommended_working_set_size": recommended}
        monkeypatch.setattr(residency.mx, "device_info", lambda: info)
        monkeypatch.setattr(residency, "can_wire", lambda: True)

    def set_wired(self, limit: int) -> int:
        assert limit <= self.recommended, "MLX refuses this"
        self.wired, before = limit, self.wired
        return before

    def set_cache(self, limit: int) -> int:
        self.cache, before = limit, self.cache
        return before


def test_a_model_is_wired_with_its_sessions_and_a_margin(monkeypatch):
    metal = Metal(monkeypatch)
    with Residency(SEVEN_B) as held:
        held.add(3)
        assert metal.wired == int(1.1 * 6 * GB)
        assert metal.cache == CACHE_BYTES
        assert describe().startswith("6.6 GB wired")
    assert (metal.wired, metal.cache) == (7, 9)


def test_never_more_than_the_system_recommends(monkeypatch):
    metal = Metal(monkeypatch, recommended=5 * GB)
    with Residency(SEVEN_B) as held:
        held.add(3)
        assert metal.wired == 5 * GB


def test_all_places_of_a_batch_count_until_it_is_closed_or_gone(monkeypatch):
    moshi = moshi_mlx.load("demo")
    assert isinstance(moshi, Moshi)
    metal = Metal(monkeypatch)
    moshi.residency = residency.keep_resident(moshi, SEVEN_B, "it")
    batch, alone = moshi.batch(4), moshi.session()
    assert metal.wired == int(1.1 * (4.5 + 5 * 0.5) * GB)
    batch.close()
    alone.close()
    assert metal.wired == int(1.1 * 5 * GB), "room for one stays"
    forgotten = moshi.batch(3)
    assert metal.wired == int(1.1 * 6 * GB)
    del forgotten
    assert metal.wired == int(1.1 * 5 * GB)
    moshi.close()
    assert (metal.wired, metal.cache) == (7, 9)


@pytest.mark.parametrize(
    "make", [lambda: STTBatch(listener(), 3), lambda: TTSBatch(speaker(), 3)]
)
def test_places_to_listen_and_to_speak_count(monkeypatch, make):
    metal = Metal(monkeypatch)
    with Residency(SEVEN_B) as held:
        monkeypatch.setattr(BaseEngine, "residency", held)
        batch = make()
        assert metal.wired == int(1.1 * 6 * GB)
        batch.close()
        assert metal.wired == int(1.1 * 5 * GB)


def test_models_add_up_and_the_last_one_restores_the_limits(monkeypatch):
    metal = Metal(monkeypatch)
    one, other = Residency(SEVEN_B).hold(), Residency(SEVEN_B).hold()
    one.hold()
    assert metal.wired == 2 * int(1.1 * 5 * GB)
    one.release()
    one.release()
    assert metal.wired == int(1.1 * 5 * GB)
    other.release()
    assert (metal.wired, metal.cache) == (7, 9)


def test_nothing_is_touched_where_nothing_can_be_wired(monkeypatch):
    metal = Metal(monkeypatch)
    monkeypatch.setattr(residency, "can_wire", lambda: False)
    with Residency(SEVEN_B):
        assert (metal.wired, metal.cache) == (7, 9)
    assert "macOS 15" in describe()


@pytest.mark.parametrize(
    "release, able", [("", False), ("14.7", False), ("15.0", True), ("26.1", True)]
)
def test_old_systems_do_not_wire(monkeypatch, release, able):
    class Device:
        type = residency.mx.DeviceType.gpu

    monkeypatch.setattr(residency.mx, "default_device", Device)
    monkeypatch.setattr(residency.mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(residency.platform, "mac_ver", lambda: (release, ("",) * 3, ""))
    assert residency.can_wire() == able
