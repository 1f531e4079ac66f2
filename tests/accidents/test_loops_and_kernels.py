"""Blocking calls in async cells, forks out of a kernel, kernels that restart or end."""

from __future__ import annotations

from tests.accidents.kernels import Kernel

# -- a blocking call in an async cell ----------------------------------------------------------------


def test_blocking_calls_work_in_an_async_cell(kernel):
    run = kernel.do(
        "import asyncio\n"
        "await asyncio.sleep(0)\n"
        "async def work():\n"
        "    orders.state.set({'n': 1})\n"
        "    return orders.state.get('n', fresh=True), len(orders.state.history())\n"
        "print(await work(), await asyncio.gather(work(), work()))"
    )

    assert run.stdout == "(1, 2) [(1, 2), (1, 2)]\n"


def test_awaited_calls_work_in_a_cell(kernel):
    run = kernel.do(
        "commit = await orders.state.aset({'n': 1})\nprint(commit.revision, await orders.state.aget('n'))"
    )

    assert run.stdout == "2 1\n"


def test_a_call_without_await_shows_that_it_has_not_run(kernel):
    run = kernel.do("orders.state.aset({'n': 7})")
    (shown,) = [m["content"]["data"] for m in run.messages if m["msg_type"] == "execute_result"]

    assert shown["text/plain"] == 'State.aset has not run: write "await" before it'
    other = kernel.do("async def other(): pass\nprint(get_ipython().display_formatter.format(other())[0])")
    assert "<coroutine object other" in other.stdout


def test_run_gives_the_result_of_a_coroutine_in_a_cell_and_in_a_function_while_the_loop_runs(kernel):
    kernel.do(
        "async def work():\n    return (await orders.state.aset(lambda s: {'n': s['n'] + 1})).after['n']"
    )

    assert kernel.ask("happen.run(work())") == 1
    assert kernel.ask("(lambda: happen.run(work()))()") == 2
    assert (
        kernel.do("async def outer():\n    return happen.run(work())\nprint(await outer())").stdout == "3\n"
    )
    assert kernel.ask("happen.run(work())") == 4
    assert kernel.do("print(await work())").stdout == "5\n"


def test_a_cell_that_waits_for_a_task_of_another_cell_gets_it(kernel):
    kernel.do(
        "import asyncio\n"
        "waiting = asyncio.create_task(orders.state.await_for(lambda s: s['n'] == 9, timeout=60))"
    )
    kernel.do("orders.state.set({'n': 9})")

    assert kernel.do("print(dict(await waiting))").stdout == "{'n': 9}\n"


# -- a fork out of a kernel --------------------------------------------------------------------------


def test_a_pool_forked_out_of_a_kernel_is_told_to_connect_and_may(kernel):
    kernel.do(
        "import multiprocessing, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "name = space.name\n"
        "def inherited(_):\n"
        "    try:\n"
        "        return orders.state.get('n')\n"
        "    except happen.HappenError as error:\n"
        "        return str(error)\n"
        "def connected(n):\n"
        "    mine = happen.connect(name=name).create_node('orders')\n"
        "    return mine.state.set(lambda s: {'n': s['n'] + n}).changed\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    told, done = pool.map(inherited, range(2)), pool.map(connected, [1] * 10)\n"
    )

    assert all("forked: call connect() in the child" in told for told in kernel.ask("told"))
    assert kernel.ask("done") == [True] * 10
    assert kernel.ask("orders.state.get('n', fresh=True)") == 10
    assert kernel.ask("orders.state.set({'n': 0}).changed and space.server.running")


# -- kernels that restart or end ---------------------------------------------------------------------


def test_after_a_kernel_restart_the_last_state_is_there(own_kernel):
    connect = "import happen_nb as happen\norders = happen.connect(name='kept').create_node('orders')"
    own_kernel.do(f"{connect}\norders.state.set({{'n': 1}}); orders.state.set({{'n': 2}})")

    own_kernel.restart()
    own_kernel.do(connect)

    assert own_kernel.ask("orders.state.get('n')") == 2
    assert own_kernel.ask("[c.after['n'] for c in orders.state.history()]") == [1, 2]


def test_a_callback_that_never_ends_does_not_keep_a_kernel_from_restarting(own_kernel):
    made = own_kernel.do(
        "import threading\n"
        "orders = happen.connect(name='busy').create_node('orders')\n"
        "watch = orders.state.watch(lambda commit: (print('it hangs'), threading.Event().wait()))\n"
        "orders.state.set({'n': 1})"
    )
    made.until(lambda run: "it hangs" in run.stdout)

    own_kernel.restart()

    assert own_kernel.ask("1 + 1") == 2


def test_two_kernels_of_a_folder_share_one_server_and_see_each_other(own_kernel):
    connect = "space = happen.connect(name='both'); orders = space.create_node('orders')"
    own_kernel.do(connect)
    second = Kernel(own_kernel.folder)
    try:
        second.do(f"import happen_nb as happen; {connect}")
        second.do("orders.state.set({'by': 'second'})")

        assert own_kernel.ask("orders.state.wait_for(lambda s: s).get('by')") == "second"
        assert own_kernel.ask("space.server.url") == second.ask("space.server.url")
        assert own_kernel.run("space.drop()").error.startswith("SpaceInUseError")
    finally:
        second.end()
