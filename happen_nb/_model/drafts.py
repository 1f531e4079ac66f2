"""Drafts: edit a frozen state like a plain one, and get the next frozen state.

A draft is a dict or list that starts as a shallow copy of a frozen container. A part that is read becomes a
draft, too, and replaces the frozen part, so deep edits need no way back up. Other parts stay shared. C code
that reads or writes a draft directly, such as json and heapq, finds real parts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, Final, Self, SupportsIndex

from happen_nb._model.freeze import DRAFTS, as_state
from happen_nb._model.frozen import FrozenDict, FrozenList
from happen_nb._model.functions import (
    check_function,
    is_a,
    refuse_suspended,
    second_of_transform,
    takes_third,
    wrap,
)
from happen_nb._model.quoting import quote
from happen_nb.errors import FrozenStateError, StateError

_items: Final = dict.items
_update: Final = dict.update
_set_key: Final = dict.__setitem__
_set_item: Final = list.__setitem__


class _Session:
    """One run of an edit; its drafts can be used until it ends."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = True


def _delegate(method: Callable[..., Any]) -> Any:
    """Delegate to a method of dict or list that returns no part."""

    @wraps(method)
    def delegate(self: _Draft, *arguments: Any) -> Any:
        self._check_open()
        return method(self, *arguments)

    return delegate


def _delegate_drafted(method: Callable[..., Any]) -> Any:
    """Delegate to a method of dict or list that returns parts, which must be drafts."""

    @wraps(method)
    def delegate(self: DraftDict | DraftList, *arguments: Any, **options: Any) -> Any:
        return method(self._draft_all(), *arguments, **options)

    return delegate


class _Draft:
    """The common base of both kinds of drafts."""

    __slots__ = ()
    _original: FrozenDict | FrozenList
    _session: _Session

    def _check_open(self) -> None:
        if not self._session.open:
            raise FrozenStateError(
                "this draft was used after its transform had ended; copy what you need before, "
                "with copy.deepcopy(draft), or read the committed state"
            )

    def _adopt(self, value: Any) -> Any:
        """Return a draft of a frozen value, and any other value unchanged."""
        kind = type(value)
        if kind is FrozenDict:
            return DraftDict(value, self._session)
        if kind is FrozenList:
            return DraftList(value, self._session)
        return value

    def __eq__(self, other: object) -> bool:
        self._check_open()
        return self is other or super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # as of dict and list

    def __repr__(self) -> str:
        return super().__repr__() if self._session.open else f"<ended {type(self).__name__}>"

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return dict if isinstance(self, dict) else list, (copy.deepcopy(self),)


