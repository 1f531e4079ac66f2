"""Errors in a cell: it shows the user's own lines, and the message."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from types import TracebackType

import pytest

from happen_nb._frames import of_user

ERRORS = {
    "state": "orders.state.set(lambda state: {'a': {1}})",
    "no return": "orders.state.set(lambda state: None)",
    "awaited": "await orders.state.aset(lambda state: None)",
    "type": "orders.broadcast('')",
    "pattern": "orders.on('{a', print)",
    "payload": "orders.broadcast('a', object())",
    "nobody": "space.send('nobody', 'a').result()",
    "awaited reply": "await (await space.asend('nobody', 'a'))",
    "handler": "orders.on('b', lambda event: 1 / 0); space.send('orders', 'b').result()",
    "settle": "import time; orders.on('c', lambda event: time.sleep(1)); orders.send('orders', 'c')\n"
    "space.settle(0.1)",
    "view": "space.views.nobody",
    "path": "orders.state.get('a..b')",
}


def traceback_of(run):
    (error,) = [m["content"] for m in run.messages if m["msg_type"] == "error"]
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))


@pytest.mark.parametrize("source", ERRORS.values(), ids=ERRORS)
def test_an_error_of_the_library_shows_the_cell_and_the_sentence(kernel, source):
    text = traceback_of(kernel.run(source))

    assert "happen_nb/" not in text
    assert "Cell In[" in text
    assert len(text.splitlines()) < 20
    kernel.do("space.settle()")


def test_an_error_of_a_transform_shows_the_call_and_the_transform(kernel):
    text = traceback_of(kernel.run("def ship(state):\n    return state['missing']\norders.state.set(ship)"))

    assert "happen_nb/" not in text
    assert text.count("Cell In[") == 2
    assert "KeyError: 'missing'" in text


def test_an_error_of_a_handler_names_its_cell(kernel):
    kernel.run("def divide(event):\n    return 1 / 0\norders.on('divide', divide)")
    text = traceback_of(kernel.run("space.send('orders', 'divide').result()"))

    assert "ipykernel_" not in text
    assert re.search(r'File "Cell In\[\d+\]", line 2, in divide\n    return 1 / 0', text)
    shown = kernel.ask("space.failures._repr_mimebundle_()['text/html']")
    assert re.search(r"Cell In\[\d+\], line 2, in divide", shown)


WRONG_ARGUMENTS = {
    "orders.on('a', 3)": "TypeError: on: the handler",
    "@orders.on\ndef handle(event): pass": "TypeError: on: a decorator needs a pattern",
    "@orders.on('a')\ndef handle(): pass": "TypeError: on: the handler handle is called with an event",
    "@orders.on('a')\ndef handle(event, context, more): pass": 'TypeError: handle requires "more"',
    "orders.on('a', print, where=3)": "TypeError: on: where is 3",
    "orders.state.on('a', 3)": "TypeError: state.on: the transform",
    "orders.state.set(lambda: 5)": "TypeError: the transform <lambda> has no parameter",
    "orders.state['n'] = 2": "TypeError: node \"orders\": state['n'] is read-only",
    "orders.state = {}": 'AttributeError: node.state of node "orders" is read-only',
    "space.views.orders = {}": "AttributeError: views.orders is read-only",
    "space.brodcast('a')": "'Space' object has no attribute 'brodcast'; did you mean broadcast?",
    "space.plot()": "TypeError: Space.plot() missing 1 required",
    "orders.state.set({}, seriallizable=True)": "TypeError: State.set() got an unexpected keyword argument",
    "await orders.state.aset()": "TypeError: State.aset() missing 1 required",
    "space.record('/nowhere/a.html')": "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere",
    "happen.recorded('a.html')": "FileNotFoundError: [Errno 2] No such file or directory: 'a.html'",
    "space.replay([1], type='a').wait()": "TypeError: replay: row 0 is of type int",
    "orders.state.n": "'State' object has no attribute 'n'; get(\"n\") reads a value of the state",
    "orders.sate": "AttributeError: 'Node' object has no attribute 'sate'; did you mean state?",
    "space.at('yesterday')": "TypeError: at: 'yesterday' is not a time",
    "space.live_plot({'n': orders})": "TypeError: space.live_plot: the line 'n'",
    "orders.state.live(render=3)": "TypeError: live: render is 3",
    "orders.every(0)": "ValueError: every: seconds is 0",
    "orders.state.live_plot(window='1 week')": "ValueError: live_plot: window is '1 week'",
    "space.settle('soon')": "TypeError: settle: timeout is 'soon'",
}


@pytest.mark.parametrize(("source", "message"), WRONG_ARGUMENTS.items())
def test_a_wrong_argument_shows_the_cell_and_the_sentence(kernel, source, message):
    text = traceback_of(kernel.run(source))

    assert "happen_nb/" not in text
    assert message in text


def test_an_interrupted_call_shows_the_cell_only(kernel):
    # In one statement: between two of them, IPython compiles.
    run = kernel.begin("print('begins', flush=True) or orders.state.wait_for(lambda state: False)")
    run.until(lambda run: "begins" in run.stdout)
    kernel.press_stop()
    text = traceback_of(run.wait())

    assert "happen_nb/" not in text
    assert "Cell In[" in text


def test_a_traceback_that_ends_between_two_lines_is_shortened():
    def interrupted():
        with nullcontext():
            return sys._getframe()

    frame = interrupted()
    places = list(frame.f_code.co_positions())
    between = next(place for place, (line, *_) in enumerate(places) if line is None)
    whole = TracebackType(None, frame, 2 * between, -1)
    assert whole.tb_lineno is None
    assert of_user(whole).tb_lineno == frame.f_code.co_firstlineno
