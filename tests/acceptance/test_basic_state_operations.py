"""Basic State Operations: accessing, transforming and composing."""

from __future__ import annotations

import time

import pytest

import happen_nb as happen

TWO_ORDERS = {
    "orders": {
        "order-123": {"id": "order-123", "status": "active"},
        "order-124": {"id": "order-124", "status": "done"},
    }
}


@pytest.fixture
def order_node(space):
    return space.create_node("orders", initial=TWO_ORDERS)


# -- accessing state ---------------------------------------------------------------------------------


def test_the_complete_state_is_read(order_node):
    order_state = order_node.state.get()

    assert order_state == TWO_ORDERS


def test_focused_access_returns_what_the_selector_makes_of_the_state(order_node):
    active_orders = order_node.state.get(
        lambda state: [o for o in state.get("orders", {}).values() if o["status"] == "active"]
    )

    assert active_orders == [{"id": "order-123", "status": "active"}]


def test_focused_access_takes_a_path(order_node):
    assert order_node.state.get("orders.order-123.status") == "active"
    assert order_node.state.get(("orders", "order-123", "status")) == "active"


# -- transforming state ------------------------------------------------------------------------------


def test_a_transform_commits_the_state_it_returns(order_node):
    shipped_at = time.time()

    order_node.state.set(
        lambda state: {
            **state,
            "orders": {
                **state["orders"],
                "order-123": {
                    **state["orders"]["order-123"],
                    "status": "shipped",
                    "shipped_at": shipped_at,
                },
            },
        }
    )

    assert order_node.state.get("orders") == {
        "order-123": {"id": "order-123", "status": "shipped", "shipped_at": shipped_at},
        "order-124": {"id": "order-124", "status": "done"},
    }


def test_a_commit_tells_what_the_transform_changed(order_node):
    commit = order_node.state.set(happen.put("orders.order-123.status", "shipped"))

    assert commit.changed
    assert commit.before == TWO_ORDERS
    assert commit.after["orders"]["order-123"]["status"] == "shipped"
    assert [(change.op, change.path, change.before, change.after) for change in commit.diff] == [
        ("change", ("orders", "order-123", "status"), "active", "shipped")
    ]


# -- composing transformations -----------------------------------------------------------------------


def mark_shipped(order_id):
    return lambda state: {
        **state,
        "orders": {
            **state["orders"],
            order_id: {**state["orders"][order_id], "status": "shipped", "shipped_at": 17},
        },
    }


def mark_billed(order_id):
    return lambda state: {
        **state,
        "orders": {**state["orders"], order_id: {**state["orders"][order_id], "billed": True}},
    }


def test_a_reusable_transformer_is_applied_by_set(order_node):
    order_node.state.set(mark_shipped("order-123"))

    assert order_node.state.get("orders.order-123") == {
        "id": "order-123",
        "status": "shipped",
        "shipped_at": 17,
    }
    assert order_node.state.get("orders.order-124.status") == "done"


def test_transformers_compose_into_one_commit(order_node):
    commit = order_node.state.set(happen.compose(mark_shipped("order-123"), mark_billed("order-123")))

    assert commit.revision == 2
    assert commit.after["orders"]["order-123"] == {
        "id": "order-123",
        "status": "shipped",
        "shipped_at": 17,
        "billed": True,
    }


def test_the_same_transformer_is_written_as_an_edit_of_a_draft(order_node):
    def ship(order_id):
        @happen.draft
        def edit(d):
            d["orders"][order_id]["status"] = "shipped"
            d["orders"][order_id]["shipped_at"] = 17

        return edit

    drafted = order_node.state.set(ship("order-123"))

    assert drafted.after == mark_shipped("order-123")(TWO_ORDERS)
