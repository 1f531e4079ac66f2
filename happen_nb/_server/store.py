"""The folder of an embedded server: which one, and whether it can be one."""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

from happen_nb._server.supervision import belongings
from happen_nb._server.supervision.belongings import FOLDER
from happen_nb.errors import HappenConnectionError

logger = logging.getLogger("happen_nb")

MEMORY = ":memory:"
IGNORE_ALL = "*\n"
"""What the ``.gitignore`` in a store says."""
_OTHERS, _OTHERS_WRITE = 0o077, 0o022
_ROOT_MARKS = (".git", "pyproject.toml")
_ELSEWHERE = 'give another folder as store, or store=":memory:"'


def find_store(store: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of the embedded server.

    Parameters
    ----------
    store : path, optional
        The folder, or ``":memory:"``. Without it ``$HAPPEN_STORE``, else the nearest ``.happen`` upwards to
        the project's root (the folder that holds ``.git`` or ``pyproject.toml``), else ``./.happen``.

    Returns
    -------
    pathlib.Path or None
        An absolute path, which need not exist; None for a server that keeps nothing: asked for, or because
        nothing was asked for and the place is read-only, which is logged.

    Examples
    --------
    >>> find_store(":memory:") is None
    True
    >>> find_store("notes/.happen") == Path.cwd() / "notes" / ".happen"
    True
    """
    if store is not None:
        return None if os.fspath(store) == MEMORY else _absolute(os.fspath(store))
    found = wanted_store()
    if found is None:
        return None
    if is_read_only(found):
        logger.warning(
            "%s is read-only: the server keeps its data in memory, and they are gone at the end; "
            "to keep them, give a store: connect(store=...)",
            found,
        )
        return None
    return found


def wanted_store() -> Path | None:
    """The folder for who gives none, read-only or not; None where the environment says in memory."""
    named = os.environ.get("HAPPEN_STORE")
    if named == MEMORY:
        return None
    return _absolute(named) if named else _nearest(Path.cwd())


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _nearest(start: Path) -> Path:
    """The nearest ``.happen`` from here up to the project's root, else the one here."""
    upwards = [start, *start.parents]
    roots = [depth for depth, folder in enumerate(upwards) if any(_exists(folder / m) for m in _ROOT_MARKS)]
    inside = upwards[: roots[0] + 1] if roots else [start]
    return next((folder / FOLDER for folder in inside if _exists(folder / FOLDER)), start / FOLDER)


def is_read_only(folder: Path) -> bool:
    """Whether nothing can be written or made there."""
    existing = next((place for place in (folder, *folder.parents) if _exists(place)), folder)
    return existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK)


def _exists(path: Path) -> bool:
    """Whether it exists as far as one may see; `Path.exists` raises below a folder of somebody else."""
    return os.access(path, os.F_OK)


def prepare_store(store: Path, *, again: bool = False) -> None:
    """Make the folder if it does not exist; nothing is left of it if that fails.

    `again` is for a folder that was removed while it was in use: where its parent is gone too, the project
    was moved or removed, and nothing is made in its old place.

    Raises
    ------
    HappenConnectionError
        It cannot be made or written, is a file, or belongs to another user; the message says which.
    """
    try:
        made = _make(store, parents=not again)
        check_owner(store)
        if not made:
            _check_contents(store)
        if made or store.name == FOLDER or not any(store.iterdir()):
            _ignore_in_git(store, made=made)
        if not os.access(store, os.W_OK | os.X_OK):
            raise PermissionError(13, "it is not yours to write in")
    except OSError as error:
        raise unusable(store, error.strerror or str(error)) from error


def unusable(store: Path | None, reason: str) -> HappenConnectionError:
    """The error of a store that cannot be served."""
    if store is None:
        return HappenConnectionError(f"the embedded server (in memory) cannot run: {reason}")
    return HappenConnectionError(f"the store {store} cannot be used: {reason} ({_ELSEWHERE})")


def _make(store: Path, *, parents: bool) -> bool:
    if store.exists() and not store.is_dir():
        raise NotADirectoryError(20, "it is a file, where a folder is needed")
    if store.is_dir():
        return False
    if parents:
        store.parent.mkdir(parents=True, exist_ok=True)
    try:
        store.mkdir(mode=0o700)
    except FileExistsError:
        return False  # another process was faster
    return True


def check_owner(store: Path) -> None:
    """Raise PermissionError for the folder of another user."""
    if sys.platform != "win32" and os.geteuid() not in {0, store.stat().st_uid}:
        raise PermissionError(13, f"it belongs to another user (id {store.stat().st_uid})")


def _check_contents(store: Path) -> None:
    """Raise PermissionError where a server would change files of others, or others could change its own."""
    if reason := belongings.foreign(str(store)):
        raise PermissionError(13, reason)
    mode = stat.S_IMODE(store.stat().st_mode)
    if sys.platform == "win32" or not mode & _OTHERS:
        return
    if store.name == FOLDER or belongings.are_all(str(store)):
        store.chmod(mode & ~_OTHERS)
    elif mode & _OTHERS_WRITE:
        raise PermissionError(
            13, f"other users can write in it (its mode is {mode:o}): take that from them with chmod go-w"
        )


def _ignore_in_git(store: Path, *, made: bool) -> None:
    """Keep the data out of the project's history."""
    ignore = store / ".gitignore"
    if ignore.exists():
        return
    draft = store / f".gitignore.{os.getpid()}"
    try:
        draft.write_text(IGNORE_ALL, encoding="utf-8")
        draft.replace(ignore)
    except OSError:
        draft.unlink(missing_ok=True)
        if made:
            _remove_if_empty(store)
        raise


def _remove_if_empty(store: Path) -> None:
    try:
        store.rmdir()
    except OSError:
        return  # another process is using it
