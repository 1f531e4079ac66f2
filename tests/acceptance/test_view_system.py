"""View System: views in a transform, and the collect pattern."""

from __future__ import annotations

import pytest

ORDER = {"id": "order-123", "customer_id": "c7", "product_id": "p1"}
REGION = "eu"


@pytest.fixture
def order_node(space):
    space.create_node(
        "customer", initial={"customers": {"c7": {"name": "Ada", "address": "12 St James's Square"}}}
    )
    space.create_node(
        "inventory", initial={"products": {"p1": {"in_stock": True, "quantity": 4, "lead_time": 3}}}
    )
    space.create_node(
        "shipping", initial={"rates_by_region": {"eu": 4.5}, "available_methods": ["post", "bike"]}
    )
    return space.create_node("orders", initial={"orders": {}})


# -- basic view usage --------------------------------------------------------------------------------


def test_a_transform_takes_data_of_other_nodes_through_views(order_node):
    def add_order(state, views):
        customer = views.customer.get(lambda s: s["customers"][ORDER["customer_id"]])
        product = views.inventory.get(lambda s: s["products"][ORDER["product_id"]])
        return {
            **state,
            "orders": {
                **state["orders"],
                ORDER["id"]: {
                    **ORDER,
                    "can_ship": product["in_stock"],
                    "shipping_address": customer["address"],
                },
            },
        }

    order_node.state.set(add_order)

    assert order_node.state.get(("orders", "order-123")) == {
        **ORDER,
        "can_ship": True,
        "shipping_address": "12 St James's Square",
    }


def test_views_show_nodes_of_another_process(order_node, other):
    other.do('space.create_node("warehouse", initial={"free": 12})')
    order_node.state.get(fresh=True)  # what others wrote arrives soon; this waits for it

    commit = order_node.state.set(lambda s, views: {**s, "free": views.warehouse.get("free")})

    assert commit.after["free"] == 12


# -- enhanced collection -----------------------------------------------------------------------------


def create_fulfillment_plan(data):
    return {
        "to": f"{data['customer']['name']}, {data['customer']['address']}",
        "ship": data["inventory"]["in_stock"],
        "by": data["shipping"]["methods"][-1],
        "costs": data["shipping"]["rates"],
    }


def test_collect_takes_slices_of_several_nodes_in_one_operation(order_node):
    def plan(state, views):
        data = views.collect(
            {
                "customer": lambda s: {
                    "name": s["customers"][ORDER["customer_id"]]["name"],
                    "address": s["customers"][ORDER["customer_id"]]["address"],
                },
                "inventory": lambda s: {
                    "in_stock": s["products"][ORDER["product_id"]]["quantity"] > 0,
                    "lead_time": s["products"][ORDER["product_id"]]["lead_time"],
                },
                "shipping": lambda s: {
                    "rates": s["rates_by_region"][REGION],
                    "methods": s["available_methods"],
                },
            }
        )
        order = {**ORDER, "fulfillment_plan": create_fulfillment_plan(data)}
        return {**state, "orders": {**state["orders"], ORDER["id"]: order}}

    order_node.state.set(plan)

    assert order_node.state.get("orders.order-123.fulfillment_plan") == {
        "to": "Ada, 12 St James's Square",
        "ship": True,
        "by": "bike",
        "costs": 4.5,
    }


def test_collect_returns_one_plain_object_with_a_slice_a_node(space, order_node):
    data = space.views.collect({"customer": "customers.c7.name", "shipping": len})

    assert data == {"customer": "Ada", "shipping": 2}
    assert type(data) is dict


def test_collect_reads_one_consistent_moment_while_another_process_writes(space, other):
    left, right = space.create_node("left", initial={"n": 0}), space.create_node("right", initial={"n": 0})
    other.do(
        "def count():\n"
        "    for n in range(1, 301):\n"
        '        space.create_node("left").state.set({"n": n})\n'
        '        space.create_node("right").state.set({"n": n})\n'
        "import threading\n"
        "counting = threading.Thread(target=count)\n"
        "counting.start()\n"
    )

    seen = [space.views.collect({"left": "n", "right": "n"}) for _ in iter(lambda: right.state.get("n"), 300)]

    other.do("counting.join()")
    assert {data["left"] - data["right"] for data in seen} <= {0, 1}
    assert left.state.get("n", fresh=True) == 300
