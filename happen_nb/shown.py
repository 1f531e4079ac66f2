"""What every object that a cell can end with has: a text and an HTML picture."""

from __future__ import annotations

from typing import ClassVar

from happen_nb.display.bundle import bundle


class Shown:
    """Shows itself as the display layer draws its kind; ``class Node(Shown, kind="node")``."""

    __slots__ = ()
    _kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str) -> None:
        super().__init_subclass__()
        cls._kind = kind

    def __repr__(self) -> str:
        return bundle(self, self._kind)["text/plain"]

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return bundle(self, self._kind)
