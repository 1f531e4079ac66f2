"""Processes that join a server as a kernel does; this file is also the program that they run.

The program reads commands and answers each in one line of JSON. It loads the server's modules without the
rest of the library, so that a hundred of them can be started.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "happen_nb"
NOBODY = 65534


class Kernel:
    """One such process, seen from the test."""

    def __init__(self, store: Path | str, *, wait: bool = True, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(store), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if options.get("hear_log") else None,
            start_new_session=True,
            text=True,
        )
        self.joined: dict[str, Any] = self.hear() if wait else {}

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> dict[str, Any]:
        """The next answer; empty if the process has ended."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else {}

    def ask(self, command: str) -> Any:
        """Return its answer to a command."""
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.hear().get("answer")

    @property
    def port(self) -> int:
        return int(self.ask("url").rpartition(":")[2])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def leave(self) -> None:
        """Close the server and end in good order."""
        self.ask("close")
        self.kill()

    def finish(self) -> None:
        """Leave, and end the server immediately if it is unused."""
        self.ask("finish")
        self.kill()


def main(store: str, options: dict[str, Any]) -> None:
    without_the_rest()
    from happen_nb._server import join
    from happen_nb._server.store import find_store
    from happen_nb.errors import HappenConnectionError

    limit(options)
    signal.signal(signal.SIGINT, lambda *_: None)
    started = time.perf_counter()
    try:
        server = join(
            find_store(store or None),
            sync=options.get("sync", "default"),
            timeout=options.get("timeout", 20.0),
        )
    except HappenConnectionError as error:
        say(error=str(error))
        return
    moves: list[str] = []
    server.on_moved(moves.append)
    say(
        ms=round((time.perf_counter() - started) * 1e3, 1),
        url=server.url,
        token=server.token,
        spawned=server._spawned_at != float("-inf"),
        folder=str(server._folder),
    )
    commands = {
        "url": lambda: server.url,
        "running": lambda: server.running,
        "log": lambda: server.log,
        "moves": lambda: moves,
        "close": server.close,
        "finish": lambda: server.close(at_once=True),
        "fork": lambda: fork(server),
    }
    for line in sys.stdin:
        say(answer=commands[line.strip()]())


def without_the_rest() -> None:
    """Let `happen_nb` be a package whose modules are loaded one by one."""
    package = types.ModuleType("happen_nb")
    package.__path__ = [str(PACKAGE)]
    sys.modules["happen_nb"] = package
    import importlib.metadata
    import tempfile

    assert importlib.metadata, tempfile  # loaded before the rights to read them are given up


def limit(options: dict[str, Any]) -> None:
    """Remove the parts that the test wants to be missing."""
    if "cwd" in options:
        os.chdir(options["cwd"])
    if options.get("disk_full"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if options.get("as_nobody") and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def fork(server: Any) -> dict[str, Any]:
    """Start a child that lives until it is killed; return its id, and the server as seen in it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        sockets = [fd for fd in Path("/proc/self/fd").iterdir() if is_socket(fd)]
        os.write(writer, json.dumps({"running": server.running, "sockets": len(sockets)}).encode())
        os.close(writer)
        server.close()
        devnull = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(devnull, fd)
        signal.pause()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return {"pid": child, **json.loads(pipe.read())}


def is_socket(fd: Path) -> bool:
    try:
        return str(fd.readlink()).startswith("socket:")
    except OSError:
        return False  # the one that the folder was read by


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
