"""Nodes: created once, visible from their first commit on, deleted and created again."""

from __future__ import annotations

import pytest

import happen_nb as happen

# -- made --------------------------------------------------------------------------------------------


def test_create_node_gives_the_same_object_again(space):
    assert space.create_node("orders") is space.create_node("orders", initial={"n": 1})


def test_before_its_first_commit_a_node_reads_as_empty_at_revision_0(space):
    node = space.create_node("orders")

    assert (node.state.get(), node.state.revision, len(node.state.history())) == ({}, 0, 0)
    assert (space.views.orders.get(), space.views.orders.revision) == ({}, 0)


def test_initial_is_committed_once(space):
    node = space.create_node("orders", initial={"n": 1})
    space.create_node("orders", initial={"n": 2})

    assert (node.state.get(), node.state.revision) == ({"n": 1}, 1)


def test_initial_is_not_used_where_another_process_has_given_the_node_a_state(space, other):
    other.do('space.create_node("orders", initial={"by": "other"})')

    assert space.create_node("orders", initial={"by": "me"}).state.get() == {"by": "other"}


def test_an_initial_that_is_not_used_is_noticed_with_the_revision_and_the_way_to_begin_anew(space, caplog):
    node = space.create_node("orders", initial={"n": 1})
    assert caplog.messages == []
    node.state.set({"n": 2})

    space.create_node("orders")
    assert caplog.messages == []
    space.create_node("orders", initial={"n": 1})

    (notice,) = caplog.messages
    assert 'ignored initial: node "orders" is at revision 2' in notice
    assert "connect(fresh=True)" in notice
    node.delete()
    space.create_node("orders", initial={"n": 1})
    assert caplog.messages == [notice]


def test_an_empty_initial_state_is_a_commit(space):
    node = space.create_node("orders", initial={})

    assert (node.state.get(), node.state.revision) == ({}, 1)


@pytest.mark.parametrize("initial", [[1], "text", 7, {1: 2}, {"x": float("nan")}])
def test_an_initial_that_is_no_state_is_refused_and_makes_no_node(space, initial):
    with pytest.raises(happen.StateError):
        space.create_node("orders", initial=initial)

    assert "orders" not in space.nodes
    assert "orders" not in space.views


def test_an_initial_that_is_too_large_makes_no_node(space):
    with pytest.raises(happen.TooLargeError):
        space.create_node("orders", initial={"text": "x" * 9_000_000})

    assert "orders" not in space.nodes


def test_another_process_sees_a_node_from_its_first_commit_on(space, other):
    node = space.create_node("orders")
    assert other.ask('"orders" in space.views') is False

    node.state.set({"n": 1})

    other.do("space.create_node('mine').state.get(fresh=True)")
    assert other.ask('space.views.orders.get("n")') == 1


# -- the mappings ------------------------------------------------------------------------------------


def test_nodes_is_a_live_mapping_of_the_nodes_of_this_process(space, other):
    nodes, views = space.nodes, space.views
    orders = space.create_node("orders", initial={})
    other.do('space.create_node("elsewhere", initial={})')
    orders.state.get(fresh=True)

    assert dict(nodes) == {"orders": orders}
    assert (len(nodes), "orders" in nodes, "elsewhere" in nodes) == (1, True, False)
    assert sorted(views) == ["elsewhere", "orders"]
    assert len(views) == 2


def test_an_unknown_name_in_nodes_is_a_key_error_with_advice(space):
    with pytest.raises(KeyError, match=r'no node "orders" .* create_node\("orders"\) creates it'):
        space.nodes["orders"]


def test_a_node_of_another_process_is_not_among_nodes_and_the_error_gives_advice(space, other, until):
    other.do('space.create_node("orders", initial={"n": 1})')
    until(lambda: "orders" in space.views)
    with pytest.raises(KeyError, match=r'not created in this process: create_node\("orders"\)'):
        space.nodes["orders"]
    assert space.create_node("orders").state.get("n") == 1
    with pytest.raises(KeyError, match="did you mean orders"):
        space.nodes["ordres"]


def test_a_name_as_an_attribute_of_nodes_is_an_error_with_advice(space):
    space.create_node("orders")
    with pytest.raises(AttributeError, match=r'nodes\["orders"\] is the node with this name'):
        space.nodes.orders  # noqa: B018


