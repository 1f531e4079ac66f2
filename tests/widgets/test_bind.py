"""A widget and a path in a state stay equal, whoever changes them."""

from __future__ import annotations

import datetime as dt
import enum
import threading
import time

import ipywidgets as w
import pytest

import happen_nb
from happen_nb import put
from happen_nb._model.paths import MISSING
from happen_nb._widgets.bind import bind
from happen_nb.errors import PathError, StateError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def test_the_state_wins_where_it_has_the_path(orders):
    slider = w.IntSlider(value=7, max=10)
    bind(slider, orders, "open")
    assert slider.value == 1
    assert orders.state.revision == 1


def test_else_the_widgets_value_is_committed(orders):
    bind(w.IntSlider(value=7, max=10), orders, "limits.open")
    assert orders.state.get("limits.open") == 7


def test_null_is_a_value_that_the_state_has(orders):
    orders.state.set({"name": None})
    text = w.Text("Ada")
    binding = bind(text, orders, "name")
    assert orders.state.get() == {"name": None}
    assert binding.problem == "the state has None, which this Text cannot show"


def test_what_is_done_to_the_widget_is_committed(orders, until):
    slider = w.IntSlider()
    bind(slider, orders, "open")
    slider.value = 5
    until(lambda: orders.state.get("open") == 5)


def test_what_is_committed_in_another_process_is_shown(space, orders, other, until):
    slider = w.IntSlider()
    bind(slider, orders, "open")
    other.do("space.create_node('orders').state.set({'open': 8})")
    until(lambda: slider.value == 8)


def test_nothing_echoes(space, orders, until):
    slider = w.IntSlider(max=10_000)
    changes = []
    bind(slider, orders, "open")
    slider.observe(lambda change: changes.append(change.new), names="value")
    for value in range(2, 60):
        slider.value = value
    until(lambda: orders.state.get("open") == 59)
    revision = orders.state.revision
    orders.state.set(put("other", 1))
    orders.state.set({"open": 3})
    until(lambda: slider.value == 3)
    space.settle()
    assert orders.state.revision == revision + 2
    assert changes == [*range(2, 60), 3]


def test_a_widget_that_is_just_being_moved_on_is_not_set_back(orders, until):
    slider, beside, seen, may_go = w.IntSlider(), w.IntSlider(), [], threading.Event()
    slider.observe(lambda change: change.new == 11 and may_go.wait(10), names="value")
    slider.observe(lambda change: seen.append(change.new), names="value")
    bind(slider, orders, "open")
    bind(beside, orders, "other")

    slider.value = 9  # is committed at once, and what comes now a little later
    slider.value = 10
    moving = threading.Thread(target=setattr, args=(slider, "value", 11))
    moving.start()
    until(lambda: orders.state.get("open") == 10)
    orders.state.set(put("other", 2))
    until(lambda: beside.value == 2)
    may_go.set()
    moving.join()

    until(lambda: orders.state.get("open") == 11)
    assert seen == [1, 9, 10, 11]


def test_there_are_at_most_twenty_commits_a_second_and_the_last_value_always(orders, until):
    slider = w.IntSlider(max=10_000)
    times = []
    bind(slider, orders, "open")
    orders.state.watch(lambda commit: times.append(commit.time))
    for value in range(2, 300):
        slider.value = value
        threading.Event().wait(0.002)
    until(lambda: orders.state.get("open") == 299 and len(times) == orders.state.revision - 1)
    # a commit is stored some time after it began, so of two only one gap may be shorter
    assert len(times) <= 2 + 20 * (times[-1] - times[0]).total_seconds() * 1.05


@pytest.mark.parametrize(
    ("widget", "stored"),
    [
        (w.IntSlider(value=3, max=10), 99),
        (w.BoundedFloatText(value=1.0, max=2.0), 3.5),
        (w.Dropdown(options=["a", "b"]), "c"),
        (w.Checkbox(), 1),
        (w.Text("x"), 5),
        (w.DatePicker(value=dt.date(2026, 1, 2)), "soon"),
        (w.SelectMultiple(options=["a"]), ["a", "z"]),
        (w.IntSlider(value=3), {"a": 1}),
    ],
)
def test_what_a_widget_cannot_show_is_marked_and_never_written_back(orders, until, widget, stored):
    orders.state.set({"place": stored})
    binding = bind(widget, orders, "place")
    assert "cannot show" in binding.problem
    assert widget.layout.border_top is not None
    orders.state.set(put("other", 1))
    until(lambda: binding._seen_record is orders.space._log.replica.newest("orders"))
    assert orders.state.get() == {"place": stored, "other": 1}


