"""Parts that the public classes share: blocking and async variants, text and HTML, frames."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, Self, TypeVar, cast, overload

from happen_nb._display.changes import in_a_line
from happen_nb._display.page import Page, mime_bundle, render_text
from happen_nb._display.reprs_state import change_page, diff_page, frozen_page
from happen_nb._display.spans import plain
from happen_nb._display.values import WIDTH, Budget, fits, summary
from happen_nb._model.frozen import Change, Diff, FrozenDict, FrozenList
from happen_nb._model.quoting import quote
from happen_nb._runtime import causes
from happen_nb._runtime.io import (
    on_io,
    refuse_in_transform,
    refuse_on_handler_loop,
    run_awaitable,
    run_blocking,
)
from happen_nb._runtime.redirect import Redirected, instead_of
from happen_nb.errors import HappenError, UnknownNodeError

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb._api.failures import Failures
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._api.unhandled import Facts
    from happen_nb._api.views import Views
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime


Item = TypeVar("Item")
P = ParamSpec("P")
T = TypeVar("T")

Timeout = float | timedelta | None
"""Seconds, or a timedelta; None waits without limit."""

Duration = float | timedelta
"""Seconds, or a timedelta."""

MAX_INT64 = 2**63 - 1


def faces(
    work: Callable[P, Coroutine[Any, Any, T]],
    *,
    refuse: tuple[str, str] | None = None,
    in_transforms: bool = False,
) -> tuple[Callable[P, T], Callable[P, Coroutine[Any, Any, T]]]:
    """Return the blocking and the async variant of ``async def _name``, with its signature and docstring.

    Parameters
    ----------
    work : coroutine function
        It waits by ``await on_io(...)`` only.
    refuse : (str, str), optional
        Refuse the blocking variant in async handlers: the call, and what to write in its place.
    in_transforms : bool, optional
        A transform may call it: it does not wait there.
    """

    def blocking(*args: P.args, **kwargs: P.kwargs) -> T:
        if refuse is not None:
            refuse_on_handler_loop(*refuse)
        if in_transforms and causes.evaluating.get() is not None:
            return _run_at_once(work(*args, **kwargs))
        return run_blocking(work(*args, **kwargs))

    async def awaitable(*args: P.args, **kwargs: P.kwargs) -> T:
        if in_transforms and causes.evaluating.get() is not None:  # in the block of `emitted`
            return _run_at_once(work(*args, **kwargs))
        return await run_awaitable(work(*args, **kwargs))

    name, doc = work.__name__.removeprefix("_"), work.__doc__ or ""
    described = doc[:1].lower() + doc[1:].partition("Examples\n")[0].rstrip()
    _copy_metadata(blocking, work, name, doc)
    _copy_metadata(awaitable, work, f"a{name}", f"Async variant of `{name}`: {described}")
    work.__doc__ = None
    work.__qualname__ = blocking.__qualname__  # what an error about its arguments names
    return blocking, awaitable


def _run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError(f"{work} waits")


def _copy_metadata(face: Any, work: Callable[..., object], name: str, doc: str) -> None:
    """Give a function the name, signature and docstring that a user looks up."""
    qualname = work.__qualname__.removesuffix(work.__name__) + name
    face.__name__, face.__qualname__, face.__module__, face.__doc__ = name, qualname, work.__module__, doc
    face.__signature__ = inspect.signature(work)  # not __wrapped__: the blocking one would pass as async
    face.__annotations__ = work.__annotations__
    face.__code__ = face.__code__.replace(co_name=name, co_qualname=qualname)  # what tracebacks show


def runtime_of(space: Space) -> Runtime:
    """Return the part below a space, for the widgets and the completion."""
    return space._runtime


def wait_on_io(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the IO thread, and wait for its result."""

    async def wait() -> T:
        found: T = await on_io(work)
        return found

    refuse_in_transform(work)
    return run_blocking(wait())


def node_name(node: Node | str | None, what: str) -> str | None:
    """Return the name of an argument that is a node, the name of one, or None."""
    name = getattr(node, "name", node)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"{what} is {quote(node)}; give a node, or its name")
    return name


def unknown_node(name: object, names: list[str], where: str) -> UnknownNodeError:
    """Make an error that names the nearest known nodes."""
    near = difflib.get_close_matches(str(name), names, 3, 0.5) or names[:5]
    known = f"; did you mean {', '.join(near)}?" if near else "; there are no nodes yet"
    return UnknownNodeError(f'no node "{name}" in {where}{known}')


def refuse_in_callback(call: str) -> None:
    """Refuse to wait in a handler or callback, which might wait for itself."""
    running = causes.current_scope()
    if running is not None:
        raise HappenError(f"{call}: called in {running.what}, it would wait for itself; call it in a cell")


