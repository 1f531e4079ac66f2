"""NATS servers that are not the embedded one."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import Any

from happen_nb._cli.doctor.findings import Finding, note, ok, wrong
from happen_nb._cli.doctor.programs import is_too_old
from happen_nb._cli.occupancy import TIMEOUT, attendance_at
from happen_nb._display.spans import byte_count
from happen_nb._journal.auth import Credentials, greeting, redact_url
from happen_nb._journal.connection import OLDEST_SERVER
from happen_nb._journal.spaces import SpacePresence
from happen_nb.errors import HappenError

_MEND = "start it, correct the address, or unset NATS_URL for the embedded server"
_PROVE = (
    "for this look put it in the address: --servers nats://TOKEN@host:4222, or nats://user:password@host:4222"
    " (a .creds file cannot be given here); connect() takes all of them"
)
_PROVE_RIGHT = "correct what stands before the @ of the address: the token, or user:password"


def urls_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The servers that are meant; none for the embedded one."""
    named = options.servers
    if named is None and options.store is None:
        named = os.environ.get("NATS_URL")
    return tuple(url.strip() for url in (named or "").split(",") if url.strip())


def look(urls: Sequence[str]) -> Iterator[Finding]:
    """Each server, and the spaces that they have together."""
    greetings = {url: asyncio.run(greeting(url, timeout=TIMEOUT)) for url in urls}
    for url, said in greetings.items():
        yield _server(url, said)
    if not any(greetings.values()):
        return
    if any(_asks_in_vain(url, said or {}) for url, said in greetings.items()):
        yield note(
            "they ask who connects, and the address does not tell, so no more can be looked at",
            _PROVE,
        )
        return
    try:
        attended = attendance_at(tuple(urls), Credentials())
    except HappenError as error:
        yield wrong(str(error), _PROVE_RIGHT if "credentials" in str(error) else "")  # else it says the cure
        return
    yield ok("it takes connections, and has JetStream")
    yield from of_spaces(attended)


def _server(url: str, said: dict[str, Any] | None) -> Finding:
    if said is None:
        return wrong(f"{redact_url(url)}: nobody answers there within {TIMEOUT:g} s", _MEND)
    if not said:
        return wrong(f"{redact_url(url)}: somebody answers there who is no nats server", _MEND)
    version = str(said.get("version", ""))
    if is_too_old(version):
        oldest = ".".join(map(str, OLDEST_SERVER))
        return wrong(
            f"{redact_url(url)}: nats-server {version}, and {oldest} or newer is needed", "upgrade it"
        )
    tls = ", with TLS" if said.get("tls_required") else ""
    return ok(f"{redact_url(url)}: nats-server {version}{tls}")


def _asks_in_vain(url: str, said: dict[str, Any]) -> bool:
    return bool(said.get("auth_required")) and "@" not in url


def of_spaces(attended: Sequence[SpacePresence]) -> Iterator[Finding]:
    """The spaces of a server, and who is in them."""
    if not attended:
        yield ok("there is no space yet")
    for one in attended:
        yield ok(f'space "{one.space}", {byte_count(one.bytes)}: {one.description or "nobody is connected"}')
