"""What every object that a cell can end with has: a text and an HTML picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from happen_nb.display import text
from happen_nb.display.bundle import bundle


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
