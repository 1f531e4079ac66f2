"""``%timeit`` around a set: it works, its thousands of commits are trimmed, and one notice says so."""

from __future__ import annotations

OLD_AT_ONCE = "from happen_nb._journal import stream\nstream.MIN_COMMIT_AGE_SECONDS = 0.0  # else a minute"


def test_timeit_works_and_its_commits_are_trimmed_with_one_notice(own_kernel):
    own_kernel.do(
        f"{OLD_AT_ONCE}\n"
        "space = happen.connect(name='timed', history=100)\n"
        "orders = space.create_node('orders')"
    )

    line = own_kernel.do("%timeit -n 1000 -r 2 orders.state.set(lambda s: {'n': s.get('n', 0) + 1})")
    cell = own_kernel.do("%%timeit -n 500 -r 1\norders.state.set(lambda s: {'n': s['n'] + 1})")

    assert "loops each" in line.stdout
    assert "loop" in cell.stdout
    made = own_kernel.ask("orders.state.get('n')")
    assert made >= 2500
    assert own_kernel.ask("orders.state.revision") == made
    own_kernel.do("import time\nwhile len(history := orders.state.history()) > 100 + 256: time.sleep(0.01)")
    assert own_kernel.ask("history.truncated")
    assert own_kernel.ask("[c.after['n'] for c in history]") == list(
        range(made - len_of(own_kernel) + 1, made + 1)
    )
    notices = (line.stderr + cell.stderr).count("history=")
    assert notices == 1


def len_of(kernel):
    return kernel.ask("len(history)")


def test_time_works_around_a_cell(kernel):
    run = kernel.do("%%time\nfor n in range(100): orders.state.set({'n': n})")

    assert "Wall time" in run.stdout
    assert kernel.ask("orders.state.revision") == 100
