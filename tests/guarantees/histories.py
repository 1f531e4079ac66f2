"""Processes that act at random on a space, and whether what they did and saw may be."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import happen_nb as happen
from tests.guarantees.checker import Operation, Stored, check, longest
from tests.guarantees.history_work import DEEPEST
from tests.guarantees.processes import Load, Processes, start_together

log = logging.getLogger(__name__)

SCRIPT = "history_work.py"
PROBLEMS = 12


class History:
    """The random work of several processes, and the journal that it leaves.

    Parameters
    ----------
    space : Space
        The test's own connection; its space keeps all commits.
    processes : Processes
    folder : Path
        Where the processes write what they did.
    width : int
        How many nodes there are; each is owned by one of the processes.
    applying : bool
        Whether state handlers handle the events; then all processes have those of all nodes.
    """

    def __init__(
        self,
        space: happen.Space,
        processes: Processes,
        folder: Path,
        width: int,
        *,
        applying: bool = False,
    ) -> None:
        self.nodes = [f"n{number}" for number in range(width)]
        self.operations: list[Operation] = []
        self.journal: list[Stored] = []
        self._applying = applying
        self._space = space
        self._processes = processes
        self._folder = folder
        self._loads: list[tuple[Load, Path]] = []

    def act(self, urls: Sequence[str], seed: int, times: int | None = None, **options: Any) -> None:
        """Start a process for each URL; they act so many times together, or until `finish`."""
        for number, url in enumerate(urls):
            self._add(
                "act_at_random",
                f"p{number}",
                url=url,
                own=self.nodes if self._applying else self.nodes[number :: len(urls)],
                applying=self._applying,
                times=None if times is None else times // len(urls),
                seed=seed + number,
                **options,
            )
        start_together([load for load, _ in self._loads])

    def join(self, url: str, **options: Any) -> None:
        """Start a process that connects again and again, until `finish`."""
        label = f"j{len(self._loads)}"
        self._add("join_again_and_again", label, url=url, **options)
        start_together([self._loads[-1][0]])

    def _add(self, load: str, label: str, **arguments: Any) -> None:
        path = self._folder / f"record-{label}"
        arguments |= {"space": self._space.name, "label": label, "nodes": self.nodes, "path": str(path)}
        self._loads.append((self._processes.load(load, SCRIPT, **arguments), path))

    def finish(self, within: float = 30.0) -> str:
        """End the processes; says what failed, and what is wrong with what they did and saw."""
        for load, _ in self._loads:
            load.say()
        for load, _ in self._loads:
            assert load.hear(within) == "acted"
        problems = self._await_all_handled(within)
        for load, path in self._loads:
            load.say()
            problems += load.hear(within)
            self.operations += [Operation(**json.loads(line)) for line in path.read_text().splitlines()]
        slowest = longest(self.operations)
        counts = dict(Counter(op.kind for op in self.operations))
        log.info("%s, longest call %.2f s: %s", counts, slowest.ended - slowest.began, slowest)
        self.journal = stored(self._space)
        found = check(self.operations, self.journal, applying=self._applying)
        return "\n".join(problems[:PROBLEMS] + found)

    def _await_all_handled(self, within: float) -> list[str]:
        """Each node handles in order, so all before the last event is handled, and what that caused."""
        deadline = time.monotonic() + within
        try:
            for _ in range(DEEPEST + 1):
                for event in [self._space.broadcast(f"for.{node}", "last") for node in self.nodes]:
                    event.settle(timeout=max(0.1, deadline - time.monotonic()))
        except happen.HappenError as error:
            return [f"not all is handled: {error}"]
        return []


def stored(space: happen.Space) -> list[Stored]:
    """All that is stored, in its order."""
    commits = [
        Stored(
            (commit.sequence, -1),
            commit.node,
            commit.revision,
            commit.after["token"],
            cause=commit.cause,
            seen=commit.after.get("seen", {}),
        )
        for node in space.views
        for commit in space.create_node(node).state.history()
    ]
    events = [
        Stored(
            (event.sequence or 0, event.index),
            event.sender,
            event=event.id,
            target=event.type.removeprefix("for."),
            cause=event.cause,
        )
        for event in space.events("for.*")
    ]
    return sorted(commits + events, key=lambda entry: entry.place)