class DraftDict(_Draft, dict[Any, Any]):
    """A mapping being edited inside :func:`draft`: a ``dict`` whose frozen parts become drafts when read."""

    __slots__ = ("_drafted", "_original", "_session")

    def __init__(self, original: FrozenDict, session: _Session) -> None:
        _update(self, original)
        self._original = original
        self._session = session
        self._drafted = False  # True when it has no frozen part left

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)

    def _draft_all(self) -> Self:
        """Replace every frozen part by a draft."""
        self._check_open()
        if not self._drafted:
            for key, value in _items(self):
                if type(value) is FrozenDict or type(value) is FrozenList:
                    _set_key(self, key, self._adopt(value))
            self._drafted = True
        return self

    def _contents(self) -> tuple[dict[Any, Any], FrozenDict | FrozenList]:
        self._check_open()
        return dict(_items(self)), self._original

    __delitem__ = _delegate(dict.__delitem__)
    __contains__ = _delegate(dict.__contains__)
    __len__ = _delegate(dict.__len__)
    __iter__ = _delegate(dict.__iter__)  # being overridden, it makes ``dict(draft)`` call __getitem__
    __reversed__ = _delegate(dict.__reversed__)
    keys = _delegate(dict.keys)
    clear = _delegate(dict.clear)
    values = _delegate_drafted(dict.values)
    items = _delegate_drafted(dict.items)

    def __getitem__(self, key: Any) -> Any:
        self._check_open()
        value = dict.__getitem__(self, key)
        if type(value) is FrozenDict or type(value) is FrozenList:
            value = self._adopt(value)
            _set_key(self, key, value)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._check_open()
        _set_key(self, key, self._adopt(value))

    def get(self, key: Any, default: Any = None) -> Any:
        self._check_open()
        return self[key] if dict.__contains__(self, key) else default

    def pop(self, key: Any, *default: Any) -> Any:
        self._check_open()
        return self._adopt(dict.pop(self, key, *default))

    def popitem(self) -> tuple[Any, Any]:
        self._check_open()
        key, value = dict.popitem(self)
        return key, self._adopt(value)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, other: Any = (), /, **more: Any) -> None:
        self._check_open()
        if isinstance(other, Mapping) or hasattr(other, "keys"):
            _update(self, {key: self._adopt(other[key]) for key in other.keys()})  # noqa: SIM118
        else:
            _update(self, map(self._adopt_pair, other))
        _update(self, {key: self._adopt(value) for key, value in more.items()})

    def _adopt_pair(self, pair: Any) -> Any:
        match pair:
            case [key, value]:
                return key, self._adopt(value)
        return pair

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        self._check_open()
        result: dict[Any, Any] = {}
        memo[id(self)] = result
        result.update({key: copy.deepcopy(value, memo) for key, value in _items(self)})
        return result

    def __or__(self, other: Any) -> dict[Any, Any]:
        return self.copy() | _plain(other) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return _plain(other) | self.copy() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self


class DraftList(_Draft, list[Any]):
    """A list being edited inside :func:`draft`: a ``list`` whose frozen parts become drafts when read."""

    __slots__ = ("_original", "_session")

    def __init__(self, original: FrozenList, session: _Session) -> None:
        list.__init__(self, original)
        self._original = original
        self._session = session

    def _draft_all(self) -> Self:
        """Replace every frozen part by a draft."""
        self._check_open()
        for index, value in enumerate(list.__iter__(self)):
            if type(value) is FrozenDict or type(value) is FrozenList:
                _set_item(self, index, self._adopt(value))
        return self

    def _contents(self) -> tuple[list[Any], FrozenDict | FrozenList]:
        self._check_open()
        return list.copy(self), self._original

    def _adopt_all(self, values: Any) -> Any:
        if isinstance(values, list | tuple):
            return [self._adopt(value) for value in values]
        return map(self._adopt, values)

    __delitem__ = _delegate(list.__delitem__)
    __contains__ = _delegate(list.__contains__)
    __len__ = _delegate(list.__len__)
    remove = _delegate(list.remove)
    clear = _delegate(list.clear)
    index = _delegate(list.index)
    count = _delegate(list.count)
    reverse = _delegate(list.reverse)
    __lt__ = _delegate(list.__lt__)
    __le__ = _delegate(list.__le__)
    __gt__ = _delegate(list.__gt__)
    __ge__ = _delegate(list.__ge__)
    __iter__ = _delegate_drafted(list.__iter__)
    __reversed__ = _delegate_drafted(list.__reversed__)
    sort = _delegate_drafted(list.sort)
    copy = _delegate_drafted(list.copy)
    __copy__ = copy

    def __getitem__(self, index: Any) -> Any:
        self._check_open()
        value = list.__getitem__(self, index)
        if isinstance(index, slice):
            value = [self._adopt(item) for item in value]
            list.__setitem__(self, index, value)
        elif type(value) is FrozenDict or type(value) is FrozenList:
            value = self._adopt(value)
            list.__setitem__(self, index, value)
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        self._check_open()
        adopt = self._adopt_all if isinstance(index, slice) else self._adopt
        list.__setitem__(self, index, adopt(value))

    def append(self, value: Any) -> None:
        self._check_open()
        list.append(self, self._adopt(value))

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._check_open()
        list.insert(self, index, self._adopt(value))

    def extend(self, values: Iterable[Any]) -> None:
        self._check_open()
        list.extend(self, self._adopt_all(values))

    def pop(self, index: SupportsIndex = -1) -> Any:
        self._check_open()
        return self._adopt(list.pop(self, index))

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        self._check_open()
        result: list[Any] = []
        memo[id(self)] = result
        result.extend(copy.deepcopy(value, memo) for value in list.__iter__(self))
        return result

    def __add__(self, other: Any) -> list[Any]:
        return self.copy() + _plain(other) if isinstance(other, list) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return _plain(other) + self.copy() if isinstance(other, list) else NotImplemented

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]  # accepts more than __add__, as list
        self.extend(values)
        return self

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        result: list[Any] = self.copy() * times
        return result

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> Self:
        list.__imul__(self._draft_all(), times)
        return self


