"""A real ipykernel as a front end holds it: cells with or without ids, outputs by the cell they belong to."""

from __future__ import annotations

import ast
import os
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from happen_nb.learn import kernel_manager

WITHIN = 60.0
SAY_WHEN_IT_WAITS = """
import datetime, sys, threading, time

def say_when_it_waits(caller=None):
    def files(frame):
        while frame is not None:
            yield frame.f_code.co_filename
            frame = frame.f_back

    def look():
        main = threading.main_thread().ident
        while True:
            where, *callers = files(sys._current_frames()[main])
            waits = where.endswith("io.py") or "selector" in where
            if waits and (caller is None or any(each.endswith(caller) for each in callers)):
                print("it waits")
                return
            time.sleep(0.005)

    threading.Thread(target=look).start()
"""
ENDS_IN_ORDER = """
# ipykernel 7.4 first ends the thread that publishes, and then waits for the control thread. If that was just
# about to publish something, it waits for ever.
from ipykernel.kernelapp import IPKernelApp

def close(self, close=IPKernelApp.close):
    self.control_thread.stop()
    self.control_thread.join()
    close(self)

IPKernelApp.close = close
"""


class Run:
    """One run of a cell, and what came of it so far."""

    def __init__(self, kernel: Kernel, id: str) -> None:
        self._kernel = kernel
        self.id = id
        self.messages: list[dict[str, Any]] = []

    def wait(self) -> Run:
        """Wait until the cell has ended."""
        return self.until(lambda run: run.ended)

    def until(self, condition: Callable[[Run], object]) -> Run:
        """Wait for something in what the cell sent."""
        deadline = time.monotonic() + WITHIN
        while not condition(self):
            assert time.monotonic() < deadline, f"it does not come: {self.messages}"
            self._kernel.hear()
        return self

    @property
    def ended(self) -> bool:
        return any(m["content"].get("execution_state") == "idle" for m in self.messages)

    @property
    def number(self) -> int:
        """The number of the cell, as in ``In [3]``."""
        inputs = [m["content"] for m in self.messages if m["msg_type"] == "execute_input"]
        return int(inputs[0]["execution_count"])

    @property
    def stdout(self) -> str:
        return self._stream("stdout")

    @property
    def stderr(self) -> str:
        return self._stream("stderr")

    @property
    def shown(self) -> list[str]:
        """Return what was displayed, as text."""
        shown = [m["content"] for m in self.messages if m["msg_type"] == "display_data"]
        return [content["data"]["text/plain"] for content in shown]

    @property
    def output(self) -> str:
        """All that is under the cell."""
        return "".join((self.stdout, self.stderr, *self.shown, self.error))

    @property
    def error(self) -> str:
        """The name and text of the exception that ended the cell; "" if none did."""
        errors = [m["content"] for m in self.messages if m["msg_type"] == "error"]
        return "".join(f"{error['ename']}: {error['evalue']}" for error in errors)

    def _stream(self, name: str) -> str:
        contents = [m["content"] for m in self.messages if m["msg_type"] == "stream"]
        return "".join(content["text"] for content in contents if content["name"] == name)


class Kernel:
    """An ipykernel process with a store of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        kept = {
            key: value for key, value in os.environ.items() if key not in ("PYTEST_CURRENT_TEST", "NATS_URL")
        }
        self._manager = kernel_manager(kernel_name="python3")
        self._manager.start_kernel(
            cwd=str(folder),
            env={
                **kept,
                "HAPPEN_STORE": str(folder / ".happen"),
                "IPYTHONDIR": str(folder / "ipython"),
                "JUPYTER_PATH": str(Path(sys.prefix, "share", "jupyter")),
                **environment,
            },
        )
        self._runs: dict[str, Run] = {}
        self._connect()

    def _connect(self) -> None:
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=WITHIN)

    def begin(self, code: str, cell: str | None = None) -> Run:
        """Run a cell, without waiting; `cell` is the id that a front end may send."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        metadata = {} if cell is None else {"cellId": cell}
        message = self._client.session.msg("execute_request", content, metadata=metadata)
        run = self._runs[message["header"]["msg_id"]] = Run(self, message["header"]["msg_id"])
        self._client.shell_channel.send(message)
        return run

    def run(self, code: str, cell: str | None = None) -> Run:
        """Run a cell to its end."""
        return self.begin(code, cell).wait()

    def do(self, code: str, cell: str | None = None) -> Run:
        """Run a cell to its end, which must not be an exception."""
        run = self.run(code, cell)
        assert not run.error, run.messages
        return run

    def ask(self, expression: str) -> Any:
        """The value of an expression, if its repr is Python."""
        return ast.literal_eval(self.do(f"print(repr({expression}))").stdout)

    def hear(self) -> None:
        """Take the next output, and give it to the run that it belongs to."""
        try:
            message = self._client.get_iopub_msg(timeout=0.2)
        except queue.Empty:
            return
        run = self._runs.get(message["parent_header"].get("msg_id", ""))
        if run is not None:
            run.messages.append(message)

    def press(self, target: str) -> None:
        """Press a button of a widget: send a message that belongs to no cell."""
        content = {"comm_id": target, "target_name": target, "data": {}}
        self._client.shell_channel.send(self._client.session.msg("comm_open", content))

    def press_stop(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        self._manager.interrupt_kernel()

    def send_anything(self) -> None:
        """A message that wakes the kernel's loop up, as front ends send now and then."""
        self._client.kernel_info()

    def restart(self) -> None:
        """Restart the kernel, as the restart button does."""
        self._client.stop_channels()
        self._manager.restart_kernel(now=False)
        self._connect()

    def ask_to_end(self) -> None:
        """Ask it to end, and wait until it has, without ending it by force."""
        self.do(ENDS_IN_ORDER)
        self._client.shutdown()
        deadline = time.monotonic() + WITHIN
        while self._manager.is_alive():
            assert time.monotonic() < deadline, "the kernel does not end"
            time.sleep(0.01)

    def end(self, *, now: bool = False) -> None:
        """Shut it down."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=now)
