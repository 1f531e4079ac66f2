"""The embedded server, as a user holds it."""

from __future__ import annotations

from pathlib import Path

from happen_nb._api.base import Displayable
from happen_nb._display.reprs_state import server_page
from happen_nb._server import EmbeddedServer


class NatsServer(Displayable):
    """The nats-server that started by itself, and ends when nobody uses it any more; ``space.server``.

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
        """Where it listens: on this machine only."""
        return self._embedded.url

    @property
    def token(self) -> str:
        """What another client must show to connect."""
        return self._embedded.token

    @property
    def store(self) -> Path | None:
        """The folder that it keeps everything in; None if nothing is kept."""
        return self._embedded.store

    @property
    def running(self) -> bool:
        """Whether it answers now."""
        return self._embedded.running

    @property
    def pid(self) -> int | None:
        """The id of its process; None while it does not answer. If it is killed, another one is started."""
        return self._embedded.pid

    @property
    def log(self) -> str:
        """The last part of what it logged."""
        return self._embedded.log
