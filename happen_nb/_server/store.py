"""The folder of an embedded server: find, prepare and remove it, notice lost data, and find its users."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

from happen_nb._journal.addresses import Credentials
from happen_nb._journal.connection import Connection
from happen_nb._journal.presence import SpacePresence, list_presence
from happen_nb._journal.wire import space_of
from happen_nb._server.supervision import POSIX, read_file, server_name_at, store_folder, write_private
from happen_nb._server.supervision.main import GRACE_SECONDS
from happen_nb._server.supervision.store_folder import FOLDER, FOREGROUND, POSITIONS, ServerInfo
from happen_nb.errors import HappenConnectionError, SpaceInUseError

log = logging.getLogger("happen_nb")

MEMORY = ":memory:"
IGNORE_ALL = "*\n"  # the content of the ``.gitignore`` in a store
_OTHERS, _OTHERS_WRITE = 0o077, 0o022
_ROOT_MARKS = (".git", "pyproject.toml")
_ELSEWHERE = 'pass another folder as store, or store=":memory:"'


def find_store(store: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder of the embedded server.

    Without `store` it is ``$HAPPEN_STORE``, else the nearest ``.happen`` upwards to the project's root (the
    folder that holds ``.git`` or ``pyproject.toml``), else ``./.happen``. It need not exist. None stands for
    an in-memory server: for ``":memory:"``, and, with a warning, by default if the location is read-only.

    Examples
    --------
    >>> find_store(":memory:") is None
    True
    >>> find_store("notes/.happen") == Path.cwd() / "notes" / ".happen"
    True
    """
    if store is not None:
        if store == MEMORY.strip(":"):
            log.warning('store="%s" names a folder; a server in memory is store="%s"', store, MEMORY)
        return None if os.fspath(store) == MEMORY else _absolute(os.fspath(store))
    found = wanted_store()
    if found is None:
        return None
    if is_read_only(found):
        log.warning(
            "%s is read-only: the server keeps its data in memory, and loses it when it ends; "
            "to keep it, pass another store: connect(store=...)",
            found,
        )
        return None
    return found


def wanted_store() -> Path | None:
    """Return the default folder, read-only or not; None if the environment asks for an in-memory server."""
    named = os.environ.get("HAPPEN_STORE")
    if named == MEMORY:
        return None
    return _absolute(named) if named else _nearest(Path.cwd())


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _nearest(start: Path) -> Path:
    """Return the nearest ``.happen`` from a folder up to the project's root, else the one in the folder."""
    upwards = [start, *start.parents]
    roots = [depth for depth, folder in enumerate(upwards) if any(_exists(folder / m) for m in _ROOT_MARKS)]
    inside = upwards[: roots[0] + 1] if roots else [start]
    return next((folder / FOLDER for folder in inside if _exists(folder / FOLDER)), start / FOLDER)


def is_read_only(folder: Path) -> bool:
    """Return whether nothing can be created in a folder, or in its parent if it does not exist."""
    existing = next((place for place in (folder, *folder.parents) if _exists(place)), folder)
    return existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK)


def _exists(path: Path) -> bool:
    return os.access(path, os.F_OK)  # `Path.exists` raises below a folder of another user


def prepare_store(store: Path, *, again: bool = False) -> None:
    """Create the folder if it does not exist; remove it again if that fails.

    `again` is for a folder that was removed while it was in use: if its parent is gone too, the project was
    moved or removed, and nothing is created in its old place. A HappenConnectionError is raised if the folder
    cannot be created or written, is a file, or belongs to another user.
    """
    try:
        created = _create(store, parents=not again)
        check_owner(store)
        if not created:
            _check_contents(store)
        if created or store.name == FOLDER or not any(store.iterdir()):
            _ignore_in_git(store, created=created)
        if not os.access(store, os.W_OK | os.X_OK):
            raise PermissionError(13, "you cannot write to it")
    except OSError as error:
        raise unusable(store, error.strerror or str(error)) from error


def unusable(store: Path | None, reason: str) -> HappenConnectionError:
    if store is None:
        return HappenConnectionError(f"the embedded server (in memory) cannot run: {reason}")
    return HappenConnectionError(f"the store {store} cannot be used: {reason} ({_ELSEWHERE})")


def _create(store: Path, *, parents: bool) -> bool:
    if store.exists() and not store.is_dir():
        raise NotADirectoryError(20, "it is a file; a folder is needed")
    if store.is_dir():
        return False
    if parents:
        store.parent.mkdir(parents=True, exist_ok=True)
    try:
        store.mkdir(mode=0o700)
    except FileExistsError:
        return False  # another process has created it
    return True


def check_owner(store: Path) -> None:
    """Raise PermissionError for the folder of another user."""
    if sys.platform != "win32" and os.geteuid() not in {0, store.stat().st_uid}:
        raise PermissionError(13, f"it belongs to another user (id {store.stat().st_uid})")


