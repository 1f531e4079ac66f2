"""Tools for tutorials: exercises that check themselves, and concurrency and failures that repeat exactly.

Examples
--------
>>> from happen_nb.learn import check
>>> for left in (2, 1, -1):
...     commit = inventory.state.set({"pens": left})
>>> check("there are never fewer than zero pens", inventory, lambda state: state.get("pens", 0) >= 0)
✗ there are never fewer than zero pens · broken by 1 of 3 commits
  first by commit of inventory · revision 3
  ~ pens  1 → -1
"""

from __future__ import annotations

import functools
import inspect
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from happen_nb._api.checks import Verdict, check
from happen_nb._runtime.cells import cells
from happen_nb._runtime.workers import refuse_at_end
from happen_nb.errors import ClosedError, HappenTimeoutError

if TYPE_CHECKING:
    from happen_nb._api.space import NatsServer, Space

__all__ = [
    "CallCounter",
    "Repeater",
    "SecondKernel",
    "Verdict",
    "check",
    "count_calls",
    "frozen_server",
    "kill_server",
    "meanwhile",
    "median_ms",
    "repeat",
    "second_kernel",
    "wait_until",
]

P = ParamSpec("P")
T = TypeVar("T")
WAIT_POLL_SECONDS = 0.005
KERNEL_START_SECONDS = 60


class CallCounter(Generic[P, T]):
    """A function that counts its calls; `count_calls` makes one.

    Attributes
    ----------
    calls : int
        Number of calls so far.
    """

    def __init__(self, function: Callable[P, T]) -> None:
        functools.update_wrapper(self, function)
        self.calls = 0
        self._function = function
        self._lock = threading.Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Count the call and pass it on."""
        with self._lock:
            self.calls += 1
        return self._function(*args, **kwargs)


def count_calls(function: Callable[P, T]) -> CallCounter[P, T]:
    """Count how often a function is called, for example a transform that runs again on a conflict.

    Parameters
    ----------
    function : callable
        The function whose calls are counted.

    Returns
    -------
    CallCounter
        Calls `function`, and counts the calls in ``.calls``.

    Examples
    --------
    >>> from happen_nb.learn import count_calls
    >>> @count_calls
    ... def sell(state):
    ...     return {"pens": state.get("pens", 10) - 1}
    >>> inventory.state.set(sell).after, sell.calls
    ({'pens': 9}, 1)
    """
    return CallCounter(function)


def meanwhile(work: Callable[[], object]) -> Callable[[], None]:
    """Return a function whose first call runs `work` in another thread and waits until it is done.

    Call it in a transform to let another writer in after the transform has read the state. Later calls do
    nothing, so the transform can run again undisturbed.

    Parameters
    ----------
    work : callable
        Called once, without arguments. The first call raises its exception, if any.

    Returns
    -------
    callable
        A function without arguments.

    Examples
    --------
    The transform runs twice, since the node changed while it ran for the first time:

    >>> from happen_nb.learn import count_calls, meanwhile
    >>> sell_one = happen.put("pens", lambda pens: (pens or 10) - 1)
    >>> another_sale = meanwhile(lambda: inventory.state.set(sell_one))
    >>> @count_calls
    ... def sell(state):
    ...     another_sale()
    ...     return sell_one(state)
    >>> inventory.state.set(sell).after, sell.calls
    ({'pens': 8}, 2)
    """
    pending = [work]

    def run_once() -> None:
        if pending:
            # A thread of its own starts outside of the transform, where `set` is allowed.
            with ThreadPoolExecutor(max_workers=1) as executor:
                executor.submit(pending.pop()).result()

    return run_once


def wait_until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until a condition holds.

    Parameters
    ----------
    condition : callable
        Called every few milliseconds, without arguments, until it returns a true value.
    timeout : float
        Seconds to wait at most.

    Raises
    ------
    HappenTimeoutError
        The condition did not hold in time.

    Examples
    --------
    >>> from happen_nb.learn import wait_until
    >>> order = orders.on("order.placed", lambda event: orders.state.set({"open": 1}) and None)
    >>> event = space.broadcast("order.placed")
    >>> wait_until(lambda: orders.state.get("open"))
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise HappenTimeoutError(f"wait_until: the condition did not hold within {timeout:g} s")
        time.sleep(WAIT_POLL_SECONDS)


def median_ms(function: Callable[[], object], repeat: int = 300) -> float:
    """Return the median time of a call in milliseconds.

    Parameters
    ----------
    function : callable
        A plain function without arguments.
    repeat : int
        Number of calls.

    Returns
    -------
    float
        Milliseconds, rounded to four decimal places.

    Raises
    ------
    TypeError
        The function is async: calling it only makes a coroutine.

    Examples
    --------
    >>> from happen_nb.learn import median_ms
    >>> median_ms(orders.state.get) < 100
    True
    """

    def seconds() -> float:
        started = time.perf_counter()
        result = function()
        elapsed = time.perf_counter() - started
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                "median_ms: the function is async, and a call of it only makes a coroutine; pass a plain "
                "function, such as a lambda that calls state.set"
            )
        return elapsed

    return round(1000 * statistics.median(seconds() for _ in range(repeat)), 4)


class Repeater:
    """A function that is called repeatedly in the background; `repeat` makes one."""

    def __init__(
        self, step: Callable[..., object], arguments: tuple[object, ...], times: int, pause: float
    ) -> None:
        self._step = step
        self._arguments = arguments
        self._times = times
        self._pause = pause
        self._stopped = threading.Event()
        refuse_at_end()
        self._thread = threading.Thread(target=self._run, name="happen_nb repeat", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True until the last call has returned."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop after the current call; do not wait for it."""
        self._stopped.set()

    def _run(self) -> None:
        with suppress(ClosedError):
            for _ in range(self._times):
                self._step(*self._arguments)
                if self._stopped.wait(self._pause):
                    return


