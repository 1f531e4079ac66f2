"""Parts that the public classes share: blocking and async variants, text and HTML, frames."""

from __future__ import annotations

import inspect
import os
import shutil
import threading
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, ParamSpec, Self, TypeVar, cast, overload

from happen_nb._frames import briefly, is_library, refusal, shell
from happen_nb._model import arguments
from happen_nb._model.frozen import Change, Diff, FrozenDict, FrozenList
from happen_nb._model.functions import attribute, is_a
from happen_nb._model.quoting import near_names, quote, shorten
from happen_nb._runtime import causes
from happen_nb._runtime.handler_loops import refuse_on_handler_loop
from happen_nb._runtime.io import on_io, refuse_in_transform, run_awaitable, run_blocking
from happen_nb._runtime.redirect import Redirected, instead_of
from happen_nb.errors import HappenError, UnknownNodeError

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb._api.failures import Failures
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._api.unhandled import Facts
    from happen_nb._api.views import Views
    from happen_nb._display.page import Page
    from happen_nb._display.values import Budget
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime


Item = TypeVar("Item")
P = ParamSpec("P")
T = TypeVar("T")

Timeout = float | timedelta | None  # seconds, or a timedelta; None waits without limit

Duration = float | timedelta  # seconds, or a timedelta

MAX_INT64 = 2**63 - 1


