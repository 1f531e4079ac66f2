"""A draft behaves like the plain container, and shares its untouched parts."""

import bisect
import collections.abc
import copy
import heapq
import json
import operator
import pickle

import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from happen_nb._model.drafts import DraftDict, DraftList, draft
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.frozen import FrozenDict, FrozenList, diff, equal, thaw
from happen_nb._model.functions import takes_second
from happen_nb.errors import FrozenStateError, StateError, TransformError

STATE = freeze({"orders": {"o1": {"status": "new"}, "o2": {"status": "new"}}, "log": [{"n": 1}, {"n": 2}]})


def match(value):
    match value:
        case {"a": found}:
            return ["mapping with a", found]
        case {}:
            return "mapping"
        case [first, *rest]:
            return ["list", first, rest]
        case []:
            return "empty"


def add_while_iterating(d, k):
    for key in d:
        d[key + k] = 1


def delete_while_iterating(d):
    for key in d.keys():  # noqa: SIM118
        del d[key]


def set_while_iterating(d, v):
    for key, _ in d.items():  # noqa: PERF102
        d[key] = v


def add_while_iterating_values(d, k):
    seen = []
    for value in d.values():
        seen.append(value)
        if len(d) < 9:
            d.setdefault(k, 1)
    return seen


def edit_values(d):
    for value in d.values():
        if hasattr(value, "keys"):
            value["edited"] = True
        elif hasattr(value, "append"):
            value.append("edited")


READ_MAPPING = {
    "get": lambda d, a: d.get(a.key, a.value),
    "item": lambda d, a: d[a.key],
    "in": lambda d, a: a.key in d,
    "int in": lambda d, a: 1 in d,
    "unhashable": lambda d, a: d[[]],
    "get unhashable": lambda d, a: d.get([]),
    "len": lambda d, a: len(d),
    "bool": lambda d, a: bool(d),
    "keys": lambda d, a: list(d.keys()),
    "values": lambda d, a: list(d.values()),
    "items": lambda d, a: [list(pair) for pair in d.items()],
    "iterate": lambda d, a: list(d),
    "reversed": lambda d, a: list(reversed(d)),
    "reversed items": lambda d, a: [list(pair) for pair in reversed(d.items())],
    "keys and": lambda d, a: sorted(d.keys() & {a.key, a.other_key}),
    "eq plain": lambda d, a: d == {a.key: a.value},
    "eq copy": lambda d, a: [
        d == d.copy(),
        d == copy.deepcopy(d),
        d != copy.copy(d),
        {"x": d} == {"x": d.copy()},
    ],
    "eq list": lambda d, a: d == [],
    "less": lambda d, a: d < {},
    "repr": lambda d, a: repr(d),
    "or": lambda d, a: d | {a.key: a.value},
    "or itself": lambda d, a: d | d,
    "or pairs": lambda d, a: d | [(a.key, a.value)],
    "ror": lambda d, a: {a.key: a.value, a.other_key: 1} | d,
    "ror pairs": lambda d, a: [(a.key, a.value)] | d,
    "copy": lambda d, a: d.copy(),
    "copy.copy": lambda d, a: copy.copy(d),
    "deepcopy": lambda d, a: copy.deepcopy(d),
    "dict": lambda d, a: dict(d),
    "unpack": lambda d, a: {**d, a.key: a.value},
    "update a plain one": lambda d, a: operator.ior({a.key: 1}, d),
    "match": lambda d, a: match(d),
    "hash": lambda d, a: hash(d),
    "attribute": lambda d, a: setattr(d, "x", 1),
    "fstring": lambda d, a: f"{d}",
    "index": lambda d, a: d[1:2],
}
EDIT_MAPPING = {
    "set": lambda d, a: operator.setitem(d, a.key, a.value),
    "set int key and take it off": lambda d, a: [operator.setitem(d, 1, 2), d.pop(1)],
    "set unhashable": lambda d, a: operator.setitem(d, [], 2),
    "del": lambda d, a: operator.delitem(d, a.key),
    "pop": lambda d, a: d.pop(a.key),
    "pop with default": lambda d, a: d.pop(a.key, a.value),
    "pop with two": lambda d, a: d.pop(a.key, 1, 2),
    "popitem": lambda d, a: list(d.popitem()),
    "setdefault": lambda d, a: d.setdefault(a.key, a.value),
    "setdefault none": lambda d, a: d.setdefault(a.key),
    "update": lambda d, a: d.update({a.key: a.value, a.other_key: 1}),
    "update pairs": lambda d, a: d.update([(a.key, a.value), [a.other_key, 2]]),
    "update iterator": lambda d, a: d.update(zip([a.key], [a.value], strict=True)),
    "update keywords": lambda d, a: d.update(**{a.key: a.value}),
    "update mapping and keywords": lambda d, a: d.update({a.key: 1}, x=a.value),
    "update itself": lambda d, a: d.update(d),
    "update nothing": lambda d, a: d.update(),
    "update short pair": lambda d, a: d.update([(a.key, a.value), (1,)]),
    "update no pair": lambda d, a: d.update([(a.key, a.value), 5]),
    "update text": lambda d, a: d.update("abc"),
    "update number": lambda d, a: d.update(5),
    "update two": lambda d, a: d.update({}, {}),
    "ior": lambda d, a: operator.ior(d, {a.key: a.value}),
    "ior pairs": lambda d, a: operator.ior(d, [(a.key, a.value)]),
    "ior number": lambda d, a: operator.ior(d, 5),
    "clear": lambda d, a: d.clear(),
    "add while iterating": lambda d, a: add_while_iterating(d, a.key),
    "delete while iterating": lambda d, a: delete_while_iterating(d),
    "set while iterating": lambda d, a: set_while_iterating(d, a.one),
    "add while iterating values": lambda d, a: add_while_iterating_values(d, a.key),
    "edit values": lambda d, a: edit_values(d),
    "edit a copy": lambda d, a: d.copy().clear(),
    "edit the values of a copy": lambda d, a: edit_values(d.copy()),
    "edit the values of a deep copy": lambda d, a: edit_values(copy.deepcopy(d)),
    "edit the values of a union": lambda d, a: edit_values(d | {a.other_key: 1}),
    "move": lambda d, a: operator.setitem(d, a.other_key, d.pop(a.key)),
    "alias": lambda d, a: operator.setitem(d, a.other_key, d[a.key]),
    "put in a plain list": lambda d, a: operator.setitem(d, a.other_key, [d[a.key], {"in": d[a.key]}]),
    "augment": lambda d, a: operator.setitem(d, a.key, operator.iadd(d[a.key], [a.value])),
}


