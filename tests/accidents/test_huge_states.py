"""Huge states: every repr stays small, and what is too large is refused before it is sent."""

from __future__ import annotations

import re

import pytest
from IPython.core.formatters import DisplayFormatter

import happen_nb as happen

LIMIT = 100_000
MANY = 20_000


def big(kind):
    if kind == "wide":
        return {f"o{n}": {"status": "open", "total": n} for n in range(MANY)}
    if kind == "a long list":
        return {"items": [{"n": n} for n in range(MANY)]}
    if kind == "a matrix":
        return {"matrix": [[0] * 1000] * 700}
    if kind == "a long text":
        return {"text": "<x>" * 1_000_000}
    if kind == "long keys":
        return {"<k>" * 20_000 + str(n): n for n in range(20)}
    nested = {}
    for n in range(150):
        nested = {"level": n, "inner": nested, "text": "<x>" * 100}
    return nested


THINGS = {
    "node": lambda node, commit: node,
    "state": lambda node, commit: node.state,
    "commit": lambda node, commit: commit,
    "history": lambda node, commit: node.state.history(),
    "view": lambda node, commit: node.space.views.orders,
    "views": lambda node, commit: node.space.views,
    "space": lambda node, commit: node.space,
    "journal": lambda node, commit: node.space.journal(),
}


@pytest.mark.parametrize("kind", ["wide", "a long list", "a long text", "long keys", "deep"])
def test_every_repr_of_a_huge_state_stays_small(space, kind):
    node = space.create_node("orders", initial={"before": True})
    commit = node.state.set(big(kind))

    for name, get in THINGS.items():
        thing = get(node, commit)
        for form, shown in {"repr": repr(thing), **thing._repr_mimebundle_()}.items():
            assert len(shown.encode()) < LIMIT, (name, form)


VALUES = {
    "state.get()": lambda node, commit: node.state.get(),
    "view.get()": lambda node, commit: node.space.views.orders.get(),
    "a selected part": lambda node, commit: next(iter(node.state.get().values())),
    "commit.after": lambda node, commit: commit.after,
    "commit.diff": lambda node, commit: commit.diff,
    "part of a diff": lambda node, commit: commit.diff[:10_000],
    "one change": lambda node, commit: commit.diff[0],
    "event.payload": lambda node, commit: node.broadcast("copy", commit.after).payload,
    "state.at()": lambda node, commit: node.state.at(commit.revision),
}


def formatted(value):
    """Return what a cell shows that ends with the value; for a terminal, IPython takes the text."""
    return DisplayFormatter().format(value)[0]


@pytest.mark.parametrize("kind", ["wide", "a long list", "a matrix", "long keys", "deep"])
def test_every_value_of_a_huge_state_stays_small_at_the_end_of_a_cell(space, kind):
    node = space.create_node("orders", initial={"before": True})
    commit = node.state.set(big(kind))

    for name, get in VALUES.items():
        value = get(node, commit)
        if not isinstance(value, str | int):
            shown = formatted(value)
            assert set(shown) == {"text/plain", "text/html"}, name
            assert all(len(form.encode()) < LIMIT for form in shown.values()), name


def test_a_value_shows_the_tree_of_its_node(space):
    node = space.create_node("orders", initial=big("wide"))
    [heading, *tree] = node.state._repr_mimebundle_()["text/plain"].splitlines()
    value = formatted(node.state.get())

    assert heading == "State of orders · revision 1"
    assert value["text/plain"].splitlines() == [line.removeprefix("  ") for line in tree]
    assert (
        value["text/html"].partition("<ul")[2]
        == node.state._repr_mimebundle_()["text/html"].partition("<ul")[2]
    )


def test_values_inside_of_something_else_stay_small(space):
    node = space.create_node("orders", initial={"a": big("wide"), "b": {"n": 1}})
    a, b = node.state.get("a"), node.state.get("b")

    assert formatted([a] * 2000)["text/plain"].encode().__len__() < LIMIT
    assert formatted((b, 1))["text/plain"] == "({'n': 1}, 1)"
    assert formatted({"orders": b})["text/plain"] == "{'orders': {'n': 1}}"


def test_the_repr_of_a_value_stays_that_of_a_dict_list_or_tuple(space):
    node = space.create_node("orders", initial={"items": [{"n": 1}]})
    commit = node.state.set({"items": [{"n": 2}]})

    assert repr(node.state.get()) == str(node.state.get()) == "{'items': [{'n': 2}]}"
    assert repr(node.state.get("items")) == "[{'n': 2}]"
    assert repr(commit.diff) == repr(tuple(commit.diff))


def test_a_diff_shows_itself_as_its_commit_does(space):
    commit = space.create_node("orders", initial={"n": 1, "old": True}).state.set({"n": 2, "new": [1]})
    shown = formatted(commit.diff)

    assert shown["text/plain"] == "~ n    1 → 2\n+ new  [1]\n- old  True"
    assert {"<del>1</del>", "<ins>2</ins>"} <= set(
        re.findall(r"<(?:ins|del)>.*?</(?:ins|del)>", shown["text/html"])
    )
    assert formatted(commit.diff[0])["text/plain"] == "~ n  1 → 2"
    assert formatted(commit.diff[1:])["text/plain"] == "+ new  [1]\n- old  True"
    assert formatted(commit.diff[:0])["text/plain"] == "no change"


def test_a_repr_says_how_much_it_left_out(space):
    node = space.create_node("orders", initial=big("wide"))

    number = re.compile(r"… 19,\d{3} more")
    assert number.search(repr(node.state))
    assert number.search(node.state._repr_mimebundle_()["text/html"])


def test_the_reprs_of_many_nodes_and_of_many_commits_stay_small(space):
    nodes = [space.create_node(f"n{n}", initial={"text": "<x>" * 1000}) for n in range(200)]
    for n in range(200):
        nodes[0].state.set({"n": n, "text": "<y>" * 1000})

    for thing in (space, space.views, space.journal(), nodes[0].state.history()):
        for shown in (repr(thing), *thing._repr_mimebundle_().values()):
            assert len(shown.encode()) < LIMIT


def test_a_state_over_the_limit_is_refused_before_it_is_sent_and_its_biggest_part_named(space):
    node = space.create_node("orders", initial={"n": 0})
    revision, position = node.state.revision, space._log.replica.position

    with pytest.raises(happen.TooLargeError, match=r'"orders".*logs\.old .*Split') as caught:
        node.state.set({"n": 1, "logs": {"old": "x" * 9_000_000, "new": "y"}})

    assert isinstance(caught.value, ValueError)
    assert node.state.get(fresh=True) == {"n": 0}
    assert (node.state.revision, space._log.replica.position) == (revision, position)
    assert node.state.set({"n": 1}).revision == 2


def test_an_initial_over_the_limit_is_refused_too(space):
    with pytest.raises(happen.TooLargeError, match="text"):
        space.create_node("orders", initial={"text": "x" * 9_000_000})

    assert len(space.journal()) == 0


def test_a_state_just_below_the_limit_is_stored_and_read_back(space):
    node = space.create_node("orders")

    node.state.set({"text": "x" * 8_000_000})

    assert node.state.history()[-1].after == {"text": "x" * 8_000_000}
