"""Best Practices: focused states and immutable updates."""

from __future__ import annotations

import pytest

import happen_nb as happen

# -- keep state focused ------------------------------------------------------------------------------


def test_a_mapping_is_the_new_state(space):
    monolith_node = space.create_node("app")

    commit = monolith_node.state.set({"orders": {}, "customers": {}, "inventory": {}, "shipping": {}})

    assert commit.after == {"orders": {}, "customers": {}, "inventory": {}, "shipping": {}}


def test_a_mapping_replaces_all_that_was_there(space):
    order_node = space.create_node("orders", initial={"customers": {}, "old": 1})

    order_node.state.set({"orders": {}})

    assert order_node.state.get() == {"orders": {}}


# -- use immutable patterns --------------------------------------------------------------------------


@pytest.fixture
def order_node(space):
    return space.create_node("orders", initial={"orders": {"order-123": {"status": "new", "items": [1]}}})


def mutate_an_item(state):
    state["orders"]["order-123"]["status"] = "shipped"
    return state


def delete_an_item(state):
    del state["orders"]["order-123"]
    return state


def update_in_place(state):
    state["orders"] |= {"order-124": {}}
    return state


def append_to_a_list(state):
    state["orders"]["order-123"]["items"].append(2)
    return state


@pytest.mark.parametrize("mutate", [mutate_an_item, delete_an_item, update_in_place, append_to_a_list])
def test_direct_mutation_fails_and_changes_nothing(order_node, mutate):
    before = order_node.state.get()

    with pytest.raises(happen.FrozenStateError, match=r"happen\.draft"):
        order_node.state.set(mutate)

    assert order_node.state.get() is before
    assert order_node.state.get(fresh=True) == {"orders": {"order-123": {"status": "new", "items": [1]}}}
    assert order_node.state.revision == 1


def test_direct_mutation_of_another_nodes_state_fails(space, order_node):
    inventory = space.create_node("inventory", initial={"products": {"p1": 4}})

    def take_one(state, views):
        views.inventory.get()["products"]["p1"] -= 1
        return {**state, "taken": True}

    with pytest.raises(happen.FrozenStateError):
        order_node.state.set(take_one)

    assert inventory.state.get("products.p1") == 4


def test_immutable_updates_leave_what_others_hold_as_it_was(order_node):
    held = order_node.state.get()

    order_node.state.set(
        lambda state: {
            **state,
            "orders": {
                **state["orders"],
                "order-123": {**state["orders"]["order-123"], "status": "shipped"},
            },
        }
    )

    assert held["orders"]["order-123"]["status"] == "new"
    assert order_node.state.get("orders.order-123.status") == "shipped"
