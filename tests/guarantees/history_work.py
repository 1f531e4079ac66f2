"""Loads that do random things and keep a record of all they did and saw, for ``checker.py``.

See ``work.py`` for how they are run. Every state carries its own revision as ``n``, and a ``token`` that
names its writer. The events ``for.<node>`` are handled by that node alone; by a state handler if `applying`.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import happen_nb as happen
from happen_nb._api.context import HandlerContext
from tests.guarantees.checker import Operation
from tests.guarantees.work import report, wait_for_start

THREADS = 2
DEEPEST = 4
"""Events, one caused by the other, until a handler causes no more."""
ACTS = ("set",) * 6 + ("emit",) * 3 + ("get",) * 4 + ("fresh",) * 2 + ("broadcast",) * 5
PAUSE = 0.004
"""Seconds between the acts of a thread that acts until it is stopped."""
CURRENT_WITHIN = 30.0


class Record:
    """The operations of a process, and what it saw.

    Parameters
    ----------
    label : str
        Names the process.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.operations: list[Operation] = []
        self.failed: list[str] = []

    def keep(self, kind: str, began: float, **what: Any) -> None:
        """Add what began then and has ended now."""
        self.operations.append(Operation(kind, self.label, began, time.monotonic(), **what))

    def keep_read(self, began: float, node: str, state: Any, **what: Any) -> None:
        """Add a read of what is newest."""
        self.keep(
            "fresh", began, node=node, seen={node: state.get("n", 0)}, token=state.get("token", ""), **what
        )

    def attempt(self, act: Callable[..., None], *arguments: Any) -> None:
        """Do something, and note if it fails."""
        began = time.monotonic()
        try:
            act(*arguments)
        except Exception as error:
            took = time.monotonic() - began
            self.failed.append(
                f"{self.label}, {act.__name__} after {took:.1f} s: {type(error).__name__}: {error}"
            )

    def write(self, path: str) -> None:
        """Write all operations to a file, one a line."""
        Path(path).write_text("\n".join(json.dumps(asdict(op)) for op in self.operations))


class Actor:
    """Does random things, in its threads and in the handlers of its nodes, and watches all nodes."""

    def __init__(
        self,
        space: happen.Space,
        record: Record,
        nodes: list[str],
        own: list[str],
        seed: int,
        *,
        applying: bool,
    ) -> None:
        self._record = record
        self._space = space
        self._seed = seed
        self._tokens = itertools.count(1)
        self._nodes = {name: space.create_node(name) for name in nodes}
        self._watched = dict.fromkeys(nodes, 0)
        for name in own:
            if applying:
                self._nodes[name].state.on(f"for.{name}", partial(self._apply, name), name="apply")
            else:
                self._nodes[name].on(f"for.{name}", self._handle)
        for node in self._nodes.values():
            node.state.watch(self._see)
            record.keep("watch", time.monotonic(), node=node.name, seen={node.name: node.state.revision})

    def act(self, thread: int, times: int | None, stop: threading.Event) -> None:
        """So many random things, one after the other; without a number until stopped."""
        choose = random.Random(f"{self._seed} {thread}")
        for _ in range(times) if times is not None else itertools.count():
            if times is None and stop.wait(PAUSE):
                return
            act = getattr(self, f"_{choose.choice(ACTS)}")
            self._record.attempt(act, choose, choose.choice(list(self._nodes)))

    def wait_current(self) -> None:
        """Wait until the watches have seen all that is stored now."""
        newest = {name: node.state.get("n", fresh=True) or 0 for name, node in self._nodes.items()}
        deadline = time.monotonic() + CURRENT_WITHIN
        while self._watched != newest and time.monotonic() < deadline:
            time.sleep(0.02)

    def _see(self, commit: happen.Commit) -> None:
        self._record.keep(
            "seen",
            time.monotonic(),
            node=commit.node,
            token=commit.after["token"],
            wrote=commit.revision,
            sequence=commit.sequence,
        )
        self._watched[commit.node] = commit.revision

    def _set(self, choose: random.Random, name: str) -> None:
        self._commit(choose, name, ())

    def _emit(self, choose: random.Random, name: str) -> None:
        self._commit(choose, name, choose.choices(list(self._nodes), k=choose.randint(1, 3)))

    def _commit(self, choose: random.Random, name: str, targets: Any) -> None:
        """Commit, and emit with it; some of the events have ids, so that they are stored in a batch."""
        node, token = self._nodes[name], f"{self._record.label}-{next(self._tokens)}"
        named = choose.random() < 0.2
        emitted: list[happen.Event] = []

        def step(state: Any) -> dict[str, Any]:
            emitted[:] = [
                node.broadcast(f"for.{target}", id=f"{token}-{number}" if named else None)
                for number, target in enumerate(targets)
            ]
            return {"n": state.get("n", 0) + 1, "token": token}

        began = time.monotonic()
        commit = node.state.set(step)
        self._record.keep(
            "set",
            began,
            node=name,
            seen={name: commit.before.get("n", 0)},
            token=token,
            wrote=commit.revision,
            sequence=commit.sequence,
        )
        for event in emitted:
            self._record.keep("broadcast", began, event=event.id, sequence=event.sequence or 0)

    def _get(self, _: random.Random, __: str) -> None:
        began = time.monotonic()
        self._record.keep("get", began, seen=self._look(self._space.views))

    def _look(self, views: happen.Views) -> dict[str, int]:
        return {name: n or 0 for name, n in views.collect(dict.fromkeys(self._nodes, "n"), default=0).items()}

    def _fresh(self, _: random.Random, name: str) -> None:
        began = time.monotonic()
        self._record.keep_read(began, name, self._nodes[name].state.get(fresh=True))

    def _broadcast(self, choose: random.Random, name: str) -> None:
        began = time.monotonic()
        event = self._nodes[choose.choice(list(self._nodes))].broadcast(f"for.{name}")
        self._record.keep("broadcast", began, event=event.id, sequence=event.sequence or 0)

    def _apply(self, name: str, state: Any, event: happen.Event, views: happen.Views) -> dict[str, Any]:
        """The state after an event for a node: how often it changed, by what, and what was seen by then."""
        seen = {each: n or 0 for each, n in self._look(views).items() if each != name}
        choose = random.Random(event.id)
        if len(event.path) < DEEPEST and event.payload != "last" and choose.random() < 0.5:
            for target in choose.choices(list(self._nodes), k=choose.randint(1, 2)):
                self._nodes[name].broadcast(f"for.{target}")
        return {"n": state.get("n", 0) + 1, "token": event.id, "seen": seen}

    def _handle(self, event: happen.Event, context: HandlerContext) -> None:
        began = time.monotonic()
        seen = self._look(context.views)
        choose = random.Random(f"{self._seed} {event.id}")
        if len(event.path) < DEEPEST and event.payload != "last" and choose.random() < 0.5:
            act = self._emit if choose.random() < 0.3 else self._set
            self._record.attempt(act, choose, context.node.name)
        self._record.keep(
            "handle", began, node=context.node.name, seen=seen, event=event.id, sequence=event.sequence
        )


