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

import re


class HappenError(Exception):
    """The base of every error of this library: catching it catches them all.

    Examples
    --------
    >>> try:
    ...     space.create_node("no spaces, please")
    ... except happen.HappenError as error:
    ...     print(type(error).__name__)
    InvalidNameError
    """


class HappenConnectionError(HappenError, ConnectionError):
    """No usable server: nobody is there, or it has no JetStream, is too old, or refuses the credentials.

    The message says which, and where. ``happen doctor`` on the command line looks at all of it: address,
    version, store and environment.
    """


class ForkedError(HappenConnectionError, RuntimeError):
    """An object of the parent process was used in a forked child, as `multiprocessing` and joblib make them.

    A child has no connection of its parent's. Call ``connect()`` in it, and use what that gives.
    """


class ClosedError(HappenError, RuntimeError):
    """The space was closed, or was being closed while something waited: ``connect()`` again.

    What is stored is still there; nodes, views and widgets of the closed space are to be made anew.
    """


class SpaceInUseError(HappenError, RuntimeError):
    """Another process is connected to what was to be emptied or removed; the message names it.

    End it, or close the space there (a notebook's kernel counts until it is shut down). Emptying can be
    forced: ``connect(fresh="force")``, ``space.clear(force=True)``.
    """


class InvalidNameError(HappenError, ValueError):
    """No node or space may be named so: a name is 1 to 64 of ``A-Z a-z 0-9 _ -``.

    Write ``_`` or ``-`` for a dot or a space. No node is named ``notebook``: that is who sends from a cell.
    """


class UnknownNodeError(HappenError, KeyError, AttributeError):
    """No node of that name has a state; the message lists the nearest names.

    It is misspelt, or the process that makes it has not committed yet: commit its ``initial`` state first, or
    give ``views.collect`` a `default`.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the repr of the message


class PathError(HappenError, ValueError):
    """A path that cannot be read as one, or that leads through something that is no mapping or list.

    Write keys with dots between them, ``"orders.o1.status"``, or a tuple where a key has a dot of its own:
    ``("orders", "o.1")``. To go through a number or a text, replace it by a mapping first.
    """


class StateError(HappenError, ValueError):
    """A value that cannot be stored: it has no JSON form, is NaN, or a transform returned no mapping.

    The message names the path of the value and what to write instead. Nothing was stored.
    """


class EventTypeError(HappenError, ValueError):
    """A type that no event may have: 1 to 256 characters after percent-encoding, no control characters.

    Give a short name, with dots between its parts, as ``"order.paid"``, and put the rest into the payload.
    """


class PatternError(HappenError, ValueError):
    """A pattern of event types that cannot be read as one.

    Give a string with ``*`` (any run without a dot), ``**`` (anything) and ``{a,b}`` (either), or a function
    of the type. Close each brace.
    """


class FrozenStateError(HappenError, TypeError):
    """A stored state or a payload was about to be changed in place; others read the same one.

    Return a new value (``{**state, "open": 1}``), edit a draft (``@happen.draft``), or work on a copy
    (``copy.deepcopy``). A draft itself ends with its transform.
    """


class TransformError(HappenError, RuntimeError):
    """A transform awaited, committed or waited; it may only compute a new state, and may run again.

    Read other nodes by its `views`, and do the rest before or after ``state.set``. It may broadcast and send:
    that leaves with the commit.
    """


class PayloadError(HappenError, ValueError):
    """A payload, a progress value or a result has no JSON form.

    The message names the path of the value and what to write instead, as ``str(x)``. Nothing was sent.
    """


class HandlerError(HappenError, RuntimeError):
    """The handler of what was sent has raised; the message ends with its traceback.

    Mend the handler in the process that owns the node, then send again; or there take it from
    ``space.failures``, whose ``retry()`` hands the same event to it again.

    Attributes
    ----------
    node : str
        The node whose handler it was.
    error : str
        What it raised, as text.
    remote_traceback : str
        Where it did, as the other process shows it.
    """

    def __init__(self, message: str, *, node: str = "", error: str = "", remote_traceback: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.error = error
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        trace = self.remote_traceback.rstrip()
        if self.error:  # the message has it already
            trace = re.sub(rf"\A(.*)\n\S*{re.escape(self.error)}", r"\1", trace, flags=re.DOTALL)
        return f"{self.args[0]}\n\n{trace}" if trace else str(self.args[0])


class NoHandlerError(HappenError, LookupError):
    """Nobody handles what was sent: no such node, no handler of that type, or its process is gone.

    ``node.owner`` says who handles a node's events, and ``node.handlers`` what it takes. Run the cell that
    registers the handler, then send again.
    """


class ReplyLostError(HappenError, RuntimeError):
    """The process that had accepted what was sent ended before it replied.

    What it did until then is stored: ``space.trace(event)`` shows it. Send again only if doing it twice is
    harmless.
    """


class DeadlockError(HappenError, RuntimeError):
    """Handlers wait for each other in a circle, so none could go on; the message has the chain.

    Let one of them reply first, or send without waiting for ``result()``: broadcast the answer as an event.
    """


class CausalLoopError(HappenError, RecursionError):
    """A chain of more than 1,000 causes was cut: handlers that set each other off without an end.

    Make one of them stop, by a condition or a `where` on its handler. Work that repeats for ever begins each
    round by an event of its own, from outside a handler.
    """


class CancelledHandlingError(HappenError, RuntimeError):
    """The reply was cancelled, by ``cancel()`` or the stop button, so its handler changes nothing any more.

    Who waits for the reply gets it, and so does the handler, at what it still tries to commit or send: let it
    end. To do the work after all, send again.
    """


class HistoryGoneError(HappenError, LookupError):
    """The state at that moment was trimmed, to keep the store small.

    ``connect(history=...)`` keeps more commits of each node from then on; what is gone stays gone.
    ``node.state.history()`` shows what there is.
    """


class TooLargeError(HappenError, ValueError):
    """A state or a payload is larger than the server takes at once; the message has the sizes.

    Divide the state among several nodes, keep big data in files and their paths in the state, or raise
    ``max_payload`` of a server of one's own. Nothing was stored.
    """


class ServerError(HappenError, RuntimeError):
    """The server refused to store something, for instance because its disk is full; the message says why.

    Make room, or raise the limits of the account, and try again; ``happen doctor`` shows the room that is
    left, and ``happen clean`` removes old spaces.
    """


class HappenTimeoutError(HappenError, TimeoutError):
    """Something took longer than its timeout; the message names what was waited for.

    Give a longer ``timeout``. If it names a node, that node's repr says what it is busy with, and how many
    events wait.
    """


class NotStoredError(HappenTimeoutError):
    """The time was up before anything could be stored: it is safe to try again.

    The connection was away, or other writers of the same node were faster each time: write less often, or
    let one node's handlers do it.
    """


class OutcomeUnknownError(HappenTimeoutError):
    """The time was up after sending, so it may be stored or not.

    Read before trying again: ``node.state.get(fresh=True)``. An event with an `id` may simply be broadcast
    again: it is stored once.
    """