def append_while_iterating(x, v):
    for _ in x:
        if len(x) > 9:
            break
        x.append(v)


def remove_while_iterating(x):
    for item in x:
        x.remove(item)


def pop_while_reversed(x):
    seen = []
    for item in reversed(x):
        seen.append(item)
        x.pop(0)
    return seen


def iterator_that_ended(x):
    ends = iter(x)
    seen = list(ends)
    x.append("late")
    return [seen, list(ends)]


def edit_items(x):
    for item in x:
        if hasattr(item, "keys"):
            item["edited"] = True
        elif hasattr(item, "append") and item is not x:
            item.append("edited")


def generator_that_fails(v):
    yield v
    raise ZeroDivisionError


READ_LIST = {
    "item": lambda x, a: x[a.i],
    "item by text": lambda x, a: x["0"],
    "slice": lambda x, a: x[a.slice],
    "in": lambda x, a: a.value in x,
    "len": lambda x, a: len(x),
    "bool": lambda x, a: bool(x),
    "iterate": lambda x, a: list(x),
    "reversed": lambda x, a: list(reversed(x)),
    "index": lambda x, a: x.index(a.value),
    "index from": lambda x, a: x.index(a.value, a.i),
    "index within": lambda x, a: x.index(a.value, a.i, a.j),
    "count": lambda x, a: x.count(a.value),
    "add": lambda x, a: x + [a.value],  # noqa: RUF005
    "add itself": lambda x, a: x + x,
    "add tuple": lambda x, a: x + (1,),  # noqa: RUF005
    "radd": lambda x, a: [a.value] + x,  # noqa: RUF005
    "radd tuple": lambda x, a: (1,) + x,  # noqa: RUF005
    "mul": lambda x, a: x * a.times,
    "rmul": lambda x, a: a.times * x,
    "mul text": lambda x, a: x * "2",
    "mul list": lambda x, a: x * [2],
    "eq plain": lambda x, a: x == [a.value],
    "eq copy": lambda x, a: [x == x.copy(), x == copy.deepcopy(x), x != copy.copy(x), [x] == [x.copy()]],
    "eq tuple": lambda x, a: x == tuple(x),
    "order": lambda x, a: [x < [a.value], x <= x.copy(), x > [a.value], [a.value] >= x],
    "order with tuple": lambda x, a: x < (1,),
    "repr": lambda x, a: repr(x),
    "copy": lambda x, a: x.copy(),
    "copy.copy": lambda x, a: copy.copy(x),
    "deepcopy": lambda x, a: copy.deepcopy(x),
    "sorted": lambda x, a: sorted(x, key=repr, reverse=True),
    "unpack": lambda x, a: [*x, a.value],
    "match": lambda x, a: match(x),
    "hash": lambda x, a: hash(x),
    "extend a plain one": lambda x, a: [1].extend(x),
    "enumerate": lambda x, a: [[i, item] for i, item in enumerate(x)],
    "max": lambda x, a: max(x),
}
EDIT_LIST = {
    "set": lambda x, a: operator.setitem(x, a.i, a.value),
    "set by text": lambda x, a: operator.setitem(x, "0", a.value),
    "set slice": lambda x, a: operator.setitem(x, a.slice, [a.value, 1]),
    "set slice from iterator": lambda x, a: operator.setitem(x, a.slice, iter([a.value])),
    "set slice to itself": lambda x, a: operator.setitem(x, slice(a.i, a.j), x),
    "set slice to text": lambda x, a: operator.setitem(x, a.slice, "ab"),
    "set slice to number": lambda x, a: operator.setitem(x, a.slice, 5),
    "del": lambda x, a: operator.delitem(x, a.i),
    "del slice": lambda x, a: operator.delitem(x, a.slice),
    "append": lambda x, a: x.append(a.value),
    "insert": lambda x, a: x.insert(a.i, a.value),
    "insert at text": lambda x, a: x.insert("0", a.value),
    "extend": lambda x, a: x.extend([a.value, 1]),
    "extend by itself": lambda x, a: x.extend(x),
    "extend by generator": lambda x, a: x.extend(v for v in (a.value, 1)),
    "extend by failing generator": lambda x, a: x.extend(generator_that_fails(a.value)),
    "extend by mapping": lambda x, a: x.extend({a.key: 1}),
    "extend by number": lambda x, a: x.extend(5),
    "iadd": lambda x, a: operator.iadd(x, [a.value]),
    "iadd tuple": lambda x, a: operator.iadd(x, (a.value,)),
    "iadd text": lambda x, a: operator.iadd(x, "ab"),
    "iadd itself": lambda x, a: operator.iadd(x, x),
    "iadd number": lambda x, a: operator.iadd(x, 5),
    "imul": lambda x, a: operator.imul(x, a.times),
    "imul text": lambda x, a: operator.imul(x, "2"),
    "pop": lambda x, a: x.pop(),
    "pop at": lambda x, a: x.pop(a.i),
    "remove": lambda x, a: x.remove(a.value),
    "remove own item": lambda x, a: x.remove(x[a.i]),
    "clear": lambda x, a: x.clear(),
    "reverse": lambda x, a: x.reverse(),
    "sort": lambda x, a: x.sort(),
    "sort by key": lambda x, a: x.sort(key=repr, reverse=bool(a.times)),
    "sort that edits": lambda x, a: x.sort(key=lambda _: x.append(1)),
    "sort that reads": lambda x, a: x.sort(key=lambda _: len(x)),
    "append while iterating": lambda x, a: append_while_iterating(x, a.one),
    "remove while iterating": lambda x, a: remove_while_iterating(x),
    "pop while reversed": lambda x, a: pop_while_reversed(x),
    "iterator that ended": lambda x, a: iterator_that_ended(x),
    "edit items": lambda x, a: edit_items(x),
    "edit items of a slice": lambda x, a: edit_items(x[a.slice]),
    "edit items of a copy": lambda x, a: edit_items(x.copy()),
    "edit a slice": lambda x, a: x[a.slice].clear(),
    "swap": lambda x, a: operator.setitem(x, slice(0, 2), [x[a.j], x[a.i]]),
    "alias": lambda x, a: x.append(x[a.i]),
    "put in a plain mapping": lambda x, a: x.append({"in": x[a.i]}),
}