def repeat(
    step: Callable[..., object], *arguments: object, times: int = 1000, pause: float = 0.1
) -> Repeater:
    """Call a function repeatedly in the background.

    It ends after `times` calls, with ``.stop()``, when its space is closed, or when its cell runs again.

    Parameters
    ----------
    step : callable
        The function.
    *arguments
        Arguments of each call.
    times : int
        Number of calls.
    pause : float
        Seconds between the calls.

    Returns
    -------
    Repeater
        Has ``.running`` and ``.stop()``.

    Examples
    --------
    >>> from happen_nb.learn import repeat
    >>> day = happen.put("day", lambda day: (day or 0) + 1)
    >>> clock = repeat(orders.state.set, day, times=3, pause=0.01)
    >>> orders.state.wait_for(lambda state: state.get("day") == 3)
    {'day': 3}
    """
    repeater = Repeater(step, arguments, times, pause)
    cells.register(repeater.stop)
    return repeater


def kernel_manager(**options: Any) -> Any:
    """Make the manager of a kernel that no other process can keep from starting.

    Ports are chosen before the kernel binds them, so another process may take one. Sockets in a folder of its
    own are safe; Windows has only ports.
    """
    from jupyter_client.manager import KernelManager

    if sys.platform == "win32":
        return KernelManager(**options)
    folder = tempfile.mkdtemp(prefix="kernel-")  # short: a socket's path has at most 103 characters
    manager = KernelManager(transport="ipc", ip=f"{folder}/ipc", **options)
    weakref.finalize(manager, shutil.rmtree, folder, ignore_errors=True)
    return manager


def start_kernel(manager: Any, timeout: float = KERNEL_START_SECONDS, **options: Any) -> Any:
    """Start a kernel, and return its client when it is ready."""
    manager.start_kernel(**options)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=timeout)
    except BaseException:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        raise
    return client


