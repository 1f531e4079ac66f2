"""Arguments of calls: scalars of NumPy and pandas are accepted like plain ones, other types are refused."""

import datetime as dt
import functools
import sys
import threading
from contextlib import suppress
from decimal import Decimal
from importlib.machinery import ModuleSpec
from types import ModuleType
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

import happen_nb as happen
from happen_nb.errors import HappenTimeoutError, NotStoredError, OutcomeUnknownError


@pytest.fixture
def node(space):
    node = space.create_node("orders", initial={"items": [1, 2], "price": 3})
    node.state.set(happen.put("price", 9))
    space.broadcast("x")
    return node


def test_numbers_of_the_frames_lead_back_to_what_they_came_from(space, node):
    history, events = node.state.history().to_frame("price"), space.events().to_frame()
    journal = space.journal().to_frame()
    assert node.state.at(history.index[0])["price"] == 3
    assert node.state.revert(history.price.idxmin()).after["price"] == 3
    assert len(space.events(since=events.index[0])) == 0
    assert len(space.journal(since=journal.index[-1])) >= 0
    assert space.timeline(since=events.index[0], limit=np.int64(5)) is not None
    assert space.graph(since=events.index[0], limit=np.int64(5)) is not None
    assert len(node.state.history(np.int64(1))) == len(space.events(limit=np.int32(1))) == 1


def test_there_is_nothing_after_a_sequence_that_is_still_to_come(space, node):
    assert len(space.events(since=10**9)) == len(space.journal(since=10**9)) == 0
    assert repr(space.timeline(since=10**9)) == repr(space.timeline(since=space.events()[-1]))


def test_moments_of_pandas_and_numpy_are_moments(space, node):
    first, last = node.state.history()[0], node.state.history()[-1]
    stamp = pd.Timestamp(last.time)
    naive = np.datetime64(last.time.astimezone().replace(tzinfo=None))
    for when in (last.time, stamp, stamp.tz_convert("Asia/Tokyo"), naive):
        assert node.state.at(when)["price"] == 9
        assert space.at(when)["orders"]["price"] == 9
        assert len(space.events(since=when)) == 1
    assert node.state.at(dt.date(2020, 1, 1)) == {}
    assert node.state.at(first.time)["price"] == 3


FIRST, LAST = dt.datetime.min, dt.datetime.max  # noqa: DTZ901 - without a zone is what is tested


@pytest.mark.parametrize("end", [FIRST, LAST])
@pytest.mark.parametrize("hours", [None, 0, 14, -12])
def test_the_ends_of_the_calendar_are_moments(space, node, end, hours):
    zone = None if hours is None else dt.timezone(dt.timedelta(hours=hours))
    when = end.replace(tzinfo=zone)
    early = end == FIRST
    assert node.state.at(when) == ({} if early else {"items": [1, 2], "price": 9})
    assert len(space.at(when)) == (0 if early else 1)
    assert len(space.events(since=when)) == (1 if early else 0)
    event = space.broadcast("y", occurred=when)
    assert event.occurred == when
    for text in (repr(event), event._repr_mimebundle_()["text/html"], repr(space.events())):
        assert text
    assert "<svg" in space.timeline(by="occurred").svg


def test_one_missing_date_does_not_break_the_pictures(space, node):
    node.on("order", lambda event: node.state.set(happen.put("price", event.payload)))
    for i in range(3):
        space.broadcast("order", i, occurred=dt.datetime(2024, 1, 1 + i, tzinfo=dt.UTC))
    for end in (FIRST, LAST):
        space.broadcast("order", 3, occurred=end)
    space.settle()
    assert "<svg" in space.timeline(by="occurred").svg
    assert len(node.state.history().plot("price", x="occurred").data)


def test_paths_take_integers_of_numpy(space, node):
    assert node.state.get(("items", np.int64(0))) == 1
    node.state.set(happen.put(("items", np.int64(0)), 5))
    assert node.state.get((np.str_("items"), np.uint8(0))) == 5


@pytest.mark.parametrize(
    "timeout",
    [
        dt.timedelta(seconds=5),
        pd.Timedelta("5s"),
        np.timedelta64(5, "s"),
        np.float64(5),
        np.int64(5),
        None,
        float("inf"),
    ],
)
def test_every_timeout_takes_durations_and_none(space, node, timeout):
    node.on("ask", lambda event: event.payload)
    node.state.set({"n": 1}, timeout=timeout)
    assert node.state.wait_for(lambda s: True, timeout) == {"n": 1}
    space.settle(timeout)
    assert space.broadcast("y").settle(timeout)
    assert space.wait_for("y", since=0, timeout=timeout).type == "y"
    assert space.send("orders", "ask", 1, timeout=timeout).result(timeout) == 1
    space.replay([{"a": 1}], type="r").wait(timeout)


