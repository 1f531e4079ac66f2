"""A signal handler may call the library while it interrupts another call of it, at any line."""

import random
import sys
import threading
import traceback
from itertools import count

import pytest

LINES = 25
"""Lines of each call at which another one is made."""
SECONDS = 20
NOT_INTERRUPTED = "_journal/client.py"
"""Python looks for signals at the end of a call, and this file has none where it must not be interrupted."""


class Calls:
    """The calls that interrupt each other."""

    def __init__(self, space):
        self.space, self.numbers = space, count()
        self.a, self.b = space.create_node("a", initial={"n": 0}), space.create_node("b")
        self.a.state.on("tick", lambda state, event: {**state, "n": state["n"] + 1})
        self.b.on("ask", self.answer)

    def answer(self, _):
        self.b.state.set({"asked": next(self.numbers)})

    def set(self):
        self.a.state.set({"n": next(self.numbers)})

    def set_another(self):
        self.b.state.set({"n": next(self.numbers)})

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
)
INNER = "set_another", "broadcast", "send", "register", "show"


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", OUTER)
def test_a_call_at_any_line_of_another_one_ends(space, outer, inner):
    calls = Calls(space)
    passed, _ = run(getattr(calls, outer), -1, print)
    dice = random.Random(f"{outer} {inner}")
    for line in dice.sample(range(passed), min(LINES, passed)):
        _, made = run(getattr(calls, outer), line, getattr(calls, inner))
        if inner != "show":  # what happens from time to time takes other lines, but not so many
            assert made or line > passed / 2
    space.settle(SECONDS)


def run(call, line, another):
    """Make a call, and another one at a line of the library that it passes; return how many it passed."""
    passed, made, raised = -1, False, []

    def in_frame(frame, what, _):
        nonlocal passed, made
        if what == "line":
            passed += 1
            if passed == line:
                made = True
                another()
        return in_frame

    def traced(frame, what, _):
        name = frame.f_code.co_filename
        return in_frame if "/happen_nb/" in name and not name.endswith(NOT_INTERRUPTED) else None

    def work():
        sys.settrace(traced)
        try:
            call()
        except BaseException as error:
            raised.append(error)
        finally:
            sys.settrace(None)

    # In a thread, where a call that hangs does not hold up the test.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        pytest.fail("".join(traceback.format_stack(sys._current_frames()[thread.ident])))
    if raised:
        raise raised[0]
    return passed + 1, made
