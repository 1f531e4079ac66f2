"""A load that does random things and keeps a record of all it did and saw, for ``checker.py``.

See ``work.py`` for how it is run. Every state carries its own revision as ``n``, and a ``token`` that names
who wrote it. The events ``for.<node>`` are handled by that node alone.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import happen_nb as happen
from happen_nb.handlers import HandlerContext
from tests.guarantees.checker import Operation
from tests.guarantees.work import report, wait_for_start

THREADS = 2
DEEPEST = 4
"""Events, one caused by the other, until a handler causes no more."""
ACTS = ("set",) * 6 + ("emit",) * 3 + ("get",) * 4 + ("fresh",) * 2 + ("broadcast",) * 5


class Actor:
    """Does random things, in its threads and in the handlers of its nodes."""

    def __init__(self, space: happen.Space, label: str, nodes: list[str], own: list[str], seed: int) -> None:
        self.record: list[Operation] = []
        self._space = space
        self._label = label
        self._seed = seed
        self._tokens = itertools.count(1)
        self._nodes = {name: space.create_node(name) for name in nodes}
        for name in own:
            self._nodes[name].on(f"for.{name}", self._handle)

    def act(self, thread: int, times: int) -> None:
        """So many random things, one after the other."""
        choose = random.Random(f"{self._seed} {thread}")
        for _ in range(times):
            getattr(self, f"_{choose.choice(ACTS)}")(choose, choose.choice(list(self._nodes)))

    def _keep(self, kind: str, began: float, **what: Any) -> None:
        self.record.append(Operation(kind, self._label, began, time.monotonic(), **what))

    def _set(self, choose: random.Random, name: str) -> None:
        self._commit(choose, name, ())

    def _emit(self, choose: random.Random, name: str) -> None:
        self._commit(choose, name, choose.choices(list(self._nodes), k=choose.randint(1, 3)))

    def _commit(self, choose: random.Random, name: str, targets: Any) -> None:
        """Commit, and emit with it; some of the events have ids, so that they are stored in a batch."""
        node, token = self._nodes[name], f"{self._label}-{next(self._tokens)}"
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
        self._keep(
            "set",
            began,
            node=name,
            seen={name: commit.before.get("n", 0)},
            token=token,
            wrote=commit.revision,
            sequence=commit.sequence,
        )
        for event in emitted:
            self._keep("broadcast", began, event=event.id, sequence=event.sequence)

    def _get(self, _: random.Random, __: str) -> None:
        began = time.monotonic()
        self._keep("get", began, seen=self._look(self._space.views))

    def _look(self, views: happen.Views) -> dict[str, int]:
        return {name: n or 0 for name, n in views.collect(dict.fromkeys(self._nodes, "n"), default=0).items()}

    def _fresh(self, _: random.Random, name: str) -> None:
        began = time.monotonic()
        state = self._nodes[name].state.get(fresh=True)
        self._keep("fresh", began, node=name, seen={name: state.get("n", 0)}, token=state.get("token", ""))

    def _broadcast(self, choose: random.Random, name: str) -> None:
        began = time.monotonic()
        event = self._nodes[choose.choice(list(self._nodes))].broadcast(f"for.{name}")
        self._keep("broadcast", began, event=event.id, sequence=event.sequence)

    def _handle(self, event: happen.Event, context: HandlerContext) -> None:
        began = time.monotonic()
        seen = self._look(context.views)
        choose = random.Random(f"{self._seed} {event.id}")
        if len(event.path) < DEEPEST and event.payload != "last" and choose.random() < 0.5:
            (self._emit if choose.random() < 0.3 else self._set)(choose, context.node.name)
        self._keep(
            "handle", began, node=context.node.name, seen=seen, event=event.id, sequence=event.sequence
        )


def act_at_random(
    url: str, space: str, label: str, nodes: list[str], own: list[str], times: int, seed: int, path: str
) -> None:
    """Do it in threads, and keep handling until told to stop; the record goes to a file."""
    with happen.connect(url, name=space, timeout=60) as connected:
        actor = Actor(connected, label, nodes, own, seed)
        wait_for_start()
        threads = [
            threading.Thread(target=actor.act, args=(number, times // THREADS)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report("acted")
        sys.stdin.readline()
        Path(path).write_text("\n".join(json.dumps(asdict(op)) for op in actor.record))
    report([failure.traceback for failure in connected.failures])


if __name__ == "__main__":
    act_at_random(**json.loads(sys.argv[2]))