def calls(space, node):
    node.on("ask", lambda event: None)
    reply = space.send("orders", "ask")
    return {
        "set": lambda t: node.state.set({"n": 2}, timeout=t),
        "state.wait_for": lambda t: node.state.wait_for(lambda s: True, t),
        "settle": space.settle,
        "event.settle": space.broadcast("y").settle,
        "wait_for": lambda t: space.wait_for("y", since=0, timeout=t),
        "send": lambda t: space.send("orders", "ask", timeout=t),
        "result": reply.result,
        "replay.wait": space.replay([{"a": 1}], type="r").wait,
        "connect": lambda t: happen.connect(store=":memory:", name="never", timeout=t),
        "event_ttl": lambda t: happen.connect(store=":memory:", name="never", event_ttl=t),
    }


@pytest.mark.parametrize("wrong", [True, np.bool_(1), "5", [5], object()])
def test_a_timeout_of_another_type_is_a_type_error(space, node, wrong):
    for call in calls(space, node).values():
        with pytest.raises(TypeError, match=r"timeout|event_ttl"):
            call(wrong)


@pytest.mark.parametrize(
    "wrong", [-1, float("nan"), Decimal("sNaN"), -dt.timedelta(1), pd.NaT, np.timedelta64("NaT")]
)
def test_a_timeout_out_of_range_is_a_value_error(space, node, wrong):
    for call in calls(space, node).values():
        with pytest.raises(ValueError, match=r"timeout|event_ttl"):
            call(wrong)


def counts(space, node):
    return {
        "history": node.state.history,
        "events": lambda n: space.events(limit=n),
        "journal": lambda n: space.journal(limit=n),
        "timeline": lambda n: space.timeline(limit=n),
        "graph": lambda n: space.graph(limit=n),
        "retries": lambda n: node.on("z", print, retries=n),
        "replicas": lambda n: happen.connect(store=":memory:", name="never", replicas=n),
        "kept": lambda n: happen.connect(store=":memory:", name="never", history=n),
        "at": node.state.at,
        "revert": node.state.revert,
        "since": lambda n: space.events(since=n),
    }


@pytest.mark.parametrize("wrong", [True, np.bool_(0), 1.5, "3", np.float64(1), [1], pd.NA])
def test_a_number_of_another_type_is_a_type_error(space, node, wrong):
    for call in counts(space, node).values():
        with pytest.raises(TypeError):
            call(wrong)


def test_a_negative_number_is_a_value_error_and_none_of_the_library(space, node):
    for call in counts(space, node).values():
        with pytest.raises(ValueError, match="-1") as raised:
            call(-1)
        assert not isinstance(raised.value, happen.HappenError)


@pytest.mark.parametrize("missing", [pd.NaT, np.datetime64("NaT"), np.datetime64("20000-01-01")])
def test_a_missing_moment_is_a_value_error(space, node, missing):
    for call in (
        node.state.at,
        space.at,
        lambda t: space.events(since=t),
        lambda t: space.broadcast("y", occurred=t),
    ):
        with pytest.raises(ValueError, match="datetime"):
            call(missing)


@pytest.mark.parametrize("wrong", ["2024-01-01", 1.5, dt.time(1), dt.timedelta(1), object(), "x" * 10**6])
def test_what_is_no_moment_is_a_type_error(space, node, wrong):
    for call in (node.state.at, space.at, lambda t: space.events(since=t), lambda t: space.journal(since=t)):
        with pytest.raises(TypeError) as raised:
            call(wrong)
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "occurred",
    [
        pd.Timestamp("2024-05-01T10:00Z"),
        dt.date(2024, 5, 1),
        np.datetime64("2024-05-01T10:00"),
        np.str_("2024-05-01"),
    ],
)
def test_occurred_takes_what_stands_for_a_moment(space, occurred):
    event = space.broadcast("y", occurred=occurred)
    assert event.occurred.date() == dt.date(2024, 5, 1)


