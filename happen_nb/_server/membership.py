"""One process's connection to a supervisor; see `supervision.members` for what is said on it."""

from __future__ import annotations

import socket
import time

from happen_nb._server.supervision.hints import Hints

_CONNECT_TIMEOUT = 0.5
_HELLO_TIMEOUT = 1.0


class Membership:
    """The connection that keeps the server running."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._heard = b""

    def say(self, port: int, line: str) -> None:
        """Connect, and say the first line."""
        self._socket.settimeout(_CONNECT_TIMEOUT)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(line.encode())

    def report_full(self) -> None:
        """Report that nats-server could not write: it is started anew when there is room."""
        self._tell(b"full\n")

    def report_done(self) -> None:
        """Report that nobody is going to join again soon: if this one is the last, all ends at once."""
        self._tell(b"done\n")

    def _tell(self, line: bytes) -> None:
        try:
            self._socket.sendall(line)
        except OSError:
            return  # the supervisor is gone, and nats-server with it

    def hear(self, deadline: float | None) -> list[str] | None:
        """The words of the next line; None at the end of the connection or when the time is up."""
        try:
            while b"\n" not in self._heard:
                self._socket.settimeout(None if deadline is None else max(0.001, deadline - time.monotonic()))
                more = self._socket.recv(4096)
                if not more:
                    return None
                self._heard += more
        except OSError:
            return None
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode(errors="replace").split()

    def leave(self) -> None:
        """End the connection, for whoever waits on it too."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it has ended already

    def put_away(self) -> None:
        """Close this process's end; what a fork has copied is not affected."""
        self._socket.close()


def knock(membership: Membership, known: Hints, deadline: float) -> list[str] | None:
    """Ask to be let in: the welcome, an error, or None if nobody is there who proves to be the supervisor."""
    hello = min(deadline, time.monotonic() + _HELLO_TIMEOUT)
    try:
        membership.say(known.control, f"hello {known.ask}\n")
    except OSError:
        return None
    if membership.hear(hello) != ["hello", known.answer]:
        return None
    answer = membership.hear(deadline)
    return answer if answer and answer[0] in {"welcome", "error"} else None
