"""`state.set` of 1 kB on the embedded server in memory, on disk, with `sync="always"`, and on three servers.

Run it with ``python benchmarks/stores.py``. All four are there at once and take turns. The three
servers run on this machine, with `replicas=3`; each store is a folder of the working directory's disk.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from side_by_side import median, report

import happen_nb as happen

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.guarantees.servers import Cluster

BODY = {"open": 0, "pad": "x" * 900, "nested": {"list": [1, 2, 3]}}
ROUNDS, COUNT = 20, 50
DISK = "on disk"


def count_up(state):
    return {**state, "open": state["open"] + 1}


def states(stack):
    """A state in each kind of store."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".", prefix=".stores-")))
    cluster = Cluster(folder.absolute() / "cluster").start()
    stack.callback(cluster.kill)
    places = {
        DISK: {"store": folder / "plain"},
        "in memory": {"store": ":memory:"},
        'sync="always"': {"store": folder / "always", "sync": "always"},
        "replicas=3": {"servers": cluster.url, "replicas": 3},
    }
    for what, where in places.items():
        space = stack.enter_context(happen.connect(name="benchmark", **where))
        yield what, space.create_node("orders", initial=BODY).state


def main():
    with ExitStack() as stack:
        kinds = dict(states(stack))
        times = {what: [] for what in kinds}
        for _ in range(ROUNDS + 1):
            for what, state in kinds.items():
                times[what].append(median(lambda state=state: state.set(count_up), COUNT))
        on_disk = times.pop(DISK)
        for what, found in times.items():
            report(what, list(zip(found, on_disk, strict=True))[1:], peer=DISK)  # the first turn warms up


if __name__ == "__main__":
    main()
