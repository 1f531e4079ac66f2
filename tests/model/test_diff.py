"""Diffs contain all changes."""

from functools import reduce
from operator import getitem

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.freeze import freeze
from happen_nb._model.frozen import Change, Diff, diff, equal, thaw
from happen_nb._model.paths import MISSING, lookup

scalars = st.sampled_from([None, True, False, 0, 1, 1.0, "", "a", "b"])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(["", "a", "b", "0", "x.y"]), inner)
    ),
    max_leaves=12,
)
pairs = st.tuples(values, values).map(lambda pair: (freeze(pair[0]), freeze(pair[1])))


def apply(changes, value):
    """Make the changes to a copy of a value."""
    root = [thaw(value)]
    removals = [change for change in changes if change.op == "remove"]
    for change in [change for change in changes if change.op != "remove"] + removals[::-1]:
        *above, last = (0, *change.path)
        part = reduce(getitem, above, root)
        if change.op == "remove":
            del part[last]
        elif change.op == "add" and isinstance(part, list):
            part.insert(last, thaw(change.after))
        else:
            part[last] = thaw(change.after)
    return root[0]


@given(pairs)
def test_applying_a_diff_to_the_old_value_returns_the_new_one(pair):
    a, b = pair
    changes = diff(a, b)
    assert type(changes) is Diff
    assert equal(apply(changes, a), b)
    assert equal(apply(diff(b, a), b), a)


@given(pairs)
def test_a_diff_is_empty_exactly_if_the_values_are_equal(pair):
    a, b = pair
    assert (not diff(a, b)) is equal(a, b)
    assert not diff(a, a)


@given(pairs)
def test_each_change_has_the_values_at_its_path(pair):
    a, b = pair
    for change in diff(a, b):
        if change.op != "add":
            assert equal(lookup(a, change.path, MISSING), change.before)
        if change.op != "remove":
            assert equal(lookup(b, change.path, MISSING), change.after)
        assert change.op == "change" or (change.after if change.op == "remove" else change.before) is None


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 6), st.integers(0, 3))
def test_one_insertion_in_a_list_is_one_change(items, position, new):
    longer = [*items[:position], new, *items[position:]]
    assert [change.op for change in diff(freeze(items), freeze(longer))] == ["add"]
    assert [change.op for change in diff(freeze(longer), freeze(items))] == ["remove"]


def test_a_diff_lists_additions_changes_and_removals():
    a = freeze({"keep": [1, 2], "n": 1, "old": {"x": 1}, "list": ["a", "b", "c"]})
    b = freeze({"new": None, "keep": [1, 2], "n": True, "list": ["a", "X", "Y", "c"]})
    assert diff(a, b) == (
        Change("add", ("new",), None, None),
        Change("change", ("n",), 1, True),
        Change("change", ("list", 1), "b", "X"),
        Change("add", ("list", 2), None, "Y"),
        Change("remove", ("old",), {"x": 1}, None),
    )


def test_a_value_of_another_kind_is_one_change_at_the_top():
    assert diff(freeze({}), freeze([])) == (Change("change", (), {}, []),)


def test_shared_parts_are_not_looked_into():
    class Untouchable(dict):
        __slots__ = ()

        def _touched(self, *args):
            raise AssertionError("looked into a shared part")

        __getitem__ = __iter__ = __len__ = __eq__ = items = get = keys = values = _touched
        __hash__ = None

    shared = Untouchable(a=1)
    assert [
        change.path for change in diff({"s": shared, "n": [shared, 1]}, {"s": shared, "n": [shared, 2]})
    ] == [("n", 1)]


def test_a_change_cannot_be_changed():
    change = Change("add", ("a",), None, 1)
    with pytest.raises(AttributeError):
        change.op = "remove"
