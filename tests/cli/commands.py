"""The command ``happen`` as processes, and a process that is connected to a store as a notebook is."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

WAIT = 60.0
HAPPEN = [sys.executable, "-m", "happen_nb.cli"]
VISITOR = """
import os, sys
import happen_nb as happen
servers, store, name = sys.argv[1:]
space = happen.connect(servers or None, store=store or None, name=name)
space.create_node("orders", initial={"open": 1})
print(os.getpid(), flush=True)
sys.stdin.readline()
space.close()
"""


def environment(**variables):
    """This one, with nothing of happen_nb's but what is given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HAPPEN_") and name != "NATS_URL"
    }
    return {**kept, **{name: str(value) for name, value in variables.items()}}


def happen(*arguments, cwd, stdin="", **variables):
    """Run a command to its end."""
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
    """A process that runs until it is told to end; its lines on stdout come one by one."""

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
        """Send it a signal, and give its exit code and what it still said."""
        os.killpg(self.pid, number)
        return self.ended()

    def leave(self):
        """Let a visitor close its space."""
        self.process.stdin.close()
        return self.ended()

    def ended(self):
        code = self.process.wait(WAIT)
        said = []
        while (line := self._coming.get(timeout=WAIT)) is not None:
            said.append(line)
        return code, "\n".join(said)

    def errors(self):
        """What it has said on stderr."""
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


def visitor(store="", *, servers="", name="shop"):
    """A process in a space."""
    running = Running([sys.executable, "-c", VISITOR, servers, str(store), name], "/")
    running.until("")
    return running
