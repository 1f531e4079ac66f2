"""The changes between two frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, overload

from happen_nb._model.frozen import Frozen, equal
from happen_nb._model.paths import MISSING, Steps


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: a part was added, removed, or changed.

    A list index in the path refers to the new list for an addition, to the old one for a removal, and to
    both for a change.

    Attributes
    ----------
    op : "add", "remove" or "change"
    path : tuple of str and int
        The place; ``()`` if the whole value was replaced.
    before, after
        The frozen parts; ``None`` before an addition and after a removal.
    """

    op: Literal["add", "remove", "change"]
    path: Steps
    before: Frozen
    after: Frozen


class Diff(tuple[Change, ...]):
    """The changes between two values, in the order of the new one, removals last; empty if they are equal.

    A slice of it is a `Diff` too.
    """

    __slots__ = ()

    @overload
    def __getitem__(self, index: SupportsIndex) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> Diff: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Change | Diff:
        found = super().__getitem__(index)
        return Diff(found) if isinstance(found, tuple) else found


def diff(a: Frozen, b: Frozen) -> Diff:
    """Return the changes from ``a`` to ``b``.

    Shared parts are skipped without comparing their contents. In lists of different length, equal items at
    the start and the end are set aside, and the items between are compared in pairs.

    Examples
    --------
    >>> from happen_nb._model.freeze import freeze
    >>> old = freeze({"orders": {"o1": {"status": "new"}}, "log": ["a", "c"]})
    >>> new = freeze({"orders": {"o1": {"status": "paid"}}, "log": ["a", "b", "c"]})
    >>> for change in diff(old, new):
    ...     print(change.op, change.path, change.before, "->", change.after)
    change ('orders', 'o1', 'status') new -> paid
    add ('log', 1) None -> b
    """
    changes: list[Change] = []
    _compare(a, b, (), changes)
    return Diff(changes)


def _compare(a: Any, b: Any, path: Steps, changes: list[Change]) -> None:
    if isinstance(a, dict) and isinstance(b, dict):
        _compare_dicts(a, b, path, changes)
    elif isinstance(a, list) and isinstance(b, list):
        _compare_lists(a, b, path, changes)
    elif not equal(a, b):
        changes.append(Change("change", path, a, b))


def _compare_dicts(a: dict[str, Any], b: dict[str, Any], path: Steps, changes: list[Change]) -> None:
    read = a.get
    kept = len(b)
    for key, after in b.items():
        before = read(key, MISSING)
        if before is after:
            continue
        if before is MISSING:
            kept -= 1
            changes.append(Change("add", (*path, key), None, after))
        else:
            _compare(before, after, (*path, key), changes)
    if kept < len(a):
        for key, before in a.items():
            if key not in b:
                changes.append(Change("remove", (*path, key), before, None))


def _compare_lists(a: list[Any], b: list[Any], path: Steps, changes: list[Change]) -> None:
    start, end_a, end_b = _differing_span(a, b)
    pairs_end = min(end_a, end_b)
    for index in range(start, pairs_end):
        if a[index] is not b[index]:
            _compare(a[index], b[index], (*path, index), changes)
    changes += [Change("add", (*path, index), None, b[index]) for index in range(pairs_end, end_b)]
    changes += [Change("remove", (*path, index), a[index], None) for index in range(pairs_end, end_a)]


def _differing_span(a: list[Any], b: list[Any]) -> tuple[int, int, int]:
    """Return the length of the common start, and where the common end starts in each list."""
    end_a, end_b = len(a), len(b)
    if end_a == end_b:
        return 0, end_a, end_b
    start, shorter = 0, min(end_a, end_b)
    while start < shorter and equal(a[start], b[start]):
        start += 1
    while end_a > start and end_b > start and equal(a[end_a - 1], b[end_b - 1]):
        end_a -= 1
        end_b -= 1
    return start, end_a, end_b
