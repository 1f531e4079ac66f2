"""A live state: what it shows, that it follows, and what is left of it."""

from __future__ import annotations

import json
import sys
import threading
import time

import ipywidgets
import pytest
from IPython.display import HTML, Latex, Markdown

from happen_nb._widgets.panes import FigurePane, HtmlPane
from happen_nb.errors import ClosedError, PathError
from tests.display.hostile import PAYLOADS


def html_of(live):
    (pane,) = live.children
    assert isinstance(pane, HtmlPane)
    return pane.html


def put(key, value):
    return lambda state: {**state, key: value}


def test_it_is_a_widget_that_shows_the_newest_state(orders, until):
    live = orders.state.live()
    assert isinstance(live, ipywidgets.DOMWidget)
    assert repr(live) == "State of orders · revision 1\n  open  1"
    orders.state.set(put("open", 2))
    until(lambda: repr(live) == "State of orders · revision 2\n  open  2")
    assert "revision 2" in html_of(live)


def test_it_is_redrawn_in_place_so_that_folds_stay_as_they_are(orders, until):
    live = orders.state.live()
    (pane,) = live.children
    orders.state.set(put("open", 2))
    until(lambda: "revision 2" in pane.html)
    assert live.children == (pane,)


@pytest.mark.parametrize("selector", ["items.1", ("items", 1), lambda state: state["items"][1]])
def test_a_selector_shows_a_part_and_none_where_there_is_none(orders, until, selector):
    live = orders.state.live(selector)
    assert repr(live).splitlines()[0] == "None"
    orders.state.set(put("items", ["pen", "ink"]))
    until(lambda: repr(live) == '"ink"')


def test_render_gets_the_value_and_none_where_there_is_none(orders, until):
    live = orders.state.live("paid", render=lambda paid: f"{paid} are paid\nof {1}")
    assert repr(live).startswith("None are paid\nof 1")
    orders.state.set(put("paid", 3))
    until(lambda: repr(live) == "3 are paid\nof 1")


def test_a_view_follows_a_node_of_another_process(space, other, until):
    other.do("node = space.create_node('stock', initial={'pens': 1})")
    until(lambda: "stock" in space.views)
    live = space.views.stock.live("pens")
    other.do("node.state.set({'pens': 2})")
    until(lambda: repr(live) == "2")


def test_a_node_that_is_deleted_or_cleared_is_shown_so(space, orders, until):
    state, view = orders.state.live("open"), space.views.orders.live("open")
    orders.delete()
    until(lambda: repr(state).startswith("None"))
    until(lambda: 'no node "orders"' in repr(view))
    space.create_node("orders", initial={"open": 5})
    until(lambda: repr(view) == repr(state) == "5")
    space.clear()
    until(lambda: repr(state).startswith("None"))


def test_of_many_commits_the_last_is_always_shown(orders, until):
    shown = []
    live, begun = orders.state.live("open", render=lambda n: shown.append(n) or str(n)), time.monotonic()
    for number in range(300):
        orders.state.set({"open": number})
    until(lambda: repr(live) == "299")
    assert len(shown) <= 3 + 10 * (time.monotonic() - begun)
    assert shown[1:] == sorted(shown[1:])


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_string_becomes_markup(orders, payload):
    orders.state.set({"bad": payload, payload: {payload: [payload]}})
    for live in (
        orders.state.live(),
        orders.state.live("bad"),
        orders.state.live("bad", render=str),
        orders.state.live("bad", render=lambda bad: bad + "\n" + bad),
    ):
        body = html_of(live)
        for markup in (
            "<script",
            "<img",
            "<svg",
            "<iframe",
            "<a ",
            "<base",
            "<form",
            "<math",
            "<details open on",
        ):
            assert markup not in body


def test_anything_that_can_be_displayed_is_shown_by_what_fits(orders):
    table = orders.state.live(render=lambda _: HTML("<b>two</b>"))
    assert html_of(table) == "<b>two</b>"
    formula = orders.state.live(render=lambda _: Latex("$x^2$"))
    (output,) = formula.children
    assert isinstance(output, ipywidgets.Output)
    assert output.outputs[0]["data"]["text/latex"] == "$x^2$"
    scripted = orders.state.live(render=lambda _: HTML("<script>1</script>"))
    assert isinstance(scripted.children[0], ipywidgets.Output)
    assert "# title" in orders.state.live(render=lambda _: Markdown("# title"))._picture()["text/html"]
    number = orders.state.live("open", render=lambda n: n)
    assert repr(number) == "1"


def test_a_widget_that_render_returns_is_shown_itself(orders, until, comms):
    bar = ipywidgets.IntProgress(max=10)

    def show(number):
        bar.value = number
        return bar

    before = comms()
    live = orders.state.live("open", render=show)
    assert live.children == (bar,)
    orders.state.set({"open": 7})
    until(lambda: bar.value == 7)
    live.close()
    assert bar.comm is not None
    assert comms() == before


