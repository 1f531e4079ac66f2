"""A signal handler or a finalizer may call the library, while it interrupts another call at any line."""

import random
import signal
import sys
import threading
import time
import traceback
from functools import partial
from itertools import count
from queue import SimpleQueue

import ipywidgets
import pytest

import happen_nb as happen
from happen_nb._display.live_output import LiveOutput
from happen_nb._runtime import handler_loops
from happen_nb._runtime.io import PerProcess, io_thread

LINES = 8
"""Lines of each call at which another one is made."""
SECONDS = 20
A_WHILE = 0.05
"""Seconds in which the IO thread does what it has postponed."""
NOT_INTERRUPTED = "_journal/client.py"
"""Python looks for signals at the end of a call, and this file has none where it must not be interrupted."""


class Calls:
    """The calls that interrupt each other."""

    def __init__(self, space):
        self.space, self.numbers = space, count()
        self.plot = None
        self.a, self.b = space.create_node("a", initial={"n": 0}), space.create_node("b")
        self.c = space.create_node("c")
        self.a.state.on("tick", lambda state, event: {**state, "n": state["n"] + 1})
        self.b.on("ask", self.answer)

    def answer(self, _):
        self.b.state.set({"asked": next(self.numbers)})

    def set(self):
        self.a.state.set({"n": next(self.numbers)})

    def set_another(self):
        self.b.state.set({"n": next(self.numbers)})

    def set_for_a_while(self):
        end = time.monotonic() + A_WHILE
        while time.monotonic() < end:
            self.set_another()

    def broadcast(self):
        self.a.broadcast("tick")

    def settle(self):
        self.a.broadcast("tick").settle()

    def send(self):
        self.space.send("b", "ask").result(SECONDS)

    def register(self):
        pattern = f"other.{next(self.numbers)}"
        self.a.on(pattern, print)
        self.a.off(pattern)

    def register_state_handler(self):
        pattern = f"other.{next(self.numbers)}"
        self.b.state.on(pattern, lambda state, event: state)
        self.b.off(pattern)

    def pause(self):
        self.space.pause("tick")
        self.a.broadcast("tick")
        self.space.step()
        self.space.resume()

    def schedule(self):
        self.a.broadcast("later", after=100).cancel()

    def show(self):
        return repr(self.space), repr(self.a), repr(self.space.timeline())

    def replay(self):
        self.space.replay([{"n": number} for number in range(3)], type="tick").wait(SECONDS)

    def replay_in_steps(self):
        """Replay more rows than are put in at once, and be interrupted where they are put in."""

        def rows():
            yield from ({"n": number} for number in range(600))
            self.lines.trace()
            yield from ({"n": number} for number in range(3))

        self.space.replay(rows(), type="nothing").wait(SECONDS)

    def stop_a_handler(self):
        begun, ended = threading.Event(), threading.Event()

        @self.c.on("hang")
        def hang(_):
            begun.set()
            ended.wait(SECONDS)

        self.c.on("ask.it", id)
        self.space.broadcast("hang")
        assert begun.wait(SECONDS)
        self.c.off(hang)
        ended.set()

    def emit_for_it(self):
        self.space.broadcast("ask.it")
        self.set_another()

    def fail(self):
        self.c.on("fail", fail)
        with pytest.raises(happen.HandlerError):
            self.space.send("c", "fail").result(SECONDS)

    def clear_failures(self):
        self.fail()
        self.space.failures.clear()

    def move_a_widget(self):
        self.slider = ipywidgets.IntSlider()
        binding = happen.bind(self.slider, self.a, "n")
        self.move_it_again()
        binding.stop()

    def move_it_again(self):
        self.slider.value = next(self.numbers) % 50 + 1

    def ask_a_picture(self):
        timeline = self.space.timeline()
        timeline._on_message(None, {"do": "draw", "view": "one", "width": 800}, [])
        timeline.close()

    def ask_the_dashboard(self):
        dashboard = self.space.dashboard()
        dashboard._on_message(None, {"do": "earlier"}, [])
        dashboard.close()

    def show_a_plot(self):
        self.plot = self.a.state.live_plot("n")
        self.show_it_again()
        self.plot.close()

    def show_it_again(self):
        if self.plot is not None:
            self.plot._picture()

    def create(self):
        node = self.space.create_node(f"new-{next(self.numbers)}")
        self.space.timeline()
        node.delete()

    def connect(self):
        happen.connect(store=self.space.server.store, name=f"another_{next(self.numbers)}").close()

    def report_progress(self):
        """Report progress, and be interrupted in the thread that reports it."""

        @self.c.on("progress")
        def progress(_):
            self.lines.trace()
            yield from range(3)

        self.space.send("c", "progress").result(SECONDS)
        self.c.off("progress")

    def await_something(self):
        """Start an async handler, and be interrupted in the thread that starts it."""

        async def nothing():
            pass

        @self.c.on("await")
        def start(_):
            self.lines.trace()
            return nothing()

        for _ in range(2):
            self.space.send("c", "await").result(SECONDS)
        self.c.off("await")

    def handle_durably(self):
        """Run a durable handler, and be interrupted in the thread where it ends."""

        @self.b.on("another", durable=True)
        def handle_another(_):
            self.b.broadcast("handled")

        @self.c.on("durable", durable=True)
        def handle(_):
            self.lines.trace()

        self.c.broadcast("durable").settle(SECONDS)

    def emit_another(self):
        self.c.broadcast("another")
        self.set_for_a_while()


