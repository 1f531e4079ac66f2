"""Drafts: edit a frozen state as if it were plain, and get the next frozen state.

A draft holds a shallow copy of one frozen container. What is read from it becomes a draft too and takes the
place of the frozen part in that copy, so edits deep inside need no way back up. What was never read stays
shared.
"""

# The methods are those of dict and list, and documented there:
# ruff: noqa: D102

from __future__ import annotations

import copy
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    MutableSequence,
    ValuesView,
)
from functools import wraps
from typing import Any, Self, SupportsIndex

from happen_nb.errors import FrozenStateError, StateError
from happen_nb.model.frozen import FrozenDict, FrozenList
from happen_nb.model.quoting import quote
from happen_nb.model.transforms import check_function, refuse_suspended, takes_second
from happen_nb.model.values import DRAFTS, as_state


class _Session:
    """One run of an edit; its drafts are of use until it ends."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = True


class _Draft:
    """What both kinds of drafts share: the copy, what it was made from, and the session."""

    __slots__ = ("_content", "_drafted", "_original", "_session")

    def __init__(self, original: FrozenDict | FrozenList, session: _Session) -> None:
        self._original = original
        self._session = session
        self._content: Any = original.copy()
        self._drafted = False  # whether no frozen part is left in the content

    def _open(self) -> Any:
        """The content, if the transform still runs."""
        if not self._session.open:
            raise FrozenStateError(
                "this draft was used after its transform had ended; take what you need out of it before, "
                "as copy.deepcopy(draft), or read the committed state"
            )
        return self._content

    def _adopt(self, value: Any) -> Any:
        """What to hold for a value: a draft of a frozen one, anything else as it is."""
        kind = type(value)
        if kind is FrozenDict:
            return DraftDict(value, self._session)
        if kind is FrozenList:
            return DraftList(value, self._session)
        return value

    def _parts(self) -> tuple[Any, Any]:
        return self._open(), self._original

    def __len__(self) -> int:
        return len(self._open())

    def __repr__(self) -> str:
        if not self._session.open:
            return f"<{type(self).__name__} whose transform has ended>"
        return repr(self._content)

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return type(self._open()), (copy.deepcopy(self._content),)


def _raw(value: Any) -> Any:
    """The container inside a draft, all its parts drafts; anything else as it is."""
    return value._all() if isinstance(value, DraftDict | DraftList) else value


class DraftDict(_Draft, MutableMapping[str, Any]):
    """A mapping being edited inside :func:`draft`: all methods and operators of ``dict``."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _content: dict[Any, Any]

    def _all(self) -> dict[Any, Any]:
        """The content with a draft in place of every frozen part."""
        content: dict[Any, Any] = self._open()
        if not self._drafted:
            for key, value in content.items():
                if type(value) is FrozenDict or type(value) is FrozenList:
                    content[key] = self._adopt(value)
            self._drafted = True
        return content

    def __getitem__(self, key: str) -> Any:
        content = self._open()
        value = content[key]
        if type(value) is FrozenDict or type(value) is FrozenList:
            value = content[key] = self._adopt(value)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self._open()[key] = self._adopt(value)

    def __delitem__(self, key: str) -> None:
        del self._open()[key]

    def __contains__(self, key: object) -> bool:
        return key in self._open()

    def __iter__(self) -> Iterator[str]:
        keys: Iterator[str] = iter(self._open())
        return keys

    def __reversed__(self) -> Iterator[str]:
        keys: Iterator[str] = reversed(self._open())
        return keys

    def keys(self) -> KeysView[str]:
        return self._all().keys()

    def values(self) -> ValuesView[Any]:
        return self._all().values()

    def items(self) -> ItemsView[str, Any]:
        return self._all().items()

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            return default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        return self._adopt(self._open().pop(key, *default))

    def popitem(self) -> tuple[str, Any]:
        key, value = self._open().popitem()
        return key, self._adopt(value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, other: Any = (), /, **more: Any) -> None:
        content = self._open()
        other = _raw(other)
        if isinstance(other, Mapping):
            content.update({key: self._adopt(other[key]) for key in other})
        elif hasattr(other, "keys"):
            content.update({key: self._adopt(other[key]) for key in other.keys()})  # noqa: SIM118
        else:
            content.update(map(self._adopt_pair, other))
        content.update({key: self._adopt(value) for key, value in more.items()})

    def _adopt_pair(self, pair: Any) -> Any:
        match pair:
            case [key, value]:
                return key, self._adopt(value)
        return pair

    def clear(self) -> None:
        self._open().clear()

    def copy(self) -> dict[str, Any]:
        return self._all().copy()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        result = memo[id(self)] = {}
        result.update({key: copy.deepcopy(value, memo) for key, value in self._open().items()})
        return result

    def __or__(self, other: Any) -> dict[str, Any]:
        other = _raw(other)
        return self._all() | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> dict[str, Any]:
        return other | self._all() if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Self:
        self.update(other)
        return self

    def __eq__(self, other: object) -> bool:
        content = self._open()
        if isinstance(other, DraftDict):
            return self is other or bool(content == other._open())
        return content == other if isinstance(other, dict) else NotImplemented


