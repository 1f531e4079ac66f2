"""``node.off``, ``node.handlers`` and ``node.delete``: registered and unregistered handlers."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen


def collector(into, mark=None):
    return lambda event: into.append(mark or event.type)


# -- what is registered --------------------------------------------------------------------------------------


def test_handlers_lists_what_is_registered_in_order(space, orders, stock):
    def take(event): ...

    orders.on("b", take, retries=2)
    orders.on("a", print, where=bool)
    stock.on("c", take)

    assert [
        (h.node, h.pattern, h.name.split(".")[-1], h.where, h.retries, h.active) for h in orders.handlers
    ] == [
        ("orders", "b", "take", False, 2, True),
        ("orders", "a", "print", True, 0, True),
    ]
    assert orders.handlers[-1].function is print
    assert len(orders.handlers[:1]) == 1
    assert len(stock.handlers) == 1


def test_off_by_function_unregisters_all_its_handlers_on_this_node_only(space, orders, stock):
    got = []

    def take(event):
        got.append(event.type)

    for node in (orders, stock):
        node.on("a", take)
    orders.on("b", take)
    handler = orders.handlers[0]
    orders.off(take)
    orders.broadcast("a")
    orders.broadcast("b")
    space.settle()

    assert got == ["a"]
    assert (len(orders.handlers), len(stock.handlers), handler.active) == (0, 1, False)


def test_off_by_pattern_unregisters_the_handlers_of_the_pattern(space, orders):
    got = []
    orders.on("a.*", collector(got, "one"))
    orders.on("a.*", collector(got, "two"))
    orders.on("a.b", collector(got, "three"))
    orders.off("a.*")
    orders.broadcast("a.b")
    space.settle()
    assert got == ["three"]


def test_off_by_a_predicate_unregisters_the_handlers_of_the_predicate(space, orders):
    orders.on(str.isupper, print)
    orders.on(str.islower, print)
    orders.off(str.isupper)
    assert [handler.pattern for handler in orders.handlers] == ["str.islower"]


def test_off_by_pattern_leaves_a_predicate_of_that_name(space, orders):
    def order(type):
        return True

    orders.on(order, print)
    name = orders.handlers[0].pattern
    orders.on(name.replace("<", "").replace(">", ""), print)
    with pytest.raises(ValueError, match="no handler with this function or pattern"):
        orders.off(name)


@pytest.mark.parametrize("unknown", ["b", print, "a.*"])
def test_off_of_what_is_not_registered_names_what_is(space, orders, unknown):
    orders.on("a", len)
    with pytest.raises(ValueError, match='"a" -> len'):
        orders.off(unknown)
    assert len(orders.handlers) == 1


@pytest.mark.parametrize("wrong", [None, 5, ["a"]])
def test_off_of_neither_a_function_nor_a_pattern_unregisters_nothing(space, orders, wrong):
    orders.on("a", len)
    orders.on(str.isupper, print)
    with pytest.raises(TypeError, match=r"^off: .* is neither a function nor a pattern$"):
        orders.off(wrong)
    assert len(orders.handlers) == 2


def test_an_unregistered_handler_does_not_handle_waiting_events(space, orders, gate):
    got = []

    def slow(event):
        gate.wait(10)

    orders.on("a", slow)
    orders.on("b", collector(got))
    orders.broadcast("a")
    orders.broadcast("b")
    orders.off("b")
    gate.set()
    space.settle()

    assert got == []


def test_what_replaces_a_handler_takes_what_waited_for_it(space, orders, gate):
    got = []
    orders.on("a", lambda event: gate.wait(10))
    orders.on("b", collector(got, "old"))
    orders.broadcast("a")
    orders.broadcast("b")
    orders.off("b")
    orders.on("b", collector(got, "new"))
    gate.set()
    space.settle()

    assert got == ["new"]


def test_a_handler_may_register_and_unregister_while_it_runs(space, orders):
    got = []

    def late(event):
        got.append("late")

    @orders.on("a")
    def once(event):
        got.append("once")
        orders.off(once)
        orders.on("a", late)

    for _ in range(2):
        orders.broadcast("a")
        space.settle()

    assert got == ["once", "late"]
    assert [handler.function for handler in orders.handlers] == [late]


def test_an_async_handler_may_register_and_unregister_too(space, orders):
    got = []

    @orders.on("a")
    async def once(event):
        await asyncio.sleep(0)
        orders.off(once)
        orders.on("a", collector(got, "late"))

    orders.broadcast("a")
    space.settle()
    orders.broadcast("a")
    space.settle()

    assert got == ["late"]


def test_the_owner_of_a_node_with_a_handler_is_this_process(space, orders):
    assert orders.owner is None
    orders.on("a", print)
    assert orders.owner.here
    assert repr(orders.owner) == "this process"


def test_registering_and_unregistering_on_a_closed_space_are_refused(store):
    import happen_nb

    space = happen_nb.connect(store=store, name="closed_before_registering")
    node = space.create_node("orders")
    space.drop()
    with pytest.raises(happen.ClosedError):
        node.on("a", print)
    with pytest.raises(happen.ClosedError):
        node.off("a")


# -- deleting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [None, {"n": 1}])
def test_a_deleted_node_handles_nothing_any_more_and_may_begin_again(space, initial):
    got = []
    node = space.create_node("gone", initial=initial)
    node.on("a", collector(got, "old"))
    node.delete()
    space.broadcast("a")
    space.settle()
    assert (got, len(node.handlers), node.owner) == ([], 0, None)

    again = space.create_node("gone")
    again.on("a", collector(got, "new"))
    space.broadcast("a")
    space.settle()
    assert got == ["new"]
    assert "gone" in space.views


def test_a_handler_may_delete_its_own_node(space):
    node = space.create_node("gone", initial={"n": 1})
    got = []

    @node.on("a")
    def end(event):
        got.append(event.payload)
        node.delete()
        return "gone"

    replies = [space.send(node, "a", n) for n in range(3)]

    assert replies[0].result() == "gone"
    for reply in replies[1:]:
        with pytest.raises(happen.NoHandlerError):
            reply.result()
    space.settle()
    assert got == [0]
    assert "gone" not in space.views


# -- any sequence --------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.just("on"), st.sampled_from(["a", "b", "*", "{a,b}"]))
        | st.tuples(st.just("off"), st.integers(0, 5))
        | st.tuples(st.just("tell"), st.sampled_from("abc")),
        max_size=15,
    )
)
def test_any_sequence_of_registering_and_telling_is_what_a_plain_list_says(space, orders, steps):
    got, expected, active, number = [], [], [], 0
    takes = {"a": "a", "b": "b", "*": "abc", "{a,b}": "ab"}
    for step, what in steps:
        if step == "on":
            number += 1
            function = orders.on(what, lambda event, n=number: got.append((n, event.type)))
            active.append((number, what, function))
        elif step == "off" and active:
            orders.off(active.pop(what % len(active))[2])
        elif step == "tell":
            space.broadcast(what)
            space.settle()
            expected += [(n, what) for n, pattern, _ in active if what in takes[pattern]]
    for _, _, function in active:
        orders.off(function)

    assert got == expected


def test_many_threads_may_register_at_once(space, orders):
    got = []
    threads = [
        threading.Thread(target=orders.on, args=("a", lambda event, n=n: got.append(n))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    space.broadcast("a")
    space.settle()
    assert sorted(got) == list(range(20))