def test_texts_of_numpy_are_texts(space):
    node = space.create_node(np.str_("orders"))
    event = node.broadcast(np.str_("order.paid"), id=np.str_("o1"))
    assert [type(x) for x in (event.type, event.id, event.sender, node.name)] == [str] * 4
    node.on("ask", lambda event: 1)
    assert space.send(np.str_("orders"), np.str_("ask")).result(5) == 1


def test_a_predicate_or_a_where_that_is_no_function_is_a_type_error(space, node):
    for call, *arguments in [(node.state.wait_for, "price"), (space.wait_for, "x", "y"), (space.trace, 5)]:
        with pytest.raises(TypeError):
            call(*arguments)


async def _coroutine(*_):
    return False


def _generator(*_):
    yield False


async def _async_generator(*_):
    yield False


class _AsyncCall:
    async def __call__(self, *_):
        return False


class _GeneratorCall:
    def __call__(self, *_):
        yield False


LAZY = {
    "async": _coroutine,
    "generator": _generator,
    "async generator": _async_generator,
    "object": _AsyncCall(),
    "generating object": _GeneratorCall(),
    "partial": functools.partial(_AsyncCall()),
}
LAZY_LAMBDAS = {"lambda": lambda x: _coroutine(x, 1), "generating lambda": lambda x: _generator(x, 1)}
RUNS_NOTHING = "always (be |count as )?true|would never run|is async|is a generator"


@pytest.mark.parametrize("lazy", [*LAZY.values(), *LAZY_LAMBDAS.values()], ids=[*LAZY, *LAZY_LAMBDAS])
def test_a_condition_whose_call_would_always_be_true_is_refused(space, node, lazy):
    event = space.events("x")[-1]
    calls = [
        lambda: space.wait_for("x", where=lazy, since=event.sequence - 1, timeout=0.1),
        lambda: node.state.wait_for(lazy, timeout=0.1),
        lambda: space.events(lazy),
    ]
    for call in calls:
        with pytest.raises((TypeError, ValueError), match=RUNS_NOTHING):
            call()


@pytest.mark.parametrize("lazy", LAZY.values(), ids=LAZY)
def test_a_function_whose_call_would_run_nothing_is_not_registered(space, node, lazy):
    registrations = [
        lambda: node.on("x", print, where=lazy),
        lambda: node.on(lazy, print),
        lambda: node.state.on("x", lazy),
        lambda: node.state.watch(lazy),
        lambda: space.pause("x", where=lazy),
    ]
    for register in registrations:
        with pytest.raises((TypeError, ValueError, happen.TransformError), match=RUNS_NOTHING):
            register()
    assert not node.handlers


@pytest.mark.parametrize("function", [lambda: True, lambda one, two: True], ids=["none", "two"])
def test_a_function_without_the_one_parameter_is_refused_before_it_is_called(space, node, function):
    calls = [
        lambda: node.on("x", print, where=function),
        lambda: node.on(function, print),
        lambda: node.state.on(function, lambda state: state),
        lambda: node.state.watch(function),
        lambda: node.state.wait_for(function, 0),
        lambda: space.events(function),
        lambda: space.pause("x", where=function),
        lambda: space.rerun(instead=function),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"is called with .*, but takes \("):
            call()
    assert not node.handlers


@pytest.mark.parametrize("lazy", LAZY_LAMBDAS.values(), ids=LAZY_LAMBDAS)
def test_a_lambda_whose_call_runs_nothing_is_a_failure(space, node, lazy):
    node.on("y", print, where=lazy)
    node.state.on("y", lazy)
    node.state.watch(lazy)
    node.state.set({"n": 2})
    space.broadcast("y")
    space.settle()

    assert len(space.failures) == 3


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("lazy", LAZY_LAMBDAS.values(), ids=LAZY_LAMBDAS)
def test_a_state_handler_applies_no_event_by_a_filter_whose_call_runs_nothing(space, node, lazy, fold):
    before = node.state.get()
    node.state.on("y", lambda state, _: {**state, "applied": True}, where=lazy, fold=fold)
    for _ in range(3):
        space.broadcast("y")
    space.settle()

    assert node.state.get() == before
    assert len(space.failures) == 3


def test_a_timeout_of_zero_reports_the_true_outcome(space, node):
    with pytest.raises(NotStoredError, match="within the timeout of 0 s: it expired before") as raised:
        node.state.set(lambda s: {**s, "n": 1}, timeout=0)
    assert "other writers" not in str(raised.value)
    assert node.state.get("n") is None
    assert not node.state.set(lambda s: s, timeout=0).changed
    with pytest.raises(HappenTimeoutError):
        node.state.wait_for(lambda s: False, 0)
    with pytest.raises(NotStoredError):
        space.create_node("new").state.set(lambda s: {"n": 1}, timeout=0)


