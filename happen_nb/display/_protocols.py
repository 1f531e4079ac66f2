"""What the displays expect of the objects they show; they never import the facade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from happen_nb.model.frozen import FrozenDict
from happen_nb.model.trace import TraceNode

_Item_co = TypeVar("_Item_co", covariant=True)


class Change(Protocol):
    """One difference between two states."""

    @property
    def op(self) -> Literal["add", "remove", "change"]: ...
    @property
    def path(self) -> tuple[str | int, ...]: ...
    @property
    def before(self) -> Any: ...
    @property
    def after(self) -> Any: ...


class Commit(Protocol):
    """One accepted change of a node's state. Reading ``diff`` may raise a `HappenError`."""

    @property
    def node(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def diff(self) -> Sequence[Change]: ...
    @property
    def changed(self) -> bool: ...
    @property
    def deleted(self) -> bool: ...
    @property
    def by(self) -> str | None: ...
    @property
    def time(self) -> datetime: ...


class Readable(Protocol):
    """A state or a view. ``get`` may raise a `HappenError`, which is then shown in its place."""

    @property
    def revision(self) -> int: ...
    def get(self) -> FrozenDict: ...


class View(Readable, Protocol):
    """A read-only window on a node's state."""

    @property
    def name(self) -> str: ...


class Named(Protocol):
    """Whatever has a name."""

    @property
    def name(self) -> str: ...


class State(Readable, Protocol):
    """A node's own state."""

    @property
    def node(self) -> Named: ...


class Sized(Protocol[_Item_co]):
    """What has a length and can be indexed: enough to show the newest items of a long sequence."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> _Item_co: ...


class Registration(Protocol):
    """A handler of a node; ``pattern`` is text, ``name`` the function's, ``where`` whether it filters."""

    @property
    def node(self) -> str: ...
    @property
    def pattern(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def where(self) -> bool: ...
    @property
    def retries(self) -> int: ...
    @property
    def active(self) -> bool: ...


class Handlers(Sized[Registration], Protocol):
    """All handlers of a node, in the order of their registration."""

    @property
    def node(self) -> str: ...


class Node(Named, Protocol):
    """A named owner of one state; ``busy`` is what it does at the moment, or ``""``."""

    @property
    def state(self) -> Readable: ...
    @property
    def handlers(self) -> Sized[Registration]: ...
    @property
    def busy(self) -> str: ...


class Event(Protocol):
    """Something said in a space; ``target`` is None if it was said to all."""

    @property
    def type(self) -> str: ...
    @property
    def payload(self) -> Any: ...
    @property
    def sender(self) -> str: ...
    @property
    def target(self) -> str | None: ...
    @property
    def time(self) -> datetime | None: ...
    @property
    def occurred(self) -> datetime | None: ...
    @property
    def pending(self) -> bool: ...
    @property
    def repeated(self) -> bool: ...


class Events(Sized[Event], Protocol):
    """Stored events of a space, newest last; ``pattern`` is what their types match."""

    @property
    def space(self) -> str: ...
    @property
    def pattern(self) -> str: ...


class Unhandled(Protocol):
    """An event that nobody took; ``nearest`` is the pattern that nearly would have."""

    @property
    def event(self) -> Event: ...
    @property
    def reason(self) -> str: ...
    @property
    def nearest(self) -> str | None: ...


class Reply(Protocol):
    """What becomes of something that was sent; ``_value`` is the result once it is done."""

    @property
    def event(self) -> Event: ...
    @property
    def target(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def progress(self) -> Any: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def _value(self) -> Any: ...


class Replay(Protocol):
    """Rows on their way to become events; ``_held`` is whether they wait for handlers."""

    @property
    def what(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def stored(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def occurred(self) -> datetime | None: ...
    @property
    def error(self) -> BaseException | None: ...
    @property
    def _held(self) -> bool: ...


class Trace(Protocol):
    """What followed from an event; ``times`` is whether text shows times, positions and ids too."""

    @property
    def root(self) -> TraceNode: ...
    @property
    def times(self) -> bool: ...


class Receipt(Protocol):
    """What a cell caused: how much, what, and (``note``) what else there is to say."""

    @property
    def events(self) -> int: ...
    @property
    def commits(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def unhandled(self) -> int: ...
    @property
    def repeated(self) -> int: ...
    @property
    def replaced(self) -> int: ...
    @property
    def note(self) -> str: ...
    @property
    def trees(self) -> Sequence[TraceNode]: ...


class Verdict(Protocol):
    """Whether a rule holds for commits or events; ``noun`` says which of both, ``error`` what it raised."""

    @property
    def says(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def seen(self) -> int: ...
    @property
    def noun(self) -> str: ...
    @property
    def broken(self) -> Sequence[Any]: ...
    @property
    def error(self) -> str | None: ...
    @property
    def trace(self) -> Trace | None: ...


class History(Sized[Commit], Protocol):
    """The stored commits of a node, newest last."""

    @property
    def node(self) -> str: ...
    @property
    def truncated(self) -> bool: ...


class Journal(Sized[Commit | Event], Protocol):
    """Stored commits and events of a space in their total order, newest last."""

    @property
    def space(self) -> str: ...


class Server(Protocol):
    """The embedded server; ``store`` is None or ``":memory:"`` if nothing is kept."""

    @property
    def running(self) -> bool: ...
    @property
    def store(self) -> object: ...


class Failure(Protocol):
    """A handler or a callback that raised; ``event`` is what it was called with."""

    @property
    def node(self) -> str: ...
    @property
    def event(self) -> object: ...
    @property
    def handler(self) -> str: ...
    @property
    def exception(self) -> BaseException | str: ...
    @property
    def traceback(self) -> str: ...
    @property
    def attempts(self) -> int: ...


class Views(Protocol):
    """The views of all nodes of a space: a live mapping with the space it belongs to."""

    @property
    def space(self) -> Named: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, name: str, /) -> View: ...


class Moment(Protocol):
    """The states of all nodes at one moment. ``_then`` may raise a `HappenError`, as where one is gone."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def _then(self, name: str, /) -> Readable: ...


class Nodes(Protocol):
    """The nodes of this process: a live mapping with the space it belongs to."""

    @property
    def space(self) -> Named: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, name: str, /) -> Node: ...


class Space(Protocol):
    """A named system of nodes."""

    @property
    def name(self) -> str: ...
    @property
    def nodes(self) -> Mapping[str, Node]: ...
    @property
    def views(self) -> Mapping[str, View]: ...
    @property
    def server(self) -> Server | None: ...
    @property
    def failures(self) -> Sized[Failure]: ...


class Watch(Protocol):
    """A callback that follows a node's commits; ``name`` is the callback's."""

    @property
    def node(self) -> Named: ...
    @property
    def name(self) -> str: ...
    @property
    def active(self) -> bool: ...


class SpaceInfo(Protocol):
    """What a server knows of one of its spaces."""

    @property
    def name(self) -> str: ...
    @property
    def nodes(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def last_change(self) -> datetime | None: ...
