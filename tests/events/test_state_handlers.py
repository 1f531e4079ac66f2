"""State handlers: an event changes a state exactly once, in the order of the journal."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen
from tests.events.applying import add, elsewhere, take

numbers = count()


@pytest.fixture
def stock(space):
    return space.create_node("stock", initial={"lamp": 5})


@pytest.fixture
def shop(space):
    return space.create_node("shop")


# -- what a transform may be ---------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["real", "manual"])
@pytest.mark.parametrize("first", ["state", "durable"])
@pytest.mark.parametrize("second", ["state", "plain"])
@pytest.mark.parametrize("settled", [False, True], ids=["both catch up", "one catches up"])
def test_no_event_overtakes_an_earlier_one_of_its_node(clock, first, second, settled):
    """Whichever kinds of handlers they have, and also while one of these still catches up."""

    def counted(state, event):
        return {**state, event.type: state.get(event.type, 0) + 1}

    def count_it(event):
        stock.state.set(lambda state: counted(state, event))

    with happen.connect(store=":memory:", name="order", clock=clock) as space:
        shop, stock = space.create_node("shop"), space.create_node("stock")
        if second == "plain":
            stock.on("second", count_it)
        else:
            stock.state.on("second", counted)
        if settled:
            space.settle()
        if first == "durable":
            stock.on("first", count_it, durable=True)
        else:
            stock.state.on("first", counted)
        for _ in range(20):
            shop.broadcast("first")
            shop.broadcast("second")
        space.settle()
        types = {event.id: event.type for event in space.events()}
        assert [types[commit.cause] for commit in stock.state.history()] == ["first", "second"] * 20


def test_each_event_commits_what_the_transform_returns(space, stock, shop):
    stock.state.on("order.*", take)
    for n in (1, 2):
        shop.broadcast("order.placed", n)
    space.settle()
    assert stock.state.get("lamp") == 2
    assert stock.state.revision == 3


def test_it_is_a_decorator_that_returns_the_function(space, stock, shop):
    @stock.state.on("order.*")
    def reserve(state, event):
        return take(state, event)

    assert reserve({"lamp": 3}, happen.event("order.placed", 2)) == {"lamp": 1}
    shop.broadcast("order.placed", 2).settle()
    assert stock.state.get("lamp") == 3


def test_put_compose_and_drafts_are_state_handlers(space, stock, shop):
    stock.state.on("put", happen.put("count", lambda old: (old or 0) + 1))
    stock.state.on("compose", happen.compose(happen.put("a", 1), happen.put("b", 2)))

    @stock.state.on("draft")
    @happen.draft
    def edit(draft, event):
        draft["lamp"] += event.payload

    @stock.state.on("viewing")
    @happen.draft
    def look(draft, event, views):
        draft["shop"] = views.shop.get("open")

    shop.state.set({"open": True})
    for type_ in ("put", "put", "compose", "draft", "viewing"):
        shop.broadcast(type_, 1)
    space.settle()
    assert stock.state.get() == {"lamp": 6, "count": 2, "a": 1, "b": 2, "shop": True}


@pytest.mark.parametrize(
    ("transform", "problem"),
    [
        (lambda a, b, c, d: a, 'requires "d"'),
        (lambda: 1, "has no parameter for the state"),
        (lambda *, state=None: 1, "has no parameter for the state"),
        (lambda event: {"n": 1}, r"its first parameter is \"event\"; write \(state, event\)"),
        (lambda event, state: {"n": 1}, r"write \(state, event\)"),
        ({"n": 1}, "pass a function of the state and the event"),
        (7, "pass a function of the state and the event"),
    ],
)
def test_what_cannot_be_called_with_a_state_and_an_event_is_refused(stock, transform, problem):
    with pytest.raises(TypeError, match=problem):
        stock.state.on("order.*", transform)
    assert len(stock.handlers) == 0


@pytest.mark.parametrize(
    ("on", "option"),
    [("state.on", "fold"), ("state.on", "keep"), ("on", "durable"), ("on", "keep")],
)
def test_an_option_is_true_or_false(stock, on, option):
    register = stock.state.on if on == "state.on" else stock.on
    with pytest.raises(TypeError, match=f"^{on}: {option} is 'no'; pass True or False$"):
        register("paid", lambda *_: None, **{option: "no"})
    assert len(stock.handlers) == 0


def test_an_async_transform_is_refused(stock):
    async def later(state, event):
        return state

    with pytest.raises(happen.TransformError, match="async"):
        stock.state.on("order.*", later)


def test_where_filters_further(space, stock, shop):
    stock.state.on("order.*", take, where=lambda event: event.payload > 1)
    for n in (1, 2):
        shop.broadcast("order.placed", n)
    space.settle()
    assert stock.state.get("lamp") == 3


def test_what_the_transform_emits_leaves_with_the_commit(space, stock, shop):
    @stock.state.on("order.placed")
    def reserve(state, event):
        stock.broadcast("stock.reserved", event.payload)
        return take(state, event)

    event = shop.broadcast("order.placed", 2)
    space.settle()
    (reserved,) = space.events("stock.reserved")
    assert reserved.cause == event.id
    assert reserved.sequence == stock.state.history()[-1].sequence
    assert stock.state.history()[-1].cause == event.id
    assert stock.state.history()[-1].by == "stock"


def test_a_state_that_stays_equal_is_no_commit(space, stock, shop):
    stock.state.on("order.*", lambda state, event: dict(state))
    shop.broadcast("order.placed", 1).settle()
    assert stock.state.revision == 1


def test_it_cannot_wait_for_the_system(space, stock, shop):
    stock.state.on("order.*", lambda state, event: stock.state.set({}) and {})
    shop.broadcast("order.placed").settle()
    (failure,) = space.failures
    assert isinstance(failure.exception, happen.TransformError)


# -- views ---------------------------------------------------------------------------------------------------


def test_views_show_the_states_when_the_event_was_stored(space, stock, shop):
    seen = []

    @stock.state.on("look")
    def look(state, event, views):
        seen.append(views.shop.get("n"))
        return {**state, "seen": views.shop.get("n")}

    for n in range(20):
        shop.state.set({"n": n})
        shop.broadcast("look")
    space.settle()
    assert seen == list(range(20))


def test_views_show_them_too_where_the_event_is_applied_later(space, stock, shop):
    for n in range(5):
        shop.state.set({"n": n})
        shop.broadcast("look")
    shop.state.set({"n": 99})

    stock.state.on(
        "look",
        lambda state, event, views: add(state, happen.event("x", views.shop.get("n"))),
        start="beginning",
    )
    space.settle()
    assert stock.state.get("seen") == [0, 1, 2, 3, 4]


# -- failures ------------------------------------------------------------------------------------------------


def test_one_that_raises_is_a_failure_and_later_events_go_on(space, stock, shop):
    stock.state.on("n", lambda state, event: add(state, event) if event.payload != 1 else 1 / 0)
    for n in range(3):
        shop.broadcast("n", n)
    space.settle()
    assert stock.state.get("seen") == [0, 2]
    (failure,) = space.failures
    assert isinstance(failure.exception, ZeroDivisionError)


def test_a_failure_may_be_applied_late_and_still_once(space, stock, shop):
    broken = [True]

    def careful(state, event):
        if event.payload == 1 and broken[0]:
            raise ValueError("not yet")
        return add(state, event)

    stock.state.on("n", careful)
    for n in range(3):
        shop.broadcast("n", n)
    space.settle()
    broken.clear()
    broken.append(False)
    (failure,) = space.failures
    failure.retry()
    failure.retry()
    space.settle()
    assert stock.state.get("seen") == [0, 2, 1]


def test_an_event_from_before_its_start_is_not_taken_for_applied(space, stock, shop):
    shop.broadcast("n", 0)
    stock.state.on("n", add)
    result = space.unhandled.retry()
    assert (result.succeeded, result.failed) == (0, 1)
    assert isinstance(space.failures[-1].exception, happen.NoHandlerError)
    assert stock.state.get("seen") is None


def test_a_failure_is_applied_late_also_by_a_later_connection(tmp_path):
    def careful(state, event):
        if event.payload == 1:
            raise ValueError("not yet")
        return add(state, event)

    with happen.connect(store=tmp_path / "store", name="shop") as space:
        space.create_node("stock").state.on("n", careful, name="adder")
        for n in range(3):
            space.broadcast("n", n)
        space.settle()
        (missed,) = [event for event in space.events("n") if event.payload == 1]
        position = (missed.sequence, missed.index)
    with happen.connect(store=tmp_path / "store", name="shop") as space:
        stock = space.create_node("stock")
        stock.state.on("n", add, name="adder")
        space.settle()
        assert stock.state.get("seen") == [0, 2]
        record = space._log.replica.newest("stock")
        assert record.positions["adder"].skipped == (position,)


def test_a_state_that_is_too_large_is_a_failure_that_can_be_retried(space, stock, shop):
    sizes = [20_000_000, 1]

    def grow(state, event):
        return {**state, "text": "x" * sizes[0]} if event.payload == 0 else add(state, event)

    stock.state.on("n", grow)
    for n in range(2):
        shop.broadcast("n", n)
    space.settle()
    (failure,) = space.failures
    assert isinstance(failure.exception, happen.TooLargeError)
    sizes.pop(0)
    failure.retry()
    assert stock.state.get() == {"lamp": 5, "seen": [1], "text": "x"}


# -- folding -------------------------------------------------------------------------------------------------


def test_folding_applies_all_that_waits_in_few_commits(space, stock, shop):
    space.replay([{"n": n} for n in range(1000)], type="n").wait(60)

    def count(state, event):
        n = event.payload["n"]
        if n == 500:
            raise ValueError("this one fails")
        if n % 100 == 0:
            shop.broadcast("even")
        return {**state, "n": state.get("n", 0) + 1, "last": n}

    stock.state.on("n", count, start="beginning", fold=True, where=lambda event: event.payload["n"] != 7)
    space.settle(timeout=60)
    assert stock.state.get() == {"lamp": 5, "n": 998, "last": 999}
    assert stock.state.revision < 100
    assert len(space.failures) == 1
    assert len(space.events("even")) == 9


def test_each_folded_event_sees_the_views_of_its_own_time(space, stock, shop):
    for n in range(20):
        shop.state.set({"n": n})
        shop.broadcast("look")

    def look(state, event, views):
        return {**state, "seen": [*state.get("seen", ()), views.shop.get("n")]}

    stock.state.on("look", look, start="beginning", fold=True)
    space.settle()
    assert stock.state.get("seen") == list(range(20))


def test_a_commit_that_folds_lists_its_causes_and_stands_in_the_trace_of_each(space, stock, shop):
    events = [shop.broadcast("n", n) for n in range(50)]
    stock.state.on("n", add, start="beginning", fold=True)
    space.settle()
    folding = [commit for commit in stock.state.history() if commit.cause is not None]
    assert [id for commit in folding for id in commit.causes] == [event.id for event in events]
    assert len(folding) < len(events)
    for event in events:
        (commit,) = [commit for commit in folding if event.id in commit.causes]
        shown = [each.commit for each in space.trace(event) if each.commit is not None]
        assert [each.sequence for each in shown] == [commit.sequence]


KINDS = ("add", "emit", "fail", "same", "refuse")


def apply_by_kind(node):
    """Return a transform whose effect depends on the kind of the event."""

    def apply(state, event):
        kind, n = event.payload["kind"], event.payload["n"]
        if kind == "fail":
            raise ValueError(n)
        if kind == "emit":
            node.broadcast("emitted", n)
        return state if kind == "same" else {**state, "seen": [*state.get("seen", ()), n]}

    return apply


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=12))
def test_folding_has_the_effects_of_applying_one_by_one(space, kinds):
    space.clear()
    kept = [n for n, kind in enumerate(kinds) if kind in ("add", "emit")]
    space.replay([{"n": n, "kind": kind} for n, kind in enumerate(kinds)], type="n").wait(30)
    applied = [event.id for event in space.events("n") if event.payload["kind"] not in ("fail", "refuse")]
    nodes = []
    for fold in (False, True):
        node = space.create_node(f"node-{fold}-{next(numbers)}")
        node.state.on(
            "n",
            apply_by_kind(node),
            start="beginning",
            fold=fold,
            where=lambda event: event.payload["kind"] != "refuse",
        )
        nodes.append(node)
    space.settle(30)
    for node in nodes:
        assert node.state.get() == ({"seen": kept} if kept else {})
        emitted = [event.payload for event in space.events("emitted") if event.sender == node.name]
        assert emitted == [n for n, kind in enumerate(kinds) if kind == "emit"]
        failed = [failure for failure in space.failures if failure.node == node.name]
        assert len(failed) == kinds.count("fail")
        causes = [id for commit in node.state.history() for id in commit.causes]
        assert set(causes) <= set(applied)
        assert len(causes) == len(set(causes))
        node.delete()


def test_a_commit_that_two_handlers_fold_lists_each_cause_once(space, stock, shop):
    for key in ("one", "two"):
        put = happen.put(key, lambda n: (n or 0) + 1)
        stock.state.on("n", lambda state, event, put=put: put(state), name=key, fold=True)
    space.pause()
    events = [shop.broadcast("n", n) for n in range(20)]
    space.resume()
    space.settle()
    assert (stock.state.get("one"), stock.state.get("two")) == (20, 20)
    causes = [commit.causes for commit in stock.state.history()]
    assert all(len(each) == len(set(each)) for each in causes)
    assert {id for each in causes for id in each} == {event.id for event in events}


def test_what_a_folded_event_emits_has_that_event_as_cause_beside_other_handlers_too(space, stock, shop):
    events = [shop.broadcast("n", n) for n in range(20)]
    stock.on("other", lambda event: None)

    def apply(state, event):
        stock.broadcast("emitted", event.payload)
        stock.broadcast("to come", event.payload, after=1000)
        return {**state, "n": event.payload}

    stock.state.on("n", apply, start="beginning", fold=True)
    space.settle()
    assert stock.state.revision < len(events)
    for found in (space.events("emitted"), space.scheduled):
        assert [event.cause for event in found] == [event.id for event in events]
        assert [event.path for event in found] == [(event.id,) for event in events]
        assert [event.correlation for event in found] == [event.id for event in events]


def test_a_folded_event_that_fails_cancels_nothing_beside_other_handlers_too(space, stock, shop):
    for n in range(6):
        space.broadcast("due", n, after=1000, id=f"due-{n}")
        shop.broadcast("n", n)
    stock.on("other", lambda event: None)

    def apply(state, event):
        stock.cancel(f"due-{event.payload}")
        if event.payload in {1, 4}:
            raise ValueError("this one fails")
        return {**state, "n": event.payload}

    stock.state.on("n", apply, start="beginning", fold=True)
    space.settle()
    assert [event.payload for event in space.scheduled] == [1, 4]
    assert len(space.failures) == 2


def test_a_fold_that_ends_in_the_state_it_began_with_is_no_commit(space, stock, shop):
    space.replay([{"by": by} for by in (1, -1) * 10], type="n").wait(30)
    stock.state.on(
        "n", lambda state, event: {"lamp": state["lamp"] + event.payload["by"]}, start="beginning", fold=True
    )
    space.settle()
    assert stock.state.get() == {"lamp": 5}
    assert stock.state.revision == 1
    shop.broadcast("n", {"by": 2})
    space.settle()
    assert stock.state.get() == {"lamp": 7}


# -- replies, and other handlers -----------------------------------------------------------------------------


def test_a_send_replies_nothing_or_the_error(space, stock, shop):
    stock.state.on("n", lambda state, event: {**state, "n": 1 / event.payload})
    assert shop.send("stock", "n", 1).result() is None
    with pytest.raises(happen.HandlerError, match="ZeroDivisionError"):
        shop.send("stock", "n", 0).result()


def test_a_handler_of_the_same_event_sees_its_commit_and_replies(space, stock, shop):
    stock.on("n", lambda event: stock.state.get("lamp"))
    stock.state.on("n", take)
    assert shop.send("stock", "n", 2).result() == 3


def test_it_stands_among_the_handlers_and_goes_by_off(space, stock, shop):
    stock.state.on("n", add)
    assert [(each.pattern, each.name) for each in stock.handlers] == [("n", "add")]
    stock.off(add)
    shop.broadcast("n", 1).settle()
    assert stock.state.get("seen") is None


def test_what_it_does_is_shown_where_that_of_any_handler_is(space, stock, shop):
    @stock.state.on("order.placed")
    def reserve(state, event):
        stock.broadcast("stock.reserved", event.payload)
        return take(state, event)

    event = shop.broadcast("order.placed", 2)
    space.settle()
    assert event.handled_by == ("stock",)
    assert [each.event.type for each in space.unhandled] == ["stock.reserved"]
    trace = str(space.trace(event))
    assert "stock revision 2" in trace
    assert "stock.reserved" in trace
    assert any("shop → stock" in line and "order.placed" in line for line in repr(space.graph()).splitlines())
    assert "stock" in repr(space.timeline())


# -- positions over what others do ---------------------------------------------------------------------------


def test_a_set_of_somebody_else_carries_the_positions_on(space, stock, shop):
    stock.state.on("n", add)
    shop.broadcast("n", 0).settle()
    stock.off("n")
    elsewhere(space, 'stock.state.set(lambda state: {**state, "theirs": True})')
    stock.state.on("n", add)
    space.settle()
    assert stock.state.get() == {"lamp": 5, "seen": [0], "theirs": True}


def test_more_than_fit_into_the_header_of_a_commit_are_refused(space, stock, shop):
    def set_one(state, event):
        return {**state, "n": event.payload}

    def register(number):
        stock.state.on(f"order.{number}", set_one, name=f"{'x' * 100} {number}")

    with pytest.raises(happen.TooLargeError, match=r"stock\" has \d+ state handlers"):
        list(map(register, range(400)))
    for number in range(180):
        shop.broadcast(f"order.{number}", number)
    space.settle(30)
    assert len(space.failures) == 0
    assert stock.state.set({"n": 0}).changed


def test_after_a_clear_it_goes_on(space, stock, shop):
    stock.state.on("n", add)
    shop.broadcast("n", 0).settle()
    space.clear()
    shop.broadcast("n", 1)
    space.settle()
    assert stock.state.get("seen") == [1]


def test_after_a_delete_it_begins_anew(space, stock, shop):
    stock.state.on("n", add, start="beginning")
    shop.broadcast("n", 0).settle()
    stock.delete()
    again = space.create_node("stock")
    assert len(again.handlers) == 0
    again.state.on("n", add)
    shop.broadcast("n", 1)
    space.settle()
    assert again.state.get() == {"seen": [1]}


# -- without a server ----------------------------------------------------------------------------------------


def test_what_a_transform_emits_can_be_tested_without_sending_it(space, stock):
    def reserve(state, event):
        stock.broadcast("stock.reserved", event.payload)
        return take(state, event)

    with happen.emitted() as events:
        assert reserve({"lamp": 5}, happen.event("order.placed", 2, id="o1")) == {"lamp": 3}
    assert [(event.type, event.payload) for event in events] == [("stock.reserved", 2)]
    assert len(space.events()) == 0
    with happen.emitted(), pytest.raises(happen.TransformError, match=r"^the block of happen.emitted\(\) "):
        stock.state.set({})


def test_what_async_code_emits_can_be_tested_without_sending_it(space, orders):
    async def collect():
        with happen.emitted() as events:
            await orders.abroadcast("order.placed", 2)
            scheduled = await orders.abroadcast("order.expired", after=60)
            assert await scheduled.acancel()
        return events

    assert [event.payload for event in happen.run(collect())] == [2]
    assert len(space.events()) == 0


def test_an_event_that_is_cancelled_or_scheduled_anew_is_collected_no_more(orders):
    with happen.emitted() as events:
        cancelled = orders.broadcast("order.expired", after=60)
        orders.broadcast("order.reminded", "first", after=60, id="remind")
        orders.broadcast("order.reminded", "second", after=90, id="remind")
        assert cancelled.cancel()
    assert [event.payload for event in events] == ["second"]


def test_an_event_for_a_test_is_checked_as_a_real_one():
    event = happen.event("order.placed", {"n": [1]}, sender="shop", occurred="2026-01-01T00:00:00")
    assert (event.type, event.sender, event.pending, event.payload["n"][0]) == (
        "order.placed",
        "shop",
        True,
        1,
    )
    with pytest.raises(happen.PayloadError):
        happen.event("order.placed", object())
    with pytest.raises(happen.EventTypeError):
        happen.event("")
    for name in ("sender", "target"):
        with pytest.raises(happen.InvalidNameError):
            happen.event("order.placed", **{name: 5})
    for name in ("id", "occurred"):
        with pytest.raises(ValueError, match=f"^event: {name} is 'o.1'"):
            happen.event("order.placed", **{name: "o.1"})
    for call in (event.cancel, event.settle):
        with pytest.raises(happen.HappenError, match="belongs to no space"):
            call()
