"""Files are shared among the processes that mlx.launch starts."""

from dataclasses import dataclass

import mlx.core as mx
import pytest

from moshi_mlx.cli.shares import my_share


@dataclass
class Group:
    """A process's place, as MLX tells it."""

    place: int

    def rank(self) -> int:
        return self.place

    def size(self) -> int:
        return 2


def test_two_processes_do_each_thing_once(monkeypatch: pytest.MonkeyPatch):
    things = list(range(5))
    assert my_share(things) == things
    monkeypatch.setenv("MLX_RANK", "0")
    shares = []
    for rank in range(2):
        monkeypatch.setattr(mx.distributed, "init", lambda rank=rank: Group(rank))
        shares.append(my_share(things))
    assert shares == [[0, 2, 4], [1, 3]]
