"""The environment variables that happen_nb reads, and those that look so; secrets are not shown."""

from __future__ import annotations

import os
from collections.abc import Iterator

from happen_nb._cli.doctor.findings import Finding, note, ok
from happen_nb._journal.auth import redact_url

_STORE, _URL = "HAPPEN_STORE", "NATS_URL"


def look() -> Iterator[Finding]:
    """Each that is set."""
    store, url = os.environ.get(_STORE), os.environ.get(_URL)
    others = [name for name in os.environ if name.startswith("HAPPEN_") and name != _STORE]
    if url:
        addresses = ", ".join(redact_url(one.strip()) for one in url.split(","))
        yield ok(f"{_URL} is {addresses}: a plain connect() goes there")
    if store:
        yield ok(f"{_STORE} is {store}")
    if url and store:
        yield note(
            f"{_URL} wins over {_STORE}", f"unset one of them, or call connect(store=os.environ['{_STORE}'])"
        )
    for name in sorted(others):
        yield note(f"{name} is set, and nothing reads it", f"happen_nb reads {_STORE} and {_URL} only")
    if not (url or store or others):
        yield ok(f"neither {_STORE} nor {_URL} is set")
