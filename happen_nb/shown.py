"""What every object that a cell can end with has: a text and an HTML picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import ClassVar, Self, TypeVar, overload

from happen_nb.display import text
from happen_nb.display.bundle import bundle

Item = TypeVar("Item")


class Shown:
    """Shows itself as the display layer draws its kind; ``class Node(Shown, kind="node")``."""

    __slots__ = ()
    _kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str) -> None:
        super().__init_subclass__()
        cls._kind = kind

    def __repr__(self) -> str:
        draw: Callable[[object], str] = getattr(text, self._kind)
        return draw(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return bundle(self, self._kind)


class Listing(Shown, Sequence[Item], kind="listing"):
    """A sequence that shows itself; a slice of it is one too."""

    _items: list[Item]

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Item | Self:
        if not isinstance(index, slice):
            return self._items[index]
        part = copy(self)
        part._items = self._items[index]
        return part

    def __len__(self) -> int:
        return len(self._items)