def _check_contents(store: Path) -> None:
    """Raise PermissionError if the server would change foreign files, or other users could change its own."""
    if reason := store_folder.foreign(str(store)):
        raise PermissionError(13, reason)
    mode = stat.S_IMODE(store.stat().st_mode)
    if sys.platform == "win32" or not mode & _OTHERS:
        return
    if store.name == FOLDER or store_folder.are_all(str(store)):
        store.chmod(mode & ~_OTHERS)
    elif mode & _OTHERS_WRITE:
        raise PermissionError(
            13, f"other users can write in it (its mode is {mode:o}); prevent that with chmod go-w"
        )


def _ignore_in_git(store: Path, *, created: bool) -> None:
    ignore = store / ".gitignore"
    if ignore.exists():
        return
    draft = store / f".gitignore.{os.getpid()}"
    try:
        draft.write_text(IGNORE_ALL, encoding="utf-8")
        draft.replace(ignore)
    except OSError:
        draft.unlink(missing_ok=True)
        if created:
            with suppress(OSError):  # another process is using it
                store.rmdir()
        raise


class TemporaryStore:
    """The folder of an in-memory server, with a file that this process holds locked while it is alive.

    It is removed at the end, or by a later supervisor if all its processes were killed.
    """

    def __init__(self) -> None:
        try:
            self.path, self._alive = _create_temporary()
        except OSError as error:
            raise unusable(None, f"no temporary folder can be created: {error}") from error

    def release(self) -> None:
        """Let the supervisor remove it."""
        if self._alive >= 0:
            os.close(self._alive)
        self._alive = -1

    def remove(self) -> None:
        """Remove it; for a store without a supervisor."""
        self.release()
        store_folder.remove_folder(str(self.path))


def _create_temporary() -> tuple[Path, int]:
    import tempfile

    while True:
        folder = Path(tempfile.mkdtemp(prefix=store_folder.MEMORY_PREFIX))
        try:
            alive = store_folder.try_acquire(str(folder / store_folder.ALIVE))
        except OSError:
            store_folder.remove_folder(str(folder))
            raise
        if alive is not None:
            return folder.absolute(), alive


class KnownPosition:
    """The last known position of a space, in a file of its store, by which a loss is noticed later.

    nats-server starts without an error on a damaged store, and leaves out data that it cannot read. The file
    is a hint, which two processes may overwrite at the same time. `created` is the time at which the stream
    was created: a later one of the same name starts from 0.
    """

    def __init__(self, store: Path, stream: str, created: str) -> None:
        self._store = store
        self._stream = stream
        self._created = created

    @property
    def last(self) -> int:
        """The last known sequence; 0 if there is none."""
        match self._read().get(self._stream):
            case [str(created), int(sequence)] if created == self._created:
                return sequence
        return 0

    def warn_of_loss(self, space: str, last: int) -> None:
        """Log a warning if the space ends before its last known position."""
        if last < self.last:
            log.warning(
                'the space "%s" ends at message %s, and was at %s before: the messages in between are lost, '
                "because of a damaged file in %s or a power failure",
                space,
                f"{last:,}",
                f"{self.last:,}",
                self._store,
            )

    def update(self, position: int) -> None:
        """Write the position; this does not recreate a removed store."""
        content = json.dumps({**self._read(), self._stream: [self._created, position]}).encode()
        try:
            write_private(str(self._store / POSITIONS), content)
        except OSError as error:
            log.debug("the position of %s cannot be written: %s", self._stream, error)

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(read_file(str(self._store), POSITIONS) or b"")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def is_store(folder: Path) -> bool:
    """Return whether a server has run on a folder."""
    return (folder / store_folder.LOCK).is_file() and store_folder.has_served(str(folder))


def remove_store(store: Path) -> list[str]:
    """Remove all files of the server from its store, and the folder if it is then empty.

    Return the names of foreign files, which remain. Raise SpaceInUseError if a server is using the store.
    """
    path = store / store_folder.LOCK
    held = store_folder.try_acquire(str(path), create=False)
    if held is None:
        raise SpaceInUseError(f"the store {store} is in use by a server; nothing was removed")
    try:
        for name in store_folder.of_server(str(store)):
            found = store / name
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
        ignore = store / ".gitignore"
        if ignore.is_file() and ignore.read_text("utf-8", errors="replace") == IGNORE_ALL:
            ignore.unlink()
        if POSIX:
            path.unlink()  # while held: a process that waits for it then notices the change
    finally:
        os.close(held)
    if not POSIX:
        path.unlink()  # Windows cannot remove an open file
    left = sorted(found.name for found in store.iterdir())
    if not left and not store.is_symlink():
        store.rmdir()
    return left


State = Literal["idle", "killed", "serving", "starting", "orphaned", "stuck", "elsewhere"]
_STREAMS = Path("jetstream", "$G", "streams")


class StoreStatus(NamedTuple):
    """The status of a store at one point in time."""

    store: Path
    state: State
    """``"idle"``: not served. ``"killed"``: not served, and the last server did not end cleanly.
    ``"serving"``. ``"starting"``: a supervisor serves it, and nats-server does not answer yet.
    ``"orphaned"``: nats-server runs without its supervisor. ``"stuck"``: a process holds the lock, and
    none answers. ``"elsewhere"``: another host serves it."""
    info: ServerInfo  # the content of ``server.json``, with secrets

    @property
    def url(self) -> str:
        """The URL of its current or last server."""
        return f"nats://127.0.0.1:{self.info.port}"

    @property
    def held(self) -> bool:
        return self.state not in ("idle", "killed")