def test_widgets_that_render_makes_anew_are_closed_when_the_next_one_comes(orders, until, comms):
    live = orders.state.live("open", render=lambda n: ipywidgets.HBox([ipywidgets.Label(str(n))]))
    before = comms()
    for number in range(2, 5):
        orders.state.set({"open": number})
        until(lambda number=number: live.children[0].children[0].value == str(number))
    until(lambda: comms() == before)
    live.close()
    assert comms() == 0


def test_kinds_may_alternate(orders, until):
    kinds = [str, lambda n: Latex(str(n)), lambda n: ipywidgets.Label(str(n))]
    live = orders.state.live("open", render=lambda n: kinds[n % 3](n))
    for number in range(2, 9):
        orders.state.set({"open": number})
        kind = (HtmlPane, ipywidgets.Output, ipywidgets.Label)[number % 3]
        until(lambda kind=kind: isinstance(live.children[0], kind))


def test_an_error_of_render_is_kept_and_shown_in_place_until_it_works_again(space, orders, until, capsys):
    def show(number):
        if number == 2:
            raise ValueError("not <b>two</b>")
        return f"{number} open"

    live = orders.state.live("open", render=show)
    orders.state.set({"open": 2})
    until(lambda: len(space.failures) == 1)
    failure = space.failures[0]
    assert (failure.node, failure.doing) == ("orders", 'showing "orders"')
    assert isinstance(failure.exception, ValueError)
    until(lambda: "not &lt;b&gt;two" in html_of(live))
    assert "ValueError: not <b>two</b>" in capsys.readouterr().err
    with pytest.raises(ValueError, match="not <b>two"):
        failure.retry()
    orders.state.set({"open": 3})
    until(lambda: repr(live) == "3 open")
    space.failures.retry()


def test_a_space_that_closes_leaves_what_is_shown(store):
    import happen_nb

    with happen_nb.connect(store=store, name="closes_under_a_live_view") as space:
        node = space.create_node("orders")
        live = node.state.live("open")
        node.state.set({"open": 3})
    assert repr(live).splitlines()[0] in ("None", "3")
    with pytest.raises(ClosedError):
        node.state.live()


def test_a_state_that_is_none_is_shown_as_an_error_and_is_no_failure(space, orders, until):
    live = orders.state.live()
    client = space._log.connection
    from happen_nb._runtime.io import io_thread

    io_thread().call_soon(
        lambda: space._log.background(client.send("$KV.happen_" + space.name + ".orders", b"no"))
    )
    until(lambda: "no readable state" in repr(live))
    assert len(space.failures) == 0


def test_it_ends_with_stop_and_leaves_what_it_shows(space, orders):
    live = orders.state.live("open")
    live.stop()
    orders.state.set({"open": 2})
    space.settle()
    assert repr(live) == "1"


def test_closing_closes_every_comm(orders, comms):
    lives = [orders.state.live(), orders.state.live("open"), orders.state.live(render=lambda _: Latex("x"))]
    lives.append(orders.state.live("opn"))  # with a hint
    assert comms() > 0
    for live in lives:
        live.close()
        live.close()
    assert comms() == 0


def test_it_shows_a_large_state_within_its_bounds(space):
    big = space.create_node(
        "big", initial={"orders": {f"o{n}": {"n": n, "x": "y" * 90} for n in range(10_000)}}
    )
    live = big.state.live()
    assert len(html_of(live)) < 100_000
    text = big.state.live(render=lambda state: ("x" * 1000 + "\n") * 1000)
    assert len(html_of(text)) < 100_000


@pytest.mark.parametrize("bad", ["a..b", "", 3])
def test_a_bad_path_is_refused_at_once(orders, bad):
    with pytest.raises(PathError):
        orders.state.live(bad)


def test_a_render_that_is_no_function_is_refused_at_once(orders):
    with pytest.raises(TypeError, match="pass a function of the value"):
        orders.state.live("open", render="{} open")


def test_a_path_with_a_typo_says_what_is_there(orders, until):
    orders.state.set({"temp": 20, "rooms": {"kitchen": {"temp": 21}}})
    live = orders.state.live("tmp")
    rooms = orders.state.live("rooms.kitchn.temp", render=lambda value: f"{value} degrees")
    function = orders.state.live(lambda state: state["tmp"])
    assert repr(live) == "None\nnothing at tmp; there is temp"
    assert repr(rooms).startswith("None degrees\nnothing at rooms.kitchn")
    assert repr(rooms).endswith("; there is rooms.kitchen")
    assert repr(function) == "None\nnothing at tmp; there is temp"
    assert "there is temp" in live.children[1].html
    orders.state.set({"tmp": 19})
    until(lambda: repr(live) == repr(function) == "19")
    assert len(live.children) == 1
    assert repr(orders.state.live("tmp")) == "19"


def test_a_render_that_fails_because_nothing_is_there_says_so(orders):
    orders.state.set({"temp": 20})
    live = orders.state.live("tmp", render=lambda value: value * 1.5)
    assert "TypeError" in repr(live)
    assert repr(live).endswith("nothing at tmp; there is temp")


