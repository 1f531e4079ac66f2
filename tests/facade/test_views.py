"""``space.views``, and the views of a transform."""

from __future__ import annotations

import time

import pytest

import happen_nb as happen


@pytest.fixture
def nodes(space):
    return {
        name: space.create_node(name, initial={"name": name, "n": n})
        for n, name in enumerate(["customer", "customer-service", "inventory_eu", "order-service"])
    }


# -- finding -----------------------------------------------------------------------------------------


def test_an_attribute_and_an_item_find_a_node(space, nodes):
    assert space.views.customer.get("n") == space.views["customer"].get("n") == 0
    assert space.views.customer.name == "customer"


def test_an_underscore_in_an_attribute_also_finds_a_dash(space, nodes):
    assert space.views.customer_service.get("name") == "customer-service"
    assert space.views.inventory_eu.get("name") == "inventory_eu"


def test_views_are_read_only(space, nodes):
    with pytest.raises(AttributeError, match=r"^views.customer is read-only"):
        space.views.customer = {}
    assert space.views.customer.get("n") == 0
    with pytest.raises(AttributeError, match=r"^views.customer.status is read-only; commit .*put\("):
        space.views.customer.status = "gone"


def test_the_exact_name_comes_first(space, nodes):
    space.create_node("customer_service", initial={"name": "with underscore"})

    assert space.views.customer_service.get("name") == "with underscore"
    assert space.views["customer-service"].get("name") == "customer-service"


def test_an_attribute_that_could_mean_two_nodes_is_unknown(space):
    for name in ("a-b_c", "a_b-c"):
        space.create_node(name, initial={})

    with pytest.raises(happen.UnknownNodeError, match=r"a-b_c.*a_b-c|a_b-c.*a-b_c"):
        space.views.a_b_c  # noqa: B018


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("custmer", "customer"), ("order_servce", "order-service"), ("inventory", "inventory_eu")],
)
def test_an_unknown_node_is_an_error_with_the_nearest_names(space, nodes, asked, nearest):
    for find in (
        lambda: getattr(space.views, asked),
        lambda: space.views[asked],
        lambda: space.views.collect({asked: "n"}),
    ):
        with pytest.raises(happen.UnknownNodeError, match=f'"{asked}".*{nearest}') as caught:
            find()
        assert isinstance(caught.value, KeyError)


def test_an_unknown_node_in_an_empty_space(space):
    with pytest.raises(happen.UnknownNodeError, match="no nodes"):
        space.views.customer  # noqa: B018


def test_asking_whether_a_view_is_there_is_no_error(space, nodes):
    assert hasattr(space.views, "customer")
    assert not hasattr(space.views, "nobody")
    assert getattr(space.views, "nobody", None) is None
    assert space.views.get("nobody") is None
    assert ("customer" in space.views, "nobody" in space.views, 7 in space.views) == (True, False, False)


@pytest.mark.parametrize("name", ["__array__", "_repr_html_", "_ipython_canary_method_should_not_exist_"])
def test_what_python_and_ipython_probe_for_is_no_node(space, nodes, name):
    with pytest.raises(AttributeError):
        getattr(space.views, name)


# -- listing -----------------------------------------------------------------------------------------


def test_tab_completion_lists_attributes_and_keys(space, nodes):
    assert {"customer", "customer_service", "inventory_eu", "order_service", "collect"} <= set(
        dir(space.views)
    )
    assert space.views._ipython_key_completions_() == sorted(nodes)


def test_tab_completion_of_ipython_lists_the_nodes(space, nodes):
    from IPython.core.completer import provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    completer = InteractiveShell().Completer
    completer.namespace = {"views": space.views}
    with provisionalcompleter():
        attributes = {c.text for c in completer.completions("views.cust", len("views.cust"))}
        keys = {c.text.strip("'\"]") for c in completer.completions('views["cust', len('views["cust'))}

    assert {"customer", "customer_service"} <= {text.removeprefix(".") for text in attributes}
    assert {"customer", "customer-service"} <= keys


