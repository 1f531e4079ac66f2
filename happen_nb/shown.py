"""The text and the HTML of every object that a cell can end with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Final, Self, TypeVar, overload

from happen_nb.display import text
from happen_nb.display.bundle import bundle
from happen_nb.model.diff import Change, Diff
from happen_nb.model.frozen import FrozenDict, FrozenList

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


_VALUES: Final[Mapping[type, str]] = {
    FrozenDict: "frozen",
    FrozenList: "frozen",
    Diff: "diff",
    Change: "change",
}
"""The classes of the model that a cell can end with, and how they are shown.

The model knows nothing of displays, and their ``repr`` stays that of a dict, list or tuple; so IPython finds
here what it shows instead.
"""


def _show(cls: Any, kind: str) -> None:
    draw: Callable[[object], str] = getattr(text, kind)

    def mimebundle(self: object, **_: object) -> dict[str, str]:
        return bundle(self, kind)

    def pretty(self: object, printer: Any, cycle: object) -> None:  # noqa: ARG001 - IPython passes it
        whole = len(printer.stack) == 1  # and not part of something that IPython prints
        printer.text(draw(self) if whole else text.nested(self, kind))

    cls._repr_mimebundle_ = mimebundle
    cls._repr_pretty_ = pretty


for _cls, _kind in _VALUES.items():
    _show(_cls, _kind)