def fail(_):
    return 1 / 0


class Lines:
    """The lines of the library that a thread passes; makes a call at those that are chosen."""

    def __init__(self, chosen, call):
        self.passed, self.made = -1, 0
        self._chosen, self._call = chosen, call
        self._calling = False

    def trace(self):
        """Begin in this thread."""
        sys.settrace(self._in_new_frame)

    def end(self):
        self._calling = True

    def _in_new_frame(self, frame, what, _):
        name = frame.f_code.co_filename
        return self._in_frame if "/happen_nb/" in name and not name.endswith(NOT_INTERRUPTED) else None

    def _in_frame(self, frame, what, _):
        if what == "line" and not self._calling:
            self.passed += 1
            if self._chosen(self.passed, frame):
                self.made += 1
                self._calling = True
                self._call()
                self._calling = False
        return self._in_frame


OUTER = (
    "set",
    "broadcast",
    "settle",
    "send",
    "register",
    "register_state_handler",
    "pause",
    "schedule",
    "show",
    "replay",
)
INNER = "set_another", "broadcast", "send", "register", "show"


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", OUTER)
def test_a_call_at_any_line_of_another_one_ends(space, outer, inner):
    calls = Calls(space)
    passed = run(calls, outer, inner, lambda number, _: False).passed
    dice = random.Random(f"{outer} {inner}")
    for line in dice.sample(range(passed), min(LINES, passed)):
        lines = run(calls, outer, inner, lambda number, _, line=line: number == line)
        if inner != "show":  # what happens from time to time takes other lines, but not so many
            assert lines.made or line > passed / 2
    space.settle(SECONDS)


@pytest.mark.parametrize(
    ("outer", "part", "inner"),
    [
        ("replay", "_runtime/in_flight.py", "settle"),
        ("replay_in_steps", "_runtime/bulk.py", "set_another"),
        ("stop_a_handler", "_runtime/mailbox.py", "emit_for_it"),
        ("clear_failures", "_api/failures.py", "fail"),
        ("create", "_model/colours.py", "show"),
        ("connect", "_api/registry.py", "connect"),
        ("move_a_widget", "_runtime/workers.py", "send"),
        ("move_a_widget", "_widgets/bind.py", "move_it_again"),
        ("ask_a_picture", "_runtime/workers.py", "send"),
        ("ask_the_dashboard", "_runtime/workers.py", "send"),
        ("show_a_plot", "_widgets/live_plot.py", "show_it_again"),
        ("report_progress", "_runtime/reply_ends.py", "set_for_a_while"),
        ("await_something", "_runtime/handler_loops.py", "set_for_a_while"),
        ("handle_durably", "_runtime/stored_steps.py", "emit_another"),
    ],
)
def test_a_call_at_each_line_of_a_part_ends(space, monkeypatch, outer, part, inner):
    monkeypatch.setattr(handler_loops, "BLOCKED_SECONDS", A_WHILE / 2)
    calls, passed = Calls(space), set()

    def is_new(_, frame):
        place = frame.f_code.co_filename, frame.f_lineno
        is_new = place[0].endswith(part) and place not in passed
        passed.add(place)
        return is_new

    run(calls, outer, inner, is_new)
    space.settle(SECONDS)