def test_views_are_a_live_mapping_of_all_nodes(space, nodes, other):
    views = space.views
    other.do('space.create_node("elsewhere", initial={"n": 9})')
    nodes["customer"].state.get(fresh=True)

    assert list(views) == sorted([*nodes, "elsewhere"])
    assert len(views) == 5
    assert views["elsewhere"].get("n") == 9
    assert {name: view.get("n") for name, view in views.items()}["elsewhere"] == 9


# -- reading -----------------------------------------------------------------------------------------


def test_a_view_of_the_space_shows_the_newest_state(space, nodes):
    view = space.views.customer
    nodes["customer"].state.set({"n": 10})

    assert (view.get("n"), view.revision) == (10, 2)


def test_a_view_selects_as_get_does(space, nodes):
    view = space.views.customer

    assert view.get() is nodes["customer"].state.get()
    assert view.get("n") == view.get(("n",)) == view.get(lambda s: s["n"]) == 0
    assert view.get("missing.deeper") is None


def test_a_view_cannot_change_anything(space, nodes):
    with pytest.raises(happen.FrozenStateError):
        space.views.customer.get()["n"] = 1
    assert not hasattr(space.views.customer, "set")


# -- collect -----------------------------------------------------------------------------------------


def test_collect_gives_a_plain_dict_keyed_as_asked(space, nodes):
    data = space.views.collect({"customer_service": "name", "customer": lambda s: s["n"], "inventory_eu": ()})

    assert data == {
        "customer_service": "customer-service",
        "customer": 0,
        "inventory_eu": {"name": "inventory_eu", "n": 2},
    }
    assert list(data) == ["customer_service", "customer", "inventory_eu"]


def test_what_is_no_name_is_refused_by_collect_too(space, nodes):
    for name in (space.create_node("node"), 5, None):
        with pytest.raises(TypeError, match="is not the name of a node; names are strings"):
            space.views.collect({name: None})
        with pytest.raises(TypeError, match="is not the name of a node; names are strings"):
            space.views[name]


def test_collect_of_nothing_is_an_empty_dict(space):
    assert space.views.collect({}) == {}


@pytest.mark.parametrize("default", [None, 0, {}, "nobody"])
def test_the_default_of_collect_stands_for_missing_nodes_only(space, nodes, default):
    collected = space.views.collect({"nobody": lambda s: s["n"], "customer": "missing"}, default=default)

    assert collected == {"nobody": default, "customer": None}


@pytest.mark.parametrize("options", [{}, {"default": None}])
def test_what_a_callable_raises_comes_out_of_collect_unchanged(space, nodes, options):
    error = KeyError("mine")

    def selector(state):
        raise error

    with pytest.raises(KeyError) as caught:
        space.views.collect({"customer": selector}, **options)
    assert caught.value is error


# -- in a transform ----------------------------------------------------------------------------------


def test_all_views_of_a_transform_are_of_one_cut(space, nodes, other):
    other.do('customer, inventory = space.create_node("customer"), space.create_node("inventory_eu")')
    runs = []

    def transform(state, views):
        before = views.customer.get("n")
        if not runs:
            other.do('customer.state.set({"n": 50}); inventory.state.set({"n": 50})')
            while nodes["inventory_eu"].state.get("n") != 50:
                time.sleep(0.001)
        runs.append((before, views.customer.get("n"), views.inventory_eu.get("n")))
        runs.append(tuple(views.collect({"customer": "n", "inventory_eu": "n"}).values()))
        return {**state, "done": True}

    nodes["order-service"].state.set(transform)

    assert runs == [(0, 0, 2), (0, 2)]


def test_a_view_kept_from_a_transform_still_shows_that_cut(space, nodes):
    kept = []
    nodes["order-service"].state.set(lambda s, views: kept.append(views.customer) or s)
    nodes["customer"].state.set({"n": 77})

    assert kept[0].get("n") == 0


def test_an_unknown_node_in_a_transform_commits_nothing(space, nodes):
    node = nodes["order-service"]

    with pytest.raises(happen.UnknownNodeError, match="customer"):
        node.state.set(lambda s, views: {"n": views.custmer.get("n")})

    assert node.state.revision == 1


def test_a_transform_views_its_own_node_as_it_was(space, nodes):
    commit = nodes["customer"].state.set(lambda s, views: {"n": 5, "was": views.customer.get("n")})

    assert commit.after == {"n": 5, "was": 0}