def test_the_mark_goes_when_the_widget_can_show_the_state_again(orders, until):
    slider = w.IntSlider(max=10, layout=w.Layout(border_top="1px solid red"))
    binding = bind(slider, orders, "open")
    orders.state.set({"open": 11})
    until(lambda: binding.problem)
    orders.state.set({"open": 4})
    until(lambda: binding.problem is None)
    assert slider.value == 4
    assert (slider.layout.border_top, slider.layout.border_left) == ("1px solid red", None)


def test_the_mark_goes_when_the_user_moves_the_widget(orders, until):
    slider = w.IntSlider(max=10)
    binding = bind(slider, orders, "open")
    orders.state.set({"open": 11})
    until(lambda: binding.problem)
    slider.value = 6
    until(lambda: orders.state.get("open") == 6 and binding.problem is None)


def test_a_path_that_is_gone_is_marked_and_not_made_again(orders, until):
    binding = bind(w.IntSlider(), orders, "open")
    orders.state.set({})
    until(lambda: binding.problem)
    assert orders.state.get() == {}


@pytest.mark.parametrize(
    ("make", "value", "stored"),
    [
        (w.FloatSlider, 2.5, 2.5),
        (w.Text, "Ada", "Ada"),
        (w.Checkbox, True, True),
        (w.DatePicker, dt.date(2026, 1, 2), "2026-01-02"),
        (w.TimePicker, dt.time(9, 30), "09:30:00"),
        (w.NaiveDatetimePicker, dt.datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00"),  # noqa: DTZ001
        (w.DatetimePicker, dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC), "2026-01-02T03:04:00+00:00"),
        (w.IntRangeSlider, (2, 5), [2, 5]),
        (w.ColorPicker, "#ff0000", "#ff0000"),
        (lambda **k: w.SelectMultiple(options=["a", "b", "c"], **k), ("a", "c"), ["a", "c"]),
        (
            lambda **k: w.Dropdown(options=[("Red", Colour.RED), ("Blue", Colour.BLUE)], **k),
            Colour.BLUE,
            "blue",
        ),
        (lambda **k: w.TagsInput(allowed_tags=["a", "b"], **k), ["b"], ["b"]),
    ],
)
def test_a_second_widget_of_its_kind_shows_what_the_first_one_stored(orders, make, value, stored):
    bind(make(value=value), orders, "place")
    assert orders.state.get("place") == stored
    again = make()
    binding = bind(again, orders, "place")
    assert binding.problem is None
    assert type(again.value) is type(value)
    assert again.value == value


def test_a_whole_number_is_shown_by_a_slider_of_fractions_without_being_rewritten(orders):
    slider = w.FloatSlider(value=9.0)
    assert bind(slider, orders, "open").problem is None
    assert slider.value == 1.0
    assert type(orders.state.get("open")) is int


def test_another_trait_can_be_bound(orders, until):
    tab = w.Accordion([w.Label("a"), w.Label("b")])
    bind(tab, orders, "tab", trait="selected_index")
    tab.selected_index = 1
    until(lambda: orders.state.get("tab") == 1)


def test_two_bindings_of_one_place_agree(orders, until):
    one, two = w.IntSlider(), w.BoundedIntText()
    bind(one, orders, "open")
    bind(two, orders, "open")
    one.value = 40
    until(lambda: two.value == 40)
    two.value = 41
    until(lambda: one.value == 41)
    until(lambda: orders.state.get("open") == 41)


def test_stop_commits_the_last_value_and_nothing_after(orders):
    slider = w.IntSlider()
    binding = bind(slider, orders, "open")
    for value in range(2, 20):
        slider.value = value
    binding.stop()
    assert orders.state.get("open") == 19
    slider.value = 50
    orders.state.set({"open": 60})
    orders.space.settle()
    assert (orders.state.get("open"), slider.value) == (60, 50)
    binding.stop()


