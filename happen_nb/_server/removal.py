"""Removing a store for good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from happen_nb._server.store import IGNORE_ALL
from happen_nb._server.supervision import belongings, lock, system
from happen_nb.errors import SpaceInUseError


def is_store(folder: Path) -> bool:
    """Whether a server has run on a folder.

    Examples
    --------
    >>> is_store(Path("no-such-folder"))
    False
    """
    return (folder / lock.NAME).is_file() and belongings.is_store(str(folder))


def remove_store(store: Path) -> list[str]:
    """Remove all that a server keeps in its store, and the folder if nothing else is in it.

    Returns
    -------
    list of str
        What is left because it is not a server's.

    Raises
    ------
    SpaceInUseError
        A server has the store.
    OSError
        Something cannot be removed.
    """
    path = store / lock.NAME
    held = lock.try_take(str(path), make=False)
    if held is None:
        raise SpaceInUseError(f"the store {store} is in use by a server; nothing was removed")
    try:
        for name in belongings.of_server(str(store)):
            _remove(store / name)
        _remove_ignore(store / ".gitignore")
        if system.POSIX:
            path.unlink()  # while it is held: who waits for it sees that the file is another one
    finally:
        os.close(held)
    if not system.POSIX:
        path.unlink()  # there an open file cannot be removed
    left = sorted(found.name for found in store.iterdir())
    if not left and not store.is_symlink():
        store.rmdir()
    return left


def _remove(found: Path) -> None:
    if found.is_dir() and not found.is_symlink():
        shutil.rmtree(found)
    else:
        found.unlink()


def _remove_ignore(file: Path) -> None:
    if file.is_file() and file.read_text("utf-8", errors="replace") == IGNORE_ALL:
        file.unlink()
