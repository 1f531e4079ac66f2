"""The command ``happen``, in this process or in one of its own, and processes that are in a space."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from happen_nb import _cli as cli

WAIT = 60.0
HAPPEN = [sys.executable, "-m", "happen_nb"]
VISITOR = """
import json, sys
import happen_nb as happen
for line in sys.stdin:
    space = happen.connect(**json.loads(line))
    if "orders" not in space.views:
        space.create_node("orders", initial={"open": 1})
    print("in", flush=True)
    sys.stdin.readline()
    space.close()
    print("out", flush=True)
"""


def environment(**variables):
    """Return this environment, with only the given variables of happen_nb."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HAPPEN_") and name != "NATS_URL"
    }
    return {**kept, **{name: str(value) for name, value in variables.items()}}


def happen(*arguments, cwd, stdin="", **variables):
    """Run a command to its end; in this process, which takes a tenth of the time."""
    out, err, before = io.StringIO(), io.StringIO(), dict(os.environ)
    at_term = signal.getsignal(signal.SIGTERM)
    wanted = environment(**variables)
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        os.environ.clear()
        os.environ.update(wanted)
        try:
            code = cli.main(list(map(str, arguments)))
        finally:
            os.environ.clear()
            os.environ.update(before)
            signal.signal(signal.SIGTERM, at_term)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def happen_process(*arguments, cwd, stdin="", **variables):
    """Run a command to its end, in a process of its own: some variables count only for a new one."""
    return subprocess.run(
        [*HAPPEN, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )


class Running:
    """A process that runs until a signal; its lines on stdout are read one by one."""

    def __init__(self, command, cwd, **variables):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in kill
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(**variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self.lines = []
        self._coming = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._coming.put(line.rstrip())
        self._coming.put(None)

    @property
    def pid(self):
        return self.process.pid

    def until(self, text):
        """The next line that has this text in it."""
        while (line := self._coming.get(timeout=WAIT)) is not None:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"ended without {text!r}: {self.lines} {self.errors()}")

    def end(self, number=signal.SIGINT):
        """Send it a signal, and return its exit code and its remaining output."""
        os.killpg(self.pid, number)
        return self.ended()

    def ended(self):
        code = self.process.wait(WAIT)
        said = []
        while (line := self._coming.get(timeout=WAIT)) is not None:
            said.append(line)
        return code, "\n".join(said)

    def errors(self):
        """Return its output on stderr."""
        self._errors.seek(0)
        return self._errors.read()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT)
        self.process.stdin.close()
        self._errors.close()


def starting(store, *options, **variables):
    """``happen server`` on a store, as soon as it begins."""
    return Running([*HAPPEN, "server", "--store", str(store), *options], Path(store).parent, **variables)


def server(store, *options, **variables):
    """``happen server`` on a store, ready."""
    running = starting(store, *options, **variables)
    running.until("Ctrl-C")
    return running


class Visitor(Running):
    """A process that enters one space after the other, since each process takes a while to start."""

    idle: ClassVar[list[Visitor]] = []

    def __init__(self):
        super().__init__([sys.executable, "-c", VISITOR], "/")
        self.inside = False

    def enter(self, **target):
        """Connect to a space."""
        self._say(json.dumps(target))
        self.until("in")
        self.inside = True

    def leave(self):
        """Close the space."""
        self._say("")
        self.until("out")
        self.inside = False

    def _say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def put_back(self):
        """Let another test use it, if it lives."""
        if self.process.poll() is None:
            if self.inside:
                self.leave()
            self.idle.append(self)


def visitor(store=None, *, servers=None, name="shop"):
    """A process in a space."""
    found = Visitor.idle.pop() if Visitor.idle else Visitor()
    found.enter(store=store and str(store), servers=servers, name=name)
    return found