def test_writers_that_are_faster_are_named_and_counted(space, node):
    def slow(state):
        node_of_another_thread(lambda: node.state.set(happen.put("m", lambda n: (n or 0) + 1)))
        return {**state, "n": 1}

    def give_up():
        while True:
            with suppress(OutcomeUnknownError):  # the last try was on its way when the time was up
                node.state.set(slow, timeout=1.0)

    with pytest.raises(NotStoredError, match=r"other writers were faster( \d+ times| until the timeout)"):
        give_up()


def node_of_another_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_names_and_functions_of_another_type_are_type_errors(space, node):
    for call in (
        lambda: space.views[5],
        lambda: space.views.collect(["orders"]),
        lambda: happen.draft(5),
        lambda: node.state.watch("x"),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("wrong", [5, [], pd.NA, np.array([1, 2]), Decimal("sNaN")], ids=str)
def test_a_text_of_another_type_is_a_type_error_that_names_the_argument(space, node, wrong):
    rows = [{"a": 1}]
    for what, call in {
        "state.on: name": lambda: node.state.on("z", len, name=wrong),
        "every: id": lambda: node.every(1, print, id=wrong),
        "replay: time": lambda: space.replay(rows, type="r", time=wrong),
        "record: path": lambda: space.record(wrong),
        "recorded: path": lambda: happen.recorded(wrong),
        "connect: store": lambda: happen.connect(store=wrong),
        "off:": lambda: node.off(wrong),
    }.items():
        with pytest.raises(TypeError, match=f"^{what} "):
            call()
    with pytest.raises(happen.InvalidNameError):
        space.replay(rows, type="r", sender=wrong)


@pytest.mark.parametrize(("wrong", "problem"), [("", "is empty"), ("a\0b", "is 'a.x00b'")])
def test_a_path_that_names_no_file_is_a_value_error(space, wrong, problem):
    for what, call in {"record": space.record, "recorded": happen.recorded}.items():
        with pytest.raises(ValueError, match=f"^{what}: path {problem}"):
            call(wrong)


def test_errors_name_a_text_with_half_of_a_character_in_a_form_that_prints(space, node):
    half = "\ud800"
    for call in (
        lambda: space.views[half],
        lambda: space.nodes[half],
        lambda: space.views.collect({half: "a"}),
        lambda: space.timeline(nodes=half),
        lambda: space.replay([{"a": 1}], type="r", time=half).wait(),
        lambda: node.state.set(happen.put(("price", half), 1)),
        lambda: happen.recorded(half),
    ):
        with pytest.raises((happen.HappenError, ValueError), match="ud800") as caught:
            call()
        assert str(caught.value).encode()


def test_an_integer_of_too_many_digits_to_print_is_as_good_as_another(space, node):
    huge = 10**5000
    for call in (
        lambda: node.state.at(huge),
        lambda: node.state.revert(huge),
        lambda: node.state.set(happen.put(("items", huge), 1)),
    ):
        with pytest.raises(happen.HappenError, match=r"^(node|put)"):
            call()
    assert len(space.events(limit=huge)) == len(node.state.history(huge)) - 1 == 1
    happen.connect(store=":memory:", name="endless", history=huge).close()


@pytest.mark.parametrize("wrong", [pd.NaT, 1.5])
def test_the_error_about_a_moment_names_the_argument(space, node, wrong):
    for what, call in {
        "since": lambda: space.events(since=wrong),
        "fork: at": lambda: space.fork("then", at=wrong),
        "at": lambda: space.at(wrong),
    }.items():
        with pytest.raises((TypeError, ValueError), match=f"^{what}(:| is)"):
            call()


@pytest.mark.parametrize("selector", [lambda: 1, lambda state, more: 1], ids=["none", "two"])
def test_a_selector_that_does_not_take_a_state_is_refused_where_a_type_error_means_missing(
    space, node, selector
):
    history = node.state.history()
    for call in (
        lambda: history.to_frame(selector),
        lambda: history.to_frame(named=selector),
        lambda: history.plot(selector),
        lambda: history.plot("price", x=selector),
        lambda: node.state.live(selector),
        lambda: node.state.live_plot(selector),
        lambda: space.views.orders.live(selector),
        lambda: space.plot({"line": ("orders", selector)}),
    ):
        with pytest.raises(TypeError, match=r"^the selector .* is called with a state, but takes"):
            call()
    assert history.to_frame(lambda state: state["nope"] + 1, self="price").iloc[-1].tolist()[1:] == [None, 9]


@pytest.mark.parametrize("name", ["numpy", "pandas"])
def test_arguments_and_values_are_checked_while_another_thread_imports_numpy_or_pandas(
    space, node, monkeypatch, name
):
    half = ModuleType(name)
    half.__spec__ = ModuleSpec(name, None)
    half.__spec__._initializing = True  # as Python sets it meanwhile
    node.on("ask", lambda event: event.payload)
    monkeypatch.setitem(sys.modules, name, half)

    assert space.send("orders", "ask", 1, timeout=5).result(5) == 1
    space.settle(5)
    assert node.state.set({"day": dt.date(2024, 1, 2), "ids": [UUID(int=1)]}).after["day"] == "2024-01-02"
    assert len(space.events("x", since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))) == 1
    with pytest.raises(happen.StateError, match="store sorted"):
        node.state.set({"ids": {1}})