@pytest.mark.parametrize("make", ["plot", "figure", "widget"])
def test_a_figure_stays_the_same_widget_and_is_drawn_anew_in_it(orders, until, comms, make):
    from plotly import graph_objects as go

    makers = {
        "plot": lambda n: orders.state.history().plot("open"),
        "figure": lambda n: go.Figure(go.Scatter(x=[1, 2], y=[n, n])),
        "widget": lambda n: go.FigureWidget(go.Figure(go.Scatter(x=[1, 2], y=[n, n]))),
    }
    live = orders.state.live("open", render=makers[make])
    until(lambda: live.children and isinstance(live.children[0], FigurePane))  # plotly is slow to import
    (pane,) = live.children
    before = comms()
    first = json.loads(pane.figure)
    assert first["data"]
    for number in range(2, 5):
        orders.state.set({"open": number})
    until(lambda: json.loads(pane.figure)["data"] != first["data"])
    until(lambda: live._shown_record is orders.space._log.replica.newest("orders"))
    until(lambda: (live.children, comms()) == ((pane,), before))  # a widget that was returned is closed later
    assert '<img src="data:image/svg+xml' in live._picture()["text/html"]
    live.close()
    assert comms() == 0


class Broken:
    """Displays itself in a way that fails."""

    def __init__(self, **methods):
        self.__class__ = type("Broken", (), {name: staticmethod(method) for name, method in methods.items()})


def fail(*_, **__):
    raise RuntimeError("no <b>picture</b>")


MUCH = "x" * 30_000_000
BROKEN = {
    "raises in HTML": ({"_repr_html_": fail}, "RuntimeError: no <b>picture</b>"),
    "raises in a bundle": ({"_repr_mimebundle_": fail}, "RuntimeError: no <b>picture</b>"),
    "raises in its text": ({"__repr__": fail}, "RuntimeError: no <b>picture</b>"),
    "is too much": ({"_repr_html_": lambda: MUCH}, "its display takes 30.0 MB"),
    "is a number": ({"_repr_html_": lambda: 7}, "text/html display is of type int"),
    "is bytes": ({"_repr_html_": lambda: b"<b>"}, None),
    "is no bundle": ({"_repr_mimebundle_": lambda **_: 7}, "its mime bundle is of type int"),
    "is no JSON": ({"_repr_mimebundle_": lambda **_: {"application/json": object()}}, "is not JSON"),
    "says nothing": ({"_repr_html_": lambda: None, "__repr__": lambda: "said"}, "said"),
    "has a long text": ({"__repr__": lambda: MUCH}, "xxx"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_object_that_cannot_be_displayed_is_an_error_in_a_bounded_place(orders, until, capsys, case):
    methods, said = BROKEN[case]
    live = orders.state.live("open", render=lambda n: Broken(**methods) if n == 1 else f"{n} open")
    assert said is None or said in repr(live)
    assert len(repr(live)) < 100_000
    assert len(html_of(live)) < 150_000
    assert len(capsys.readouterr().err) < 10_000
    orders.state.set({"open": 2})
    until(lambda: repr(live) == "2 open")


def test_a_render_that_never_returns_is_named_and_holds_up_nothing_else(space, orders, until, monkeypatch):
    monkeypatch.setattr("happen_nb._widgets.live.FIRST_UPDATE_SECONDS", 0.1)
    monkeypatch.setattr("happen_nb._widgets.live.SLOW_RENDER_SECONDS", 0.1)
    may_go = threading.Event()
    stuck = [orders.state.live("open", render=lambda n: may_go.wait(60) and f"{n}") for _ in range(70)]
    until(lambda: "has not returned for 0.1 s" in repr(stuck[0]))
    other = orders.state.live("open")
    orders.on("count", lambda event: orders.state.set(put("open", 2)))
    space.broadcast("count")
    until(lambda: repr(other) == "2")
    may_go.set()
    until(lambda: repr(stuck[-1]) == "2")


def test_a_system_exit_in_render_ends_nothing(orders, until):
    live = orders.state.live("open", render=lambda n: sys.exit("out") if n == 2 else str(n))
    orders.state.set({"open": 2})
    until(lambda: "SystemExit: out" in repr(live))
    orders.state.set({"open": 3})
    until(lambda: repr(live) == "3")


def test_it_marks_the_last_change_until_the_next(orders, until):
    orders.state.set({"open": 1, "items": {"a.b": {"n": 1, "note": "x" * 90}, "o1": [1, 2]}})
    live, part = orders.state.live(), orders.state.live("items")
    assert 'class="f"' not in html_of(live)
    orders.state.set(lambda s: {**s, "items": {**s["items"], "o1": [1, 3]}})
    until(lambda: '<b class="f">o1</b>' in html_of(live))
    until(lambda: '<b class="f">o1</b>' in html_of(part))
    assert html_of(live).count('class="f"') == 1
    orders.state.set(lambda s: {**s, "open": 2})
    until(lambda: '<b class="f">open</b>' in html_of(live))
    assert html_of(live).count('class="f"') == 1
    assert "<time datetime=" in html_of(live)
    assert "UTC" not in repr(live)
