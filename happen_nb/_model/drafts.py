"""Drafts: edit a frozen state as if it were plain, and get the next frozen state.

A draft is a dict or list that begins as a shallow copy of one frozen container. What is read from it becomes
a draft too and takes the place of the frozen part in it, so edits deep inside need no way back up. What was
never read stays shared. C code that reads or writes it directly, such as json and heapq, finds real parts.
"""

# The methods are those of dict and list, and documented there:

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Self, SupportsIndex

from happen_nb._model.freeze import DRAFTS, as_state
from happen_nb._model.frozen import FrozenDict, FrozenList
from happen_nb._model.functions import check_function, refuse_suspended, takes_second, takes_third
from happen_nb._model.quoting import quote
from happen_nb.errors import FrozenStateError, StateError

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values

_items: Final = dict.items
_update: Final = dict.update
_set_key: Final = dict.__setitem__
_set_item: Final = list.__setitem__


class _Session:
    """One run of an edit; its drafts are of use until it ends."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = True


class _Draft:
    """What both kinds of drafts share: what it was made from, and the session."""

    __slots__ = ()
    _original: FrozenDict | FrozenList
    _session: _Session

    def _open(self) -> None:
        """Make sure that the transform still runs."""
        if not self._session.open:
            raise FrozenStateError(
                "this draft was used after its transform had ended; take what you need out of it before, "
                "as copy.deepcopy(draft), or read the committed state"
            )

    def _adopt(self, value: Any) -> Any:
        """What to hold for a value: a draft of a frozen one, anything else as it is."""
        kind = type(value)
        if kind is FrozenDict:
            return DraftDict(value, self._session)
        if kind is FrozenList:
            return DraftList(value, self._session)
        return value

    def _ended(self) -> str:
        return f"<{type(self).__name__} whose transform has ended>"


class DraftDict(_Draft, dict[Any, Any]):
    """A mapping being edited inside :func:`draft`: a ``dict`` whose frozen parts become drafts when read."""

    __slots__ = ("_drafted", "_original", "_session")
    __hash__ = None

    def __init__(self, original: FrozenDict, session: _Session) -> None:
        _update(self, original)
        self._original = original
        self._session = session
        self._drafted = False  # whether no frozen part is left in it

    @classmethod
    def fromkeys(cls, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)

    def _draft_all(self) -> Self:
        """Put a draft in the place of every frozen part."""
        self._open()
        if not self._drafted:
            for key, value in _items(self):
                if type(value) is FrozenDict or type(value) is FrozenList:
                    _set_key(self, key, self._adopt(value))
            self._drafted = True
        return self

    def _parts(self) -> tuple[dict[Any, Any], FrozenDict | FrozenList]:
        self._open()
        return dict(_items(self)), self._original

    def __getitem__(self, key: Any) -> Any:
        self._open()
        value = dict.__getitem__(self, key)
        if type(value) is FrozenDict or type(value) is FrozenList:
            value = self._adopt(value)
            _set_key(self, key, value)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._open()
        _set_key(self, key, self._adopt(value))

    def __delitem__(self, key: Any) -> None:
        self._open()
        dict.__delitem__(self, key)

    def __contains__(self, key: object) -> bool:
        self._open()
        return dict.__contains__(self, key)

    def __len__(self) -> int:
        self._open()
        return dict.__len__(self)

    def __iter__(self) -> Iterator[Any]:  # also makes ``dict(draft)`` read the parts by __getitem__
        self._open()
        return dict.__iter__(self)

    def __reversed__(self) -> Iterator[Any]:
        self._open()
        return dict.__reversed__(self)

    def keys(self) -> dict_keys[Any, Any]:
        self._open()
        return dict.keys(self)

    def values(self) -> dict_values[Any, Any]:
        return dict.values(self._draft_all())

    def items(self) -> dict_items[Any, Any]:
        return dict.items(self._draft_all())

    def get(self, key: Any, default: Any = None) -> Any:
        self._open()
        return self[key] if dict.__contains__(self, key) else default

    def pop(self, key: Any, *default: Any) -> Any:
        self._open()
        return self._adopt(dict.pop(self, key, *default))

    def popitem(self) -> tuple[Any, Any]:
        self._open()
        key, value = dict.popitem(self)
        return key, self._adopt(value)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, other: Any = (), /, **more: Any) -> None:
        self._open()
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

    def clear(self) -> None:
        self._open()
        dict.clear(self)

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        self._open()
        result: dict[Any, Any] = {}
        memo[id(self)] = result
        result.update({key: copy.deepcopy(value, memo) for key, value in _items(self)})
        return result

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return dict, (copy.deepcopy(self),)

    def __repr__(self) -> str:
        return dict.__repr__(self) if self._session.open else self._ended()

    def __or__(self, other: Any) -> dict[Any, Any]:
        return self.copy() | _plain(other) if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> dict[Any, Any]:
        return _plain(other) | self.copy() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        self._open()
        return self is other or dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


class DraftList(_Draft, list[Any]):
    """A list being edited inside :func:`draft`: a ``list`` whose frozen parts become drafts when read."""

    __slots__ = ("_original", "_session")
    __hash__ = None

    def __init__(self, original: FrozenList, session: _Session) -> None:
        list.__init__(self, original)
        self._original = original
        self._session = session

    def _draft_all(self) -> Self:
        """Put a draft in the place of every frozen part."""
        self._open()
        for index, value in enumerate(list.__iter__(self)):
            if type(value) is FrozenDict or type(value) is FrozenList:
                _set_item(self, index, self._adopt(value))
        return self

    def _parts(self) -> tuple[list[Any], FrozenDict | FrozenList]:
        self._open()
        return list.copy(self), self._original

    def _adopted(self, values: Any) -> Any:
        if isinstance(values, list | tuple):
            return [self._adopt(value) for value in values]
        return map(self._adopt, values)

    def __getitem__(self, index: Any) -> Any:
        self._open()
        value = list.__getitem__(self, index)
        if isinstance(index, slice):
            value = [self._adopt(item) for item in value]
            list.__setitem__(self, index, value)
        elif type(value) is FrozenDict or type(value) is FrozenList:
            value = self._adopt(value)
            list.__setitem__(self, index, value)
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        self._open()
        list.__setitem__(
            self, index, self._adopted(value) if isinstance(index, slice) else self._adopt(value)
        )

    def __delitem__(self, index: Any) -> None:
        self._open()
        list.__delitem__(self, index)

    def __contains__(self, value: object) -> bool:
        self._open()
        return list.__contains__(self, value)

    def __len__(self) -> int:
        self._open()
        return list.__len__(self)

    def __iter__(self) -> Iterator[Any]:
        return list.__iter__(self._draft_all())

    def __reversed__(self) -> Iterator[Any]:
        return list.__reversed__(self._draft_all())

    def append(self, value: Any) -> None:
        self._open()
        list.append(self, self._adopt(value))

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._open()
        list.insert(self, index, self._adopt(value))

    def extend(self, values: Iterable[Any]) -> None:
        self._open()
        list.extend(self, self._adopted(values))

    def pop(self, index: SupportsIndex = -1) -> Any:
        self._open()
        return self._adopt(list.pop(self, index))

    def remove(self, value: Any) -> None:
        self._open()
        list.remove(self, value)

    def clear(self) -> None:
        self._open()
        list.clear(self)

    def index(self, value: Any, *bounds: SupportsIndex) -> int:
        self._open()
        return list.index(self, value, *bounds)

    def count(self, value: Any) -> int:
        self._open()
        return list.count(self, value)

    def reverse(self) -> None:
        self._open()
        list.reverse(self)

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        list.sort(self._draft_all(), key=key, reverse=reverse)

    def copy(self) -> list[Any]:
        return list.copy(self._draft_all())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        self._open()
        result: list[Any] = []
        memo[id(self)] = result
        result.extend(copy.deepcopy(value, memo) for value in list.__iter__(self))
        return result

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return list, (copy.deepcopy(self),)

    def __repr__(self) -> str:
        return list.__repr__(self) if self._session.open else self._ended()

    def __add__(self, other: Any) -> list[Any]:
        return self.copy() + _plain(other) if isinstance(other, list) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return _plain(other) + self.copy() if isinstance(other, list) else NotImplemented

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]  # takes more than __add__, as of list
        self.extend(values)
        return self

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        return self.copy() * times

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> Self:
        list.__imul__(self._draft_all(), times)
        return self

    def __eq__(self, other: object) -> bool:
        self._open()
        return self is other or list.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: list[Any]) -> bool:
        self._open()
        return list.__lt__(self, other)

    def __le__(self, other: list[Any]) -> bool:
        self._open()
        return list.__le__(self, other)

    def __gt__(self, other: list[Any]) -> bool:
        self._open()
        return list.__gt__(self, other)

    def __ge__(self, other: list[Any]) -> bool:
        self._open()
        return list.__ge__(self, other)


def _plain(value: Any) -> Any:
    """A plain copy of a draft, all its parts drafts; anything else as it is."""
    return value.copy() if isinstance(value, DraftDict | DraftList) else value


DRAFTS[DraftDict] = DraftDict._parts
DRAFTS[DraftList] = DraftList._parts


def draft(edit: Callable[..., Any]) -> Callable[..., FrozenDict]:
    """Make a transform of a function that edits the state in place.

    The function gets a draft, which behaves as the plain dict or list does; what it does not touch stays
    shared with the state before. If nothing changes, the transform returns the very state it got.

    Parameters
    ----------
    edit : callable
        ``edit(draft)`` or ``edit(draft, views)``; for ``state.on``, ``edit(draft, event)`` or
        ``edit(draft, event, views)``. It returns nothing, or the draft.

    Returns
    -------
    callable
        A transform with the same parameters, for ``state.set`` or ``state.on``.

    Raises
    ------
    TypeError
        It is not a function.
    TransformError
        The function is async or a generator.
    StateError
        When the transform runs: the function returned something else, or made a cycle, or put something into
        the draft that has no JSON form.
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
        raise TypeError(f"draft: {quote(edit)} is not callable; give a function that edits a draft in place")
    check_function(edit, "draft: the edit")

    @wraps(edit)
    def transform_with_event(state: Any, event: Any, views: Any) -> FrozenDict:
        return _edited(state, lambda root: edit(root, event, views))

    if takes_third(edit):
        return transform_with_event
    second = takes_second(edit, "views")

    @wraps(edit)
    def transform(state: Any) -> FrozenDict:
        return _edited(state, edit)

    @wraps(edit)
    def transform_with_views(state: Any, views: Any) -> FrozenDict:
        if second == "keyword":
            return _edited(state, lambda root: edit(root, views=views))
        return _edited(state, lambda root: edit(root, views))

    return transform if second == "none" else transform_with_views


def _edited(state: Any, edit: Callable[[DraftDict], Any]) -> FrozenDict:
    session = _Session()
    root = DraftDict(as_state(state, "draft: what was given as the state"), session)
    try:
        result = edit(root)
        if result is not None and result is not root:
            refuse_suspended(result, "draft: the edit")
            raise StateError(
                f"draft: the edit returned {_shown(result)}; an edit changes the draft in place: "
                'remove the "return" (write a lambda that returns something as a def)'
            )
        return as_state(root, "draft: the edit")
    finally:
        session.open = False


def _shown(value: Any) -> str:
    return f"a part of the draft ({quote(value, 60)})" if isinstance(value, _Draft) else quote(value, 60)