scalars = st.sampled_from([None, True, 0, 1, 1.0, 2, "", "a", "b"])
keys = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner)), max_leaves=5
)
states = st.dictionaries(
    keys,
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner)),
        max_leaves=8,
    ),
)
indices = st.integers(-4, 4)


class Arguments:
    """The arguments of an operation, the same for the plain container and for the draft."""

    def __init__(self, choice, tree, target):
        self.key, self.other_key, self.i, self.j, self.step, self.times, self.kind, value, self.way = choice
        self.slice = slice(self.i, self.j, self.step)
        self.one = walk(tree, self.way) if self.kind == "a part of the tree" else copy.deepcopy(value)
        # A draft of a frozen value is made each time that the value is put into a draft, so it is like a
        # plain one that is stored once only; "one" is for operations that store the same thing often.
        drafted = isinstance(target, DraftDict | DraftList)
        self.value = freeze(value) if self.kind == "frozen" and drafted else self.one


choices = st.tuples(
    keys,
    keys,
    indices,
    indices,
    st.sampled_from([None, None, 1, 2, -1, -2]),
    st.integers(0, 2),
    st.sampled_from(["plain", "frozen", "a part of the tree"]),
    values,
    st.lists(st.integers(0, 3), max_size=2),
)
ways = st.lists(st.integers(0, 3), max_size=3)