def faces(
    work: Callable[P, Coroutine[Any, Any, T]],
    *,
    refuse: tuple[str, str] | None = None,
    in_transforms: bool = False,
) -> tuple[Callable[P, T], Callable[P, Coroutine[Any, Any, T]]]:
    """Return the blocking and the async variant of ``async def _name``, with its signature and docstring.

    `work` waits by ``await on_io(...)`` only. `refuse`, a call and an advice, refuses the blocking variant in
    async handlers. With `in_transforms`, a transform may call it: it does not wait there.
    """

    def blocking(*args: P.args, **kwargs: P.kwargs) -> T:
        if refuse is not None:
            refuse_on_handler_loop(*refuse)
        try:
            call = work(*args, **kwargs)
        except TypeError as error:
            raise _about_arguments(error, blocking, args) from None
        if in_transforms and causes.current_evaluation() is not None:
            return _run_at_once(call)
        return run_blocking(call)

    async def awaitable(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            call = work(*args, **kwargs)
        except TypeError as error:
            raise _about_arguments(error, awaitable, args) from None
        if in_transforms and causes.current_evaluation() is not None:  # in the block of `emitted`
            return _run_at_once(call)
        return await run_awaitable(call)

    name, doc = work.__name__.removeprefix("_"), work.__doc__ or ""
    described = doc[:1].lower() + doc[1:].partition("Examples\n")[0].rstrip()
    signature = inspect.signature(work)
    _copy_metadata(blocking, work, name, doc, signature)
    _copy_metadata(awaitable, work, f"a{name}", f"Async variant of `{name}`: {described}", signature)
    work.__doc__ = None
    return blocking, awaitable


def _about_arguments(error: TypeError, called: Callable[..., Any], args: Sequence[Any]) -> TypeError:
    """Let an error about the arguments of a call, which has not begun, name what the user has called."""
    is_method = "." in called.__qualname__
    name = f"{type(args[0]).__name__}.{called.__name__}" if is_method and args else called.__name__
    parameters = [
        each.replace(annotation=each.empty) for each in inspect.signature(called).parameters.values()
    ]
    usage = f"{called.__name__}{inspect.Signature(parameters[is_method:])}"
    return briefly(TypeError(f"{name}() {str(error).partition('() ')[2]}; the signature is {usage}"))


def _run_at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not wait."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError(f"{work} waits")


def _copy_metadata(
    face: Any, work: Callable[..., object], name: str, doc: str, signature: inspect.Signature
) -> None:
    """Give a function the name, signature and docstring that a user looks up."""
    qualname = work.__qualname__.removesuffix(work.__name__) + name
    face.__name__, face.__qualname__, face.__module__, face.__doc__ = name, qualname, work.__module__, doc
    face.__signature__ = signature  # not __wrapped__: the blocking one would pass as async
    face.__annotations__ = work.__annotations__
    face.__code__ = face.__code__.replace(co_name=name, co_qualname=qualname)  # what tracebacks show


def explain_coroutines() -> None:
    """Let IPython show that a coroutine of this library, as the result of a cell, has not run."""
    here = shell()
    if here is not None:
        here.display_formatter.formatters["text/plain"].for_type(CoroutineType, _show_coroutine)


def _show_coroutine(shown: CoroutineType[Any, Any, Any], printer: Any, cycle: object) -> None:  # noqa: ARG001
    frame = shown.cr_frame if inspect.getcoroutinestate(shown) == inspect.CORO_CREATED else None
    is_ours = frame is not None and is_library(frame)
    printer.text(f'{shown.__qualname__} has not run: write "await" before it' if is_ours else repr(shown))


def runtime_of(space: Space) -> Runtime:
    """Return the runtime of a space, for the widgets and the completion."""
    return space._runtime


def wait_on_io(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the IO thread, and wait for its result."""

    async def wait() -> T:
        found: T = await on_io(work)
        return found

    refuse_in_transform(work)
    return run_blocking(wait())


def node_name(node: Node | str | None, what: str, views: Views, listed: Container[str] = ()) -> str | None:
    """Return the name of an argument that is a node, the name of one, or None.

    A node that the space does not have, and that is not among the `listed`, is an UnknownNodeError.
    """
    name = attribute(node, "name") or node
    if name is not None and not is_a(name, str):
        raise TypeError(f"{what} is {quote(node)}; pass a node, or its name")
    return name if name is None or name in listed else views[name].name


def unknown_node(name: object, names: list[str], where: str) -> UnknownNodeError:
    """Make an error that names the nearest known nodes."""
    near = near_names(name, names, 3, 0.5) or names[:5]
    known = f"; did you mean {', '.join(near)}?" if near else "; there are no nodes yet"
    named = f'"{shorten(name)}"' if isinstance(name, str) else quote(name)
    return UnknownNodeError(f"no node {named} in {where}{known}")


def refuse_in_callback(call: str) -> None:
    """Refuse to wait in a handler or callback, which might wait for itself."""
    running = causes.current_scope()
    if running is not None:
        raise HappenError(f"{call}: called in {running.what}, it would wait for itself; call it in a cell")


def _refuse(self: Displayable, _protocol: object) -> NoReturn:
    kind = type(self).__name__
    raise TypeError(f"{kind} belongs to a connection of this process and cannot be pickled; {self._pickle}")


def _same(self: Displayable, *_memo: object) -> Displayable:
    """Copy to the same object: it represents one thing of the space."""
    return self


def shown_by(function: str) -> Callable[[Any, Budget], Page]:
    """Return a function of `_display`, named ``"module.function"``, as the ``_page`` of a class.

    It takes the object and a `Budget`, and returns a `Page`. Its module is imported when the first object is
    shown: most programs show none.
    """
    module, _, name = function.partition(".")

    def page(shown: Any, budget: Budget) -> Page:
        build: Callable[[Any, Budget], Page] = getattr(import_module(f"happen_nb._display.{module}"), name)
        return build(shown, budget)

    return page


class Displayable:
    """Shows itself as text and HTML; a subclass sets ``_page``, in most cases by `shown_by`."""

    __slots__ = ()
    _pickle: ClassVar[str]
    """For a class that belongs to a connection of this process: advice on what to pickle instead."""

    _advice: ClassVar[str] = ""
    """For a class in which one may look for attributes of other names: what to write instead."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "_pickle" in vars(cls):
            for name, method in (("__reduce_ex__", _refuse), ("__copy__", _same), ("__deepcopy__", _same)):
                setattr(cls, name, method)

    if not TYPE_CHECKING:  # it would accept every name

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if name.startswith("_") or hasattr(kind, name):
                return object.__getattribute__(self, name)  # raises again what has been raised
            near = near_names(name, [each for each in dir(kind) if not each.startswith("_")], 1, 0.75)
            hint = f"; did you mean {near[0]}?" if near else self._advice.format(name)
            raise refusal(AttributeError, f"{kind.__name__!r} object has no attribute {name!r}{hint}")

    def _page(self, budget: Budget, /) -> Page:
        raise NotImplementedError

    def __repr__(self) -> str:
        return _text(self._page)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return bundle_of(self)


def page_of(shown: Displayable, budget: Budget) -> Page:
    return shown._page(budget)


def bundle_of(shown: Displayable) -> dict[str, str]:
    """Return the text and the HTML that a notebook shows of an object."""
    return _bundle(partial(page_of, shown))


def _text(page: Callable[[Budget], Page]) -> str:
    from happen_nb._display.page import render_text
    from happen_nb._display.values import Budget

    return render_text(page(Budget(folds=False)))


def _bundle(page: Callable[[Budget], Page]) -> dict[str, str]:
    from happen_nb._display.page import mime_bundle
    from happen_nb._display.values import Budget

    return mime_bundle(page(Budget()))


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
    from numbers import Integral

    kinds = {*map(type, values)}
    whole = [kind for kind in kinds if issubclass(kind, Integral) and not issubclass(kind, bool)]
    if type(None) in kinds or (whole and any(issubclass(kind, float) for kind in kinds)):
        return True
    return kinds == {int} and min(values) < 0 and max(values) > MAX_INT64


def times(moments: Iterable[datetime | None]) -> pd.Index[Any]:
    """Make a column of times: in UTC, or without a time zone if none of them has one."""
    import pandas as pd

    given = [arguments.to_utc(each) if each is not None and each.tzinfo else each for each in moments]
    zones = {moment.tzinfo is not None for moment in given if moment is not None}
    if zones == {True, False}:
        return pd.Index(given, dtype=object)
    found = pd.DatetimeIndex(
        [pd.NaT if moment is None else moment for moment in given], tz=None if zones == {False} else UTC
    )
    if not found.isna().all():
        return found
    return found.as_unit(pd.DatetimeIndex([datetime.now(UTC)]).unit)  # else frames with times cannot join it


def more_times(items: Sequence[Any]) -> dict[str, Any]:
    """Make columns of the times of events or commits by a manual clock, and of those that senders gave."""
    from happen_nb._display.page import stored_time

    by_clock = [stored_time(item) for item in items]
    occurred = [getattr(item, "occurred", None) for item in items]
    columns = {}
    if by_clock != [item.time for item in items]:
        columns["space_time"] = times(by_clock)
    if any(occurred):
        columns["occurred"] = times(occurred)
    return columns


def _show(cls: Any, page: Callable[[Any, Budget], Page], inline: Callable[[Any], str]) -> None:
    """Let IPython show a class of the model, which knows nothing of displays.

    Its ``repr`` stays that of a dict, list or tuple.
    """

    def mimebundle(self: object, **_: object) -> dict[str, str]:
        return _bundle(partial(page, self))

    def pretty(self: object, printer: Any, cycle: object) -> None:  # noqa: ARG001 - IPython passes it
        whole = len(printer.stack) == 1  # otherwise it is part of an object that IPython prints
        printer.text(_text(partial(page, self)) if whole else inline(self))

    cls._repr_mimebundle_ = mimebundle
    cls._repr_pretty_ = pretty


def _inline_value(value: FrozenDict | FrozenList) -> str:
    """Return a frozen value in one line, for a place inside an object that is not ours."""
    from happen_nb._display import plain
    from happen_nb._display.values import WIDTH, fits, summary

    return repr(value) if fits(value, WIDTH) is not None else plain(summary(value, WIDTH))


def _inline_diff(diff: Sequence[Change]) -> str:
    from happen_nb._display import plain
    from happen_nb._display.changes import in_a_line
    from happen_nb._display.values import WIDTH

    return plain(in_a_line(diff, WIDTH)[0])


_show(FrozenDict, shown_by("reprs_state.frozen_page"), _inline_value)
_show(FrozenList, shown_by("reprs_state.frozen_page"), _inline_value)
_show(Diff, shown_by("reprs_state.diff_page"), _inline_diff)
_show(Change, shown_by("reprs_state.change_page"), lambda change: _inline_diff((change,)))


class SpacePart:
    """Base of the parts of `Space`, one for each feature."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for each in vars(cls).values():
            if inspect.isfunction(each):  # an error about its arguments has this name
                each.__qualname__ = f"Space.{each.__name__}"

    _name: Redirected[str] = Redirected()
    _failures: Redirected[Failures] = Redirected()
    _facts: Redirected[Facts] = Redirected()
    _runtime: Redirected[Runtime] = Redirected()
    _nodes: Redirected[dict[str, Node]] = Redirected()
    _views: Redirected[Views] = Redirected()

    @property
    def name(self) -> str:
        """Name of the space."""
        return self._name

    @property
    def views(self) -> Views:
        """Read-only views of the states of all nodes, in every process."""
        return self._views

    @property
    def facts(self) -> Facts:
        """The types of events that need no handler."""
        return self._facts

    @property
    def failures(self) -> Failures:
        """The errors of handlers and callbacks, newest last."""
        return self._failures

    @property
    def _space(self) -> Space:
        """The space; in code of a fork, the fork."""
        return cast("Space", instead_of(self))

    @property
    def _log(self) -> Log:
        return self._runtime.log


def path_of_file(path: str | os.PathLike[str], what: str, suffix: str) -> Path:
    """Return the path of a file; one without a suffix, where nothing is yet, gets `suffix`."""
    file = Path(arguments.path(path, what)).expanduser()
    return file if file.suffix or os.path.lexists(file) else file.with_name(file.name + suffix)


def write_file(path: str | os.PathLike[str], text: str, suffix: str) -> Path:
    """Write a text to a file; an existing one is replaced in one step, or stays as it is.

    A replaced file keeps its mode, and a symbolic link leads to the new text. An OSError names the file.
    """
    target = path_of_file(path, "save: path", suffix)
    goal = target.resolve()  # a link stays
    try:
        if goal.exists() and not goal.is_file():  # a folder, which is an error, or a device
            goal.write_text(text, encoding="utf-8")
        else:
            _replace(goal, text)
    except OSError as error:
        raise briefly(OSError(error.errno, error.strerror, str(target))) from None
    return target


def _replace(file: Path, text: str) -> None:
    draft = file.parent / f".happen-{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        is_new = not file.exists()
        draft.touch(0o666 if is_new else 0o600)  # others may not be allowed to read the text
        draft.write_text(text, encoding="utf-8")
        if not is_new:
            shutil.copymode(file, draft)
        draft.replace(file)
    except PermissionError:
        if not file.exists():
            raise
        file.write_text(text, encoding="utf-8")  # one that may be changed in a folder that may not
    finally:
        with suppress(OSError):
            draft.unlink()
