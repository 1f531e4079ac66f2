"""What a store looks like from outside: whether a server runs on it, and what is in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from happen_nb._journal.wire import space_of
from happen_nb._server.supervision import hints as hints_file
from happen_nb._server.supervision import lock
from happen_nb._server.supervision.hints import Hints
from happen_nb._server.supervision.nats import name_at

State = Literal["idle", "killed", "serving", "starting", "orphaned", "stuck", "elsewhere"]
_STREAMS = Path("jetstream", "$G", "streams")


@dataclass(frozen=True, slots=True)
class Survey:
    """A store at one moment.

    Parameters
    ----------
    store : pathlib.Path
    state : str
        ``"idle"``: nobody serves it. ``"killed"``: nobody either, and the last server could not say goodbye.
        ``"serving"``. ``"starting"``: somebody serves it, and nats-server does not answer yet.
        ``"orphaned"``: nats-server runs, and what supervises it is gone. ``"stuck"``: its lock is held, and
        nobody answers. ``"elsewhere"``: another host serves it.
    hints : Hints
        What ``server.json`` says, with secrets.
    """

    store: Path
    state: State
    hints: Hints

    @property
    def url(self) -> str:
        """Where its server is, or was."""
        return f"nats://127.0.0.1:{self.hints.port}"

    @property
    def held(self) -> bool:
        """Whether some process has the store."""
        return self.state not in ("idle", "killed")


def survey(store: Path) -> Survey:
    """Look at a store.

    Raises
    ------
    OSError
        It cannot be looked into.

    Examples
    --------
    >>> survey(Path("no-such-folder")).state
    'idle'
    """
    known = hints_file.read(str(store))
    return Survey(store, _state(store, known), known)


def _state(store: Path, known: Hints) -> State:
    if known.elsewhere():
        return "elsewhere"
    answers = known.name != "" and name_at(known.port) == known.name
    if known.joinable and lock.supervisor_answers(known):
        return "serving" if answers else "starting"
    if _is_free(store):
        return "killed" if known.joinable else "idle"
    return "orphaned" if answers else "stuck"


def _is_free(store: Path) -> bool:
    """Whether the lock could be had; it is let go of at once, and who wants it meanwhile tries again."""
    try:
        taken = lock.try_take(str(store / lock.NAME), make=False)
    except FileNotFoundError:
        return True
    if taken is None:
        return False
    os.close(taken)
    return True


def spaces_on_disk(store: Path) -> dict[str, int]:
    """The spaces in a store, and the bytes that each takes; no server has to run.

    Examples
    --------
    >>> spaces_on_disk(Path("no-such-folder"))
    {}
    """
    try:
        folders = sorted((store / _STREAMS).iterdir())
    except FileNotFoundError:
        return {}
    named = {space_of(folder.name): folder for folder in folders}
    return {name: size_of(folder) for name, folder in named.items() if name is not None}


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder; a running server may remove some meanwhile.

    Examples
    --------
    >>> size_of(Path("no-such-folder"))
    0
    """
    paths = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(_size(path) for path in paths)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
