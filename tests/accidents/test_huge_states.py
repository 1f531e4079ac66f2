"""Huge states: every repr stays small, and what is too large is refused before it is sent."""

from __future__ import annotations

import pytest

import happen_nb as happen

LIMIT = 100_000
MANY = 20_000


def big(kind):
    if kind == "wide":
        return {f"o{n}": {"status": "open", "total": n} for n in range(MANY)}
    if kind == "a long list":
        return {"items": [{"n": n} for n in range(MANY)]}
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


def test_a_repr_says_how_much_it_left_out(space):
    node = space.create_node("orders", initial=big("wide"))

    assert "more" in repr(node.state)
    assert "more" in node.state._repr_mimebundle_()["text/html"]


def test_the_reprs_of_many_nodes_and_of_many_commits_stay_small(space):
    nodes = [space.create_node(f"n{n}", initial={"text": "<x>" * 1000}) for n in range(200)]
    for n in range(200):
        nodes[0].state.set({"n": n, "text": "<y>" * 1000})

    for thing in (space, space.views, space.journal(), nodes[0].state.history()):
        for shown in (repr(thing), *thing._repr_mimebundle_().values()):
            assert len(shown.encode()) < LIMIT


def test_a_state_over_the_limit_is_refused_before_it_is_sent_and_its_biggest_part_named(space):
    node = space.create_node("orders", initial={"n": 0})
    revision, position = node.state.revision, space._session.replica.position

    with pytest.raises(happen.TooLargeError, match=r'"orders".*logs\.old .*Split') as caught:
        node.state.set({"n": 1, "logs": {"old": "x" * 9_000_000, "new": "y"}})

    assert isinstance(caught.value, ValueError)
    assert node.state.get(fresh=True) == {"n": 0}
    assert (node.state.revision, space._session.replica.position) == (revision, position)
    assert node.state.set({"n": 1}).revision == 2


def test_an_initial_over_the_limit_is_refused_too(space):
    with pytest.raises(happen.TooLargeError, match="text"):
        space.create_node("orders", initial={"text": "x" * 9_000_000})

    assert len(space.journal()) == 0


def test_a_state_just_below_the_limit_is_stored_and_read_back(space):
    node = space.create_node("orders")

    node.state.set({"text": "x" * 8_000_000})

    assert node.state.history()[-1].after == {"text": "x" * 8_000_000}
