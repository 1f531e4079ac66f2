"""``state.set``: commits, conflicts and refusals."""

from __future__ import annotations

import datetime as dt
import threading
import traceback
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 0})


# -- what it takes -----------------------------------------------------------------------------------


class Transforms:
    """Callables of every kind."""

    def method(self, state):
        return {"args": 1}

    def method_with_views(self, state, views):
        return {"args": 2, "nodes": list(views)}

    @staticmethod
    def static(state):
        return {"args": 1}

    def __call__(self, state, views):
        return {"args": 2, "nodes": list(views)}


def _three(first, state, views):
    return {"args": 2, "nodes": list(views), "first": first}


VIEWED = {"args": 2, "nodes": ["orders"]}


@pytest.mark.parametrize(
    ("transform", "after"),
    [
        (lambda s: {"args": 1}, {"args": 1}),
        (lambda s, views: {"args": 2, "nodes": list(views)}, VIEWED),
        (lambda s, v: {"args": 2, "nodes": list(v)}, VIEWED),
        (lambda s, oid="o7": {"oid": oid}, {"oid": "o7"}),
        (lambda s, views=None: {"args": 2, "nodes": list(views)}, VIEWED),
        (lambda s, oid="o7", views=None: {"args": 2, "nodes": list(views)}, VIEWED),
        (lambda s, *, views: {"args": 2, "nodes": list(views)}, VIEWED),
        (lambda s, *, other=3: {"other": other}, {"other": 3}),
        (lambda *args: {"args": len(args)}, {"args": 1}),
        (lambda s, *args: {"args": 1 + len(args)}, {"args": 1}),
        (lambda s, **more: {"more": len(more)}, {"more": 0}),
        (Transforms().method, {"args": 1}),
        (Transforms().method_with_views, VIEWED),
        (Transforms.static, {"args": 1}),
        (Transforms(), VIEWED),
        (partial(_three, "f"), {**VIEWED, "first": "f"}),
        (dict, {"n": 0}),
    ],
)
def test_a_transform_gets_views_only_if_it_asks_for_them(orders, transform, after):
    assert orders.state.set(transform).after == after


def test_a_default_in_a_loop_means_what_it_says(orders):
    for oid in ("o1", "o2", "o3"):
        orders.state.set(lambda s, oid=oid: {**s, oid: True})

    assert orders.state.get() == {"n": 0, "o1": True, "o2": True, "o3": True}


def test_a_third_required_parameter_is_a_type_error_that_names_it(orders):
    with pytest.raises(TypeError, match="extra"):
        orders.state.set(lambda state, views, extra: state)


def test_a_mapping_replaces_the_state(orders):
    assert orders.state.set({"m": 1}).after == {"m": 1}


def test_any_mapping_will_do(orders, space):
    space.create_node("source", initial={"a": {"b": 1}})

    assert orders.state.set(space.views.source.get()).after == {"a": {"b": 1}}


@pytest.mark.parametrize("what", [None, 7, "text", [("a", 1)], {1, 2}])
def test_what_is_neither_function_nor_mapping_is_refused(orders, what):
    with pytest.raises(happen.StateError):
        orders.state.set(what)

    assert orders.state.revision == 1


# -- what it gives back ------------------------------------------------------------------------------


def test_a_commit_describes_the_change(orders):
    commit = orders.state.set(lambda s: {**s, "n": 1, "list": [1]})

    assert (commit.node, commit.revision, commit.changed) == ("orders", 2, True)
    assert (commit.before, commit.after) == ({"n": 0}, {"n": 1, "list": [1]})
    assert {(c.op, c.path, c.before, c.after) for c in commit.diff if c.path != ("list",)} == {
        ("change", ("n",), 0, 1)
    }
    assert commit.cause is None
    assert commit.time.tzinfo == dt.UTC
    assert orders.state.history()[-1].sequence == commit.sequence


def test_a_commits_time_is_when_the_server_stored_it(orders):
    first, second = orders.state.set({"n": 1}), orders.state.set({"n": 2})

    assert first.time <= second.time
    assert [commit.time for commit in orders.state.history()[1:]] == [first.time, second.time]


