"""Completion offers nodes, event types and paths that this process knows, for objects of the library only."""

from __future__ import annotations

import pytest

import happen_nb as happen
from happen_nb import _ipython as extension

STATE = {"orders": {"o1": {"status": "open", "items": ["pen", "ink"]}, "o2": 1}, "a.b": 1, "": 2, "it's": 3}


class Trap:
    """Whatever is asked of it is an error, also what it is."""

    def __getattr__(self, name):
        raise AssertionError(name)

    @property
    def __class__(self):
        raise AssertionError("it was asked what it is")


@pytest.fixture
def nodes(space, monkeypatch):
    """Three nodes of the current space, one of which handles events."""
    monkeypatch.setattr("happen_nb._api.connect.registry._connected", {space: None})
    nodes = {
        "orders": space.create_node("orders", initial=STATE),
        "stock": space.create_node("stock", initial={"pens": 3}),
        "service": space.create_node("customer-service", initial={"customers": {}}),
    }
    nodes["stock"].on("order.{paid,sent}", lambda event: None)
    nodes["stock"].on("stock.*", lambda event: None)
    return nodes


@pytest.fixture
def offered(space, nodes):
    """Return what is offered at the end of a cell; the names are those of a notebook."""
    names = {"happen": happen, "space": space, **nodes, "state": nodes["orders"].state, "other": Trap()}

    def ask(code):
        found = extension.offer(code, names, lambda space: ["stock.counted", "order.lost"])
        return None if found is None else list(found.kinds)

    return ask


# -- nodes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "views.cu",
        "space.views.cu",
        "orders.state.set(lambda state, views: views.cu",
        "orders.space.views.cu",
        "happen.current().views.cu",
        "context.views.cu",
    ],
)
def test_views_have_the_nodes(offered, code):
    assert offered(code) == ["customer_service"]


def test_views_have_their_methods_too_after_the_nodes(offered):
    assert offered("views.") == [
        *["customer_service", "orders", "stock"],
        *["collect", "get", "items", "keys", "space", "values"],
    ]


@pytest.mark.parametrize(
    "code",
    [
        'views["cu',
        'space.views["cu',
        'space.nodes["cu',
        'space.send("cu',
        'orders.send("cu',
        'await orders.asend("cu',
        'orders.send(target="cu',
        'def pay(node):\n    node.send("cu',
        'space.create_node("cu',
        'happen.create_node("cu',
        "%happen cu",
    ],
)
def test_a_node_is_named_in_a_string(offered, code):
    assert offered(code) == ["customer-service"]


def test_those_that_handle_events_come_first_where_one_sends(offered):
    assert offered('space.send("') == ["stock", "customer-service", "orders"]


def test_a_view_completes_its_methods(offered):
    assert offered("lambda state, views: views.orders.") == ["get", "live", "live_plot", "name", "revision"]


# -- event types -------------------------------------------------------------------------------------


def test_all_known_types_are_offered_those_that_the_target_takes_first(offered):
    taken = ["order.paid", "order.sent", "stock.counted"]

    assert offered('orders.send("stock", "') == [*taken, "order.lost"]
    assert offered('space.send(stock, "') == [*taken, "order.lost"]
    assert offered('orders.send(target="stock", type="') == [*taken, "order.lost"]
    assert offered('orders.send("customer-service", "') == sorted([*taken, "order.lost"])
    assert offered('orders.send(f(), "stock') == ["stock.counted"]


def test_a_broadcast_has_the_known_types(offered):
    assert offered('orders.broadcast("order.') == ["order.lost", "order.paid", "order.sent"]
    assert offered('space.broadcast(type="order.l') == ["order.lost"]


@pytest.mark.parametrize(
    "code", ['orders.on("', 'orders.off("', 'space.wait_for("', 'space.events(pattern="', '@orders.on("']
)
def test_a_pattern_is_a_known_type_or_what_others_take(offered, code):
    assert offered(code) == ["order.lost", "order.{paid,sent}", "stock.*", "stock.counted"]


# -- paths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        'orders.state.get("',
        'state.get("',
        'state.live("',
        'orders.state.get(selector="',
        'views.orders.get("',
        'space.views["orders"].live("',
        'space.nodes["orders"].state.get("',
        'orders.state.set(happen.put("',
        'orders.state.set(happen.compose(happen.put("',
        'happen.bind(slider, orders, "',
        'happen.bind(slider, path="x", node=orders, trait="y") and happen.bind(slider, node=orders, path="',
    ],
)
def test_a_path_is_one_of_that_nodes_state(offered, code):
    assert offered(code) == ["orders", "it's"]
    assert offered(f"{code}orders.o1.") == ["orders.o1.status", "orders.o1.items"]
    assert offered(f"{code}orders.o1.items.") == ["orders.o1.items.0", "orders.o1.items.1"]
    assert offered(f"{code}orders.o2.") == offered(f"{code}orders..") == offered(f"{code}no.") == []


def test_a_put_that_stands_for_itself_has_the_paths_of_all_nodes(offered):
    assert offered('ship = happen.put("') == ["orders", "it's", "pens", "customers"]
    assert offered('node.state.get("') == ["orders", "it's", "pens", "customers"]


def test_a_key_with_a_quote_is_written_as_python_reads_it(offered):
    assert offered("state.get('it") == [r"it\'s"]
    assert offered(r"state.get('it\'") == [r"it\'s"]
    assert offered('state.get("it') == ["it's"]
    assert offered("state.get(r'it") == []


def test_a_state_that_is_deleted_has_no_paths(offered, nodes):
    nodes["stock"].delete()

    assert offered('happen.put("') == ["orders", "it's", "customers"]


def test_of_very_many_keys_some_are_offered(offered, nodes):
    nodes["stock"].state.set({f"k{number}": 0 for number in range(10_000)})

    assert offered('stock.state.get("k999') == [f"k999{rest}" for rest in ("", *range(10))]
    assert len(offered('stock.state.get("')) == extension.MAX_COMPLETIONS


# -- what is not ours --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "other.views.cu",
        'other.send("cu',
        'other.get("',
        'other["cu',
        'def f(d):\n    d.get("',
        'def f(d):\n    d["cu',
        "def f(d):\n    d.cu",
        'orders.send("stock", "stock.counted", "',
        'orders.send("stock", note="',
        'orders.get("',
        'space.get("',
        'open("',
        'happen.connect("',
        'happen.bind("',
        "orders.sta",
        "happen.con",
        "%happening cu",
    ],
)
def test_what_is_not_ours_is_left_alone(offered, code):
    assert offered(code) is None


def test_without_a_space_there_is_nothing(offered, monkeypatch):
    monkeypatch.setattr("happen_nb._api.connect.registry._connected", {})

    assert offered("views.") is offered('ship = happen.put("') is offered('node.send("') is None
    assert offered("%happen ") == []
    assert offered('orders.send("cu') == ["customer-service"]
