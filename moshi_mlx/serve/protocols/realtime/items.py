"""The items of a conversation, in order.

Clients place items by ``previous_item_id``, and request them again: OpenAI's agents
retrieve each item once its transcript is complete.
"""

import json
from collections.abc import Mapping
from typing import Any

from .messages import BadEvent, EventFields, Tell, new_id

_MOST = 200  # items to keep; the oldest are dropped first
_MOST_CHARACTERS = 32_000  # characters of an item from a client


class Items:
    """Everything said and written so far. Moshi cannot read: clients' items are kept,
    and do not affect what it says.

    Args:
        tell: sends an event.
    """

    def __init__(self, tell: Tell):
        self._tell = tell
        self._items: dict[str, Mapping[str, Any]] = {}
        self._previous: dict[str, str | None] = {}

    @property
    def last(self) -> str | None:
        """The id of the newest one."""
        return next(reversed(self._items), None)

    async def add(self, item: Mapping[str, Any]) -> None:
        """Put an item at the end, and tell the client."""
        self._previous[item["id"]] = self.last
        self._items[item["id"]] = item
        while len(self._items) > _MOST:
            self._forget(next(iter(self._items)))
        await self._tell_of("conversation.item.added", item)

    async def finish(self, item: Mapping[str, Any]) -> None:
        """An item that was added is complete."""
        if item["id"] in self._items:
            self._items[item["id"]] = item
        await self._tell_of("conversation.item.done", item)

    async def obey(self, what: str, event: EventFields) -> None:
        """Handle ``conversation.item.WHAT``. Raises: BadEvent."""
        if what == "create":
            item = _new_item(event.get("item"))
            await self.add(item)
            await self.finish(item)
            return
        id = event.get("item_id")
        if what not in ("retrieve", "delete", "truncate"):
            words = f"the event 'conversation.item.{what[:40]}' is unknown."
            raise BadEvent(words, param="type")
        if not isinstance(id, str) or id not in self._items:
            code = f"item_{what}_invalid_item_id"
            raise BadEvent(f"there is no item {str(id)[:60]!r}.", code, "item_id")
        if what == "retrieve":
            await self._tell("conversation.item.retrieved", item=self._items[id])
        elif what == "delete":
            self._forget(id)
            await self._tell("conversation.item.deleted", item_id=id)
        else:
            kept = {k: event.get(k, 0) for k in ("content_index", "audio_end_ms")}
            await self._tell("conversation.item.truncated", item_id=id, **kept)

    def _forget(self, id: str) -> None:
        del self._items[id]
        before = self._previous.pop(id)
        for other, previous in self._previous.items():
            if previous == id:
                self._previous[other] = before

    async def _tell_of(self, kind: str, item: Mapping[str, Any]) -> None:
        previous = self._previous.get(item["id"])
        await self._tell(kind, previous_item_id=previous, item=item)


def _new_item(fields: object) -> dict[str, Any]:
    """An item from a client. Raises: BadEvent."""
    if not isinstance(fields, dict):
        raise BadEvent("item must be an object.", param="item")
    if len(json.dumps(fields)) > _MOST_CHARACTERS:
        words = f"an item may have {_MOST_CHARACTERS} characters."
        raise BadEvent(words, "string_above_max_length", "item")
    item = {"object": "realtime.item", "status": "completed", **fields}
    item.setdefault("id", new_id("item"))
    if not isinstance(item["id"], str):
        raise BadEvent("item.id must be a string.", param="item.id")
    return item
