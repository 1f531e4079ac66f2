"""Compare what many writers were told with what is stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import happen_nb as happen
from tests.guarantees.processes import Load, eventually


@dataclass
class Told:
    """The reports of the loads ``write_in_threads``, together."""

    commits: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)
    longest: float = 0.0

    @classmethod
    def by(cls, loads: list[Load]) -> Told:
        """End the loads, and gather their reports."""
        told = cls()
        for load in loads:
            load.say()
        for load in loads:
            told._add(load.hear())
        return told

    def _add(self, report: dict[str, Any]) -> None:
        for node, revision, token in report["acknowledged"]:
            self.commits[node].append((revision, token))
        self.failed += report["failed"]
        self.longest = max(self.longest, report["longest"])

    @property
    def count(self) -> int:
        """Return the number of acknowledged commits."""
        return sum(map(len, self.commits.values()))


def wait_for_each(space: happen.Space, loads: int, threads: int) -> None:
    """Wait until each thread of the loads ``w0``, ``w1``, ... has written its own node once more."""
    nodes = [f"w{load}-{number}" for load in range(loads) for number in range(threads)]
    states = {node: space.create_node(node).state for node in nodes}
    before = {node: state.revision for node, state in states.items()}

    def behind() -> list[str]:
        return [node for node, state in states.items() if state.revision == before[node]]

    eventually(lambda: not behind(), within=60.0, what=lambda: f"writers that do not go on: {behind()}")


def assert_stored_as_told(space: happen.Space, told: Told, what: str) -> None:
    """Check that what was acknowledged is stored, nothing else is, and no call failed."""
    assert told.failed == [], what
    stored = {
        node: [(commit.revision, commit.after["token"]) for commit in space.create_node(node).state.history()]
        for node in told.commits
    }
    for node, commits in told.commits.items():
        assert sorted(commits) == stored[node], f"{what}, {node}: {_difference(commits, stored[node])}"
        assert [revision for revision, _ in stored[node]] == list(range(1, len(stored[node]) + 1)), what


def _difference(told: list[tuple[int, str]], stored: list[tuple[int, str]]) -> str:
    lost, extra = Counter(told) - Counter(stored), Counter(stored) - Counter(told)
    return f"told and not stored {list(lost)[:5]}, stored and not told {list(extra)[:5]}"
