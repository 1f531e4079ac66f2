"""A second process that also emits and handles events; see ``peer.py`` for how it is asked.

What its handlers do they note in a file, the witness: one line a note, written at once, so that it is there
whatever becomes of the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import happen_nb as happen
from happen_nb._api.events import record_of
from happen_nb._api.failures import handle_again
from tests.guarantees.applying import TRANSFORMS
from tests.guarantees.peer import Peer, main

GATE_WITHIN = 60.0


class Notes:
    """Notes what the handlers of a node do."""

    def __init__(self, witness: str, node: happen.Node) -> None:
        self._file = os.open(witness, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.node = node

    def note(self, word: str, event: happen.Event) -> None:
        line = [os.getpid(), self.node.name, word, event.type, event.payload, event.id, event.sequence]
        os.write(self._file, (json.dumps(line) + "\n").encode())  # one write: whole, or not there


def _open(event: happen.Event) -> bool:
    return Path(event.payload["gate"]).exists()


# -- handlers: each notes that it begins, and does what its name says ------------------------------------


def note(notes: Notes, event: happen.Event) -> None:
    notes.note("begun", event)


def count(notes: Notes, event: happen.Event) -> int:
    notes.note("begun", event)
    commit = notes.node.state.set(happen.put("n", lambda n: (n or 0) + 1))
    return int(commit.after["n"])


def echo(notes: Notes, event: happen.Event) -> Any:
    notes.note("begun", event)
    return {"echo": event.payload}


def fail(notes: Notes, event: happen.Event) -> None:
    notes.note("begun", event)
    raise ValueError(f"there is no {event.payload}")


def pass_gate(notes: Notes, event: happen.Event) -> str:
    notes.note("begun", event)
    deadline = time.monotonic() + GATE_WITHIN
    while not _open(event) and time.monotonic() < deadline:
        time.sleep(0.01)
    notes.node.state.set({"passed": event.payload["gate"]})
    notes.note("ended", event)
    return "passed"


async def sleep_async(notes: Notes, event: happen.Event) -> None:
    notes.note("begun", event)
    try:
        await asyncio.sleep(GATE_WITHIN)
    except asyncio.CancelledError:
        notes.note("cancelled", event)
        raise


def pass_gate_step_by_step(notes: Notes, event: happen.Event) -> Iterator[int]:
    notes.note("begun", event)
    step = 0
    try:
        while not _open(event):
            yield (step := step + 1)
            time.sleep(0.01)
    except GeneratorExit:
        notes.note("cancelled", event)
        raise


def count_to(notes: Notes, event: happen.Event) -> Any:
    notes.note("begun", event)
    yield from range(event.payload)
    return "counted"


async def count_to_async(notes: Notes, event: happen.Event) -> AsyncIterator[Any]:
    notes.note("begun", event)
    for number in range(event.payload):
        yield number
    yield happen.Result("counted")


def ask_next(notes: Notes, event: happen.Event) -> Any:
    """Send on to the next of the nodes in the payload, and wait for what that returns."""
    notes.note("begun", event)
    if not event.payload:
        return "the end"
    target, *rest = event.payload
    return [notes.node.name, notes.node.send(target, event.type, rest).result()]


def tell_next(notes: Notes, event: happen.Event) -> None:
    """Broadcast the next of the types in the payload, from a commit."""
    notes.note("begun", event)
    if not event.payload:
        return
    type, *rest = event.payload

    def step(state: Any) -> Any:
        notes.node.broadcast(type, rest)
        return {**state, "n": state.get("n", 0) + 1}

    notes.node.state.set(step)


HANDLERS: dict[str, Callable[..., Any]] = {
    handler.__name__: handler
    for handler in (
        note,
        count,
        echo,
        fail,
        pass_gate,
        sleep_async,
        pass_gate_step_by_step,
        count_to,
        count_to_async,
        ask_next,
        tell_next,
    )
}


# -- what may be asked for -------------------------------------------------------------------------------


class EventPeer(Peer):
    """The requests of a peer that handles events, beside those of a `Peer`."""

    def __init__(self) -> None:
        super().__init__()
        self._replies: list[happen.Reply] = []

    def reset(self, mark: str) -> str:
        """Forget the space: the next test comes."""
        if space := vars(self).pop("_space", None):
            space.close()
        self._replies.clear()
        self._seen.clear()
        return mark

    def handle(self, node: str, pattern: str, how: str, witness: str) -> None:
        """Register the handler `how`."""
        notes = Notes(witness, self._node(node))
        self._node(node).on(pattern, partial(HANDLERS[how], notes))

    def apply(self, node: str, pattern: str, how: str, **options: Any) -> None:
        """Register the transform `how` as a state handler."""
        self._node(node).state.on(pattern, TRANSFORMS[how], **options)

    def retry_event(self, node: str, number: int) -> None:
        """Handle one of the stored events once more."""
        error = handle_again(self._space._runtime, record_of(self._space.events()[number]), node, "add")
        if error is not None:
            raise error

    def settle_all(self) -> None:
        """Wait for all that this process has still to do."""
        self._space.settle(timeout=30)

    def off(self, node: str, pattern: str) -> None:
        self._node(node).off(pattern)

    def handlers(self, node: str) -> list[str]:
        return [handler.pattern for handler in self._node(node).handlers]

    def owner(self, node: str) -> int | None:
        owner = self._node(node).owner
        return None if owner is None else owner.pid

    def broadcast(
        self, node: str, type: str, payload: Any = None, id: str | None = None
    ) -> tuple[str, int | None, bool]:
        event = self._node(node).broadcast(type, payload, id=id)
        return event.id, event.sequence, event.repeated

    def broadcast_many(self, node: str, type: str, payloads: list[Any]) -> list[str]:
        return [self._node(node).broadcast(type, payload).id for payload in payloads]

    def settle(self, node: str, type: str, payload: Any = None) -> list[str]:
        """Broadcast, and wait for all that follows; the types of the events in the trace."""
        trace = self._node(node).broadcast(type, payload).settle(timeout=30)
        return [each.event.type for each in trace if each.event is not None]

    def wait_for(self, pattern: str, since: int | None = None) -> Any:
        return self._space.wait_for(pattern, since=since, timeout=30).payload

    def count_events(self, pattern: str) -> int:
        return len(self._space.events(pattern))

    def unhandled(self) -> list[tuple[Any, str]]:
        return [(each.event.payload, each.reason) for each in self._space.unhandled]

    def send(self, node: str, target: str, type: str, payload: Any = None) -> int:
        """Send; the number of the reply."""
        self._replies.append(self._node(node).send(target, type, payload))
        return len(self._replies) - 1

    def result(self, reply: int, timeout: float = 30.0) -> Any:
        return self._replies[reply].result(timeout)

    def progress(self, reply: int) -> list[Any]:
        return list(self._replies[reply])

    def cancel(self, reply: int) -> None:
        self._replies[reply].cancel()

    def state_of(self, reply: int) -> str:
        return self._replies[reply].state

    def delete(self, node: str) -> None:
        self._node(node).delete()


if __name__ == "__main__":
    main(EventPeer())
