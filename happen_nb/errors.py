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