def is_container(value):
    return isinstance(value, dict | list | DraftDict | DraftList)


def is_mapping(value):
    return isinstance(value, dict | DraftDict)


def walk(tree, way):
    """Follow a way of numbers through the containers, as far as it goes."""
    for number in way:
        steps = list(tree) if is_mapping(tree) else list(range(len(tree)))
        inner = [step for step in steps if is_container(tree[step])]
        if not inner:
            return tree
        tree = tree[inner[number % len(inner)]]
    return tree


def outcome(function, *arguments):
    """Return the outcome of a call in a comparable form."""
    try:
        value = function(*arguments)
    except Exception as error:
        return type(error)
    return stored(value)


def stored(value):
    try:
        return freeze(value)
    except StateError:
        return StateError


def play(tree, script, mapping_operations, list_operations):
    outcomes = []
    for way, number, choice in script:
        target = walk(tree, way)
        operations = mapping_operations if is_mapping(target) else list_operations
        name = list(operations)[number % len(operations)]
        arguments = Arguments(choice, tree, target)
        outcomes.append((name, outcome(operations[name], target, arguments)))
    return outcomes


def play_both(state, script, mapping_operations, list_operations):
    frozen = freeze(state)
    plain = thaw(frozen)
    expected = play(plain, script, mapping_operations, list_operations)
    seen = []

    @draft
    def edit(d):
        seen.extend(play(d, script, mapping_operations, list_operations))

    try:
        result = edit(frozen)
    except StateError:
        result = StateError
    for got, wanted in zip(seen, expected, strict=True):
        assert repr(got) == repr(wanted)
    assert equal(frozen, state)
    return frozen, result, stored(plain)


scripts = st.lists(st.tuples(ways, st.integers(0, 10**6), choices), max_size=8)


