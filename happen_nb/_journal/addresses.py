"""Addresses of NATS servers, and credentials: how they are checked, and how to show them."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import ParseResult, SplitResult, unquote, urlsplit

import orjson

from happen_nb.errors import HappenConnectionError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

WEB_SCHEMES = ("ws", "wss")
SCHEMES = ("nats", "tls", *WEB_SCHEMES)
DEFAULT_PORT = 4222
CREDS_MARKERS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")
"""Present in every ``.creds`` file (NATS decentralised authentication)."""


class Credentials(NamedTuple):
    """Credentials in the forms that NATS knows; `credentials` is the path of a ``.creds`` file."""

    token: str | None = None
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        """Return the keyword arguments of nats-py."""
        named = {
            "token": self.token,
            "user": self.user,
            "password": self.password,
            "user_credentials": self.credentials,
            "tls": self.tls,
        }
        return {key: value for key, value in named.items() if value is not None}

    def check(self) -> None:
        """Raise HappenConnectionError if the file cannot be read, or is not a ``.creds`` file."""
        if self.credentials is None:
            return
        try:
            text = Path(self.credentials).read_text("utf-8", errors="replace")
        except OSError as error:
            problem = f"the nats credentials file cannot be read ({error.strerror})"
            raise HappenConnectionError(f"{self.credentials}: {problem}") from error
        if not all(marker in text for marker in CREDS_MARKERS):
            raise HappenConnectionError(
                f"{self.credentials}: this is not a nats .creds file; create one with nsc"
            )


class Address(ParseResult):
    """An address in which a user, password or token may have percent-encoded characters, as in ``%40``."""

    __slots__ = ()

    @property
    def username(self) -> str | None:
        name = super().username
        return None if name is None else unquote(name)

    @property
    def password(self) -> str | None:
        word = super().password
        return None if word is None else unquote(word)


def redact_url(url: str) -> str:
    """Return an address without the user, password or token in it.

    Examples
    --------
    >>> redact_url("nats://ada:lovelace@127.0.0.1:4222")
    'nats://127.0.0.1:4222'
    """
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def check_address(url: str) -> SplitResult:
    """Split an address into its parts; HappenConnectionError if it cannot be that of a NATS server."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    try:
        valid = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        valid = False
    if not valid:
        secret = "; in a user or password, write @ as %40, / as %2F and : as %3A" if "@" in url else ""
        raise HappenConnectionError(
            f"{redact_url(url)}: this is not the address of a nats server; write it as in "
            f'"nats://host:4222"{secret}'
        )
    return parts


def check_web_sockets(servers: Sequence[str], *, encrypted: bool) -> None:
    """Raise HappenConnectionError for addresses of WebSockets that cannot be used as they are."""
    web = [url for url in servers if check_address(url).scheme in WEB_SCHEMES]
    if not web:
        return
    problem = None
    if len(web) < len(servers):
        problem = "the other nats addresses are not WebSockets; write all with ws:// or wss://, or none"
    elif encrypted and any(check_address(url).scheme == "ws" for url in web):
        problem = "ws:// is not encrypted; write wss://, or connect to the nats server without tls"
    elif find_spec("aiohttp") is None:
        problem = "a WebSocket to a nats server needs aiohttp; install it with 'pip install aiohttp'"
    if problem is not None:
        raise HappenConnectionError(f"{', '.join(map(redact_url, web))}: {problem}")


async def check_tls(servers: Sequence[str], *, timeout: float) -> None:
    """Raise HappenConnectionError if a server does not offer TLS; nats-py would connect without it."""
    for url in servers:
        if check_address(url).scheme in WEB_SCHEMES:  # these do not speak first
            continue
        info = await greeting(url, timeout=timeout)
        if info is not None and not (info.get("tls_required") or info.get("tls_available")):
            raise HappenConnectionError(
                f"{redact_url(url)}: this nats server does not offer TLS; connect without tls"
            )


async def greeting(url: str, *, timeout: float) -> dict[str, Any] | None:
    """Return the INFO that a server sends before authentication; empty if it is not a NATS server.

    None if nothing listens there, or the other side does not speak first.
    """
    try:
        async with asyncio.timeout(timeout):
            address = check_address(url)
            reader, writer = await asyncio.open_connection(address.hostname, address.port or DEFAULT_PORT)
            try:
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    info: dict[str, Any] = orjson.loads(line[5:]) if line.startswith(b"INFO ") else {}
    return info
