"""The text and the HTML of every object that a cell can end with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn, ParamSpec, Self, TypeVar, overload

from happen_nb._display import text
from happen_nb._display.bundle import bundle
from happen_nb._model.diff import Change, Diff
from happen_nb._model.frozen import FrozenDict, FrozenList
from happen_nb._runtime.io import refuse_on_handler_loop, run_awaitable, run_blocking

Item = TypeVar("Item")
P = ParamSpec("P")
T = TypeVar("T")


def faces(
    work: Callable[P, Coroutine[Any, Any, T]], *, refuse: tuple[str, str] | None = None
) -> tuple[Callable[P, T], Callable[P, Coroutine[Any, Any, T]]]:
    """Return the blocking and the async variant of ``async def _name``, with its signature and docstring.

    Parameters
    ----------
    work : coroutine function
        It waits by ``await on_io(...)`` only.
    refuse : (str, str), optional
        Refuse the blocking variant in async handlers: the call, and what to write in its place.
    """

    def blocking(*args: P.args, **kwargs: P.kwargs) -> T:
        if refuse is not None:
            refuse_on_handler_loop(*refuse)
        return run_blocking(work(*args, **kwargs))

    async def awaitable(*args: P.args, **kwargs: P.kwargs) -> T:
        return await run_awaitable(work(*args, **kwargs))

    name, doc = work.__name__.removeprefix("_"), work.__doc__ or ""
    described = doc[:1].lower() + doc[1:].partition("Examples\n")[0].rstrip()
    _disguise(blocking, work, name, doc)
    _disguise(awaitable, work, f"a{name}", f"Async variant of `{name}`: {described}")
    work.__doc__ = None
    return blocking, awaitable


def _disguise(face: Any, work: Callable[..., object], name: str, doc: str) -> None:
    """Give a function the name, signature and docstring that a user looks up."""
    qualname = work.__qualname__.removesuffix(work.__name__) + name
    face.__name__, face.__qualname__, face.__module__, face.__doc__ = name, qualname, work.__module__, doc
    face.__signature__ = inspect.signature(work)  # not __wrapped__: the blocking one would pass as async
    face.__annotations__ = work.__annotations__
    face.__code__ = face.__code__.replace(co_name=name, co_qualname=qualname)  # what tracebacks show


def _refuse(self: Shown, _protocol: object) -> NoReturn:
    kind = type(self).__name__
    raise TypeError(f"{kind} belongs to a connection of this process and cannot be pickled; {self._pickle}")


def _same(self: Shown, *_memo: object) -> Shown:
    """A copy is the object itself: it stands for one thing of the space."""
    return self


class Shown:
    """Shows itself as the display layer draws its kind; ``class Node(Shown, kind="node")``."""

    __slots__ = ()
    _kind: ClassVar[str]
    _pickle: ClassVar[str]
    """Of a class that belongs to a connection of this process: what to pickle in its place."""

    def __init_subclass__(cls, *, kind: str) -> None:
        super().__init_subclass__()
        cls._kind = kind
        if "_pickle" in vars(cls):
            for name, method in (("__reduce_ex__", _refuse), ("__copy__", _same), ("__deepcopy__", _same)):
                setattr(cls, name, method)

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
        part = type(self).__new__(type(self))
        part.__dict__.update(self.__dict__, _items=self._items[index])
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