# -- deleted -----------------------------------------------------------------------------------------


def test_a_deleted_node_is_unknown_to_every_reader(space, other):
    node = space.create_node("orders", initial={"n": 1})

    node.delete()

    assert "orders" not in space.nodes
    with pytest.raises(happen.UnknownNodeError):
        space.views.orders  # noqa: B018
    other.do("space.create_node('mine').state.get(fresh=True)")
    assert other.ask('"orders" in space.views') is False


def test_a_view_from_before_the_deletion_raises_unknown_node_error(space):
    node = space.create_node("orders", initial={"n": 1})
    view = space.views.orders

    node.delete()

    with pytest.raises(happen.UnknownNodeError):
        view.get()


def test_a_node_made_again_after_its_deletion_is_empty_and_its_revisions_count_on(space):
    node = space.create_node("orders", initial={"n": 1})
    node.delete()
    deleted_at = node.state.revision

    again = space.create_node("orders")

    assert again.state.get() == {}
    assert "orders" in space.nodes
    assert again.state.set({"n": 2}).revision == deleted_at + 1
    assert [commit.after for commit in again.state.history()] == [{"n": 1}, {}, {"n": 2}]


@pytest.mark.parametrize("initial", [None, {"n": 1}])
@pytest.mark.parametrize("use", ["commit", "handle"])
def test_a_deleted_node_that_is_used_again_is_among_the_nodes_and_in_forks(space, initial, use):
    node = space.create_node("orders", initial=initial)
    node.delete()
    assert "orders" not in space.nodes

    if use == "commit":
        node.state.set({"n": 2})
        assert dict(space.nodes) == {"orders": node}
    node.on("ask", lambda event: event.payload)

    assert dict(space.nodes) == {"orders": node}
    fork = space.fork(f"{space.name}-fork", handlers=True)
    assert fork.send("orders", "ask", 3).result() == 3
    fork.drop()


def test_a_deleted_node_that_has_a_state_again_stays_when_the_space_is_cleared(space):
    node, other = (space.create_node(name, initial={"n": 1}) for name in ("orders", "stock"))
    node.delete()
    node.state.set({"n": 2})
    other.delete()
    space.clear()
    assert list(space.nodes) == list(space.views) == ["orders"]
    assert space.views.orders.get() == {}


def test_initial_is_committed_again_after_a_deletion(space):
    space.create_node("orders", initial={"n": 1}).delete()

    assert space.create_node("orders", initial={"n": 2}).state.get() == {"n": 2}


def test_a_deletion_is_a_commit_that_a_history_shows(space):
    node = space.create_node("orders", initial={"n": 1})
    node.delete()

    last = node.state.history()[-1]

    assert (last.deleted, last.before, last.after, last.revision) == (True, {"n": 1}, {}, 2)


def test_deleting_what_has_no_state_or_was_deleted_already_does_nothing(space):
    node = space.create_node("orders")
    node.delete()
    assert "orders" not in space.nodes

    space.create_node("orders", initial={"n": 1}).delete()
    node.delete()

    assert node.state.revision == 2


def test_a_deletion_ends_the_watches_of_this_process(space):
    node = space.create_node("orders", initial={"n": 1})
    watch = node.state.watch(print)

    node.delete()

    assert not watch.active


def test_a_node_that_another_process_deleted_is_not_among_the_nodes(space, other):
    node = space.create_node("orders", initial={"n": 1})
    other.do('space.create_node("orders").delete()')
    node.state.get(fresh=True)

    assert "orders" not in space.nodes
    assert node.state.get() == {}


def test_deleting_a_node_without_a_state_removes_the_handlers_of_another_process(space, other, until):
    other.do('node = space.create_node("orders"); node.on("order.paid", print)')
    until(lambda: "orders" in space.views)
    assert space.views["orders"].get() == {}

    space.create_node("orders").delete()

    assert "orders" not in space.views
    assert other.ask("[node.state.get(fresh=True), len(node.handlers)]") == [{}, 0]


# -- the current space -------------------------------------------------------------------------------


def test_create_node_of_the_module_makes_it_in_the_space_connected_last(space):
    assert happen.current() is space
    assert happen.create_node("orders", initial={"n": 1}) is space.nodes["orders"]