def act_at_random(
    url: str,
    space: str,
    label: str,
    nodes: list[str],
    own: list[str],
    seed: int,
    path: str,
    times: int | None = None,
    *,
    applying: bool = False,
    **options: Any,
) -> None:
    """Act in threads, so many times or until told, then handle until told; the record goes to a file."""
    record = Record(label)
    stop = threading.Event()
    with happen.connect(url, name=space, **options) as connected:
        actor = Actor(connected, record, nodes, own, seed, applying=applying)
        wait_for_start()
        each = None if times is None else times // THREADS
        threads = [threading.Thread(target=actor.act, args=(thread, each, stop)) for thread in range(THREADS)]
        for thread in threads:
            thread.start()
        sys.stdin.readline()
        stop.set()
        for thread in threads:
            thread.join()
        report("acted")
        sys.stdin.readline()
        record.attempt(actor.wait_current)
        record.write(path)
    report(record.failed + [failure.traceback for failure in connected.failures])


def join_again_and_again(
    url: str, space: str, label: str, nodes: list[str], path: str, **options: Any
) -> None:
    """Connect, read everything, and close, until told; the record goes to a file."""
    failed: list[str] = []
    operations: list[Operation] = []
    stop = threading.Event()

    def join(record: Record) -> None:
        began = time.monotonic()
        with happen.connect(url, name=space, **options) as connected:
            states = {name: connected.create_node(name).state for name in nodes}
            for name, state in states.items():
                record.keep_read(began, name, state.get())
            name = random.Random(record.label).choice(nodes)
            read_began = time.monotonic()
            record.keep_read(read_began, name, states[name].get(fresh=True))
            read_began = time.monotonic()
            if history := states[name].history():
                record.keep_read(read_began, name, history[-1].after, wrote=len(history))
            read_began = time.monotonic()
            events = connected.events("for.**")
            record.keep(
                "events", read_began, wrote=len(events), sequence=events[-1].sequence if events else 0
            )

    def keep_joining() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            record = Record(f"{label}-{number}")
            record.attempt(join, record)
            operations.extend(record.operations)
            failed.extend(record.failed)

    wait_for_start()
    joining = threading.Thread(target=keep_joining)
    joining.start()
    sys.stdin.readline()
    stop.set()
    joining.join()
    report("acted")
    sys.stdin.readline()
    record = Record(label)
    record.operations = operations
    record.write(path)
    report(failed)


LOADS: dict[str, Callable[..., None]] = {
    load.__name__: load for load in (act_at_random, join_again_and_again)
}

if __name__ == "__main__":
    LOADS[sys.argv[1]](**json.loads(sys.argv[2]))