def store_status(store: Path) -> StoreStatus:
    """Return the status of a store, which need not exist."""
    info = store_folder.read_info(str(store))
    return StoreStatus(store, _state(store, info), info)


def _state(store: Path, info: ServerInfo) -> State:
    if info.in_use_elsewhere():
        return "elsewhere"
    answers = info.name != "" and server_name_at(info.port) == info.name
    if info.joinable and store_folder.supervisor_answers(info):
        return "serving" if answers else "starting"
    if is_unlocked(store / store_folder.LOCK):
        return "killed" if info.joinable else "idle"
    return "orphaned" if answers else "stuck"


def is_unlocked(file: Path) -> bool:
    """Return whether no process holds the lock of a file; it is taken and released for this."""
    try:
        held = store_folder.try_acquire(str(file), create=False)
    except FileNotFoundError:
        return True
    if held is None:
        return False
    os.close(held)
    return True


def spaces_on_disk(store: Path) -> dict[str, int]:
    """Return the spaces in a store with their sizes in bytes; no server needs to run."""
    try:
        folders = sorted((store / _STREAMS).iterdir())
    except FileNotFoundError:
        return {}
    named = {space_of(folder.name): folder for folder in folders}
    return {name: size_of(folder) for name, folder in named.items() if name is not None}


def size_of(folder: Path) -> int:
    size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a running server has removed it
                size += Path(where, name).lstat().st_size
    return size


# -- the use of a store ------------------------------------------------------------------------------

ANSWER_SECONDS = 3.0  # seconds that a server has to answer
_END_SECONDS = GRACE_SECONDS + 3.0  # an unused server ends within this time
_POLL_SECONDS = 0.05


def presence_at(servers: tuple[str, ...], credentials: Credentials) -> list[SpacePresence]:
    """Return the spaces of a server with the processes in them; HappenError if it cannot be queried."""

    async def query() -> list[SpacePresence]:
        connection = await Connection.open(servers, credentials, timeout=ANSWER_SECONDS)
        try:
            return await list_presence(connection, timeout=ANSWER_SECONDS)
        finally:
            await connection.close()

    return asyncio.run(query())


def presence_in(status: StoreStatus) -> list[SpacePresence]:
    """Return the same for the server of a store; empty if none answers."""
    if status.state != "serving":
        return []
    return presence_at((status.url,), Credentials(token=status.info.token))


def describe_processes(spaces: list[SpacePresence]) -> str:
    """Describe the processes in each space, for the user; empty if there are none."""
    return "; ".join(f'{each.description} (space "{each.space}")' for each in spaces if each.processes)


def store_use(store: Path) -> tuple[StoreStatus, str]:
    """Return the status of a store and a description of its users; empty if it is free.

    Wait for a server that is starting, or unused and about to end.
    """
    status = _wait_for(store, lambda status: status.state != "starting")
    processes = describe_processes(presence_in(status))
    if not processes and not _is_kept_running(store):
        status = wait_until_free(store)
    return status, describe_status(status, processes) if status.held else ""


def _is_kept_running(store: Path) -> bool:
    """Return whether ``happen server`` runs on a store."""
    try:
        return not is_unlocked(store / FOREGROUND)
    except OSError:
        return False


def wait_until_free(store: Path) -> StoreStatus:
    """Wait until the server of a store has ended, and return the status of the store."""
    return _wait_for(store, lambda status: not status.held or status.state == "elsewhere")


def _wait_for(store: Path, condition: Callable[[StoreStatus], bool]) -> StoreStatus:
    """Return the status of a store when it meets a condition, or after a few seconds."""
    deadline = time.monotonic() + _END_SECONDS
    while not condition(status := store_status(store)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return status


@contextmanager
def foreground(store: Path) -> Iterator[bool]:
    """Hold the lock of ``happen server`` on an existing store; False if another process holds it.

    A process that is starting or ending is waited for.
    """
    deadline = time.monotonic() + _END_SECONDS
    path = str(store / FOREGROUND)
    while (held := store_folder.try_acquire(path)) is None and store_status(store).state != "serving":
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)


def describe_status(status: StoreStatus, processes: str = "") -> str:
    info = status.info
    if status.state == "serving":
        users = f"connected: {processes}" if processes else "kept running, but no process is in its spaces"
        return f"a server already runs on {status.store}: {status.url}, process {info.pid}; {users}"
    if status.state == "elsewhere":
        return f"the store {status.store} cannot be used: {info.in_use_elsewhere()}"
    if status.state == "starting":
        return f"a server is starting on {status.store} (supervised by process {info.supervisor})"
    if status.state == "orphaned":
        return f"a server runs on {status.store}: {status.url}, process {info.pid}; its supervisor has ended"
    return f"a process holds {status.store} and does not answer" + (
        f"; it was process {info.supervisor}" if info.supervisor else ""
    )
