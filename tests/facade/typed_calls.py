"""Code as users write it: mypy accepts it, and refuses each call that has an ignored error.

It is never run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

import happen_nb as happen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from happen_nb import Commit, Event, Node, Space, Views

space: Space = happen.connect(store=":memory:", timeout=timedelta(seconds=3))
orders: Node = space.create_node("orders", initial={"open": 1})


@orders.on("order.*", retries=1, backoff=timedelta(seconds=1))
def count_words(event: Event) -> int:
    return len(event.payload["text"].split())


@orders.every(5)
def tick(event: Event) -> None: ...


@orders.state.on("order.*", start="beginning")
def apply(state: Mapping[str, Any], event: Event) -> dict[str, Any]:
    return {**state, "last": event.type}


@orders.state.every(timedelta(hours=1))
def interest(state: Mapping[str, Any], event: Event, views: Views) -> dict[str, Any]:
    return {**state, "rate": views.bank.get("rate")}


@happen.draft
def ship(draft: Any) -> None:
    draft["o1"]["status"] = "shipped"


event = happen.event("order.placed", {"text": "two lamps"})
assert_type(count_words(event), int)
assert_type(apply({}, event), dict[str, Any])
assert_type(orders.state.on("order.*", interest)({}, event, space.views), dict[str, Any])
commit: Commit = orders.state.set(happen.compose(ship, happen.put("o1.at", 5)))
states: Mapping[str, Any] = space.at(commit)
past: list[Mapping[str, Any]] = [orders.state.at(each) for each in (1, event, commit, datetime.now(UTC))]

# a predicate needs the handler in the same call
orders.on(lambda name: True)  # type: ignore[call-overload]
orders.state.on(lambda name: True)  # type: ignore[call-overload]
# states are read-only
orders.state = {"open": 2}  # type: ignore[assignment, misc]
orders.state.open = 2  # type: ignore[assignment]
orders.state["open"] = 2  # type: ignore[assignment]
space.views.orders.open = 2  # type: ignore[assignment]
# a time is an event, a commit or a datetime; for one node, a revision, too
orders.state.at("1")  # type: ignore[arg-type]
orders.state.revert(commit)  # type: ignore[arg-type]
space.at(1)  # type: ignore[arg-type]
space.fork("other", at=1)  # type: ignore[arg-type]
