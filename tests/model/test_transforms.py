"""Transforms: the second-parameter rule, put, compose, and how one is run."""

import asyncio
import functools
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.drafts import draft
from happen_nb._model.freeze import freeze
from happen_nb._model.frozen import FrozenDict, diff
from happen_nb._model.functions import takes_second
from happen_nb._model.paths import lookup
from happen_nb._model.transforms import call_transform, compose, compute, given_state, put
from happen_nb.errors import FrozenStateError, PathError, StateError, TransformError

STATE = freeze({"n": 1, "orders": {"o1": {"status": "new", "items": ["pen", "ink"]}}})
VIEWS = {"customer": "ada"}


def run(transform, state=STATE):
    if not callable(transform):
        return given_state(transform, node="shop")
    return compute(call_transform, transform, state, VIEWS, node="shop", revision=7)


class Methods:
    def one(self, state):
        return state

    def two(self, state, views):
        return state

    @classmethod
    def of_class(cls, state, views):
        return state

    @staticmethod
    def static(state, views):
        return state

    def __call__(self, state, views):
        return state


def forgets_to_await(state):
    return async_transform(state)


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def three(state, views, oid):
    return state


RULE = {
    "one": (lambda s: s, "none"),
    "two": (lambda s, v: s, "positional"),
    "two, positional only": (lambda s, v, /: s, "positional"),
    "captured in a loop": (lambda s, oid=1: s, "none"),
    "second of that name with a default": (lambda s, views=None: s, "positional"),
    "third of that name with a default": (lambda s, oid=1, views=None: s, "keyword"),
    "third of that name, positional only": (lambda s, oid=1, views=None, /: s, "none"),
    "second required, third with a default": (lambda s, v, oid=1: s, "positional"),
    "keyword only of that name": (lambda s, *, views: s, "keyword"),
    "keyword only of that name with a default": (lambda s, *, views=None: s, "keyword"),
    "keyword only of another name": (lambda s, *, x=1: s, "none"),
    "args only": (lambda *args: args[0], "none"),
    "one and args": (lambda s, *args: s, "none"),
    "two and args": (lambda s, v, *args: s, "positional"),
    "kwargs": (lambda s, **kwargs: s, "none"),
    "bound method": (Methods().one, "none"),
    "bound method with two": (Methods().two, "positional"),
    "class method": (Methods.of_class, "positional"),
    "static method": (Methods.static, "positional"),
    "callable object": (Methods(), "positional"),
    "partial that leaves one": (functools.partial(three, oid=1), "positional"),
    "partial by position": (functools.partial(lambda x, s: s, 1), "none"),
    "wrapped": (logged(lambda s, v: s), "positional"),
    "builtin without a signature": (dict, "none"),
    "builtin": (len, "none"),
    "context by that name only": (lambda s, context=None: s, "none"),
}


@pytest.mark.parametrize(("function", "second"), RULE.values(), ids=RULE)
def test_a_second_argument_is_given_if_required_or_of_that_name(function, second):
    assert takes_second(function, "views") == second


def test_the_name_decides():
    assert takes_second(lambda e, context=None: e, "context") == "positional"
    assert takes_second(lambda e, *, context: e, "context") == "keyword"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (three, "oid"),
        (lambda s, v, w, x=1: s, "w"),
        (lambda s, *, other: s, "other"),
        (lambda s, v, *, other: s, "other"),
        (functools.partial(lambda s, a, b, c: s, 1), "c"),
    ],
)
def test_a_third_required_parameter_is_an_error_that_names_it(function, name):
    with pytest.raises(TypeError, match=f'requires "{name}"'):
        takes_second(function, "views")


def test_a_transform_without_a_parameter_is_refused():
    def five():
        return {"n": 5}

    for make in (compose, draft):
        with pytest.raises(TypeError, match="five has no parameter for the state; make it the first one"):
            make(five)
    assert compose(lambda *states: {"n": len(states)})({}) == {"n": 1}