class SecondKernel:
    """Another Jupyter kernel, in the same folder as this one; `second_kernel` starts one.

    Attributes
    ----------
    pid : int
        Its process number.
    """

    def __init__(self) -> None:
        # The kernel ends with this process, which ipykernel watches. A killed kernel may complain on stderr.
        # With the variable, it would go by the name of this notebook.
        env = {key: value for key, value in os.environ.items() if key != "JPY_SESSION_NAME"}
        self._manager = kernel_manager()
        self._client = start_kernel(self._manager, env=env, stderr=subprocess.DEVNULL)

    @property
    def pid(self) -> int:  # noqa: D102 - described above
        return int(self._manager.provisioner.pid)

    def run(self, code: str, timeout: float = 60.0) -> None:
        """Run a cell there, wait until it ends, and print its output here.

        Parameters
        ----------
        code : str
            The source of the cell.
        timeout : float
            Seconds to wait at most.

        Raises
        ------
        RuntimeError
            The cell raised an exception.
        """
        outputs: list[dict[str, Any]] = []
        reply = self._client.execute_interactive(code, timeout=timeout, output_hook=outputs.append)
        for output in outputs:
            if output["msg_type"] == "stream":
                getattr(sys, output["content"]["name"]).write(output["content"]["text"])
        result = reply["content"]
        if result["status"] != "ok":
            raise RuntimeError(f"the second kernel raised {result.get('ename')}: {result.get('evalue')}")

    def start(self, code: str) -> None:
        """Run a cell there without waiting for it.

        Parameters
        ----------
        code : str
            The source of the cell.
        """
        self._client.execute(code)

    def kill(self) -> None:
        """Kill the process, as ``kill -9`` does."""
        os.kill(self.pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start the kernel again, also after `kill`, and wait until it is ready."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=KERNEL_START_SECONDS)

    def stop(self) -> None:
        """Shut the kernel down."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def second_kernel() -> SecondKernel:
    """Start another Jupyter kernel in the same folder, like that of a second notebook.

    It stops when its cell runs again.

    Returns
    -------
    SecondKernel
        Runs code there.

    Examples
    --------
    >>> from happen_nb.learn import second_kernel
    >>> other = second_kernel()
    >>> other.run("print(6 * 7)")
    42
    >>> other.stop()
    """
    kernel = SecondKernel()
    cells.register(kernel.stop)
    return kernel


def kill_server(space: Space) -> None:
    """Kill the embedded server of a space, as ``kill -9`` does. It is restarted automatically.

    Parameters
    ----------
    space : Space
        A space on the embedded server.

    Raises
    ------
    ValueError
        The space is on a server of your own.

    Examples
    --------
    >>> from happen_nb.learn import kill_server
    >>> with happen.connect(store=":memory:", name="brief") as brief:
    ...     kill_server(brief)
    """
    os.kill(_pid(_embedded(space)), signal.SIGKILL)


@contextmanager
def frozen_server(space: Space) -> Iterator[None]:
    """Prevent the embedded server of a space from answering until the block ends. Not on Windows.

    Parameters
    ----------
    space : Space
        A space on the embedded server.

    Raises
    ------
    ValueError
        The space is on a server of your own.

    Examples
    --------
    >>> from happen_nb.learn import frozen_server
    >>> with happen.connect(store=":memory:", name="frozen") as frozen:
    ...     with frozen_server(frozen):
    ...         frozen.server.running
    ...     frozen.server.running
    False
    True
    """
    server = _embedded(space)
    pid = _pid(server)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: not server.running)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _embedded(space: Space) -> NatsServer:
    if space.server is None:
        raise ValueError(f"space {space.name!r} is on your own server; connect without servers and $NATS_URL")
    return space.server


def _pid(server: NatsServer) -> int:
    while (pid := server.pid) is None:  # it is restarting
        time.sleep(WAIT_POLL_SECONDS)
    return pid
