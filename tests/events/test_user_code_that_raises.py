"""User code that raises in unexpected places: in results, exceptions and filters."""

from __future__ import annotations

import dataclasses
import sys
import threading
import types
from collections.abc import Mapping

import pytest

import happen_nb as happen


@dataclasses.dataclass
class Unset:
    total: float = dataclasses.field(init=False)


class Iterates(Mapping):
    """A mapping that raises whenever somebody looks at it."""

    def __init__(self, error=RuntimeError, **_):
        self.error = error

    def __getitem__(self, key):
        raise self.error("looked at")

    def __iter__(self):
        raise self.error("iterated")

    def __len__(self):
        raise self.error("measured")


class Property:
    @property
    def tolist(self):
        raise ValueError("looked at")


ODD_RESULTS = {
    "dataclass with a field never set": Unset,
    "mapping that raises": lambda: Iterates(a=1),
    "mapping that exits": lambda: Iterates(SystemExit),
    "property that raises": Property,
    "nested": lambda: {"a": [Unset()]},
    "class that raises": type("X", (), {"__class__": property(lambda self: 1 / 0)}),
    "exception": lambda: ValueError("as a result"),
    "keys": lambda: {Unset: 1},
}


@pytest.mark.parametrize("odd", ODD_RESULTS.values(), ids=ODD_RESULTS)
@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_a_result_that_cannot_be_converted_is_an_error_of_the_reply_and_a_failure(space, orders, odd, kind):
    odd = odd()

    async def coroutine(event):
        return odd

    def generator(event):
        yield 1
        return odd

    async def async_generator(event):
        yield 1
        yield happen.Result(odd)

    kinds = {
        "plain": lambda event: odd,
        "async": coroutine,
        "generator": generator,
        "async generator": async_generator,
    }
    orders.on("pay", kinds[kind])
    orders.on("ping", lambda event: "pong")

    with pytest.raises((happen.PayloadError, happen.HandlerError)):
        space.send("orders", "pay").result(timeout=5)
    assert space.send("orders", "ping").result(timeout=5) == "pong"
    space.settle(5)
    assert len(space.failures) == 1


def test_a_result_that_cannot_be_converted_is_not_retried(space, orders):
    calls = []
    orders.on("pay", lambda event: calls.append(1) or object(), retries=3, backoff=0)
    with pytest.raises(happen.PayloadError):
        space.send("orders", "pay").result(timeout=5)
    space.settle(5)
    assert calls == [1]


def test_an_async_generator_whose_progress_cannot_be_converted_is_closed(space, orders, until):
    closed = []

    async def handler(event):
        try:
            yield Unset()
        finally:
            closed.append(1)

    orders.on("a", handler)
    with pytest.raises(happen.HandlerError, match="total"):
        space.send("orders", "a").result(timeout=5)
    until(lambda: closed)


# -- exceptions ----------------------------------------------------------------------------------------------


class StrRaisesError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class StrExitsError(Exception):
    def __str__(self):
        raise SystemExit