def test_a_space_that_is_closed_disables_its_widgets_until_they_are_bound_again(store):
    slider, stopped, box = w.IntSlider(), w.IntSlider(), w.Box()
    with happen_nb.connect(store=store, name="closed_under_a_binding") as space:
        orders = space.create_node("orders", initial={"open": 1})
        binding = bind(slider, orders, "open")
        bind(stopped, orders, "open").stop()
        bind(box, orders, "box_style", trait="box_style")
        slider.value = 2
    assert orders.name in repr(binding)
    assert (slider.value, slider.disabled, stopped.disabled) == (2, True, False)

    with happen_nb.connect(store=store, name="closed_under_a_binding") as space:
        bind(slider, space.create_node("orders"), "open")
        assert (slider.value, slider.disabled) == (2, False)


def test_a_value_that_cannot_be_committed_is_marked_and_a_failure(space, orders, until):
    orders.state.set({"a": {"b": 1}})
    slider = w.IntSlider()
    binding = bind(slider, orders, "a.b")
    orders.state.set({"a": 5})
    until(lambda: binding.problem)
    slider.value = 9
    until(lambda: len(space.failures) == 1)
    assert "not committed" in binding.problem
    orders.state.set({"a": {}})
    space.failures.retry()
    assert orders.state.get("a.b") == 9


def test_an_error_of_an_observer_of_the_widget_is_a_failure_and_the_value_is_shown(space, orders, until):
    slider = w.IntSlider()
    bind(slider, orders, "open")

    def observe(change):
        if change.new == 8:
            raise ValueError("no eights")

    slider.observe(observe, names="value")
    orders.state.set({"open": 8})
    until(lambda: len(space.failures) == 1)
    assert slider.value == 8


def test_bad_arguments_are_refused_at_once(orders):
    with pytest.raises(TypeError, match='IntSlider has no trait "worth"'):
        bind(w.IntSlider(), orders, "open", trait="worth")
    with pytest.raises(TypeError, match="pass a widget"):
        bind(3, orders, "open")
    with pytest.raises(TypeError, match="is not a node"):
        bind(w.IntSlider(), "orders", "open")
    with pytest.raises(PathError):
        bind(w.IntSlider(), orders, "open..x")
    with pytest.raises(StateError):
        bind(w.Text(), orders, "text", trait="layout")


def test_its_text_says_what_is_bound(orders):
    binding = bind(w.IntSlider(), orders, "open")
    assert repr(binding) == "Binding of orders · open · IntSlider.value\n  1"
    orders.state.set({"open": 1000})
    deadline = time.monotonic() + 10
    while "cannot show" not in repr(binding):
        assert time.monotonic() < deadline


def settled(binding, until):
    """Wait until a binding has looked at what its widget did."""
    until(lambda: not binding._pending and binding._tried_value is not MISSING)


NOBODYS = [
    (lambda: w.Dropdown(options=["a", "b"]), "b", {"options": ["a", "b", "c"]}, "b", None),
    (lambda: w.Dropdown(options=["a", "b"]), "b", {"options": ["a"]}, "a", "cannot show"),
    (lambda: w.Select(options=["a", "b"]), "b", {"options": []}, None, "cannot show"),
    (lambda: w.RadioButtons(options=[("A", 1), ("B", 2)]), 2, {"options": [("Z", 0), ("B", 2)]}, 2, None),
    (lambda: w.SelectMultiple(options=["a", "b"]), ["b"], {"options": ["b", "c"]}, ("b",), None),
    (lambda: w.SelectionSlider(options=["a", "b"]), "b", {"options": ["c", "d"]}, "c", "cannot show"),
    (lambda: w.IntSlider(max=10), 7, {"max": 5}, 5, "the state has 7"),
    (lambda: w.FloatSlider(max=10), 7.5, {"max": 5.0}, 5.0, "the state has 7.5"),
    (lambda: w.BoundedIntText(max=10), 3, {"min": 5}, 5, "the state has 3"),
    (lambda: w.IntRangeSlider(max=10), [2, 9], {"max": 5}, (2, 5), "cannot show"),
    (lambda: w.FloatLogSlider(value=100.0, max=5), 100.0, {"max": 1}, 10.0, "cannot show"),
    (
        w.DatePicker,
        "2026-05-05",
        {"max": dt.date(2026, 1, 1)},
        dt.date(2026, 1, 1),
        "cannot show",
    ),
]