@pytest.mark.parametrize("same", [lambda s: s, dict, {"n": 0}, lambda s, views: {**s}])
def test_an_equal_state_commits_nothing(orders, same):
    commit = orders.state.set(same)

    assert (commit.changed, list(commit.diff), commit.revision) == (False, [], 1)
    assert commit.before == commit.after == {"n": 0}
    assert len(orders.state.history()) == 1


def test_an_equal_state_is_json_equal(space):
    node = space.create_node("n", initial={"a": 1, "b": [True, 1.5]})

    assert not node.state.set({"b": [True, 1.5], "a": 1}).changed
    assert node.state.set({"a": True, "b": [True, 1.5]}).changed
    assert node.state.set({"a": 1, "b": [True, 1.5]}).changed
    assert node.state.set({"a": 1.0, "b": [True, 1.5]}).changed
    assert node.state.set({"a": 1.0, "b": [1, 1.5]}).changed
    assert node.state.set({"a": 1.0, "b": [1, 1.5], "c": None}).changed


def test_an_empty_state_on_a_node_without_one_commits_nothing(space):
    commit = space.create_node("n").state.set({})

    assert (commit.changed, commit.revision, commit.before, commit.after) == (False, 0, {}, {})


# -- what it refuses ---------------------------------------------------------------------------------


def test_the_exception_of_a_transform_comes_out_unchanged_with_a_note(orders):
    error = ZeroDivisionError("mine")

    def fail(state):
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        orders.state.set(fail)

    assert caught.value is error
    assert [note for note in caught.value.__notes__ if "orders" in note and "revision 1" in note]
    assert orders.state.get(fresh=True) == {"n": 0}


async def _async(state):
    return state


def _generator(state):
    yield state


async def _async_generator(state):
    yield state


@pytest.mark.parametrize("transform", [_async, _generator, _async_generator, partial(_async)])
@pytest.mark.filterwarnings("error")
def test_an_async_or_generator_transform_is_a_transform_error(orders, transform):
    with pytest.raises(happen.TransformError, match=r"async|generator"):
        orders.state.set(transform)

    assert orders.state.revision == 1


WAITING = {
    "set": lambda node: node.state.set({"n": 9}),
    "fresh get": lambda node: node.state.get(fresh=True),
    "history": lambda node: node.state.history(),
    "at": lambda node: node.state.at(1),
    "revert": lambda node: node.state.revert(1),
    "wait_for": lambda node: node.state.wait_for(lambda s: True),
    "delete": lambda node: node.delete(),
    "create_node": lambda node: node.space.create_node("more", initial={}),
    "journal": lambda node: node.space.journal(),
    "space.at": lambda node: node.space.at(dt.datetime.now(dt.UTC)),
    "clear": lambda node: node.space.clear(),
    "fork": lambda node: node.space.fork("more"),
    "drop": lambda node: node.space.drop(),
    "close": lambda node: node.space.close(),
    "connect": lambda node: happen.connect(store=":memory:", name="more"),
    "spaces": lambda node: happen.spaces(),
}


@pytest.mark.parametrize("call", WAITING.values(), ids=WAITING)
def test_a_call_that_waits_inside_a_transform_is_a_transform_error(orders, call):
    with pytest.raises(happen.TransformError, match="orders"):
        orders.state.set(lambda s: call(orders) or s)

    assert orders.state.get(fresh=True) == {"n": 0}
    assert orders.state.set({"n": 1}).revision == 2


def test_reading_inside_a_transform_is_allowed(space, orders):
    other = space.create_node("other", initial={"n": 5})

    assert orders.state.set(lambda s: {"n": other.state.get("n")}).after == {"n": 5}


def test_a_refused_value_names_its_path(orders):
    with pytest.raises(happen.StateError, match=r"o1\.tags"):
        orders.state.set(lambda s: {**s, "o1": {"tags": {"b", "a"}}})


# -- conflicts ---------------------------------------------------------------------------------------