def test_views_come_in_the_way_they_are_asked_for():
    seen = []

    def positional(state, views):
        seen.append(views)
        return state

    def by_name(state, oid=1, *, views):
        seen.append((oid, views))
        return state

    assert run(positional) is STATE
    assert run(by_name) is STATE
    assert run(lambda state, oid="o1": {**state, "oid": oid})["oid"] == "o1"
    assert seen == [VIEWS, (1, VIEWS)]


def test_a_transform_gets_the_frozen_state_and_its_result_is_frozen_and_shared():
    result = run(lambda state: {**state, "n": (1, 2)})
    assert result == {"n": [1, 2], "orders": STATE["orders"]}
    assert type(result) is FrozenDict
    assert result["orders"] is STATE["orders"]


def test_a_mapping_replaces_the_state():
    assert run({"a": (1,)}) == {"a": [1]}
    assert run(STATE) is STATE


@pytest.mark.parametrize("transform", [None, 5, "orders.n", [1]])
def test_a_transform_that_is_neither_function_nor_mapping_is_an_error(transform):
    with pytest.raises(StateError, match=r'node "shop".*lambda state'):
        run(transform)


def test_a_forgotten_return_is_named_with_its_node():
    def forgets(state):
        {**state, "n": 2}  # noqa: B018

    with pytest.raises(StateError, match=r'node "shop" returned None; .*did you forget "return"'):
        run(forgets)
    with pytest.raises(StateError, match=r'node "shop" returned an int'):
        run(lambda state: 5)


def test_an_exception_of_a_transform_propagates_unchanged_with_a_note():
    error = ZeroDivisionError("mine")

    def fails(state):
        raise error

    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            run(fails)
    assert caught.value is error
    assert error.__notes__ == ['in the transform of node "shop" at revision 7']


def test_mutating_the_state_in_a_transform_is_an_error():
    def mutates(state):
        state["orders"]["o1"]["status"] = "paid"
        return state

    with pytest.raises(FrozenStateError):
        run(mutates)


async def async_transform(state):
    return state


def generator_transform(state):
    yield state


async def async_generator_transform(state):
    yield state


@pytest.mark.parametrize(
    "transform",
    [
        async_transform,
        generator_transform,
        async_generator_transform,
        forgets_to_await,
        functools.partial(async_transform),
        logged(async_transform),
    ],
)
def test_an_async_or_generator_transform_is_refused_without_a_warning(transform):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TransformError, match='node "shop" is'):
            run(transform)


def test_a_future_is_refused():
    async def main():
        with pytest.raises(TransformError):
            run(lambda state: asyncio.get_running_loop().create_future())

    asyncio.run(main())


def test_put_sets_one_place_and_shares_the_rest():
    result = run(put("orders.o1.status", "paid"))
    assert result["orders"]["o1"] == {"status": "paid", "items": ["pen", "ink"]}
    assert result["orders"]["o1"]["items"] is STATE["orders"]["o1"]["items"]
    assert [change.path for change in diff(STATE, result)] == [("orders", "o1", "status")]


def test_put_makes_missing_parents_as_mappings():
    assert run(put("a.b.0", 1))["a"] == {"b": {"0": 1}}
    assert run(put(("a.b", "c"), 1))["a.b"] == {"c": 1}


def test_the_function_of_put_gets_the_old_value_or_none_and_never_views():
    assert run(put("n", lambda old: old + 1))["n"] == 2
    assert run(put("new.n", lambda old: [old]))["new"] == {"n": [None]}
    assert run(put("new.n", lambda old, step=5: (old or 0) + step))["new"] == {"n": 5}
    assert takes_second(put("n", lambda old, views=None: old), "views") == "none"


def test_put_changes_an_item_of_a_list():
    items = ("orders", "o1", "items")
    assert lookup(run(put("orders.o1.items.0", "PEN")), items) == ["PEN", "ink"]
    assert lookup(run(put((*items, -1), str.upper)), items) == ["pen", "INK"]


def test_put_refuses_a_path_deeper_than_a_state_can_be():
    path = ("a",) * 200
    assert lookup(put(path, 1)({}), path) == 1
    for steps in (201, 10_000):
        with pytest.raises(PathError, match=f"the path has {steps:,} steps"):
            put(("a",) * steps, 1)


