"""Where to connect to, and how to prove who connects; checked before anything is sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from happen_nb.errors import HappenConnectionError

SCHEMES = ("nats", "tls", "ws", "wss")
PORT = 4222
MARKS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")
"""What a ``.creds`` file holds (NATS decentralised authentication)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to prove who connects; all of them as NATS has them.

    Parameters
    ----------
    token, user, password : str, optional
    credentials : str, optional
        The path of a ``.creds`` file.
    tls : ssl.SSLContext, optional
    """

    token: str | None = None
    user: str | None = None
    password: str | None = None
    credentials: str | None = None
    tls: ssl.SSLContext | None = None

    def options(self) -> dict[str, Any]:
        """As nats-py takes them."""
        named = {
            "token": self.token,
            "user": self.user,
            "password": self.password,
            "user_credentials": self.credentials,
            "tls": self.tls,
        }
        return {key: value for key, value in named.items() if value is not None}

    def check(self) -> None:
        """Look at the file.

        Raises
        ------
        HappenConnectionError
            It cannot be read, or is no ``.creds`` file.
        """
        if self.credentials is None:
            return
        try:
            text = Path(self.credentials).read_text("utf-8", errors="replace")
        except OSError as error:
            problem = f"the nats credentials file cannot be read ({error.strerror})"
            raise HappenConnectionError(f"{self.credentials}: {problem}") from error
        if not all(mark in text for mark in MARKS):
            raise HappenConnectionError(f"{self.credentials}: this is no nats .creds file; nsc makes one")


def redact_url(url: str) -> str:
    """An address without the secrets that it may carry.

    Examples
    --------
    >>> redact_url("nats://ada:lovelace@127.0.0.1:4222")
    'nats://127.0.0.1:4222'
    """
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def check_address(url: str) -> SplitResult:
    """An address in its parts.

    Raises
    ------
    HappenConnectionError
        It is none.
    """
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    try:
        right = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        right = False
    if not right:
        raise HappenConnectionError(
            f'{redact_url(url)}: this is no address of a nats server, as "nats://host:4222"'
        )
    return parts


async def check_tls(servers: Sequence[str], *, timeout: float) -> None:
    """See that a server that is to be reached by TLS offers it: nats-py would go on without.

    Raises
    ------
    HappenConnectionError
        It does not.
    """
    for url in servers:
        info = await greeting(url, timeout=timeout)
        if info is not None and not (info.get("tls_required") or info.get("tls_available")):
            raise HappenConnectionError(
                f"{redact_url(url)}: this nats server offers no TLS; connect without tls"
            )


async def greeting(url: str, *, timeout: float) -> dict[str, Any] | None:
    """What a server says of itself before anybody has proved anything: empty if it is no nats server.

    None if nobody is there, or nobody who speaks first.
    """
    try:
        async with asyncio.timeout(timeout):
            line = await _first_line(check_address(url))
    except (OSError, TimeoutError):
        return None
    said: dict[str, Any] = orjson.loads(line[5:]) if line.startswith(b"INFO ") else {}
    return said


async def _first_line(address: SplitResult) -> bytes:
    reader, writer = await asyncio.open_connection(address.hostname, address.port or PORT)
    try:
        return await reader.readline()
    finally:
        writer.close()