def test_a_transform_runs_again_on_the_newer_state_when_another_was_first(space, orders, other):
    other.do('orders = space.create_node("orders")')
    seen = []

    def slow(state):
        if not seen:
            other.do('orders.state.set(lambda s: {**s, "n": 100})')
        seen.append(state["n"])
        return {**state, "n": state["n"] + 1}

    commit = orders.state.set(slow)

    assert (seen, commit.before, commit.after) == ([0, 100], {"n": 100}, {"n": 101})


def test_increments_of_many_threads_are_all_counted(orders):
    def count():
        for _ in range(25):
            orders.state.set(lambda s: {"n": s["n"] + 1})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert orders.state.get() == {"n": 200}


@pytest.mark.parametrize("serializable", [False, True])
def test_serializable_runs_again_when_a_viewed_node_has_changed(space, orders, other, serializable):
    space.create_node("seen", initial={"n": 1})
    space.create_node("unseen", initial={"n": 1})
    other.do('seen, unseen = space.create_node("seen"), space.create_node("unseen")')
    runs = []

    def copy_it(state, views):
        n = views.seen.get("n")
        if not runs:
            other.do('seen.state.set({"n": 2})')
        runs.append(n)
        return {"n": n}

    commit = orders.state.set(copy_it, serializable=serializable)

    assert runs == ([1, 2] if serializable else [1])
    assert commit.after == {"n": runs[-1]}


# -- put, compose, draft, through set ----------------------------------------------------------------


def test_put_makes_missing_parents(orders):
    orders.state.set(happen.put("orders.o1.status", "shipped"))
    orders.state.set(happen.put(("orders", "o.1", "n"), lambda old: (old or 0) + 1))

    assert orders.state.get() == {"n": 0, "orders": {"o1": {"status": "shipped"}, "o.1": {"n": 1}}}


def test_put_never_makes_a_list_item_and_the_error_names_the_path(space):
    node = space.create_node("n", initial={"items": [1]})

    with pytest.raises(ValueError, match="items"):
        node.state.set(happen.put("items.1", 2))
    assert node.state.set(happen.put("items.0", 5)).after == {"items": [5]}


def test_put_of_everything_replaces_the_state(orders):
    assert orders.state.set(happen.put((), {"m": 1})).after == {"m": 1}


def test_compose_passes_views_to_the_steps_that_take_them(space, orders):
    space.create_node("stock", initial={"n": 5})

    commit = orders.state.set(
        happen.compose(
            lambda s: {**s, "a": 1},
            lambda s, views: {**s, "stock": views.stock.get("n")},
            happen.put("b", 2),
            happen.draft(lambda d: d.update(c=3)),
        )
    )

    assert commit.after == {"n": 0, "a": 1, "stock": 5, "b": 2, "c": 3}
    assert commit.revision == 2


def test_a_draft_takes_views_too(space, orders):
    space.create_node("stock", initial={"items": [1, 2]})

    @happen.draft
    def take(d, views):
        d["items"] = views.stock.get("items")
        d["items"].append(3)

    assert orders.state.set(take).after == {"n": 0, "items": [1, 2, 3]}
    assert space.views.stock.get("items") == [1, 2]


def test_a_draft_that_changes_nothing_commits_nothing(orders):
    assert not orders.state.set(happen.draft(lambda d: None)).changed


# -- any state ---------------------------------------------------------------------------------------


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), _json, max_size=5))
def test_any_state_is_read_back_as_it_was_written(space, state):
    node = space.create_node("fuzz")
    commit = node.state.set(state)

    assert node.state.get() == state
    assert repr(node.state.get()) == repr(commit.after)
    (stored,) = node.state.history(limit=1) or [commit]
    assert stored.after == commit.after
    assert repr(stored.after) == repr(commit.after)


def test_stop_iteration_of_a_transform_is_raised_as_it_is(orders):
    with pytest.raises(StopIteration) as caught:
        orders.state.set(lambda state: next(iter(())))
    assert "RuntimeError" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(StopIteration):
        orders.state.wait_for(lambda state: next(iter(())))
