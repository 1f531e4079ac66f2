"""Advanced Patterns: versions within a state, and computed state."""

from __future__ import annotations

import time

import pytest

# -- state versioning --------------------------------------------------------------------------------


def process(state):
    new_version = state.get("version", 0) + 1
    return {
        **state,
        "version": new_version,
        "orders": {
            **state["orders"],
            "order-123": {
                **state["orders"]["order-123"],
                "status": "processing",
                "updated_at": time.time(),
                "version": new_version,
            },
        },
    }


@pytest.fixture
def order_node(space):
    return space.create_node("orders", initial={"orders": {"order-123": {"status": "new"}}})


def test_a_state_counts_its_versions(order_node):
    order_node.state.set(process)
    order_node.state.set(process)

    assert order_node.state.get("version") == 2
    assert order_node.state.get("orders.order-123.version") == 2
    assert order_node.state.get("orders.order-123.status") == "processing"


def test_every_version_is_kept_for_debugging_and_auditing(order_node):
    order_node.state.set(process)
    order_node.state.set(process)

    history = order_node.state.history()

    assert [commit.revision for commit in history] == [1, 2, 3]
    assert [commit.after.get("version") for commit in history] == [None, 1, 2]
    assert order_node.state.at(2)["version"] == 1
    assert order_node.state.revert(1).after == {"orders": {"order-123": {"status": "new"}}}


# -- computed state ----------------------------------------------------------------------------------


def with_summary(state, views):
    summary = {"total": 0, "count": 0}
    for order in state.get("orders", {}).values():
        summary["total"] += order["total"]
        summary["count"] += 1
        summary[order["status"]] = summary.get(order["status"], 0) + 1
    return {
        **state,
        "computed": {
            **state.get("computed", {}),
            "order_summary": summary,
            "average_order_value": summary["total"] / summary["count"] if summary["count"] else 0,
        },
    }


def test_values_are_computed_from_the_raw_state(space):
    order_node = space.create_node(
        "orders",
        initial={
            "orders": {
                "o1": {"total": 10, "status": "paid"},
                "o2": {"total": 5, "status": "open"},
                "o3": {"total": 3, "status": "paid"},
            },
            "computed": {"by_hand": 1},
        },
    )

    order_node.state.set(with_summary)

    assert order_node.state.get("computed") == {
        "by_hand": 1,
        "order_summary": {"total": 18, "count": 3, "paid": 2, "open": 1},
        "average_order_value": 6.0,
    }


def test_computing_again_what_is_there_commits_nothing(space):
    order_node = space.create_node("orders", initial={"orders": {}})
    order_node.state.set(with_summary)

    again = order_node.state.set(with_summary)

    assert not again.changed
    assert order_node.state.get("computed.average_order_value") == 0
    assert order_node.state.revision == 2