def test_flags_are_true_or_false(space, node):
    event = space.broadcast("y")
    for what, call in {
        "clear: force": lambda: space.clear(force="no"),
        "get: fresh": lambda: node.state.get(fresh="no"),
        "state.set: serializable": lambda: node.state.set({}, serializable="no"),
        "trace: times": lambda: space.trace(event, times="no"),
        "to_frame: flatten": lambda: space.events().to_frame(flatten="no"),
        "sequence: times": lambda: space.sequence(times="no"),
        "sequence: merge": lambda: space.trace(event).sequence(merge="no"),
        "plot: together": lambda: node.state.history().plot("price", together="no"),
        "live_plot: together": lambda: node.state.live_plot("price", together="no"),
    }.items():
        with pytest.raises(TypeError, match=f"^{what} is 'no'; pass True or False$"):
            call()
    for reading in (space.journal(), space.scheduled, space.held):
        with pytest.raises(TypeError, match=r"^to_frame: flatten is 'no'; pass True or False$"):
            reading.to_frame(flatten="no")
    for call in (space.plot, space.live_plot):
        with pytest.raises(TypeError, match=r"together is 'no'; pass True or False$"):
            call({"price": (node, "price")}, together="no")
    assert node.state.get("price") == 9


def test_frames_have_times_that_their_zone_takes_out_of_the_calendar(space):
    for day, hours in (
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), 23),
        (dt.datetime(9999, 12, 31, 23, tzinfo=dt.UTC), -23),
    ):
        space.broadcast("z", occurred=day.replace(tzinfo=dt.timezone(dt.timedelta(hours=hours))))
    assert list(space.events("z").to_frame()["occurred"].dt.year) == [1, 9999]
    assert "occurred" in space.journal().to_frame()


def test_a_node_whose_failures_or_events_are_retried_is_a_node_or_its_name(space, node):
    space.broadcast("missed")
    got = []
    node.on("missed", got.append)
    for retry in (space.failures.retry, space.unhandled.retry, space.unhandled[-1].retry):
        with pytest.raises(TypeError, match=r"^retry: node is 5; pass a node, or its name$"):
            retry(5)
    assert space.unhandled.retry(node).succeeded == len(got) == 1


def test_a_misspelt_node_whose_failures_or_events_are_retried_is_an_unknown_node(space):
    space.broadcast("missed")
    stock = space.create_node("stock")
    for retry in (space.failures.retry, space.unhandled.retry, space.unhandled[-1].retry):
        with pytest.raises(happen.UnknownNodeError, match="did you mean stock"):
            retry("stok")

    stock.on("wrong", lambda event: 1 / 0)
    space.broadcast("wrong").settle()
    assert space.failures.retry("stock").failed == 1
    stock.delete()
    assert space.failures.retry("stock").failed == 1  # it is still listed


def test_a_missing_argument_is_an_error_that_names_the_public_call(space, node):
    with pytest.raises(TypeError, match=r"^State\.set\(\) missing .* 'transform'; the signature is"):
        node.state.set()
    usage = r"create_node\(name, \*, initial=None\)$"
    with pytest.raises(TypeError, match=rf"^Space\.create_node\(\) takes 2 .* were given; .* {usage}"):
        space.create_node("stock", {"lamp": 7})
    with pytest.raises(TypeError, match=r"^connect\(\) got an unexpected .* 'nme'"):
        happen.connect(nme="shop")
