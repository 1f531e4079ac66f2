"""Let code that names the objects of a space act on a fork of it.

A handler closes over the nodes and the space of its notebook. In a fork that has the handlers, each of them
runs in a context in which these objects stand for those of the fork. Every attribute that leads from an
object of the facade to its space is `Redirected`, so that this is decided in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

T = TypeVar("T")


class Redirect:
    """Maps the objects of a space to those of its fork.

    `before` is the redirect of the original, if it is a fork itself.
    """

    def __init__(self, pairs: Iterable[tuple[object, object]], before: Redirect | None = None) -> None:
        Redirected.need()
        self._pairs: dict[int, tuple[object, object]] = {}
        for original, instead in pairs:
            self.add(original, instead)
        for original, fork in () if before is None else before.pairs():
            self.add(original, self.of(fork))

    def add(self, original: object, instead: object) -> None:
        self._pairs[id(original)] = original, instead  # with the original, whose id may not be used again

    def pairs(self) -> list[tuple[object, object]]:
        return list(self._pairs.values())

    def of(self, found: Any) -> Any:
        """Return the object that stands for another one, or that one itself."""
        pair = self._pairs.get(id(found))
        return found if pair is None else pair[1]


_redirect: ContextVar[Redirect | None] = ContextVar("redirect", default=None)
"""The redirect to the fork whose code runs in this context."""


def current_redirect() -> Redirect | None:
    return _redirect.get()


def enter_redirect(redirect: Redirect | None) -> None:
    """Make this context one of a fork, or of none."""
    _redirect.set(redirect)


@contextmanager
def redirected_to(redirect: Redirect | None) -> Iterator[None]:
    token = _redirect.set(redirect)
    try:
        yield
    finally:
        _redirect.reset(token)


def instead_of(found: T) -> T:
    """Return the object that stands for another one in this context, or that one itself."""
    redirect = _redirect.get()
    if redirect is None:
        return found
    instead: T = redirect.of(found)
    return instead


class Redirected(Generic[T]):
    """An attribute that leads to a space; in code of a fork, to the fork.

    If another object stands for its owner there, it is the attribute of that one; else the object that stands
    for its value. Before the first `Redirect` of the process, it is a plain attribute, which is faster.
    """

    _name: str
    _plain: ClassVar[list[tuple[type, Redirected[Any]]]] = []
    _needed: ClassVar[bool] = False

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        if not Redirected._needed:
            Redirected._plain.append((owner, self))
            delattr(owner, name)

    @classmethod
    def need(cls) -> None:
        Redirected._needed = True
        while cls._plain:
            owner, attribute = cls._plain.pop()
            setattr(owner, attribute._name, attribute)

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: type) -> T: ...
    def __get__(self, owner: object | None, kind: type) -> Any:
        if owner is None:
            return self
        redirect = _redirect.get()
        try:
            if redirect is None:
                return owner.__dict__[self._name]
            return redirect.of(redirect.of(owner).__dict__[self._name])
        except KeyError:
            raise AttributeError(f"{kind.__name__!r} object has no attribute {self._name!r}") from None

    def __set__(self, owner: object, value: T) -> None:
        owner.__dict__[self._name] = value
