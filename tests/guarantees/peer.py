"""A second process that does what it is told: one JSON request a line in, one answer a line out.

``{"do": "add", "node": "n"}`` is answered by ``{"ok": ...}``, or ``{"error": class, "text": message}``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import happen_nb as happen


class Peer:
    """The requests to a peer: each public method is one."""

    def __init__(self) -> None:
        self._space: happen.Space
        self._seen: list[tuple[str, int, int]] = []

    def connect(self, url: str, name: str, **options: Any) -> int:
        self._space = happen.connect(url, name=name, **options)
        return os.getpid()

    def close(self) -> None:
        self._space.close()

    def create(self, node: str, initial: dict[str, Any]) -> dict[str, Any]:
        return dict(self._space.create_node(node, initial=initial).state.get())

    def set(self, node: str, value: dict[str, Any]) -> int:
        return self._node(node).state.set(value).revision

    def add(self, node: str, times: int = 1) -> list[int]:
        """Count `node` up; its revision and count afterwards."""
        for _ in range(times):
            commit = self._node(node).state.set(lambda s: {**s, "n": s.get("n", 0) + 1})
        return [commit.revision, commit.after["n"]]

    def get(self, node: str, *, fresh: bool = False) -> dict[str, Any]:
        return dict(self._node(node).state.get(fresh=fresh))

    def size(self, node: str) -> int:
        """Return the bytes of a state as JSON."""
        return len(json.dumps(self._node(node).state.get()))

    def states(self) -> dict[str, Any]:
        """Revision and state of every node that has a commit."""
        return states(self._space)

    def watch(self, node: str) -> None:
        self._node(node).state.watch(lambda c: self._seen.append((c.node, c.revision, c.sequence)))

    def watched(self) -> list[tuple[str, int, int]]:
        """Node, revision and sequence of what the watches were called with so far."""
        return list(self._seen)

    def failures(self) -> list[str]:
        return [failure.traceback for failure in self._space.failures]

    def clear(self, *, force: bool = False) -> None:
        self._space.clear(force=force)

    def cancel_scheduled(self) -> int:
        return self._space.scheduled.cancel()

    def drop(self) -> None:
        self._space.drop()

    def go_off_call(self, node: str, other: str, *, serializable: bool, hold: bool = False) -> int:
        """Go home if the other doctor stays; returns how often the transform ran.

        With `hold` its first run says so, and waits for a line before it ends.
        """
        runs = 0

        def leave(state: Any, views: happen.Views) -> Any:
            nonlocal runs
            runs += 1
            stays = views[other].get("on_call")
            if hold and runs == 1:
                answer({"ok": "holding"})
                sys.stdin.readline()
            return {**state, "on_call": False} if stays else state

        self._node(node).state.set(leave, serializable=serializable)
        return runs

    def _node(self, name: str) -> happen.Node:
        return self._space.create_node(name)


def states(space: happen.Space) -> dict[str, Any]:
    """Revision and state of every node that has a commit."""
    stored = [(name, view) for name, view in space.views.items() if view.revision]
    return {name: [view.revision, dict(view.get())] for name, view in stored}


def answer(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(peer: Peer) -> None:
    while line := sys.stdin.readline():
        request = json.loads(line)
        try:
            result = getattr(peer, request.pop("do"))(**request)
        except Exception as error:
            answer({"error": type(error).__name__, "text": str(error)})
        else:
            answer({"ok": result})


if __name__ == "__main__":
    main(Peer())