def test_put_of_everything_replaces_the_state():
    assert run(put((), {"a": 1})) == {"a": 1}
    assert run(put((), lambda state: {**state, "n": 2}))["n"] == 2
    with pytest.raises(StateError):
        run(put((), 5))


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("n.x", "n is 1"),
        ("orders.o1.status.x.y", "orders.o1.status is 'new'"),
        ("orders.o1.items.2", "orders.o1.items is a list of 2"),
        ("orders.o1.items.x", "orders.o1.items is a list of 2"),
        (("orders", 7), "orders is a mapping"),
        (("a", 0), "a is a mapping"),
        ((0,), "the state is a mapping"),
    ],
)
def test_put_through_a_value_without_parts_is_an_error_that_names_it(path, where):
    with pytest.raises(PathError, match=where):
        run(put(path, 1))


def test_an_invalid_path_is_an_error_immediately():
    with pytest.raises(PathError):
        put("a..b", 1)


def test_a_bad_value_is_an_error_with_its_path():
    with pytest.raises(StateError, match=r"^state at orders\.o1\.price: "):
        run(put("orders.o1.price", {1}))


steps = st.lists(st.text(max_size=2), min_size=1, max_size=4).map(tuple)
trees = st.recursive(
    st.integers(-9, 9), lambda inner: st.dictionaries(st.text(max_size=2), inner), max_leaves=6
)


@given(st.dictionaries(st.text(max_size=2), trees), steps, st.integers(-9, 9))
def test_a_value_put_at_a_path_is_read_there(state, path, value):
    frozen = freeze(state)
    try:
        changed = run(put(path, value), frozen)
    except PathError:
        parts = [lookup(frozen, path[:depth]) for depth in range(len(path))]
        assert any(isinstance(part, int) for part in parts)
    else:
        assert lookup(changed, path) == value
        assert {change.path[: len(path)] for change in diff(frozen, changed)} <= {
            path[:depth] for depth in range(len(path) + 1)
        }


def test_compose_runs_left_to_right():
    both = compose(put("n", lambda n: n + 1), put("n", lambda n: n * 10))
    assert run(both)["n"] == 20
    assert run(compose()) is STATE


def test_compose_takes_views_only_if_a_step_does():
    without = compose(put("n", 2), lambda state: {**state, "m": 1})
    with_views = compose(put("n", 2), lambda state, views: {**state, **views}, lambda s, *, views: s)
    assert takes_second(without, "views") == "none"
    assert takes_second(with_views, "views") == "positional"
    assert takes_second(compose(put("n", 1), with_views), "views") == "positional"
    assert run(with_views) == {"n": 2, "customer": "ada", "orders": STATE["orders"]}
    assert without(STATE)["m"] == 1


def test_compose_accepts_drafts_and_mappings():
    @draft
    def ship(d):
        d["orders"]["o1"]["status"] = "shipped"

    assert run(compose(put("n", 2), ship))["orders"]["o1"]["status"] == "shipped"
    assert run(compose({"orders": {"o1": {}}}, ship)) == {"orders": {"o1": {"status": "shipped"}}}


def test_every_step_of_compose_gets_a_frozen_state():
    def mutates(state):
        state["m"] = 1
        return state

    with pytest.raises(FrozenStateError):
        run(compose(lambda state: {**state}, mutates))


def test_compose_names_the_step_that_is_wrong():
    with pytest.raises(StateError, match=r"step 2 of compose returned None; .*forget") as caught:
        run(compose(put("n", 1), lambda state: None))
    assert caught.value.__notes__ == ['in the transform of node "shop" at revision 7']
    with pytest.raises(TransformError, match="step 1 of compose"):
        compose(async_transform)
    with pytest.raises(TransformError, match="step 2 of compose"):
        compose(put("n", 1), generator_transform)
    with pytest.raises(TransformError, match="step 1 of compose"):
        run(compose(forgets_to_await))
    with pytest.raises(StateError, match="step 2 of compose"):
        compose(put("n", 1), None)
    with pytest.raises(TypeError, match='requires "oid"'):
        compose(three)
