"""Inspect processes and locks from outside, by /proc."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WAIT = 20.0


@dataclass(frozen=True)
class Process:
    """A living process."""

    pid: int
    command: str

    def serves(self, store: Path | str) -> bool:
        return "nats-server -c " in self.command and f"{store}/" in self.command

    def supervises(self, store: Path | str) -> bool:
        return "supervisor.py " in self.command and f" {store} " in self.command


def running() -> list[Process]:
    """Every process that has not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended meanwhile
            found.append(Process(int(entry.name), command))
    return [process for process in found if process.command]


def servers_of(store: Path | str) -> list[Process]:
    """The nats-servers of a store; one that is being started shows as its supervisor until its exec."""
    return [each for each in running() if each.serves(store)]


def supervisors_of(store: Path | str) -> list[Process]:
    """Its supervisors, with those that are about to find that another one serves."""
    return [each for each in running() if each.supervises(store)]


def everything_of(store: Path | str) -> list[Process]:
    """All that its server consists of."""
    return [each for each in running() if each.serves(store) or each.supervises(store)]


def kill(pid: int) -> None:
    """End a process as the system does when memory is short."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def stop(pid: int) -> None:
    """Stop a process, and wait until it has stopped; `signal.SIGCONT` lets it go on."""
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def end_everything_of(store: Path | str) -> None:
    """End all that its server consists of: first the supervisors, which would start another one."""
    while found := supervisors_of(store) or servers_of(store):
        for process in found:
            kill(process.pid)


def lock_is_free(store: Path) -> bool:
    """Return whether a server could be started."""
    try:
        with (store / "lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True


def is_at_rest(store: Path) -> bool:
    """Return whether only the data of a server are left."""
    return not everything_of(store) and lock_is_free(store)


def eventually(condition: Callable[[], object], seconds: float = WAIT) -> bool:
    """Return whether a condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def answer_of(port: int, *lines: str) -> bytes:
    """Connect, send a text, and return the answer; nothing if the connection ends."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(5)
        try:
            for line in lines:
                connection.sendall(f"{line}\r\n".encode())
            heard = b""
            while more := connection.recv(4096):
                heard += more
                if b"PONG" in heard or b"-ERR" in heard:
                    break
        except ConnectionResetError:
            return b""
        return heard
