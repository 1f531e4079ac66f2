"""Objects with the attributes that the displays read, without a server behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from happen_nb._api.base import Displayable
from happen_nb._display import changes, reprs_events, reprs_runs, reprs_state
from happen_nb._display.page import Page
from happen_nb._display.values import Budget
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.causality import TraceNode, build
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.frozen import Diff, FrozenDict, diff
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin
from happen_nb._model.schedules import REAL_CLOCK, ClockMoves
from happen_nb.errors import HappenError

NOON = datetime(2026, 3, 14, 12, 0, 0, 250_000, tzinfo=UTC)
TICKS = nanoseconds(NOON)
EVENT_ID = "5fX2kQ9aBc7Zt1Lm"
SEQUENCE = 987_654_321
TOKEN = "s3cr3t-t0k3n"
FOLDER = "/home/ada/project/.happen"


def frozen(value: dict[str, Any]) -> FrozenDict:
    made = freeze(value)
    assert isinstance(made, FrozenDict)
    return made


@dataclass(repr=False)
class Space(Displayable):
    _page = reprs_state.space_page
    name: str = "default"
    nodes: dict[str, Any] = field(default_factory=dict)
    views: Any = field(default_factory=dict)
    server: Any = None
    failures: list[Any] = field(default_factory=list)
    clock: str = "real"
    to_come: int = 0
    paused: str | None = None


class Views(Displayable, dict[str, Any]):
    _page = reprs_state.views_page

    def __init__(self, *args: Any, space: Space) -> None:
        super().__init__(*args)
        self.space = space


@dataclass(repr=False)
class State(Displayable):
    _page = reprs_state.state_page
    node: Any
    content: FrozenDict | HappenError
    revision: int = 1

    def get(self) -> FrozenDict:
        if isinstance(self.content, HappenError):
            raise self.content
        return self.content


@dataclass(repr=False)
class View(Displayable):
    _page = reprs_state.view_page
    name: str
    content: FrozenDict | HappenError
    revision: int = 1
    get = State.get


class Nodes(Views):
    _page = reprs_state.nodes_page


class Snapshot(Displayable, dict[str, View]):
    _page = reprs_state.snapshot_page
    state_of = dict.__getitem__


@dataclass(repr=False)
class Node(Displayable):
    _page = reprs_state.node_page
    name: str
    state: State
    space: Space
    handlers: list[Any] = field(default_factory=list)
    busy: str = ""
    owner: Any = None


def node(name: str, content: dict[str, Any] | HappenError, revision: int = 1) -> Node:
    state = State(None, content if isinstance(content, HappenError) else frozen(content), revision)
    state.node = Node(name, state, Space())
    made: Node = state.node
    return made


def view(name: str, content: dict[str, Any] | HappenError, revision: int = 1) -> View:
    return View(name, content if isinstance(content, HappenError) else frozen(content), revision)


@dataclass(repr=False)
class Commit(Displayable):
    _page = reprs_state.commit_page
    node: str
    revision: int
    before: FrozenDict
    after: FrozenDict
    deleted: bool = False
    cause: str | None = EVENT_ID
    by: str | None = None
    time: datetime = NOON
    sequence: int = SEQUENCE

    @property
    def _stored(self) -> datetime:
        return self.time

    @property
    def diff(self) -> Diff:
        return diff(self.before, self.after)

    @property
    def changed(self) -> bool:
        return bool(self.diff)


def commit(before: dict[str, Any], after: dict[str, Any], **more: Any) -> Commit:
    return Commit(**{"node": "orders", "revision": 2, **more}, before=frozen(before), after=frozen(after))


class History(Displayable, list[Commit]):
    _page = reprs_state.history_page
    node = "orders"
    truncated = False


class Journal(Displayable, list[Any]):
    _page = reprs_state.journal_page
    space = "default"


def history(states: list[dict[str, Any]]) -> History:
    pairs = zip([{}, *states], states, strict=False)
    return History(
        commit(before, after, revision=number, time=NOON + timedelta(seconds=number))
        for number, (before, after) in enumerate(pairs, start=1)
    )


@dataclass(repr=False)
class Server(Displayable):
    _page = reprs_state.server_page
    running: bool = True
    store: str | None = FOLDER
    url: str = "nats://127.0.0.1:40123"
    token: str = TOKEN


@dataclass(repr=False)
class Failure(Displayable):
    _page = reprs_events.failure_page
    node: str
    handler: str
    exception: BaseException | str
    traceback: str
    attempts: int = 1
    event: Any = None


class Failures(Displayable, list[Failure]):
    _page = reprs_events.failures_page


@dataclass(repr=False)
class Watch(Displayable):
    _page = reprs_state.watch_page
    node: Any
    name: str
    active: bool = True


@dataclass(repr=False)
class Event(Displayable):
    _page = reprs_events.event_page
    type: str = "order.created"
    payload: Any = None
    sender: str = "orders"
    target: str | None = None
    time: datetime | None = NOON
    occurred: datetime | None = None
    pending: bool = False
    due: datetime | None = None
    repeated: bool = False
    id: str = EVENT_ID
    sequence: int = SEQUENCE
    path: tuple[str, ...] = (EVENT_ID,)

    @property
    def _stored(self) -> datetime | None:
        return self.time

    @property
    def handled_by(self) -> tuple[str, ...]:
        raise AssertionError("a display must not read the journal")


class Events(Displayable, list[Event]):
    _page = reprs_events.events_page
    space = "default"
    pattern = "**"


@dataclass(repr=False)
class Unhandled(Displayable):
    _page = reprs_events.unhandled_event_page
    event: Event
    reason: str = "no pattern"
    nearest: str | None = None


class UnhandledEvents(Displayable, list[Unhandled]):
    _page = reprs_events.unhandled_page


@dataclass(repr=False)
class HeldEvent(Displayable):
    _page = reprs_runs.held_event_page
    node: str
    event: Event


class Held(Displayable, list[HeldEvent]):
    _page = reprs_runs.held_page
    space = "default"
    paused = "everything"

    @property
    def total(self) -> int:
        return len(self)


@dataclass(repr=False)
class Registration(Displayable):
    _page = reprs_events.handler_page
    pattern: str = "order.*"
    name: str = "on_order"
    where: bool = False
    retries: int = 0
    durable: bool = False
    node: str = "orders"
    active: bool = True


class Handlers(Displayable, list[Registration]):
    _page = reprs_events.handlers_page
    node = "orders"


@dataclass(repr=False)
class Reply(Displayable):
    event: Event = field(default_factory=Event)
    target: str = "stock"
    state: str = "accepted"
    progress: Any = None
    error: BaseException | None = None
    value: Any = None
    pace: Any = None

    def _page(self, budget: Budget) -> Page:
        return reprs_events.reply_page(self, self.value, budget, self.pace)


@dataclass(repr=False)
class Trace(Displayable):
    _page = changes.trace_page
    root: TraceNode
    times: bool = False
    _clock: ClockMoves = REAL_CLOCK


def event_record(id: str, cause: str | None = None, sequence: int = SEQUENCE, **more: Any) -> EventRecord:
    """An event of a trace; its type is made of the id unless it is given."""
    fields = {"type": f"type.{id}", "sender": "orders", "time": TICKS, "path": (EVENT_ID,), **more}
    return EventRecord(id, cause=cause, sequence=sequence, **fields)


def commit_pair(
    cause: str,
    sequence: int,
    after: dict[str, Any] | bytes | None,
    before: dict[str, Any] | None = None,
    **more: Any,
) -> tuple[CommitRecord, CommitRecord | None]:
    """A commit of a trace with the one before it; a second revision, if there is one."""
    node, by = more.get("node", "stock"), more.get("by", "stock")
    first = None if before is None else CommitRecord(node, 1, 1, TICKS, dumps(frozen(before)))
    body = dumps(frozen(after)) if isinstance(after, dict) else after
    origin = Origin(cause, EVENT_ID, by)
    revision = more.get("revision", 1 if first is None else 2)
    return CommitRecord(node, sequence, revision, TICKS, body, EVENT_ID, origin=origin), first


def handled(event: str, node: str, outcome: str = "done", **more: Any) -> HandledRecord:
    return HandledRecord(event, node, **{"handler": "on_order", "duration": 0.0125, **more}, outcome=outcome)


def trace(
    events: list[EventRecord], commits: list[Any] | None = None, handlings: list[HandledRecord] | None = None
) -> Trace:
    return Trace(build(events[0], events, commits or [], handlings or []))


def order() -> Trace:
    """An order that three nodes take: one fails, one commits and goes on to say something."""
    events = [
        event_record("a", type="order.created", sender="notebook", sequence=1),
        event_record("b", "a", 5, type="stock.low", sender="stock"),
        event_record("c", "a", 6, type="parcel.send", target="shipping"),
        event_record("d", "b", 8, type="pen.bought", sender="purchasing"),
    ]
    commits = [
        commit_pair("a", 2, {"o7": {"total": 12}}, {}, node="orders", by="orders"),
        commit_pair("a", 4, {"pen": 6, "ink": 2}, {"pen": 7, "paper": 9}),
        commit_pair("b", 7, {"pen": 40}, node="purchasing", by="buyer"),
    ]
    handlings = [
        handled("a", "orders"),
        handled("a", "billing", "failed", handler="charge", error="ValueError: no card", attempts=3),
        handled("a", "stock"),
        handled("b", "purchasing"),
        handled("d", "audit", "refused"),
    ]
    return trace(events, commits, handlings)


@dataclass
class SpaceInfo:
    name: str
    nodes: int
    bytes: int
    last_change: datetime | None = NOON


class Spaces(Displayable, list[SpaceInfo]):
    _page = reprs_state.spaces_page


@dataclass(repr=False)
class Value(Displayable):
    content: Any

    def _page(self, budget: Budget):
        return reprs_state.value_page(self.content, budget)


def value_text(content: Any) -> str:
    return repr(Value(content))


TRACEBACK = f"""Traceback (most recent call last):
  File "{FOLDER}/../.venv/lib/python3.11/site-packages/happen_nb/_runtime/mailbox.py", line 88, in _handle
    value = handler(event, context)
  File "/tmp/ipykernel_4242/1637812345.py", line 7, in on_order
    reserve(event.payload)
  File "C:\\\\Users\\\\ada\\\\shop\\\\stock.py", line 12, in reserve
    raise ValueError("no stock")
ValueError: no stock
"""

SHOP: dict[str, Any] = {
    "orders": {
        "o1": {"status": "shipped", "total": 12.5, "items": ["pen", "ink"]},
        "o2": {"status": "open", "total": 8, "items": ["paper"]},
        "o3": {
            "status": "open",
            "total": 129.95,
            "items": ["desk", "lamp", "chair", "shelf"],
            "address": {"street": "12 Crescent Road", "city": "Lisbon", "country": "Portugal"},
            "gift": True,
        },
    },
    "customers": {f"c{number}": {"name": f"Customer {number}", "since": 2020} for number in range(40)},
    "open": 2,
    "rate": 0.19,
    "closed": False,
    "manager": None,
    "tags": ["retail", "eu"],
    "empty": {},
    "note": "The warehouse moves on Monday; until then all parcels leave from the second gate. " * 12,
}


def orders(number: int) -> dict[str, Any]:
    return {
        "orders": {
            f"order-{index:05}": {
                "id": f"order-{index:05}",
                "status": "open",
                "total": index * 1.25,
                "customer": {"name": f"Customer {index}", "city": "Lisbon"},
                "items": ["pen", "ink"],
            }
            for index in range(number)
        },
        "count": number,
    }
