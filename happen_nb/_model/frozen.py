"""Frozen containers, a read-only dict and list, so that states can be shared; and the changes between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, SupportsIndex, TypeAlias, TypeGuard, overload

from happen_nb._model.paths import MISSING, Steps
from happen_nb.errors import FrozenStateError

_REMEDY: Final = (
    "it belongs to a stored state that all readers share. In a transform, return a new value, such as "
    '{**state, "key": value}, [*items, item] or happen.put("path.to.part", value)(state), or edit a draft '
    "with happen.draft"
)


def _refuse(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    kind = "mapping" if isinstance(self, dict) else "list"
    raise FrozenStateError(f"this {kind} is read-only: {_REMEDY}")


class FrozenDict(dict[str, Any]):
    """A mapping of a stored state: a ``dict`` that is read-only.

    Its values are frozen, too. ``|``, ``copy()`` and ``copy.copy`` return a plain ``dict`` whose values are
    still frozen; ``copy.deepcopy`` and ``pickle`` return plain mutable containers at all levels. The next
    ``state.set`` detects and undoes changes by C code that does not call methods, such as
    ``dict.update(state, ...)``.

    Examples
    --------
    >>> from happen_nb._model.freeze import freeze
    >>> state = freeze({"stock": {"apples": 3}})
    >>> state["stock"]["apples"] = 2
    Traceback (most recent call last):
    ...
    happen_nb.errors.FrozenStateError: this mapping is read-only: it belongs to a stored state ...
    >>> {**state, "stock": state["stock"] | {"apples": 2}}
    {'stock': {'apples': 2}}
    """

    __slots__ = ()

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise FrozenStateError(
            "a frozen mapping is created by storing one, not by calling its class: use dict(...)"
        )

    __setitem__ = __delitem__ = __ior__ = __setattr__ = __delattr__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __copy__(self) -> dict[str, Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return _thaw_dict(self)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return dict, (_thaw_dict(self),)


class FrozenList(list[Any]):
    """A list of a stored state: a ``list`` that is read-only.

    Its items are frozen, too. Slices, ``+``, ``*``, ``copy()`` and ``copy.copy`` return a plain ``list``
    whose items are still frozen; ``copy.deepcopy`` and ``pickle`` return plain mutable containers at all
    levels.
    The next ``state.set`` detects and undoes changes by C code that does not call methods, such as ``heapq``.

    Examples
    --------
    >>> from happen_nb._model.freeze import freeze
    >>> items = freeze([1, 2, 3])
    >>> items[1:] + [4]
    [2, 3, 4]
    >>> items.append(4)
    Traceback (most recent call last):
    ...
    happen_nb.errors.FrozenStateError: this list is read-only: it belongs to a stored state ...
    """

    __slots__ = ()

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise FrozenStateError(
            "a frozen list is created by storing one, not by calling its class: use list(...)"
        )

    __setitem__ = __delitem__ = __iadd__ = __imul__ = __setattr__ = __delattr__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __copy__(self) -> list[Any]:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return _thaw_list(self)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return list, (_thaw_list(self),)


Frozen: TypeAlias = bool | int | float | str | FrozenDict | FrozenList | None

_CONTAINERS: Final = (dict, list)
_new_dict = dict.__new__
_fill_dict = dict.update
_new_list = list.__new__
_fill_list = list.extend


def unchecked_dict(items: dict[str, Any]) -> FrozenDict:
    """Create a frozen mapping from items that are frozen already; for this package only."""
    result: FrozenDict = _new_dict(FrozenDict)
    _fill_dict(result, items)
    return result


def unchecked_list(items: list[Any]) -> FrozenList:
    """Create a frozen list from items that are frozen already; for this package only."""
    result: FrozenList = _new_list(FrozenList)
    _fill_list(result, items)
    return result


def is_number(value: object) -> TypeGuard[int | float]:
    """Return True for a number of JSON; a bool is not one."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def thaw(value: Any) -> Any:
    """Copy a frozen value into plain mutable containers at all levels."""
    if isinstance(value, dict):
        return _thaw_dict(value)
    if isinstance(value, list):
        return _thaw_list(value)
    return value


def _thaw_dict(value: dict[str, Any]) -> dict[str, Any]:
    result = value.copy()  # plain, also for a frozen one
    for key, child in result.items():
        if isinstance(child, _CONTAINERS):
            result[key] = thaw(child)
    return result


def _thaw_list(value: list[Any]) -> list[Any]:
    result = value.copy()
    for index, child in enumerate(result):
        if isinstance(child, _CONTAINERS):
            result[index] = thaw(child)
    return result


def equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal as JSON: ``True``, ``1`` and ``1.0`` differ, key order is ignored.

    Shared parts are skipped, so comparing two revisions costs time for the changed parts only.
    """
    if a is b:
        return True
    if isinstance(a, dict):
        return isinstance(b, dict) and _equal_dicts(a, b)
    if isinstance(a, list):
        return isinstance(b, list) and _equal_lists(a, b)
    return type(a) is type(b) and bool(a == b)


def _equal_dicts(a: dict[str, Any], b: dict[str, Any]) -> bool:
    if len(a) != len(b):
        return False
    read = b.get
    for key, value in a.items():
        other = read(key)
        if other is value:
            if value is None and key not in b:
                return False
        elif not equal(value, other):
            return False
    return True


def _equal_lists(a: list[Any], b: list[Any]) -> bool:
    if len(a) != len(b):
        return False
    for value, other in zip(a, b, strict=True):
        if other is not value and not equal(value, other):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Change:
    """A difference between two values: a part that was added, removed or changed.

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
