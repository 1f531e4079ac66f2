"""The embedded server of a space."""

from __future__ import annotations

from pathlib import Path

from happen_nb._api.base import Displayable
from happen_nb._display.reprs_state import server_page
from happen_nb._server import EmbeddedServer


class NatsServer(Displayable):
    """The embedded nats-server, ``space.server``: started automatically, stopped after its last user.

    Examples
    --------
    >>> space.server.running
    True
    """

    _page = server_page
    _pickle = "pickle its url and token, and give them to connect() in the other process"

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded

    @property
    def url(self) -> str:
        """The URL at which it listens, on this machine only."""
        return self._embedded.url

    @property
    def token(self) -> str:
        """The token that another client needs to connect."""
        return self._embedded.token

    @property
    def store(self) -> Path | None:
        """The folder that it stores everything in; None if it stores nothing on disk."""
        return self._embedded.store

    @property
    def running(self) -> bool:
        """True if it is answering."""
        return self._embedded.running

    @property
    def pid(self) -> int | None:
        """The id of its process; None while it does not answer. A killed server is restarted."""
        return self._embedded.pid

    @property
    def log(self) -> str:
        """The last part of what it logged."""
        return self._embedded.log
