"""Right and wrong credentials, and addresses without a server.

Whatever is wrong: a `HappenConnectionError` that names it, within the timeout.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import happen_nb as happen
from tests.guarantees.keys import Operator, certificate
from tests.guarantees.listeners import Listener, old_server
from tests.guarantees.servers import Server, free_port

TIMEOUT = 1.0
SLACK = 3.0
"""Seconds that a busy machine may take beside the timeout."""


@contextmanager
def refused(match: str) -> Iterator[None]:
    """Expect that the block fails to connect, for a reason that matches, within the timeout."""
    begun = time.monotonic()
    with pytest.raises(happen.HappenConnectionError, match=match) as caught:
        yield
    assert time.monotonic() - begun < TIMEOUT + SLACK
    assert "nats" in str(caught.value)


def _works(server: Server, **options: Any) -> None:
    """Commits are stored and read, also after the server was away."""
    with happen.connect(server.url, name="secret", **options) as space:
        node = space.create_node("n", initial={"n": 0})
        node.state.set({"n": 1})
        server.kill()
        server.start()
        assert node.state.set(lambda s: {"n": s["n"] + 1}).after == {"n": 2}
        assert node.state.get("n", fresh=True) == 2


@contextmanager
def _server(folder: Path, config: str = "", **options: Any) -> Iterator[Server]:
    server = Server(folder / "server", config, **options).start()
    try:
        yield server
    finally:
        server.kill()


# -- proofs ----------------------------------------------------------------------------------------------


def test_a_token(tmp_path: Path) -> None:
    with _server(tmp_path, 'authorization { token: "sesame" }') as server:
        _works(server, token="sesame")
        with refused("credentials"):
            happen.connect(server.url, token="wrong", timeout=TIMEOUT)
        with refused("credentials"):
            happen.connect(server.url, timeout=TIMEOUT)


def test_a_user_and_a_password(tmp_path: Path) -> None:
    with _server(tmp_path, "authorization { users: [{user: ada, password: lovelace}] }") as server:
        _works(server, user="ada", password="lovelace")
        with refused("credentials"):
            happen.connect(server.url, user="ada", password="byron", timeout=TIMEOUT)
        with refused("credentials"):
            happen.connect(server.url, user="eve", password="lovelace", timeout=TIMEOUT)


def test_a_secret_in_the_url_works_and_is_never_shown(tmp_path: Path) -> None:
    with _server(tmp_path, "authorization { users: [{user: ada, password: lovelace}] }") as server:
        right = server.url.replace("nats://", "nats://ada:lovelace@")
        wrong = server.url.replace("nats://", "nats://ada:byron@")
        with happen.connect(right, name="secret") as space:
            assert space.create_node("n").state.set({"n": 1}).revision == 1
            assert "lovelace" not in repr(space)
        with pytest.raises(happen.HappenConnectionError, match="credentials") as caught:
            happen.connect(wrong, timeout=TIMEOUT)
        assert "byron" not in str(caught.value)


def test_a_secret_in_the_url_may_be_percent_encoded(tmp_path: Path) -> None:
    with _server(tmp_path, 'authorization { users: [{user: "a@b", password: "100%/:@"}] }') as server:
        encoded = server.url.replace("nats://", "nats://a%40b:100%25%2F%3A%40@")
        with happen.connect(encoded, name="secret") as space:
            assert space.create_node("n").state.set({"n": 1}).revision == 1
        with refused("write @ as %40, / as %2F"):
            happen.connect(server.url.replace("nats://", "nats://a@b:100%/:@@"), timeout=TIMEOUT)


def test_a_credentials_file(tmp_path: Path) -> None:
    operator = Operator()
    good = operator.credentials(tmp_path / "good.creds")
    stranger = Operator().credentials(tmp_path / "stranger.creds")
    with _server(tmp_path, operator.config()) as server:
        _works(server, credentials=good)
        with refused("credentials"):
            happen.connect(server.url, credentials=stranger, timeout=TIMEOUT)
        with refused("credentials"):
            happen.connect(server.url, timeout=TIMEOUT)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param("no credentials at all\n", id="other"),
    ],
)
def test_a_bad_credentials_file_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "bad.creds"
    if content is not None:
        file.write_text(content)
    with _server(tmp_path, Operator().config()) as server, refused(r"bad\.creds"):
        happen.connect(server.url, credentials=file, timeout=TIMEOUT)


def test_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    (tmp_path / "other").mkdir()
    mistaken = ssl.create_default_context(cafile=str(certificate(tmp_path / "other")))
    config = f'tls {{ cert_file: "{cert}", key_file: "{tmp_path / "key.pem"}" }}'
    with _server(tmp_path, config) as server:
        _works(server, tls=trusting)
        assert not caplog.records
        with refused("TLS"):
            happen.connect(server.url, tls=mistaken, timeout=TIMEOUT)
        with refused("TLS"):
            happen.connect(server.url, timeout=TIMEOUT)


def test_tls_with_a_server_that_has_none(url: str) -> None:
    with refused("TLS"):
        happen.connect(url, tls=ssl.create_default_context(), timeout=TIMEOUT)


def test_tls_with_a_websocket_that_has_none(tmp_path: Path) -> None:
    port = free_port()
    with _server(tmp_path, f"websocket {{ port: {port}, no_tls: true }}"), refused("wss://"):
        happen.connect(f"ws://127.0.0.1:{port}", tls=ssl.create_default_context(), timeout=TIMEOUT)


# -- permissions -----------------------------------------------------------------------------------------

SUBSCRIBE = ["_happen.shop.>", "_INBOX.>"]
READ = [
    *("$JS.API.INFO", "$JS.API.*.*.KV_happen_shop", "$JS.API.*.*.KV_happen_shop.>"),
    *("$JS.API.*.MSG.*.KV_happen_shop", "$JS.API.*.MSG.*.KV_happen_shop.>", "$JS.FC.KV_happen_shop.>"),
]
PUBLISH = [*SUBSCRIBE, *READ, "$KV.happen_shop.>", "happen.shop.>"]


def _only(publish: list[str], subscribe: list[str]) -> str:
    """The configuration of a user with these permissions."""
    allowed = f"publish: {{allow: {json.dumps(publish)}}}, subscribe: {{allow: {json.dumps(subscribe)}}}"
    return f"authorization {{ users: [{{user: ada, password: x, permissions: {{{allowed}}}}}] }}"


def test_a_user_of_one_space(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        _server(tmp_path, _only(PUBLISH, SUBSCRIBE)) as server,
        happen.connect(server.url, name="shop", user="ada", password="x") as space,
    ):
        node = space.create_node("n", initial={"n": 0})
        handled = []
        node.on("row", lambda event: handled.append(event.payload["i"]))
        node.on("ask", lambda event: event.payload)
        text = 2_000 * "x"  # with it, the rows are more than the server sends without flow control
        space.replay([{"i": number, "text": text} for number in range(6_000)], type="row").wait(60)
        space.settle(60)
        assert handled == list(range(6_000))
        assert len(space.events("row")) == 6_000
        assert space.send(node, "ask", 5).result() == 5
        space.clear()
        assert not caplog.records


def test_what_a_user_is_not_permitted_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with _server(tmp_path, _only(PUBLISH, SUBSCRIBE)) as server:
        with happen.connect(server.url, name="shop", user="ada", password="x") as space:
            space.create_node("n", initial={"n": 1})
        server.kill()
    with (
        _server(tmp_path, _only(READ, ["_INBOX.>"])) as server,
        happen.connect(server.url, name="shop", user="ada", password="x") as space,
    ):
        node = space.create_node("n")
        assert node.state.get("n", fresh=True) == 1
        assert '"_happen.shop.who"' in caplog.text
        with pytest.raises(happen.ServerError, match=r"does not permit it .*publish"):
            node.state.set({"n": 2})
        with pytest.raises(happen.ServerError, match=r"does not permit it .*publish"):
            node.on("ask", print)
        with pytest.raises(happen.ServerError, match=r'reading the space "other".*does not permit it'):
            happen.connect(server.url, name="other", user="ada", password="x", timeout=TIMEOUT)


# -- addresses -------------------------------------------------------------------------------------------


def test_nobody_there() -> None:
    with refused("no server at this address"):
        happen.connect(f"nats://127.0.0.1:{free_port()}", timeout=TIMEOUT)


def test_an_unknown_host() -> None:
    with refused(r"nowhere\.invalid"):
        happen.connect("nats://nowhere.invalid:4222", timeout=TIMEOUT)


def test_one_that_says_nothing() -> None:
    with Listener(b"") as silent, refused("no answer"):
        happen.connect(silent.url, timeout=TIMEOUT)


def test_one_that_speaks_another_protocol() -> None:
    with Listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as web, refused("no server at this address"):
        happen.connect(web.url, timeout=TIMEOUT)


def test_addresses_of_both_kinds(url: str) -> None:
    with refused("write all with ws:// or wss://, or none"):
        happen.connect([url, "ws://127.0.0.1:4222"], timeout=TIMEOUT)


def test_a_websocket_without_the_package_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with refused("pip install aiohttp"):
        happen.connect("ws://127.0.0.1:4222", timeout=TIMEOUT)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:4222",
        "nats://127.0.0.1:port",
        "nats://",
    ],
)
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises((happen.HappenConnectionError, ValueError), match=address):
        happen.connect(address, timeout=TIMEOUT)


def test_a_server_without_jetstream(tmp_path: Path) -> None:
    with _server(tmp_path, jetstream=False) as server, refused("no JetStream.*-js"):
        happen.connect(server.url, timeout=TIMEOUT)


def test_an_account_without_jetstream(tmp_path: Path) -> None:
    config = (
        "accounts { A { users: [{user: ada, password: x}], jetstream: enabled }\n"
        "B { users: [{user: bob, password: x}] } }"
    )
    with _server(tmp_path, config) as server, refused("JetStream"):
        happen.connect(server.url, user="bob", password="x", timeout=TIMEOUT)


@pytest.mark.parametrize("version", ["2.9.0", "2.11.9"])
def test_a_server_that_is_too_old(version: str) -> None:
    with old_server(version) as old, refused(rf"nats-server {version}.*2\.12.*Upgrade"):
        happen.connect(old.url, timeout=TIMEOUT)


def test_one_good_address_of_several_is_enough(url: str, name: str) -> None:
    with happen.connect([f"nats://127.0.0.1:{free_port()}", url], name=name) as space:
        assert space.create_node("n").state.set({"n": 1}).revision == 1
