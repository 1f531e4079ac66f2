"""`set`, `aset` and `broadcast` of two checkouts side by side, turn by turn on one server.

Run it with ``python benchmarks/two_checkouts.py BEFORE AFTER``: two folders, each a checkout of this
repository (make the first one by ``git worktree add ../before COMMIT``). Each has a process of its own, which
works while the other one waits. The ratio is after / before; below 1 the one after is faster.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import report

WORKER = Path(__file__).with_name("checkout_worker.py")
ROUNDS, COUNT = 60, 40
WHAT = ("set", "aset", "set that emits", "broadcast", "broadcast to handler")


class Side:
    """A process that runs the library of one checkout."""

    def __init__(self, checkout, store, name):
        checkout = Path(checkout).resolve()
        assert (checkout / "happen_nb" / "__init__.py").is_file(), f"{checkout} is no checkout of happen_nb"
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(store), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )
        path = self._hear()
        assert Path(path).is_relative_to(checkout), f"{path} was imported, which is not of {checkout}"

    def _hear(self):
        line = self._process.stdout.readline()
        assert line, "the process of a checkout has ended; see its error above"
        return json.loads(line)

    def take_turn(self, what):
        """The median of some calls, in seconds."""
        self._process.stdin.write(json.dumps([what, COUNT]) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def end(self):
        self._process.stdin.close()
        self._process.wait(timeout=30)


def compare(before, after, rounds):
    for what in WHAT:
        pairs = []
        for turn in range(rounds + 1):
            sides = (after, before) if turn % 2 else (before, after)  # neither always comes first
            took = {side: side.take_turn(what) for side in sides}
            pairs.append((took[after], took[before]))
        report(what, pairs[1:], peer="before", ours="after")  # the first turn warms up


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, ".happen")
        before = Side(arguments.before, store, "before")
        try:
            after = Side(arguments.after, store, "after")
            compare(before, after, arguments.rounds)
            after.end()
        finally:
            before.end()


if __name__ == "__main__":
    main()
