"""Widgets in a real kernel: two outputs, and nothing left of an earlier run of the cell."""

from __future__ import annotations

import pytest

from tests.accidents.kernels import Kernel

VIEW = "application/vnd.jupyter.widget-view+json"
SHOW = {
    "live": "orders.state.live()",
    "live, of a view": "space.views.orders.live('open', render=lambda n: f'{n} open')",
    "binding": "slider = w.IntSlider(); bind(slider, orders, 'open')",
    "dashboard": "Dashboard(space)",
}
COMMS = "len(_instances)"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.do(
        """
import happen_nb as happen, ipywidgets as w
from happen_nb._widgets.bind import bind
from happen_nb._widgets.dashboard import Dashboard
from ipywidgets.widgets.widget import _instances
space = happen.connect(name="widgets")
orders = space.create_node("orders", initial={"open": 1})
"""
    )
    yield kernel
    kernel.end()


def outputs(run, kind):
    return [message["content"] for message in run.messages if message["msg_type"] == kind]


@pytest.mark.parametrize("show", SHOW.values(), ids=SHOW)
def test_it_shows_a_static_fallback_and_beside_it_the_widget(kernel, show):
    run = kernel.do(show, cell=show)
    static, widget = outputs(run, "display_data")
    assert "text/html" in static["data"]
    assert "orders" in static["data"]["text/plain"] or "open" in static["data"]["text/plain"]
    assert VIEW not in static["data"]
    assert VIEW in widget["data"]
    assert widget["data"]["text/plain"] == ""
    assert outputs(run, "execute_result") == []


@pytest.mark.parametrize("show", SHOW.values(), ids=SHOW)
def test_the_fallback_follows_too(kernel, show):
    run = kernel.do(show, cell=show)
    (static, _) = outputs(run, "display_data")
    number = kernel.ask("orders.state.get('open')") + 1
    kernel.do(f"orders.state.set({{'open': {number}}}); None")
    told = str(number)
    run.until(
        lambda run: any(told in each["data"]["text/plain"] for each in outputs(run, "update_display_data"))
    )
    ids = {each["transient"]["display_id"] for each in outputs(run, "update_display_data")}
    assert ids == {static["transient"]["display_id"]}


@pytest.mark.parametrize("show", SHOW.values(), ids=SHOW)
def test_running_its_cell_again_leaves_no_comm_of_the_run_before(kernel, show):
    users = 3 if "IntSlider" in show else 0  # the user's own widget, with its layout and style
    kernel.do(show, cell=show)
    before = kernel.ask(COMMS)
    for again in range(1, 6):
        kernel.do(show, cell=show)
        assert kernel.ask(COMMS) == before + again * users


@pytest.mark.parametrize("show", SHOW.values(), ids=SHOW)
def test_running_its_cell_again_leaves_nothing_that_follows(kernel, show):
    kernel.do(show, cell=show)
    first = kernel.do(show, cell=show)
    kernel.do("pass", cell=show)
    kernel.do("import time; time.sleep(0.3)")  # what was just being drawn is shown
    seen = len(outputs(first, "update_display_data"))
    kernel.do("orders.state.set(lambda s: {'open': s['open'] + 1}); space.settle()")
    kernel.do("import time; time.sleep(0.3)")
    assert len(outputs(first, "update_display_data")) == seen


def test_it_is_drawn_while_a_cell_is_busy(kernel):
    run = kernel.do("live = orders.state.live('open'); live", cell="busy")
    busy = kernel.begin("orders.state.set({'open': 777})\nwhile repr(live) != '777': pass\nprint('seen')")
    busy.wait()
    assert busy.stdout == "seen\n"
    run.until(
        lambda run: any(each["data"]["text/plain"] == "777" for each in outputs(run, "update_display_data"))
    )


def test_what_render_prints_and_raises_stands_under_its_cell(kernel):
    run = kernel.do(
        "orders.state.live('open', render=lambda n: print('drawn', n) or 1 / (n - 5))", cell="prints"
    )
    kernel.do("orders.state.set({'open': 5}); None")
    run.until(lambda run: "ZeroDivisionError" in run.stderr)
    assert "drawn 5" in run.stdout
    kernel.do("space.failures.clear()")


def test_the_front_end_moves_a_bound_widget_and_the_state_follows(kernel):
    kernel.do("slider = w.IntSlider(); binding = bind(slider, orders, 'moved')", cell="bind")
    kernel.do("slider.set_state({'value': 9}); binding.stop()")
    assert kernel.ask("orders.state.get('moved')") == 9


def test_a_front_end_asks_a_dashboard_and_is_answered_by_its_comm(kernel):
    kernel.do("d = Dashboard(space); d", cell="dash")
    run = kernel.do("d._handle_custom_msg({'do': 'hello', 'request': 7}, [])")
    run.until(lambda run: outputs(run, "comm_msg"))
    (told,) = [message["data"]["content"] for message in outputs(run, "comm_msg")]
    assert (told["type"], told["request"], told["space"]) == ("all", 7, "widgets")
