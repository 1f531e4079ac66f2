"""What changed between two frozen values, and how to make the same change again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, overload

from happen_nb._model.freeze import freeze
from happen_nb._model.frozen import Frozen, FrozenDict, FrozenList, equal, unchecked_dict, unchecked_list
from happen_nb._model.paths import MISSING, Steps, format_path
from happen_nb.errors import PathError


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: something was added, removed, or changed.

    A list index in the path of an addition counts in the new list, that of a removal in the old one; the
    index of anything that is in both is the same in both.

    Attributes
    ----------
    op : "add", "remove" or "change"
    path : tuple of str and int
        Where; ``()`` if the whole value was replaced.
    before, after
        The frozen parts; ``None`` where there is none (before an addition, after a removal).
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
    """Find what changed from ``a`` to ``b``.

    Parts that both share are skipped without a look inside. In a list, what is equal at its beginning and its
    end is set aside, and the items between are compared in pairs.

    Examples
    --------
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
    """Where two lists differ: the common start, and where the common ending begins in each."""
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


def apply(changes: Iterable[Change], a: Frozen) -> Frozen:
    """Make the changes of a diff to ``a``; what they do not touch is shared.

    ``equal(apply(diff(a, b), a), b)`` holds for all frozen ``a`` and ``b``.

    Raises
    ------
    PathError
        A change is about a part that ``a`` does not have.

    Examples
    --------
    >>> old, new = freeze({"n": 1, "log": [1, 2]}), freeze({"log": [2], "m": 1})
    >>> apply(diff(old, new), old)
    {'log': [2], 'm': 1}
    """
    result: Frozen = _rebuilt(a, list(changes), 0)
    return result


def _rebuilt(value: Any, changes: list[Change], depth: int) -> Any:
    """``value`` with the changes made, whose paths all lead to it with their first ``depth`` steps."""
    if not changes:
        return value
    if len(changes[0].path) == depth:
        return freeze(changes[0].after)
    if isinstance(value, dict):
        return _rebuilt_dict(value, changes, depth)
    if isinstance(value, list):
        return _rebuilt_list(value, changes, depth)
    raise _misfit(changes[0], depth)


def _rebuilt_dict(value: dict[str, Any], changes: list[Change], depth: int) -> FrozenDict:
    items = value.copy()
    for step, inner in _by_step(changes, depth).items():
        change = inner[0]
        if not isinstance(step, str) or (step in items) is _is_here(change, "add", depth):
            raise _misfit(change, depth)
        if _is_here(change, "add", depth):
            items[step] = freeze(change.after)
        elif _is_here(change, "remove", depth):
            del items[step]
        else:
            items[step] = _rebuilt(items[step], inner, depth + 1)
    return unchecked_dict(items)


def _rebuilt_list(value: list[Any], changes: list[Change], depth: int) -> FrozenList:
    items = value.copy()
    added = [change for change in changes if _is_here(change, "add", depth)]
    removed = [change for change in changes if _is_here(change, "remove", depth)]
    kept = [change for change in changes if change.op == "change" or len(change.path) > depth + 1]
    for inner in _by_step(kept, depth).values():
        index = _index(inner[0], len(items), depth)
        items[index] = _rebuilt(items[index], inner, depth + 1)
    for change in sorted(removed, key=lambda change: _index(change, len(value), depth), reverse=True):
        del items[_index(change, len(items), depth)]
    longest = len(items) + len(added)
    for change in sorted(added, key=lambda change: _index(change, longest, depth)):
        items.insert(_index(change, len(items) + 1, depth), freeze(change.after))
    return unchecked_list(items)


def _is_here(change: Change, op: str, depth: int) -> bool:
    """Whether a change adds or removes a direct part of the value at this depth."""
    return change.op == op and len(change.path) == depth + 1


def _by_step(changes: list[Change], depth: int) -> dict[str | int, list[Change]]:
    groups: dict[str | int, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.path[depth], []).append(change)
    return groups


def _index(change: Change, length: int, depth: int) -> int:
    step = change.path[depth]
    if not isinstance(step, int) or not 0 <= step < length:
        raise _misfit(change, depth)
    return step


def _misfit(change: Change, depth: int) -> PathError:
    where = format_path(change.path[: depth + 1])
    return PathError(
        f'the diff does not fit this value: it has an "{change.op}" at {where}, which is not possible'
    )