@pytest.mark.parametrize(("make", "stored", "change", "shown", "problem"), NOBODYS)
def test_what_a_widget_does_itself_is_not_committed(orders, until, make, stored, change, shown, problem):
    orders.state.set({"place": stored})
    widget = make()
    binding = bind(widget, orders, "place")
    assert binding.problem is None
    revision = orders.state.revision
    for name, value in change.items():
        setattr(widget, name, value)
    settled(binding, until)
    assert widget.value == shown
    assert (binding.problem or "").startswith("the state has") is bool(problem)
    assert (problem or "") in (binding.problem or "")
    assert (orders.state.get("place"), orders.state.revision) == (stored, revision)


def test_a_limit_is_looked_at_when_the_widget_has_it(orders, until):
    text = w.BoundedIntText(max=10)
    orders.state.set({"open": 3})
    binding = bind(text, orders, "open")

    @text.observe
    def wait(change):  # between the move of the value and the new limit
        if change["name"] == "value" and change["new"] == 5:
            time.sleep(0.3)

    text.min = 5
    until(lambda: binding.problem)
    assert text.value == 5


def test_the_value_is_shown_again_when_the_widget_can_show_it(orders, until):
    slider = w.IntSlider(max=10)
    orders.state.set({"open": 7})
    binding = bind(slider, orders, "open")
    slider.max = 5
    until(lambda: binding.problem)
    slider.max = 10
    until(lambda: binding.problem is None and slider.value == 7)
    assert orders.state.revision == 2


def test_a_limit_that_changes_just_after_the_value_was_tried_is_looked_at(orders, until, monkeypatch):
    slider, marked = w.IntSlider(max=10), []
    orders.state.set({"open": 7})
    binding = bind(slider, orders, "open")
    mark = binding._mark

    def mark_and_move(problem):
        mark(problem)
        marked.append(problem)
        if len(marked) == 1:
            slider.max = 10

    monkeypatch.setattr(binding, "_mark", mark_and_move)
    slider.max = 5
    until(lambda: marked and binding.problem is None and slider.value == 7)
    assert "cannot show" in marked[0]


def test_what_a_person_or_the_users_own_code_chooses_is_committed(orders, until):
    box = w.Dropdown(options=["a", "b", "c"])
    bind(box, orders, "pick")
    box.set_state({"index": 2})  # as the browser does
    until(lambda: orders.state.get("pick") == "c")
    box.observe(lambda change: setattr(box, "value", "y"), names="options")
    box.options = ["x", "y"]
    until(lambda: orders.state.get("pick") == "y")


def test_a_widget_that_is_bound_to_a_deleted_node_does_not_create_it_again(space, orders, until):
    slider = w.IntSlider(max=10)
    binding = bind(slider, orders, "open")
    orders.delete()
    until(lambda: binding.problem and "was deleted" in binding.problem)
    slider.value = 6
    until(lambda: not binding._pending)
    binding.stop()
    assert "orders" not in space.views
    assert len(space.failures) == 0


def test_a_widget_follows_a_node_that_is_created_again(space, orders, until):
    slider = w.IntSlider(max=10)
    binding = bind(slider, orders, "open")
    orders.delete()
    until(lambda: binding.problem)
    space.create_node("orders", initial={"open": 4})
    until(lambda: slider.value == 4 and binding.problem is None)


@pytest.mark.parametrize("widget", [w.FileUpload(), w.Image()])
def test_a_widget_that_holds_bytes_is_refused_with_a_way_out(orders, widget):
    with pytest.raises(TypeError, match=r"holds bytes, which have no JSON form; use \w+\.observe"):
        bind(widget, orders, "file")
    assert orders.state.get() == {"open": 1}


def test_a_path_with_a_typo_says_what_is_there(orders):
    orders.state.set({"temp": 20})
    binding = bind(w.IntSlider(), orders, "tmp")
    assert "nothing at tmp; there is temp; the widget's value was committed to tmp" in repr(binding)
    assert binding.problem is None
    assert "there is" not in repr(bind(w.IntSlider(), orders, "humidity"))


def test_an_error_with_a_huge_or_broken_text_is_marked_in_one_line(space, orders, until, capsys):
    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError

    def observe(change):
        if change.new == 8:
            raise BrokenError
        if change.new == 9:
            raise ValueError("x" * 5_000_000)

    slider = w.IntSlider()
    binding = bind(slider, orders, "open")
    slider.observe(observe, names="value")
    for value in (8, 9):
        orders.state.set({"open": value})
        until(lambda value=value: slider.value == value)
    until(lambda: len(space.failures) == 2)
    assert len(repr(binding)) < 1_000
    slider.unobserve_all()
    orders.state.set({"open": 3})
