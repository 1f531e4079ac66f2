"""Every error of the library.

::

    HappenError
    ├── HappenConnectionError (ConnectionError)   no usable server, or it went away for good
    │   └── ForkedError (RuntimeError)            an object inherited by a forked child
    ├── ClosedError (RuntimeError)                the space was closed
    ├── SpaceInUseError (RuntimeError)            another process is connected to the space
    ├── InvalidNameError (ValueError)             a name that no node or space may have
    ├── UnknownNodeError (KeyError)               a view of a node that does not exist
    ├── PathError (ValueError)                    a path that leads nowhere it could be written
    ├── StateError (ValueError)                   a value that is no state
    ├── EventTypeError (ValueError)               a type that no event may have
    ├── PatternError (ValueError)                 a pattern of event types that cannot be read as one
    ├── FrozenStateError (TypeError)              an attempt to change what is shared
    ├── TransformError (RuntimeError)             a transform that does what it must not
    ├── PayloadError (ValueError)                 a payload, progress or result without a JSON form
    ├── HandlerError (RuntimeError)               the handler of what was sent has raised
    ├── NoHandlerError (LookupError)              nobody handles what was sent
    ├── ReplyLostError (RuntimeError)             the process that handled it ended before it replied
    ├── DeadlockError (RuntimeError)              handlers that wait for each other
    ├── CausalLoopError (RecursionError)          a chain of causes that never ends
    ├── CancelledHandlingError (RuntimeError)     a cancelled handling that goes on
    ├── HistoryGoneError (LookupError)            an old state that was trimmed
    ├── TooLargeError (ValueError)                more than the server takes in one message
    ├── ServerError (RuntimeError)                the server refused to store something
    └── HappenTimeoutError (TimeoutError)         the time was up
        ├── NotStoredError                        ... and nothing was stored
        └── OutcomeUnknownError                   ... and what was sent may be stored or not

Each one is also the built-in named in parentheses, so ``except ValueError`` works as expected.
"""

from __future__ import annotations


class HappenError(Exception):
    """The base of every error of this library."""


class HappenConnectionError(HappenError, ConnectionError):
    """No server, no JetStream, too old a server, or wrong credentials; the message says which."""


class ForkedError(HappenConnectionError, RuntimeError):
    """An object of the parent process was used in a forked child: call ``connect()`` there."""


class ClosedError(HappenError, RuntimeError):
    """The space was closed: connect again."""


class SpaceInUseError(HappenError, RuntimeError):
    """Another process is connected to the space: close it there, or force the call."""


class InvalidNameError(HappenError, ValueError):
    """A node or space name is 1 to 64 of ``A-Z a-z 0-9 _ -``."""


class UnknownNodeError(HappenError, KeyError, AttributeError):
    """No node of that name has a state; the message lists the nearest names."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the repr of the message


class PathError(HappenError, ValueError):
    """A path that cannot be read as one, or that leads through something that is no mapping or list."""


class StateError(HappenError, ValueError):
    """A value that cannot be stored; the message names its path and what to do."""


class EventTypeError(HappenError, ValueError):
    """An event type is 1 to 256 characters after percent-encoding, without control characters."""


class PatternError(HappenError, ValueError):
    """A pattern of event types is a string with ``*``, ``**`` and ``{a,b}``, or a function of the type."""


class FrozenStateError(HappenError, TypeError):
    """A stored state was about to be changed in place: return a new value, or use ``happen.draft``."""


class TransformError(HappenError, RuntimeError):
    """A transform awaited, committed or waited; it may only compute a new state."""


class PayloadError(HappenError, ValueError):
    """A payload, a progress value or a result has no JSON form; the message names its path and what to do."""


class HandlerError(HappenError, RuntimeError):
    """The handler of what was sent has raised; the message ends with its traceback.

    Attributes
    ----------
    node : str
        The node whose handler it was.
    error : str
        What it raised, as text.
    remote_traceback : str
    """

    def __init__(self, message: str, *, node: str = "", error: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.error = error
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        trace = f"\n\n{self.remote_traceback.rstrip()}" if self.remote_traceback else ""
        return f"{self.args[0]}{trace}"


class NoHandlerError(HappenError, LookupError):
    """Nobody handles what was sent: no such node, no handler of that type, or its process is gone."""


class ReplyLostError(HappenError, RuntimeError):
    """The process that had accepted what was sent ended before it replied: what it did is in the journal."""


class DeadlockError(HappenError, RuntimeError):
    """Handlers wait for each other; the message has the chain. Reply first, or send without waiting."""


class CausalLoopError(HappenError, RecursionError):
    """A chain of more than 1,000 causes was cut: make one of the handlers stop."""


class CancelledHandlingError(HappenError, RuntimeError):
    """The reply was cancelled, so its handler changes nothing any more."""


class HistoryGoneError(HappenError, LookupError):
    """The state at that moment was trimmed: connect with a larger ``history`` to keep more."""


class TooLargeError(HappenError, ValueError):
    """A state is larger than the server takes; the message names its biggest part."""


class ServerError(HappenError, RuntimeError):
    """The server refused to store something, for instance because its disk is full."""


class HappenTimeoutError(HappenError, TimeoutError):
    """Something took longer than its timeout."""


class NotStoredError(HappenTimeoutError):
    """The time was up before anything could be stored: it is safe to try again."""


class OutcomeUnknownError(HappenTimeoutError):
    """The time was up after sending: read the state to see whether it was stored."""
