"""Joining the embedded server: shared if somebody serves the store already, started if not."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from happen_nb._server import spawn
from happen_nb._server.membership import Membership, knock
from happen_nb._server.private import PrivateFolder
from happen_nb._server.store import prepare_store, unusable
from happen_nb._server.supervision import disk, lock
from happen_nb._server.supervision import hints as hints_file
from happen_nb._server.supervision.nats import name_at, read_log
from happen_nb.errors import HappenConnectionError

logger = logging.getLogger("happen_nb")

_LOG_BYTES = 16_384
_POLL = 0.005
_REJOIN_TIMEOUT = 10.0
_REJOIN_PAUSE = 1.0
_SPAWN_PAUSE = 0.25
_RESTART_SECONDS = 1.0
Sync = Literal["default", "always"]


def join(store: Path | None, *, sync: Sync = "default", timeout: float = 10.0) -> NatsServer:
    """Use the embedded server of a store, and start it if nobody uses it yet.

    Parameters
    ----------
    store : pathlib.Path or None
        Its folder, as `find_store` gives it. None: a server of one's own, gone at the end.
    sync : "default" or "always", optional
        When the server writes to disk; the first to join decides.
    timeout : float, optional
        Seconds until the server must answer.

    Returns
    -------
    NatsServer
        It keeps the server running until it is closed, or this process ends in whatever way.

    Raises
    ------
    HappenConnectionError
        The folder cannot be used, nats-server is missing or does not start; the message says which.

    Examples
    --------
    >>> from happen_nb._server import join
    >>> server = join(None)
    >>> server.running, server.url
    (True, 'nats://127.0.0.1:...')
    >>> server.close()
    """
    server = NatsServer(store, sync)
    try:
        server._enter(time.monotonic() + timeout)
    except BaseException:
        server._abandon()
        raise
    server._keep()
    return server


class NatsServer:
    """The embedded server, as one process that uses it sees it; `join` gives it.

    It keeps the server alive: if nats-server or what supervises it is killed, they are started again on the
    same data, and on the same port if nobody else has taken it.

    Attributes
    ----------
    store : pathlib.Path or None
        The folder of its data; None if they are gone at the end.
    url : str
        Its address, now.
    token : str
        What proves to the server that one may connect.
    """

    def __init__(self, store: Path | None, sync: Sync) -> None:
        self.store = store
        self.url = ""
        self.token = ""
        self._sync = sync
        self._name = ""
        self._pid = 0
        self._identity = 0, 0
        self._private = PrivateFolder() if store is None else None
        self._folder = store or (self._private.path if self._private else Path())
        self._spawned: spawn.Spawned | None = None
        self._spawned_at = float("-inf")
        self._membership: Membership | None = None
        self._thread: threading.Thread | None = None
        self._callbacks: list[Callable[[str], None]] = []
        self._closed = False
        _open_servers.add(self)

    def __repr__(self) -> str:
        where = "in memory" if self.store is None else "with a store"
        return f"<NatsServer {where}, {'left' if self._closed else 'joined'}>"

    @property
    def running(self) -> bool:
        """Whether it answers now."""
        return not self._closed and name_at(_port(self.url)) == self._name

    @property
    def pid(self) -> int | None:
        """The id of its process; None if none answers, also within a second, in which one is restarted."""
        deadline = time.monotonic() + _RESTART_SECONDS
        while not self._closed:
            pid = self._pid
            if self.running and pid == self._pid:
                return pid or None
            if time.monotonic() > deadline:
                return None
            time.sleep(_POLL)
        return None

    @property
    def log(self) -> str:
        """The end of its log, at most 16 kB."""
        return read_log(str(self._folder), _LOG_BYTES)

    def on_moved(self, callback: Callable[[str], None]) -> None:
        """Call back with the new URL whenever the server had to take another port.

        The call comes from a thread of its own. An exception in it is logged.
        """
        self._callbacks.append(callback)

    def off_moved(self, callback: Callable[[str], None]) -> None:
        """Stop calling it."""
        self._callbacks.remove(callback)

    @property
    def identity(self) -> tuple[int, int]:
        """Tells the store from one that is made in the same folder after this one was removed."""
        return self._identity

    def diagnose(self, identity: tuple[int, int]) -> str | None:
        """Find out why a call to the server may have no answer.

        Parameters
        ----------
        identity : tuple of int
            That of the store when what is called was made there.

        Returns
        -------
        str or None
            The reason, for a person; None if all seems well.
        """
        folder = str(self._folder)
        if self._identity != identity:
            return (
                f"its store {folder} was removed while it was in use, with all that was stored in it: "
                "connect again to start anew"
            )
        try:
            if not disk.failed_write(folder, self._pid):
                return None
            if self._membership is not None:
                self._membership.report_full()
            left = disk.free(folder)
            if left >= disk.ENOUGH and disk.has_room(folder):
                return None  # the server is started anew, and answers then
        except OSError as error:
            logger.debug("looking at the disk of %s: %s", folder, error)
            return None
        return (
            f"the disk of the store {folder} is full ({left / 1e6:.1f} MB are free): make room, "
            "and the server stores again automatically"
        )

    def close(self, *, at_once: bool = False) -> None:
        """Leave; the server ends soon after the last one has left. Again: nothing.

        Parameters
        ----------
        at_once : bool, optional
            End it without waiting whether somebody joins again, as a kernel does that restarts.
        """
        self._closed = True
        _open_servers.discard(self)
        membership = self._membership
        if membership is not None:
            if at_once:
                membership.report_done()
            membership.leave()  # the thread that waits there sees it, and puts everything away

    def after_fork_in_child(self) -> None:
        """Let go of what a fork has inherited; the parent goes on as before.

        It is called by itself after `os.fork`, and takes no locks.
        """
        self._closed = True
        if self._membership is not None:
            self._membership.put_away()
        if self._private is not None:
            self._private.let_go()

    # joining

    def _enter(self, deadline: float) -> None:
        """Belong to the server, starting it if necessary, or raise."""
        while not self._closed:
            if self._knock(deadline) or self._closed:
                return
            if time.monotonic() > deadline:
                raise unusable(self.store, self._why_nobody_answers())
            self._start_supervisor(deadline)
            time.sleep(_POLL)

    def _knock(self, deadline: float) -> bool:
        """Ask the supervisor that ``server.json`` names to be let in."""
        known = hints_file.read(str(self._folder))
        host = known.elsewhere()
        if host:
            raise unusable(self.store, hints_file.in_use_elsewhere(host))
        if not known.joinable:
            return False
        membership = self._membership = Membership()
        answer = knock(membership, known, deadline)
        if answer is None or answer[0] == "error":
            membership.put_away()
        if answer is None:
            return False
        if answer[0] == "error":
            raise unusable(self.store, " ".join(answer[1:]))
        self.token = known.token
        self._let_go_of_supervisor()
        self._welcomed(answer)
        return True

    def _start_supervisor(self, deadline: float) -> None:
        """Start one, unless one that was started is still trying."""
        now = time.monotonic()
        if self._spawned is not None and not self._spawned.ended or now - self._spawned_at < _SPAWN_PAUSE:
            return
        failure = self._spawned.failure() if self._spawned is not None else ""
        self._let_go_of_supervisor()
        if failure:
            raise unusable(self.store, failure)
        if self.store is not None:
            prepare_store(self.store, again=bool(self.url))
        self._spawned_at = now
        try:
            self._spawned = spawn.Spawned(
                self._folder,
                self._sync,
                temporary=self.store is None,
                patience=max(1.0, deadline - now),
                known=spawn.what_is_known(_port(self.url), self.token),
            )
        except HappenConnectionError:
            raise
        except OSError as error:
            raise unusable(self.store, f"its supervisor cannot be started: {error}") from error

    def _let_go_of_supervisor(self) -> None:
        if self._spawned is not None:
            self._spawned.let_go()
        self._spawned = None

    def _why_nobody_answers(self) -> str:
        last = self.log.strip().splitlines()[-1:]
        said = f"; the last line of its log: {last[0]}" if last else ""
        return f"its server did not answer in time{said}"

    def _welcomed(self, answer: list[str]) -> None:
        """Take over where the server is, and tell those who want to know if that is elsewhere now."""
        _, url, self._name, sync = answer
        before, self.url = self.url, url
        known = hints_file.read(str(self._folder))
        if known.name == self._name:
            self._pid = known.pid
        identity = lock.identity(str(self._folder))
        if identity != self._identity != (0, 0):
            logger.warning(
                "the store %s was removed while it was in use; it is made anew, empty", self._folder
            )
        self._identity = identity
        if not before and sync != self._sync:
            logger.warning(
                'the server of %s runs with sync="%s", as the first who joined it wanted; sync="%s" takes '
                "effect when all who use it have left",
                self._folder,
                sync,
                self._sync,
            )
        if before and before != url:
            for callback in list(self._callbacks):
                try:
                    callback(url)
                except Exception:
                    logger.exception("a callback for the server's new address failed")

    # belonging

    def _keep(self) -> None:
        """Stay a member until `close`: a thread waits for the supervisor's end, and joins again."""
        self._thread = threading.Thread(target=self._stay, name="happen_nb-server", daemon=True)
        self._thread.start()

    def _stay(self) -> None:
        while not self._closed:
            if self._membership is not None:
                self._listen(self._membership)
            if not self._closed:
                self._enter_again()
        self._put_away()

    def _listen(self, membership: Membership) -> None:
        """Hear what the supervisor says until its end."""
        while (words := membership.hear(None)) is not None:
            if words[0] == "welcome":
                self._welcomed(words)
        membership.put_away()

    def _enter_again(self) -> None:
        """Join again, however long it takes."""
        complaint = ""
        while not self._closed:
            try:
                self._enter(time.monotonic() + _REJOIN_TIMEOUT)
            except (HappenConnectionError, OSError, RuntimeError) as error:
                if str(error) != complaint:
                    complaint = str(error)
                    logger.warning(
                        "the embedded server is gone; starting it is tried again and again: %s", error
                    )
                self._let_go_of_supervisor()
                time.sleep(_REJOIN_PAUSE)
            else:
                return

    def _put_away(self) -> None:
        if self._membership is not None:
            self._membership.put_away()
        if self._private is not None:
            self._private.let_go()
        self._let_go_of_supervisor()

    def _abandon(self) -> None:
        """Put everything away after joining has failed."""
        self._closed = True
        _open_servers.discard(self)
        nobody_serves = self._spawned is None or self._spawned.ended
        self._put_away()
        if self._private is not None and nobody_serves:
            self._private.remove()


def _port(url: str) -> int:
    return int(url.rpartition(":")[2] or 0)


_open_servers: weakref.WeakSet[NatsServer] = weakref.WeakSet()


def _let_go_in_child() -> None:
    for server in list(_open_servers):
        server.after_fork_in_child()
    _open_servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
