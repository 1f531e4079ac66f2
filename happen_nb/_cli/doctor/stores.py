"""The embedded server's store: where it is, whether it can be used, and what runs on it."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from happen_nb._cli.doctor.findings import Finding, note, ok, wrong
from happen_nb._cli.doctor.servers import of_spaces
from happen_nb._cli.occupancy import attendance_of, describe
from happen_nb._cli.parsing import store_of
from happen_nb._display.spans import byte_count
from happen_nb._server.removal import is_store
from happen_nb._server.store import check_owner, is_read_only
from happen_nb._server.supervision.belongings import foreign
from happen_nb._server.survey import Survey, size_of, spaces_on_disk, survey
from happen_nb.errors import HappenError

_LITTLE, _TOO_LITTLE = 1_000_000_000, 50_000_000


def look(options: argparse.Namespace) -> Iterator[Finding]:
    """The folder, its disk, and its server."""
    store = store_of(options)
    if store is None:
        yield note("the server keeps its data in memory, and they are gone at the end")
        return
    usable = _usable(store, asked_for=options.store is not None or "HAPPEN_STORE" in os.environ)
    yield usable
    yield _room(store)
    if usable.verdict != "wrong" and store.is_dir():
        yield from _server(store)


def _usable(store: Path, *, asked_for: bool) -> Finding:
    if store.exists() and not store.is_dir():
        return wrong(f"{store} is a file, where a folder is needed", "give another store")
    try:
        if store.exists():
            check_owner(store)
    except PermissionError as error:
        return wrong(f"{store}: {error.strerror}", "give another store: connect(store=...) or HAPPEN_STORE")
    if store.exists() and (reason := foreign(str(store))):
        return wrong(f"{store}: {reason}", "give another store: connect(store=...) or HAPPEN_STORE")
    if is_read_only(store):
        text = f"{store} is read-only"
        if asked_for and store.exists():
            return wrong(text, "give another store, or make it writable")
        return note(f"{text}, so connect() keeps the data in memory", "to keep them: connect(store=...)")
    if not store.exists():
        return ok(f"{store}, which the first connect() makes")
    if not is_store(store):
        return ok(f"{store}, which no server has used yet")
    return ok(f"{store}, {byte_count(size_of(store))}, can be written")


def _room(store: Path) -> Finding:
    there = next(place for place in (store, *store.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    text = f"{byte_count(free)} are free on its disk"
    if free < _TOO_LITTLE:
        return wrong(text, "make room: a full disk refuses every commit; happen clean removes old spaces")
    return note(text, "make room in time; happen clean removes old spaces") if free < _LITTLE else ok(text)


def _server(store: Path) -> Iterator[Finding]:
    found = survey(store)
    known = found.hints
    if known.copied:
        yield note("the folder is the copy of a store; connect() starts a server of its own on it")
    if known.exposed:
        yield note(
            "other users could read its secrets; the next server has new ones",
            f"chmod -R go= {store}",
        )
    if found.state in ("serving", "starting"):
        yield from _serving(found)
        return
    if found.state == "idle":
        yield ok("no server runs on it; connect() starts one")
    elif found.state == "killed":
        yield note("its last server was killed; connect() starts another one, and nothing stored is lost")
    elif found.state == "orphaned":
        yield note(
            describe(found, ""), "nothing has to be done: the next connect() ends it and starts another one"
        )
    elif found.state == "elsewhere":
        yield wrong(describe(found, ""))
    else:
        yield wrong(describe(found, ""), _end_it(found))
    for name, size in spaces_on_disk(store).items():
        yield ok(f'space "{name}", {byte_count(size)}')


def _end_it(found: Survey) -> str:
    supervisor = found.hints.supervisor
    return (
        f"end process {supervisor}, or use another store"
        if supervisor
        else "end that process (lsof finds it)"
    )


def _serving(found: Survey) -> Iterator[Finding]:
    known = found.hints
    if found.state == "starting":
        yield note(describe(found, ""), "look again in a few seconds; if that stays, end that process")
        return
    yield ok(f"its server runs: {found.url}, process {known.pid}, kept up by process {known.supervisor}")
    try:
        attended = attendance_of(found)
    except HappenError as error:
        yield wrong(str(error), f"end process {known.supervisor}; kernels start the server again")
        return
    yield from of_spaces(attended)
