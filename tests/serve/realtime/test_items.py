"""The items of a conversation: what is kept of them, and in which order."""

import asyncio
from typing import Any

import pytest

from moshi_mlx.serve.protocols.realtime import items
from moshi_mlx.serve.protocols.realtime.items import Items
from moshi_mlx.serve.protocols.realtime.messages import BadEvent


@pytest.fixture
def events() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def kept(events) -> Items:
    async def tell(kind: str, /, **fields: Any) -> None:
        events.append((kind, fields))

    return Items(tell)


def test_the_oldest_items_are_forgotten(kept, events, monkeypatch):
    monkeypatch.setattr(items, "_MOST", 2)
    for id in "abc":
        asyncio.run(kept.add({"id": id}))
    assert [fields["previous_item_id"] for _, fields in events] == [None, "a", "b"]
    with pytest.raises(BadEvent, match="no item 'a'"):
        asyncio.run(kept.obey("retrieve", {"item_id": "a"}))


def test_the_item_behind_a_deleted_one_moves_up(kept, events):
    for id in "abc":
        asyncio.run(kept.add({"id": id}))
    asyncio.run(kept.obey("delete", {"item_id": "b"}))
    asyncio.run(kept.finish({"id": "c", "status": "completed"}))
    kind, fields = events[-1]
    assert kind == "conversation.item.done" and fields["previous_item_id"] == "a"


@pytest.mark.parametrize(
    ("what", "event"),
    [
        ("create", {"item": 3}),
        ("create", {"item": {"id": 3}}),
        ("create", {"item": {"content": "a" * 40_000}}),
        ("retrieve", {"item_id": 3}),
        ("truncate", {}),
        ("sing", {"item_id": "a"}),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_kept(kept, events, what, event):
    with pytest.raises(BadEvent):
        asyncio.run(kept.obey(what, event))
    assert not events and kept.last is None
