"""Records of commits that several threads read at the same time."""

from __future__ import annotations

import sys
from itertools import count
from types import FrameType
from typing import Any

from happen_nb._model.frozen import FrozenDict
from happen_nb._model.records import CommitRecord


def read_twice(line: int) -> tuple[FrozenDict, FrozenDict | None]:
    """Return the state of the first read, and of a second one just before the first reaches a line."""
    record = CommitRecord("orders", 1, 1, 0, b'{"open": 3}')
    lines, between = count(1), None

    def trace(_: FrameType, event: str, __: Any) -> Any:
        nonlocal between
        if event == "line" and next(lines) == line:
            between = record.state
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return record.state, between
    finally:
        sys.settrace(before)


def test_concurrent_first_reads_of_a_state_return_it() -> None:
    for line in count(1):
        seen, between = read_twice(line)
        assert seen == {"open": 3}
        if between is None:
            break
        assert between == seen
    assert line > 5  # there were lines to come between