class SignalHandler:
    def __init__(self, space):
        self.node = space.create_node("a", initial={"n": 0})

    def handle(self, *_):
        self.node.state.set(added)
        self.node.broadcast("interrupted")

    def handle_frame(self, number, frame):
        self.handle()


def added(state):
    return {"n": state["n"] + 1}


@pytest.fixture
def interrupt():
    def interrupt_with(handler):
        signal.signal(signal.SIGUSR1, handler)
        signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    before = signal.getsignal(signal.SIGUSR1)
    yield interrupt_with
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize(
    "kind",
    [
        lambda handler: handler.handle,
        lambda handler: handler.handle_frame,
        lambda handler: partial(SignalHandler.handle_frame, handler),
        lambda handler: lambda number, frame: [handler.handle() for _ in range(1)],
    ],
)
def test_a_signal_handler_that_interrupts_a_transform_is_no_part_of_it(space, interrupt, kind):
    handler = SignalHandler(space)
    seen = []

    def interrupted(state):
        seen.append(state["n"])
        if len(seen) == 1:
            interrupt(kind(handler))
            handler.node.broadcast("computed")
        return added(state)

    handler.node.state.set(interrupted)
    assert seen == [0, 1]  # again, after the commit of the signal handler
    assert handler.node.state["n"] == 2
    assert [event.type for event in space.events()] == ["interrupted"]


def test_a_transform_that_an_earlier_signal_handler_runs_may_not_wait(space, interrupt):
    handler = SignalHandler(space)

    def handle(number, frame):
        with pytest.raises(happen.TransformError, match="called something that waits"):
            handler.node.state.set(lambda state: handler.node.state.set(added))

    interrupt(handle)
    assert not handler.node.state["n"]


def test_a_first_call_during_the_first_call_gets_the_same_thread():
    made, got = [], []

    def make():
        made.append(object())
        if len(made) == 1:
            got.append(per_process.get())
        return made[-1]

    per_process = PerProcess(make)
    thread = threading.Thread(target=lambda: got.append(per_process.get()), daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert got == [per_process.made] * 2


def test_a_change_while_an_output_waits_for_changes_ends():
    changed = SimpleQueue()
    output = LiveOutput(dict, lambda: False)

    def change():
        io_thread().call_soon(output.changed)
        io_thread().call_soon(changed.put, None)
        changed.get(timeout=SECONDS)

    def in_frame(frame, what, _):
        if what == "line":
            sys.settrace(None)
            change()
            sys.settrace(in_new_frame)
        return in_frame

    def in_new_frame(frame, what, _):
        return in_frame if frame.f_code.co_filename == threading.__file__ else None

    sys.settrace(in_new_frame)
    try:
        output.done_soon()
    finally:
        sys.settrace(None)


def run(calls, outer, inner, chosen):
    """Make a call, and another one at the chosen lines of the library that it passes; return these lines."""
    lines = calls.lines = Lines(chosen, getattr(calls, inner))
    raised = []

    def work():
        lines.trace()
        try:
            getattr(calls, outer)()
        except BaseException as error:
            raised.append(error)
        finally:
            sys.settrace(None)

    # In a thread, where a call that hangs does not hold up the test.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    lines.end()
    if thread.is_alive():
        pytest.fail("".join(traceback.format_stack(sys._current_frames()[thread.ident])))
    if raised:
        raise raised[0]
    return lines