def _refuse(self: Displayable, _protocol: object) -> NoReturn:
    kind = type(self).__name__
    raise TypeError(f"{kind} belongs to a connection of this process and cannot be pickled; {self._pickle}")


def _same(self: Displayable, *_memo: object) -> Displayable:
    """Copy to the object itself, which stands for one thing of the space."""
    return self


class Displayable:
    """Shows itself as text and HTML; a subclass sets ``_page`` to the function that builds its page."""

    __slots__ = ()
    _pickle: ClassVar[str]
    """For a class that belongs to a connection of this process: advice on what to pickle instead."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "_pickle" in vars(cls):
            for name, method in (("__reduce_ex__", _refuse), ("__copy__", _same), ("__deepcopy__", _same)):
                setattr(cls, name, method)

    def _page(self, budget: Budget, /) -> Page:
        raise NotImplementedError

    def __repr__(self) -> str:
        return render_text(self._page(Budget(folds=False)))

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return bundle_of(self)


def page_of(shown: Displayable, budget: Budget) -> Page:
    return shown._page(budget)


def bundle_of(shown: Displayable) -> dict[str, str]:
    """Return the text and the HTML that a notebook shows of an object."""
    return mime_bundle(page_of(shown, Budget()))


class RecordSequence(Displayable, Sequence[Item]):
    """A displayable sequence; a slice of it has the same class."""

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


def frame(index: pd.Index[Any], columns: Mapping[str, Any]) -> pd.DataFrame:
    """Make a frame with a column for each list of values, keeping their types."""
    import pandas as pd

    made = {}
    for name, values in columns.items():
        exact = object if isinstance(values, list) and _mixed(values) else None
        made[name] = pd.Series(values, dtype=exact, index=index)
    return pd.DataFrame(made, index=index)


def _mixed(values: Sequence[Any]) -> bool:
    """Return True if pandas would convert some values: None to NaN, or 1 to 1.0."""
    kinds = {*map(type, values)}
    whole = [kind for kind in kinds if issubclass(kind, Integral) and not issubclass(kind, bool)]
    if type(None) in kinds or (whole and any(issubclass(kind, float) for kind in kinds)):
        return True
    return kinds == {int} and min(values) < 0 and max(values) > MAX_INT64


def utc(ns: int) -> datetime:
    """Convert a server's timestamp, in ns since 1970."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def times(moments: Iterable[datetime | None]) -> pd.Index[Any]:
    """Make a column of times in UTC."""
    import pandas as pd

    return pd.DatetimeIndex([pd.NaT if moment is None else moment for moment in moments], tz=UTC)


def _show(cls: Any, page: Callable[[Any, Budget], Page], inline: Callable[[Any], str]) -> None:
    """Let IPython show a class of the model, which knows nothing of displays.

    Its ``repr`` stays that of a dict, list or tuple.
    """

    def mimebundle(self: object, **_: object) -> dict[str, str]:
        return mime_bundle(page(self, Budget()))

    def pretty(self: object, printer: Any, cycle: object) -> None:  # noqa: ARG001 - IPython passes it
        whole = len(printer.stack) == 1  # otherwise it is part of an object that IPython prints
        printer.text(render_text(page(self, Budget(folds=False))) if whole else inline(self))

    cls._repr_mimebundle_ = mimebundle
    cls._repr_pretty_ = pretty


def _inline_value(value: FrozenDict | FrozenList) -> str:
    """Return a frozen value in one line, for a place inside an object that is not ours."""
    return repr(value) if fits(value, WIDTH) is not None else plain(summary(value, WIDTH))


def _inline_diff(diff: Sequence[Change]) -> str:
    return plain(in_a_line(diff, WIDTH)[0])


_show(FrozenDict, frozen_page, _inline_value)
_show(FrozenList, frozen_page, _inline_value)
_show(Diff, diff_page, _inline_diff)
_show(Change, change_page, lambda change: _inline_diff((change,)))


class SpacePart:
    """Base of the parts of `Space`, one for each feature."""

    _name: Redirected[str] = Redirected()
    _failures: Redirected[Failures] = Redirected()
    _facts: Redirected[Facts] = Redirected()
    _runtime: Redirected[Runtime] = Redirected()
    _nodes: Redirected[dict[str, Node]] = Redirected()
    _views: Redirected[Views] = Redirected()

    @property
    def name(self) -> str:
        return self._name

    @property
    def views(self) -> Views:
        return self._views

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def failures(self) -> Failures:
        return self._failures

    @property
    def _space(self) -> Space:
        """The space; in code of a fork, the fork."""
        return cast("Space", instead_of(self))

    @property
    def _log(self) -> Log:
        return self._runtime.log
