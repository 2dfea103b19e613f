"""The items of a conversation: what is kept of them, and in which order."""

import asyncio
import json
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


def test_a_truncated_item_is_told_with_what_the_client_kept_of_it(kept, events):
    asyncio.run(kept.add({"id": "a"}))
    asyncio.run(kept.obey("truncate", {"item_id": "a"}))
    kind, fields = events[-1]
    assert kind == "conversation.item.truncated"
    assert fields == {"item_id": "a", "content_index": 0, "audio_end_ms": 0}
    event = {"item_id": "a", "content_index": 1, "audio_end_ms": 1500}
    asyncio.run(kept.obey("truncate", event))
    assert events[-1][1] == event and kept.last == "a"


def test_a_finished_item_is_retrieved_as_it_is_now(kept, events):
    asyncio.run(kept.add({"id": "a", "status": "in_progress"}))
    asyncio.run(kept.finish({"id": "a", "status": "completed"}))
    asyncio.run(kept.obey("retrieve", {"item_id": "a"}))
    assert events[-1][1]["item"] == {"id": "a", "status": "completed"}
    asyncio.run(kept.finish({"id": "gone"}))
    assert events[-1] == (
        "conversation.item.done",
        {"previous_item_id": None, "item": {"id": "gone"}},
    )
    with pytest.raises(BadEvent, match="no item 'gone'"):
        asyncio.run(kept.obey("retrieve", {"item_id": "gone"}))


def test_a_deleted_item_is_gone(kept, events):
    for id in "ab":
        asyncio.run(kept.add({"id": id}))
    asyncio.run(kept.obey("delete", {"item_id": "b"}))
    assert events[-1] == ("conversation.item.deleted", {"item_id": "b"})
    assert kept.last == "a"


def test_an_item_of_a_client_may_be_as_long_as_is_said_and_gets_what_it_lacks(
    kept, events
):
    longest = {"id": "b", "content": ""}
    longest["content"] = "a" * (32_000 - len(json.dumps(longest)))
    for item in ({"type": "message"}, longest):
        asyncio.run(kept.obey("create", {"item": item}))
    first, second = (f["item"] for kind, f in events if kind.endswith("done"))
    assert first["id"].startswith("item_") and second["id"] == "b"
    for item in (first, second):
        assert (item["object"], item["status"]) == ("realtime.item", "completed")
    longest["content"] += "a"
    with pytest.raises(BadEvent, match="32000 characters"):
        asyncio.run(kept.obey("create", {"item": longest}))
