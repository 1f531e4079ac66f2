"""The subjects and names of a space on a server; `wire` tells what is stored on each."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from happen_nb._model.records import EventRecord


class Subjects:
    """The subjects and names of one space.

    Examples
    --------
    >>> Subjects("shop").state("orders")
    '$KV.happen_shop.orders'
    """

    def __init__(self, space: str) -> None:
        self.space = space
        self.bucket = f"happen_{space}"
        self.stream = f"KV_happen_{space}"
        self.state_prefix = f"$KV.{self.bucket}."
        self.states = f"{self.state_prefix}>"
        self.rest_prefix = f"happen.{space}."
        self.all = [self.states, f"{self.rest_prefix}>"]
        self.event_prefix = f"{self.rest_prefix}event."
        self.events = f"{self.event_prefix}>"
        self.owner_prefix = f"{self.rest_prefix}owner."
        self.owners = f"{self.owner_prefix}*"
        self.handled_prefix = f"{self.rest_prefix}handled."
        self.handled = f"{self.handled_prefix}*"
        self.clear = f"{self.rest_prefix}clear"
        self.sync = f"{self.rest_prefix}sync"
        self.guard = f"{self.rest_prefix}guard"
        self.who = f"_happen.{space}.who"
        self.live_prefix = f"_happen.{space}.live."
        self.reply_prefix = f"_happen.{space}.reply."

    def state(self, node: str) -> str:
        """The key of a node's state."""
        return self.state_prefix + node

    def event(self, event: EventRecord) -> str:
        """The subject of its own that an event is stored on."""
        if event.has_caller_id:
            return self.keyed_event(event.id)
        return f"{self.event_prefix}{event.sender}.{event.id}.{quote_type(event.type)}"

    def keyed_event(self, id: str) -> str:
        """The subject of the event whose id a caller chose."""
        return f"{self.event_prefix}~.{id}"


def quote_type(type: str) -> str:
    """An event type as one subject token.

    Examples
    --------
    >>> quote_type("order.paid")
    'order%2Epaid'
    """
    return quote(type, safe="").replace(".", "%2E").replace("*", "%2A").replace("~", "%7E")


def space_of(stream: str) -> str | None:
    """The space that a stream belongs to, None if it is no space's."""
    return stream.removeprefix("KV_happen_") if stream.startswith("KV_happen_") else None
