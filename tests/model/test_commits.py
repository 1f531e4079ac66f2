"""Records of commits, as threads look at them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from happen_nb.model.commits import CommitRecord

THREADS = 4
RECORDS = 2000


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns all the time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
def test_threads_that_look_at_a_state_for_the_first_time_all_see_it() -> None:
    records = [CommitRecord("orders", n, n, 0, b'{"n": %d}' % n) for n in range(1, RECORDS + 1)]
    together = threading.Barrier(THREADS)
    seen: list[list[object]] = [[] for _ in range(THREADS)]

    def look(into: list[object]) -> None:
        together.wait()
        into += [record.state["n"] if record.readable else "unreadable" for record in records]

    threads = [threading.Thread(target=look, args=(into,)) for into in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [list(range(1, RECORDS + 1))] * THREADS
