"""Records to draw, and what a figure shows of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from happen_nb._model.causality import JournalSlice
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin
from happen_nb._model.schedules import from_ns, utc_text

NOON = 1_773_489_600_000_000_000
MS = 1_000_000
SECOND = 1_000_000_000


class Journal:
    """Collects what happened, each record a millisecond after the one before."""

    def __init__(self, space: str = "shop") -> None:
        self.space = space
        self.events: list[EventRecord] = []
        self.commits: list[Any] = []
        self.handled: list[HandledRecord] = []
        self.nodes: tuple[str, ...] = ()
        self.scheduled: list[EventRecord] = []
        self._newest: dict[str, CommitRecord] = {}
        self._sequence = 0
        self._time = NOON

    def wait(self, ns: int) -> None:
        self._time += ns

    def _next(self) -> tuple[int, int]:
        self._sequence += 1
        self._time += MS
        return self._sequence, self._time

    def emit(self, sender: str, type: str = "order.made", payload: Any = None, **more: Any) -> EventRecord:
        sequence, time = self._next()
        cause = more.pop("cause", None)
        path = (*cause.path, cause.id) if cause else ()
        event = EventRecord(
            more.pop("id", f"e{sequence}"),
            type,
            sender,
            freeze(payload),
            cause=cause and cause.id,
            path=path,
            sequence=sequence,
            time=time,
            **more,
        )
        self.events.append(event)
        return event

    def commit(self, node: str, state: Any, cause: EventRecord | None = None, *, by: str | None = None):
        sequence, time = self._next()
        before = self._newest.get(node)
        origin = Origin(cause.id, cause.id, by or node, (*cause.path, cause.id)) if cause else Origin()
        revision = before.revision + 1 if before else 1
        body = None if state is None else dumps(freeze(state))
        record = CommitRecord(node, sequence, revision, time, body, f"c{sequence}", origin=origin)
        self.commits.append((record, before))
        self._newest[node] = record
        return record

    def handle(self, event: EventRecord, node: str, outcome: str = "done", error: str | None = None) -> None:
        self.handled.append(HandledRecord(event.id, node, "on_it", outcome, 0.001, error))

    def schedule(self, sender: str, type: str, after: int) -> EventRecord:
        """An event that is due so many seconds from now."""
        id = f"due-{len(self.scheduled)}"
        due = utc_text(from_ns(self._time + after * SECOND))
        self.scheduled.append(EventRecord(id, type, sender, due=due, alarm=f"{id} 1"))
        self.scheduled.sort(key=lambda event: event.due)
        return next(event for event in self.scheduled if event.id == id)

    @property
    def slice(self) -> JournalSlice:
        return JournalSlice(
            self.space,
            self.events,
            self.commits,
            self.handled,
            self.nodes,
            scheduled=self.scheduled,
            to_come=len(self.scheduled),
            now=self._time,
        )


def shop() -> Journal:
    """An order: stock takes it and runs low, billing fails."""
    x = Journal()
    x.nodes = ("audit", "billing", "orders", "stock")
    x.commit("stock", {"pen": 7})
    order = x.emit("notebook", "order.created", {"id": "o1"})
    for node in ("orders", "stock"):
        x.handle(order, node)
    x.handle(order, "billing", "failed", "ValueError: no card")
    x.handle(order, "audit", "refused")
    x.commit("orders", {"o1": {"status": "new"}}, order)
    x.commit("stock", {"pen": 6}, order)
    low = x.emit("stock", "stock.low", {"item": "pen"}, cause=order)
    x.handle(low, "stock")
    x.commit("stock", {"pen": 46}, low)
    return x


def crowd(number: int, nodes: int = 4, seed: int = 1) -> Journal:
    """So many events of some nodes, with causes, commits and failures, in three bursts."""
    chance = random.Random(seed)
    x = Journal()
    x.nodes = tuple(f"node-{each}" for each in range(nodes))
    for index in range(number):
        if index and index % (number // 3) == 0:
            x.wait(3_600 * SECOND)
        cause = chance.choice(x.events[-20:]) if x.events and chance.random() < 0.5 else None
        sender = chance.choice([*x.nodes, "notebook"])
        event = x.emit(sender, chance.choice(["order.made", "order.paid"]), {"total": index}, cause=cause)
        for node in chance.sample(x.nodes, 2):
            x.handle(event, node, "failed" if chance.random() < 0.01 else "done", "ValueError: no card")
        if chance.random() < 0.3:
            x.commit(chance.choice(x.nodes), {"n": index}, event)
    return x


def ring(number: int) -> Journal:
    """Nodes that talk to their neighbours, to some far away, and to themselves."""
    x = Journal()
    names = [f"service-{chr(97 + each // 26)}{chr(97 + each % 26)}-with-a-name" for each in range(number)]
    x.nodes = tuple(names)
    for each in range(3 * number):
        event = x.emit(names[each % number], f"type.{each % 5}.of.some.length")
        x.handle(event, names[(each + 1 + each // number * 7) % number])
        if each % 3 == 0:
            x.handle(event, event.sender)
    return x


def orders() -> Journal:
    """Requests with replies, a failure, and an event that two nodes handle."""
    x = Journal()
    for number in range(6):
        order = x.emit("notebook", "order.created")
        x.handle(order, "orders")
        reserve = x.emit("orders", "stock.reserve", cause=order)
        x.handle(reserve, "stock")
        reserved = x.emit("stock", "stock.reserved", cause=reserve)
        x.handle(reserved, "orders")
        charge = x.emit("orders", "bank.charge", cause=reserved)
        x.handle(charge, "bank", "failed" if number == 3 else "done")
        paid = x.emit("bank", "bank.paid", cause=charge)
        for node in ("audit", "mail", "orders"):
            x.handle(paid, node)
        x.handle(x.emit("stock", "stock.low"), "stock")
    return x


def town(people: int = 160) -> Journal:
    x = Journal("town")
    x.nodes = tuple(f"p{each}" for each in range(people))
    for each in range(people):
        day = x.emit("clock", "day")
        x.handle(day, x.nodes[each])
        x.handle(x.emit(x.nodes[each], "meet", cause=day), x.nodes[each * 7 % people])
    return x


def trace(figure: Any, name: str) -> Any:
    (found,) = (each for each in figure.data if each.name == name)
    return found


def texts(figure: Any) -> Iterator[str]:
    """Everything that plotly shows as text."""
    waiting = [json.loads(figure.to_json())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def tags(figure: Any) -> set[str]:
    """The markup in them."""
    found: set[str] = set()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.add(" ".join([tag, *(f"{name}={value}" for name, value in attrs)]))

    for text in texts(figure):
        parser = Parser()
        parser.feed(text)
        parser.close()
    return found
