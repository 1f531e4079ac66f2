"""Scaling Patterns: selective access and domain partitioning."""

from __future__ import annotations

# -- selective state access --------------------------------------------------------------------------


def test_only_what_is_needed_is_accessed(space):
    order_node = space.create_node("orders", initial={"orders": {f"o{n}": {"n": n} for n in range(1000)}})

    order_count = order_node.state.get(lambda state: len(state.get("orders", {})))

    assert order_count == 1000


def test_access_to_a_state_copies_nothing(space):
    order_node = space.create_node("orders", initial={"orders": {f"o{n}": {"n": n} for n in range(1000)}})

    assert order_node.state.get() is order_node.state.get()
    assert order_node.state.get("orders.o7") is order_node.state.get()["orders"]["o7"]


def test_a_transform_shares_what_it_did_not_change(space):
    order_node = space.create_node("orders", initial={"orders": {"o1": {"n": 1}}, "archive": {"o0": {}}})

    commit = order_node.state.set(lambda state: {**state, "orders": {}})

    assert commit.after["archive"] is commit.before["archive"]


# -- domain partitioning -----------------------------------------------------------------------------


def test_each_domain_has_a_node_with_a_state_of_its_own(space):
    order_node = space.create_node("order-service")
    customer_node = space.create_node("customer-service")
    inventory_node = space.create_node("inventory-service")

    order_node.state.set({"orders": {"o1": {"customer": "c1", "product": "p1"}}})
    customer_node.state.set({"customers": {"c1": {"name": "Ada"}}})
    inventory_node.state.set({"products": {"p1": {"quantity": 4}}})

    assert order_node.state.get() == {"orders": {"o1": {"customer": "c1", "product": "p1"}}}
    assert customer_node.state.get() == {"customers": {"c1": {"name": "Ada"}}}
    assert inventory_node.state.get() == {"products": {"p1": {"quantity": 4}}}


def test_domains_change_independently(space):
    order_node = space.create_node("order-service", initial={"orders": {}})
    customer_node = space.create_node("customer-service", initial={"customers": {}})

    order_node.state.set(lambda s: {**s, "orders": {"o1": {}}})

    assert (order_node.state.revision, customer_node.state.revision) == (2, 1)


def test_a_domain_is_viewed_by_its_name_as_an_attribute(space):
    space.create_node("customer-service", initial={"customers": {"c1": {"name": "Ada"}}})

    assert space.views.customer_service.get("customers.c1.name") == "Ada"
    assert space.views["customer-service"].get("customers.c1.name") == "Ada"
