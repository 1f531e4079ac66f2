"""A server that ends a connection, whatever the reason: the space goes on as soon as it may connect again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.keys import Operator
from tests.guarantees.listeners import Listener
from tests.guarantees.servers import Server

ADA = "authorization {{ users: [{{user: ada, password: {}}}] }}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Server]]:
    servers: list[Server] = []

    def start(config: str) -> Server:
        servers.append(Server(tmp_path / "server", config).start())
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


def _add_one(node: happen.Node) -> int:
    """Commit, and return the number that is stored then."""
    commit = node.state.set(lambda state: {"n": state.get("n", 0) + 1})
    assert node.state.get(fresh=True) == commit.after
    return int(commit.after["n"])


def test_a_password_that_is_refused_for_a_while(start: Callable[[str], Server]) -> None:
    server = start(ADA.format("one"))
    with happen.connect(server.url, name="x", user="ada", password="one") as space:
        node = space.create_node("n")
        server.reload("password: one", "password: two")
        with pytest.raises(
            happen.HappenTimeoutError, match="refuses the credentials; connect again with valid"
        ):
            node.state.set({"n": 5}, timeout=0.5)
        with pytest.raises(happen.HappenConnectionError, match="refused the credentials"):
            happen.connect(server.url, name="x", user="ada", password="three", timeout=1)
        server.reload("password: two", "password: one")
        assert _add_one(node) in (1, 6)  # the server may still have taken the first one


def test_connecting_with_a_new_password_continues_the_same_space(start: Callable[[str], Server]) -> None:
    server = start(ADA.format("one"))
    with happen.connect(server.url, name="x", user="ada", password="one") as space:
        node = space.create_node("n")
        node.on("add", lambda event: _add_one(node))
        server.reload("password: one", "password: two")
        assert happen.connect(server.url, name="x", user="ada", password="two") is space
        assert space.send(node, "add").result() == 1


@pytest.mark.parametrize("content", [b"", b"-----BEGIN NATS USER JWT-----", bytes(range(256))])
def test_a_credentials_file_that_is_just_being_written(
    start: Callable[[str], Server], tmp_path: Path, content: bytes
) -> None:
    operator = Operator()
    file = operator.credentials(tmp_path / "ada.creds")
    server, valid = start(operator.config()), file.read_bytes()
    with happen.connect(server.url, name="x", credentials=file) as space:
        node = space.create_node("n")
        file.write_bytes(content)
        server.kill()
        server.start()
        with pytest.raises(happen.NotStoredError):
            node.state.set({"n": 5}, timeout=0.5)
        file.write_bytes(valid)
        assert _add_one(node) == 1


@pytest.mark.parametrize(
    "greeting",
    [
        b"INFO\r\n",
        b"INFO 7\r\n",
        b'INFO {"connect_urls": 7}\r\n',
        b"INFO " + 100_000 * b"x",
        b"INFO {}\r\nPONG\r\nINFO 7\r\n",
        b"INFO {}\r\nPONG\r\n-ERR 'Unknown'\r\n",
    ],
)
def test_another_program_on_the_port_of_a_server_that_is_down(mortal: Server, greeting: bytes) -> None:
    with happen.connect(mortal.url, name="x") as space:
        node = space.create_node("n")
        mortal.kill()
        with Listener(greeting, port=mortal.port), pytest.raises(happen.HappenTimeoutError):
            node.state.set({"n": 5}, timeout=0.5)
        mortal.start()
        assert _add_one(node) in (1, 6)  # some greetings are those of a server, which gets what is sent


def test_a_message_that_the_server_no_longer_accepts(mortal: Server) -> None:
    with happen.connect(mortal.url, name="x") as space:
        node = space.create_node("n")
        mortal.reload("max_payload: 8MB", "max_payload: 1MB")
        with pytest.raises(happen.TooLargeError, match="accepts at most 1,048,576"):
            node.state.set({"text": 2_000_000 * "x"})

        def emitting(state: dict[str, int]) -> dict[str, int | str]:
            node.broadcast("said", id="once")
            return {**state, "text": 2_000_000 * "x"}

        mortal.reload("max_payload: 1MB", "max_payload: 4MB")
        mortal.kill()
        mortal.start()
        node.state.get(fresh=True)
        mortal.reload("max_payload: 4MB", "max_payload: 1MB")
        with pytest.raises(happen.TooLargeError, match="accepts at most 1,048,576"):
            node.state.set(emitting)
        assert _add_one(node) == 1
        assert not space.events("said")