DRAFTS[DraftDict] = DraftDict._contents
DRAFTS[DraftList] = DraftList._contents


def _plain(value: Any) -> Any:
    """Return a plain copy of a draft, and any other value unchanged."""
    return value.copy() if isinstance(value, DraftDict | DraftList) else value


def draft(edit: Callable[..., Any]) -> Callable[..., FrozenDict]:
    """Make a transform from a function that edits the state in place.

    The function receives a draft, which behaves like a plain dict or list. Parts that it does not touch stay
    shared with the previous state. If nothing changes, the transform returns that state itself.

    Parameters
    ----------
    edit : callable
        ``edit(draft)`` or ``edit(draft, views)``; for ``state.on``, ``edit(draft, event)`` or
        ``edit(draft, event, views)``. It returns None or the draft.

    Returns
    -------
    callable
        A transform with the same parameters, for ``state.set`` or ``state.on``.

    Raises
    ------
    TypeError
        `edit` is not a function.
    TransformError
        The function is async or a generator.
    StateError
        When the transform runs: the function returned another value, created a cycle, or put a value without
        a JSON form into the draft.
    FrozenStateError
        A draft was used after its transform had ended.

    Examples
    --------
    >>> from happen_nb._model.freeze import freeze
    >>> @draft
    ... def ship(d):
    ...     d["orders"]["o1"]["status"] = "shipped"
    ...     d["log"].append("o1")
    >>> ship(freeze({"orders": {"o1": {"status": "new"}}, "log": []}))
    {'orders': {'o1': {'status': 'shipped'}}, 'log': ['o1']}
    """
    if not callable(edit):
        raise TypeError(f"draft: {quote(edit)} is not callable; pass a function that edits a draft in place")
    check_function(edit, "draft: the edit")

    def transform_with_event(state: Any, event: Any, views: Any) -> FrozenDict:
        return _edit(state, lambda root: edit(root, event, views))

    def transform(state: Any) -> FrozenDict:
        return _edit(state, edit)

    def transform_with_views(state: Any, views: Any) -> FrozenDict:
        if second == "keyword":
            return _edit(state, lambda root: edit(root, views=views))
        return _edit(state, lambda root: edit(root, views))

    if takes_third(edit):
        return wrap(transform_with_event, edit)
    second = second_of_transform(edit)
    return wrap(transform if second == "none" else transform_with_views, edit)


def _edit(state: Any, edit: Callable[[DraftDict], Any]) -> FrozenDict:
    session = _Session()
    root = DraftDict(as_state(state, "draft: the state"), session)
    try:
        result = edit(root)
        if result is not None and result is not root:
            refuse_suspended(result, "draft: the edit")
            returned = quote(result, 60)
            if is_a(result, _Draft):
                returned = f"a part of the draft ({returned})"
            raise StateError(
                f"draft: the edit returned {returned}; an edit changes the draft in place: "
                'remove the "return" (write a lambda that returns something as a def)'
            )
        return as_state(root, "draft: the edit")
    finally:
        session.open = False