class StrIsNoTextError(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307


class ReprRaisesError(Exception):
    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __repr__


class EqualityRaisesError(Exception):
    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = None


class HashRaisesError(Exception):
    def __hash__(self):
        raise RuntimeError("not hashable")


class AddNoteRaisesError(Exception):
    def add_note(self, note):
        raise RuntimeError("no notes")

    @property
    def __notes__(self):
        raise RuntimeError("no notes")


class CauseRaisesError(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("no cause")

    @property
    def __context__(self):
        raise RuntimeError("no context")

    @property
    def __traceback__(self):
        raise RuntimeError("no traceback")


class Away(BaseException):
    pass


class AttributesRaiseError(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(f"no {name}")


def cyclic():
    error = ValueError("cyclic")
    other = KeyError("other")
    error.__context__, other.__context__ = other, error
    return error


def of_no_text():
    return happen.HandlerError(7)


def without_arguments():
    error = happen.HandlerError("x")
    error.args = ()
    return error


ODD_ERRORS = [
    StrRaisesError,
    StrExitsError,
    StrIsNoTextError,
    ReprRaisesError,
    EqualityRaisesError,
    HashRaisesError,
    AddNoteRaisesError,
    CauseRaisesError,
    AttributesRaiseError,
    Away,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    cyclic,
    of_no_text,
    without_arguments,
    lambda: ExceptionGroup("group", [StrRaisesError(), ValueError(1)]),
    lambda: BaseExceptionGroup("group", [SystemExit(), KeyboardInterrupt()]),
    lambda: ValueError(StrRaisesError()),
    lambda: ValueError("x\n" * 20_000),
    lambda: happen.PayloadError("\ud800"),
    lambda: KeyError(object()),
]


@pytest.mark.parametrize("make", ODD_ERRORS)
@pytest.mark.parametrize("where", ["handler", "async", "filter", "predicate", "watch"])
def test_whatever_is_raised_is_a_failure_with_a_text_and_the_node_goes_on(space, orders, make, where, capsys):
    def fail(*_):
        raise make()

    async def fail_async(event):
        raise make()

    if where == "handler":
        orders.on("a", fail)
    elif where == "async":
        orders.on("a", fail_async)
    elif where == "filter":
        orders.on("a", print, where=fail)
    elif where == "predicate":
        orders.on(lambda kind: kind == "a" and fail(), print)
    else:
        orders.state.watch(fail)
        orders.state.set({"n": 1})
    orders.on("ping", lambda event: "pong")
    if where != "watch":
        with pytest.raises(happen.HandlerError) as caught:
            space.send("orders", "a").result(timeout=5)
        assert len(str(caught.value)) < 100_000
    assert space.send("orders", "ping").result(timeout=5) == "pong"
    space.settle(5)

    (failure,) = space.failures
    (row,) = space.failures.to_frame().itertuples()
    for text in (failure.traceback, repr(failure), repr(space.failures), row.exception + row.message):
        assert text
        assert len(text) < 100_000
    assert 0 < len(capsys.readouterr().err) < 10_000
    retried = space.failures.retry()
    assert retried.failed == 1
    assert repr(retried)
    space.failures.clear()


def test_a_very_long_text_is_short_below_the_cell_and_in_every_output(space, orders, capsys):
    def fail(event):
        raise ValueError("could not convert: " + "7;" * 2_000_000)

    orders.on("load", fail)
    trace = space.broadcast("load").settle()
    (failure,) = space.failures
    outputs = [
        capsys.readouterr().err,
        failure.traceback,
        repr(space.failures),
        space.failures._repr_mimebundle_()["text/html"],
        space.failures.to_frame().message[0],
        str(trace),
    ]
    assert max(map(len, outputs)) < 100_000
    assert len(outputs[0]) < 5_000


def test_a_deep_traceback_is_bounded(space, orders):
    def down(n):
        return up(n)

    def up(n):
        return down(n - 1) if n else 1 / 0

    orders.on("a", lambda event: down(400))
    space.broadcast("a").settle()
    assert len(space.failures[0].traceback) < 40_000
    assert "ZeroDivisionError" in space.failures[0].traceback


# -- filters that do not end ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["off", "cancel", "close"])
def test_a_filter_that_does_not_end_does_not_stop_its_node(space, orders, gate, how):
    begun = threading.Event()

    def hangs(event):
        begun.set()
        return gate.wait(10)

    got = []
    slow = orders.on("a", print, where=hangs)
    orders.on("a", lambda event: got.append("other"))
    orders.on("ping", lambda event: "pong")
    reply = space.send("orders", "a")
    assert begun.wait(10)
    if how == "close":
        space.close()
        return
    if how == "off":
        orders.off(slow)
    else:
        reply.cancel()

    assert space.send("orders", "ping").result(timeout=5) == "pong"
    assert got == (["other"] if how == "off" else [])
    gate.set()
    space.settle()


def test_a_filter_that_returns_a_coroutine_is_a_failure(space, orders):
    async def always_true(event):
        return False

    got = []
    orders.on("a", got.append, where=lambda event: always_true(event))  # noqa: PLW0108
    space.broadcast("a").settle()
    assert (got, type(space.failures[0].exception)) == ([], TypeError)


def test_a_handler_may_fail_while_another_thread_imports_ipython(space, orders, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))  # with nothing in it yet
    orders.on("order", lambda _: 1 / 0)
    orders.broadcast("order")
    space.settle()
    assert [type(failure.exception) for failure in space.failures] == [ZeroDivisionError]


def first_of_none(*_):
    return next(iter(()))


@pytest.mark.parametrize("kind", ["state handler", "set in a handler", "async", "generator", "once", "aonce"])
def test_stop_iteration_keeps_its_name_and_place(space, orders, kind, capsys):
    async def coroutine(event):
        first_of_none()

    def generator(event):
        yield first_of_none()

    async def aonce(event, context):
        await context.aonce("call", first_of_none)

    handlers = {
        "set in a handler": lambda event: orders.state.set(first_of_none),
        "async": coroutine,
        "generator": generator,
        "once": lambda event, context: context.once("call", first_of_none),
        "aonce": aonce,
    }
    if kind == "state handler":
        orders.state.on("a", lambda state, event: first_of_none())
    else:
        orders.on("a", handlers[kind])
    with pytest.raises(happen.HandlerError) as caught:
        space.send("orders", "a").result(timeout=5)
    shown = capsys.readouterr().err
    for text in (str(caught.value), shown):
        assert "in first_of_none" in text
        assert "RuntimeError" not in text
    assert type(space.failures[0].exception) is StopIteration
