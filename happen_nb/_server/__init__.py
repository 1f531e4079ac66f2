"""The embedded server: finds, starts, shares and ends a real nats-server."""

from happen_nb._server.launcher import EmbeddedServer, join
from happen_nb._server.store import find_store

__all__ = ["EmbeddedServer", "find_store", "join"]
