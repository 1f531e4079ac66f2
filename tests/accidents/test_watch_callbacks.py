"""The output and the errors of watch callbacks: under the cell that made them, kept, once, then counted."""

from __future__ import annotations


def test_an_exception_is_shown_under_the_cell_that_registered_the_callback(kernel):
    made = kernel.do(
        "def follow(commit):\n    return 1 / commit.after['n']\nwatch = orders.state.watch(follow)"
    )
    other = kernel.do("orders.state.set({'n': 0, 'more': 1}); space.settle()")

    made.until(lambda run: "ZeroDivisionError" in run.stderr)

    assert "follow" in made.stderr
    assert "return 1 / commit.after['n']" in made.stderr
    assert len(made.stderr.splitlines()) < 10
    assert other.stderr == ""


def test_an_exception_is_shown_once_then_counted_and_another_is_shown_too(kernel):
    made = kernel.do("watch = orders.state.watch(lambda commit: [][commit.after['n']])")
    kernel.do("for n in range(1, 51): orders.state.set({'n': n})\nspace.settle()")
    kernel.do("orders.state.set({}); space.settle()")
    made.until(lambda run: "KeyError" in run.stderr)

    assert made.stderr.count("IndexError") == 1
    assert kernel.ask("[(type(f.exception).__name__, f.attempts) for f in space.failures]") == [
        ("IndexError", 50),
        ("KeyError", 1),
    ]


def test_the_watch_goes_on_and_the_cell_that_commits_does_not_fail(kernel):
    kernel.do(
        "def follow(commit):\n"
        "    seen.append(commit.after['n'])\n"
        "    raise ValueError\n"
        "orders.state.watch(follow);"
    )
    kernel.do("for n in range(1, 6): orders.state.set({'n': n})\nspace.settle()")

    assert kernel.ask("seen") == [1, 2, 3, 4, 5]


def test_what_a_callback_prints_is_under_the_cell_that_registered_it(kernel):
    made = kernel.do("watch = orders.state.watch(lambda commit: print('now', commit.after['n']))")
    other = kernel.do("orders.state.set({'n': 7}); space.settle()")

    made.until(lambda run: "now 7" in run.stdout)
    assert other.stdout == ""


def test_a_callback_is_called_while_a_cell_is_busy(kernel):
    made = kernel.do("watch = orders.state.watch(lambda commit: print('now', commit.after['n']))")
    busy = kernel.begin("import threading\norders.state.set({'n': 8})\nthreading.Event().wait(30)")

    made.until(lambda run: "now 8" in run.stdout)

    assert not busy.ended
    kernel.press_stop()
    busy.wait()


def test_a_callback_sees_a_function_that_its_cell_defined_anew(kernel):
    """The name is looked up when it is called, as everywhere in Python."""
    kernel.do("def word(): return 'old'\nwatch = orders.state.watch(lambda commit: seen.append(word()))")
    kernel.do("def word(): return 'new'")
    kernel.do("orders.state.set({'n': 1}); space.settle()")

    assert kernel.ask("seen") == ["new"]


def test_a_callback_of_a_module_that_autoreload_reloads_is_the_new_one(own_kernel):
    module = own_kernel.folder / "callbacks_of_mine.py"
    module.write_text("seen = []\n\ndef follow(commit):\n    seen.append('old')\n")
    own_kernel.do(
        "%load_ext autoreload\n%autoreload 2\n"
        "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, '.')\n"
        "import callbacks_of_mine\n"
        "space = happen.connect(name='reloaded')\n"
        "orders = space.create_node('orders', initial={'n': 0})"
    )
    own_kernel.do("watch = orders.state.watch(callbacks_of_mine.follow)")
    own_kernel.do("orders.state.set({'n': 1}); space.settle()")
    assert own_kernel.ask("callbacks_of_mine.seen") == ["old"]

    module.write_text("seen = []\n\n# edited\ndef follow(commit):\n    seen.append('the new one')\n")
    own_kernel.do("pass")
    own_kernel.do("orders.state.set({'n': 2}); space.settle()")

    assert own_kernel.ask("callbacks_of_mine.seen[-1]") == "the new one"