class DraftList(_Draft, MutableSequence[Any]):
    """A list being edited inside :func:`draft`: all methods and operators of ``list``."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _content: list[Any]

    def _all(self) -> list[Any]:
        """The content with a draft in place of every frozen part."""
        content: list[Any] = self._open()
        if not self._drafted:
            content[:] = map(self._adopt, content)
            self._drafted = True
        return content

    def _adopted(self, values: Any) -> Any:
        values = _raw(values)
        if isinstance(values, list | tuple):
            return [self._adopt(value) for value in values]
        return map(self._adopt, values)

    def __getitem__(self, index: Any) -> Any:
        content = self._open()
        value = content[index]
        if isinstance(index, slice):
            if not self._drafted:
                content[index] = value = [self._adopt(item) for item in value]
        elif type(value) is FrozenDict or type(value) is FrozenList:
            value = content[index] = self._adopt(value)
        return value

    def __setitem__(self, index: Any, value: Any) -> None:
        self._open()[index] = self._adopted(value) if isinstance(index, slice) else self._adopt(value)

    def __delitem__(self, index: Any) -> None:
        del self._open()[index]

    def __contains__(self, value: object) -> bool:
        return value in self._open()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def __reversed__(self) -> Iterator[Any]:
        items: Iterator[Any] = reversed(self._all())
        return items

    def append(self, value: Any) -> None:
        self._open().append(self._adopt(value))

    def insert(self, index: SupportsIndex, value: Any) -> None:
        self._open().insert(index, self._adopt(value))

    def extend(self, values: Iterable[Any]) -> None:
        self._open().extend(self._adopted(values))

    def pop(self, index: SupportsIndex = -1) -> Any:
        return self._adopt(self._open().pop(index))

    def remove(self, value: Any) -> None:
        self._open().remove(value)

    def clear(self) -> None:
        self._open().clear()

    def index(self, value: Any, *bounds: SupportsIndex) -> int:
        return int(self._open().index(value, *bounds))

    def count(self, value: Any) -> int:
        return int(self._open().count(value))

    def reverse(self) -> None:
        self._open().reverse()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        self._all().sort(key=key, reverse=reverse)

    def copy(self) -> list[Any]:
        return self._all().copy()

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        result = memo[id(self)] = []
        result.extend(copy.deepcopy(value, memo) for value in self._open())
        return result

    def __add__(self, other: Any) -> list[Any]:
        other = _raw(other)
        return self._all() + other if isinstance(other, list) else NotImplemented

    def __radd__(self, other: Any) -> list[Any]:
        return other + self._all() if isinstance(other, list) else NotImplemented

    def __iadd__(self, values: Iterable[Any]) -> Self:  # type: ignore[misc]  # takes more than __add__, as of list
        self.extend(values)
        return self

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        return self._all() * times

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> Self:
        content = self._all()
        content *= times
        return self

    def __eq__(self, other: object) -> bool:
        content = self._open()
        if isinstance(other, DraftList):
            return self is other or bool(content == other._open())
        return content == other if isinstance(other, list) else NotImplemented

    def __lt__(self, other: Any) -> bool:
        return bool(self._open() < _raw(other))

    def __le__(self, other: Any) -> bool:
        return bool(self._open() <= _raw(other))

    def __gt__(self, other: Any) -> bool:
        return bool(self._open() > _raw(other))

    def __ge__(self, other: Any) -> bool:
        return bool(self._open() >= _raw(other))


DRAFTS[DraftDict] = DRAFTS[DraftList] = _Draft._parts


def draft(edit: Callable[..., Any]) -> Callable[..., FrozenDict]:
    """Make a transform of a function that edits the state in place.

    The function gets a draft, which behaves as the plain dict or list does; what it does not touch stays
    shared with the state before. If nothing changes, the transform returns the very state it got.

    Parameters
    ----------
    edit : callable
        ``edit(draft)`` or ``edit(draft, views)``; it returns nothing, or the draft.

    Returns
    -------
    callable
        A transform ``(state)`` or ``(state, views)``, for ``state.set``.

    Raises
    ------
    TransformError
        The function is async or a generator.
    StateError
        When the transform runs: the function returned something else, or made a cycle, or put something into
        the draft that has no JSON form.
    FrozenStateError
        A draft was used after its transform had ended.

    Examples
    --------
    >>> from happen_nb.model.values import freeze
    >>> @draft
    ... def ship(d):
    ...     d["orders"]["o1"]["status"] = "shipped"
    ...     d["log"].append("o1")
    >>> ship(freeze({"orders": {"o1": {"status": "new"}}, "log": []}))
    {'orders': {'o1': {'status': 'shipped'}}, 'log': ['o1']}
    """
    check_function(edit, "draft: the edit")
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
