"""Valid names of nodes and spaces; a name always means the same thing."""

from __future__ import annotations

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen

ALPHABET = string.ascii_letters + string.digits + "_-"
BAD = ["", "a" * 65, "a.b", "a b", "ü", "a/b", "*", ">", "a\n", "$KV", "a,b", None, 7, b"a", ("a",)]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_node_name_is_a_value_error_that_names_the_allowed_characters(space, name):
    with pytest.raises(ValueError, match=r"A-Z a-z 0-9 _ -"):
        space.create_node(name)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_space_name_is_a_value_error_before_anything_is_opened(store, name):
    with pytest.raises(ValueError, match=r"space cannot be named .* A-Z a-z 0-9 _ -"):
        happen.connect(store=store, name=name)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_for_a_fork_is_a_value_error(space, name):
    with pytest.raises(ValueError, match=r"A-Z a-z 0-9 _ -"):
        space.fork(name)


def test_no_node_may_be_named_notebook(space):
    with pytest.raises(ValueError, match="notebook"):
        space.create_node("notebook")


def test_a_space_may_be_named_notebook(store):
    with happen.connect(store=store, name="notebook") as space:
        assert space.name == "notebook"
        space.drop()


def test_a_refused_name_leaves_no_node_behind(space):
    with pytest.raises(happen.InvalidNameError):
        space.create_node("a.b", initial={"n": 1})

    assert (list(space.nodes), list(space.views)) == ([], [])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(ALPHABET, min_size=1, max_size=64).filter(lambda name: name != "notebook"))
def test_every_allowed_name_works_for_a_node(space, name):
    node = space.create_node(name)
    node.state.set(lambda s: {"name": name, "n": s.get("n", 0) + 1})

    assert node.state.get("name") == name
    assert space.views[name].get("name") == name
    assert space.nodes[name] is node is space.create_node(name)
    assert node.state.history()[-1].after == node.state.get()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=70).filter(lambda name: not set(name) <= set(ALPHABET) or not 1 <= len(name) <= 64)
)
def test_every_other_name_is_refused(space, name):
    with pytest.raises(happen.InvalidNameError):
        space.create_node(name)


@pytest.mark.parametrize(
    "name", ["-", "_", "__", "--help", "0", "get", "collect", "items", "None", "_x", "A" * 64]
)
def test_odd_but_allowed_names_are_nodes_like_others(space, name):
    space.create_node(name, initial={"n": 1})

    assert space.views[name].get("n") == 1
    assert space.views.collect({name: "n"}) == {name: 1}


def test_names_that_differ_in_case_or_dash_are_different_nodes(space):
    for n, name in enumerate(["Orders", "orders", "or-ders", "or_ders"]):
        space.create_node(name, initial={"n": n})

    assert space.views.collect(dict.fromkeys(["Orders", "orders", "or-ders", "or_ders"], "n")) == {
        "Orders": 0,
        "orders": 1,
        "or-ders": 2,
        "or_ders": 3,
    }
