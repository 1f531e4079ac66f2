"""Servers that may be killed, second processes, and a seed that a failing test tells."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js.kv import KeyValue

import happen_nb as happen
from tests.guarantees.processes import Pool, Processes
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Cluster, Foreign, Server
from tests.guarantees.witness import Witness

_count = itertools.count(1)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that all tests share, and none kills."""
    server = Server(tmp_path_factory.mktemp("shared-server")).start()
    yield server
    server.kill()


@pytest.fixture
def url(server: Server) -> str:
    """Return the URL of the shared server."""
    return server.url


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, which it may kill and start again."""
    server = Server(tmp_path / "server").start()
    yield server
    server.kill()


@pytest.fixture(scope="package")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three servers that the tests share, one after the other."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield cluster.start()
    finally:
        cluster.kill()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """Three servers that the test may kill, freeze, wipe and cut off; the next test finds them whole."""
    yield shared_cluster
    shared_cluster.restore()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """Between a process and the shared server."""
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """The name of a space that no other test uses."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", request.node.name)[:50]
    return f"{readable}_{next(_count)}"


@pytest.fixture
def foreign(url: str) -> Iterator[Foreign]:
    """A client of NATS that knows nothing of happen_nb."""
    with Foreign(url) as foreign:
        yield foreign


@pytest.fixture
def bucket(space: happen.Space, foreign: Foreign) -> KeyValue:
    """The space, as nats-py's own key-value client has it."""
    return foreign.run(foreign.client.jetstream().key_value(f"happen_{space.name}"))


@pytest.fixture(scope="package")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Processes that one test after the other uses."""
    pool = Pool(tmp_path_factory.mktemp("pool"))
    yield pool
    pool.end()


@pytest.fixture
def processes(tmp_path: Path, pool: Pool) -> Iterator[Processes]:
    """Starts second processes; what still runs at the end is ended or given back."""
    processes = Processes(tmp_path, pool)
    yield processes
    processes.end()


@pytest.fixture
def seed() -> int:
    """A random seed, or the one in ``$HAPPEN_SEED`` to have a failure again."""
    return int(os.environ.get("HAPPEN_SEED") or random.randrange(1_000_000))


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """Return the notes of the handlers of all processes."""
    return Witness(tmp_path / "witness")