@pytest.mark.parametrize(
    "examples", [100, pytest.param(4_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_a_draft_behaves_exactly_like_a_plain_container(examples):
    @settings(max_examples=examples, deadline=None)
    @given(states, scripts)
    def check(state, script):
        _, result, wanted = play_both(state, script, READ_MAPPING | EDIT_MAPPING, READ_LIST | EDIT_LIST)
        assert repr(result) == repr(wanted)

    check()


@settings(max_examples=100, deadline=None)
@given(states, scripts)
def test_reading_a_draft_changes_nothing(state, script):
    frozen, result, _ = play_both(state, script, READ_MAPPING, READ_LIST)
    assert result is frozen


@pytest.mark.parametrize("name", [*READ_MAPPING, *EDIT_MAPPING])
@pytest.mark.parametrize("kind", ["plain", "frozen"])
def test_each_operation_on_a_mapping(name, kind):
    state = {"a": {"x": [1]}, "b": [{"y": 1}], "c": 1}
    for key in "ab":
        choice = (key, "c", 0, 2, None, 2, kind, {"v": [1]}, [])
        _, result, wanted = play_both(
            state, [([], 0, choice)], *[{name: (READ_MAPPING | EDIT_MAPPING)[name]}] * 2
        )
        assert repr(result) == repr(wanted)


@pytest.mark.parametrize("name", [*READ_LIST, *EDIT_LIST])
@pytest.mark.parametrize("kind", ["plain", "frozen"])
def test_each_operation_on_a_list(name, kind):
    state = {"list": [{"y": 1}, [2], {"y": 1}]}
    for step in (None, 2, -1):
        choice = ("a", "c", 0, 2, step, 2, kind, {"y": 1}, [])
        operations = {name: (READ_LIST | EDIT_LIST)[name]}
        _, result, wanted = play_both(state, [([0], 0, choice)], operations, operations)
        assert repr(result) == repr(wanted)


def test_drafts_have_every_method_of_dict_and_list():
    for plain, drafted in ((dict, DraftDict), (list, DraftList)):
        missing = {name for name in dir(plain) if not hasattr(drafted, name)}
        assert missing <= {"fromkeys", "__class_getitem__", "__getstate__"}


def test_untouched_parts_stay_shared():
    @draft
    def ship(d):
        d["orders"]["o1"]["status"] = "shipped"
        assert d["log"][0]["n"] == 1

    result = ship(STATE)
    assert type(result) is FrozenDict
    assert [change.path for change in diff(STATE, result)] == [("orders", "o1", "status")]
    assert result["log"] is STATE["log"]
    assert result["orders"]["o2"] is STATE["orders"]["o2"]


def test_an_edit_that_changes_nothing_returns_the_same_state():
    @draft
    def edit(d):
        d["orders"]["o1"]["status"] = "new"
        d["log"].append(d["log"].pop())
        d["orders"]["o2"] = d["orders"]["o2"]
        for order in d["orders"].values():
            order.setdefault("status", "old")

    assert edit(STATE) is STATE


def test_another_order_of_the_keys_is_kept():
    @draft
    def edit(d):
        d["orders"] = d.pop("orders")

    result = edit(STATE)
    assert list(result) == ["log", "orders"]
    assert result["orders"] is STATE["orders"]


def test_another_name_of_a_part_is_a_change():
    @draft
    def rename(d):
        d["records"] = d.pop("log")

    assert rename(STATE) == {"orders": STATE["orders"], "records": STATE["log"]}


def popped(d):
    last = d["log"].pop()
    d["log"].append(last)
    return last


def popped_item(d):
    key, last = d["orders"].popitem()
    d["orders"][key] = last
    return last


def updated(other):
    def edit(d):
        list(d["orders"].values())
        d["orders"].update(other)
        return list(d["orders"].values())[-1]

    return edit


FROZEN = freeze({"in": {"status": "new"}})
WAYS_TO_A_PART = {
    "key": lambda d: d["orders"]["o1"],
    "get": lambda d: d["orders"].get("o1"),
    "setdefault": lambda d: d["orders"].setdefault("o1", {}),
    "setdefault of a frozen one": lambda d: d.setdefault("new", FROZEN["in"]),
    "values": lambda d: next(iter(d["orders"].values())),
    "items": lambda d: next(iter(d["orders"].items()))[1],
    "reversed items": lambda d: next(iter(reversed(d["orders"].items())))[1],
    "copy": lambda d: d["orders"].copy()["o1"],
    "union": lambda d: (d["orders"] | {})["o1"],
    "pop": popped,
    "popitem": popped_item,
    "index": lambda d: d["log"][-1],
    "slice": lambda d: d["log"][:1][0],
    "iterator": lambda d: next(iter(d["log"])),
    "reversed": lambda d: next(reversed(d["log"])),
    "list copy": lambda d: d["log"].copy()[0],
    "sum": lambda d: (d["log"] + [])[0],
    "product": lambda d: (d["log"] * 1)[0],
    "update": updated({"o9": FROZEN["in"]}),
    "update pairs": updated([("o9", FROZEN["in"])]),
    "update by a draft": lambda d: updated(d["orders"])(d),
}


@pytest.mark.parametrize("way", WAYS_TO_A_PART.values(), ids=WAYS_TO_A_PART)
def test_a_part_can_be_edited_whichever_way_it_was_reached(way):
    @draft
    def edit(d):
        way(d)["edited"] = True

    assert dumps(edit(STATE)).count(b'"edited":true') == 1


def test_a_moved_part_stays_shared():
    @draft
    def archive(d):
        d["archive"] = {"o1": d["orders"].pop("o1")}

    assert archive(STATE)["archive"]["o1"] is STATE["orders"]["o1"]


def test_one_child_in_two_places_is_the_same_child():
    @draft
    def edit(d):
        d["same"] = d["orders"]["o1"]
        d["list"] = [d["same"]]
        assert d["same"] is d["orders"]["o1"]
        assert d["list"][0] is d["same"]
        d["same"]["status"] = "paid"

    result = edit(STATE)
    assert result["orders"]["o1"] == result["same"] == result["list"][0] == {"status": "paid"}


def test_equal_parts_of_the_state_are_different_children():
    part = freeze({"n": 1})

    @draft
    def edit(d):
        d["a"]["n"] = 2

    assert edit(freeze({"a": part, "b": part})) == {"a": {"n": 2}, "b": {"n": 1}}


def test_a_frozen_value_put_into_a_draft_can_be_edited_there():
    other = freeze({"address": {"city": "Ulm"}})

    @draft
    def edit(d):
        d["customer"] = other
        d["customer"]["address"]["city"] = "Bonn"
        d["log"] += [other["address"]]
        d["log"][-1]["city"] = "Köln"

    result = edit(STATE)
    assert result["customer"] == {"address": {"city": "Bonn"}}
    assert result["log"][-1] == {"city": "Köln"}
    assert other == {"address": {"city": "Ulm"}}


@pytest.mark.parametrize(
    "tie",
    [
        lambda d: operator.setitem(d, "me", d),
        lambda d: operator.setitem(d["orders"], "me", d["orders"]),
        lambda d: d["log"].append([{"all": d}]),
        lambda d: operator.setitem(d["orders"], "log", d["log"]) or d["log"].append(d["orders"]),
    ],
)
def test_a_cycle_is_an_error(tie):
    with pytest.raises(StateError, match="contains itself"):
        draft(lambda d: (tie(d), None)[1])(STATE)


def test_a_part_without_json_form_is_an_error_with_its_path():
    with pytest.raises(StateError, match=r"^state at orders\.o1\.tags: "):
        draft(lambda d: operator.setitem(d["orders"]["o1"], "tags", {1}))(STATE)
    with pytest.raises(StateError, match="the key 1 is an int"):
        draft(lambda d: operator.setitem(d, 1, 2))(STATE)


USES = {
    "get": lambda d: d["orders"],
    "set": lambda d: operator.setitem(d, "a", 1),
    "len": len,
    "iterate": list,
    "equal": lambda d: d == {},
    "union": lambda d: d | {},
    "deepcopy": copy.deepcopy,
    "pickle": pickle.dumps,
    "freeze": lambda d: freeze({"x": [d]}),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("fails", [False, True])
def test_a_draft_is_of_no_use_after_its_transform(use, fails):
    leaked = []

    def edit(d):
        leaked.extend([d, d["orders"]])
        if fails:
            raise ZeroDivisionError

    if fails:
        with pytest.raises(ZeroDivisionError):
            draft(edit)(STATE)
    else:
        draft(edit)(STATE)
    for old in leaked:
        with pytest.raises(FrozenStateError, match="after its transform had ended"):
            use(old)
        assert "ended" in repr(old)


def test_each_run_has_drafts_of_its_own():
    @draft
    def count(d):
        d["log"].append({"n": len(d["log"]) + 1})

    once = count(STATE)
    assert len(count(once)["log"]) == 4
    assert len(count(STATE)["log"]) == 3


def test_an_edit_may_return_the_draft():
    assert draft(lambda d: d)(STATE) is STATE


@pytest.mark.parametrize(
    "edit", [lambda d: 5, lambda d: d["orders"], lambda d: {**d}, lambda d: d["log"].pop(), lambda d: False]
)
def test_an_edit_that_returns_another_value_is_an_error_with_a_remedy(edit):
    with pytest.raises(StateError, match=r'edit returned .*in place: remove the "return"'):
        draft(edit)(STATE)


def test_async_and_generator_edits_are_refused():
    async def later(d):
        pass

    def steps(d):
        yield

    def calls_steps(d):
        return steps(d)

    for edit in (later, steps):
        with pytest.raises(TransformError):
            draft(edit)
    with pytest.raises(TransformError):
        draft(calls_steps)(STATE)


def test_an_edit_may_take_views():
    def positional(d, views):
        d["seen"] = views

    def by_name(d, *, views):
        d["seen"] = views

    def captured(d, seen="captured"):
        d["seen"] = seen

    assert takes_second(draft(positional), "views") == "positional"
    assert draft(positional)(STATE, "views")["seen"] == "views"
    assert takes_second(draft(by_name), "views") == "positional"
    assert draft(by_name)(STATE, "views")["seen"] == "views"
    assert takes_second(draft(captured), "views") == "none"
    assert draft(captured)(STATE)["seen"] == "captured"


def test_a_draft_transform_keeps_the_name_of_its_edit():
    @draft
    def ship(d):
        """Ship it."""

    assert ship.__name__ == "ship"
    assert ship.__doc__ == "Ship it."


def test_a_draft_transform_accepts_a_plain_mapping():
    plain = {"log": []}
    result = draft(lambda d: d["log"].append(1))(plain)
    assert result == {"log": [1]}
    assert plain == {"log": []}


def test_a_part_of_a_draft_freezes_as_it_is_now():
    taken = []

    @draft
    def edit(d):
        d["orders"]["o1"]["status"] = "paid"
        taken.append(freeze({"order": d["orders"]["o1"], "log": d["log"]}))
        d["orders"]["o1"]["status"] = "sent"

    edit(STATE)
    assert taken == [{"order": {"status": "paid"}, "log": STATE["log"]}]
    assert taken[0]["log"] is STATE["log"]


# -- what reads and writes a draft without its methods -------------------------------------------------


def of(edit, state):
    return draft(edit)(freeze(state))


ORDERS = {"orders": {"o1": {"status": "new", "items": [3, 1, 2]}}, "queue": [2, 5], "n": 1}


def test_a_draft_is_a_dict_or_a_list_with_all_their_methods():
    def edit(d):
        assert isinstance(d, dict)
        assert isinstance(d["queue"], list)
        assert isinstance(d, collections.abc.MutableMapping)
        assert isinstance(d["queue"], collections.abc.MutableSequence)
        assert [name for name in dir(dict) if not hasattr(d, name)] == []
        assert [name for name in dir(list) if not hasattr(d["queue"], name)] == []
        assert d.fromkeys("ab", 1) == {"a": 1, "b": 1}
        assert type(d.fromkeys("ab")) is dict

    of(edit, ORDERS)


def test_json_orjson_and_pandas_read_a_draft():
    def edit(d):
        d["orders"]["o1"]["status"] = "paid"
        wanted = {**ORDERS, "orders": {"o1": {**ORDERS["orders"]["o1"], "status": "paid"}}}
        assert json.loads(json.dumps(d)) == json.loads(json.dumps(d, indent=1)) == wanted
        assert orjson.loads(orjson.dumps(d)) == wanted
        assert json.dumps(d["queue"]) == "[2, 5]"
        assert pd.DataFrame(d["orders"]).loc["status", "o1"] == "paid"

    of(edit, ORDERS)


def test_code_in_c_may_write_into_a_draft():
    def edit(d):
        heapq.heappush(d["queue"], 1)
        bisect.insort(d["orders"]["o1"]["items"], 9)
        list.append(d["queue"], 7)
        dict.update(d["orders"]["o1"], status="paid")
        dict.__setitem__(d, "n", 5)

    after = of(edit, ORDERS)
    items = [3, 1, 2, 9]
    assert after == {"orders": {"o1": {"status": "paid", "items": items}}, "queue": [1, 5, 2, 7], "n": 5}
    assert type(after["orders"]["o1"]["items"]) is FrozenList


def test_copies_made_by_syntax_hold_drafts():
    def edit(d):
        first, second = {**d}, dict(d)
        first["orders"]["o1"]["status"] = "paid"
        second["orders"]["o2"] = {}
        (only,) = [*d["orders"]["o1"]["items"][:1]]
        assert only == 3

    after = of(edit, ORDERS)
    assert after["orders"] == {"o1": {"status": "paid", "items": [3, 1, 2]}, "o2": {}}


def test_an_ended_draft_is_not_written_as_json():
    kept = []
    of(lambda d: kept.extend([d, d["queue"]]), ORDERS)
    for each in kept:
        with pytest.raises(TypeError):  # of a list json says so itself
            json.dumps(each)
        with pytest.raises(FrozenStateError, match="ended"):
            assert each != {}
