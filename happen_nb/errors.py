"""Every error of the library.

::

    HappenError
    ├── HappenConnectionError (ConnectionError)      no usable server, or its connection was lost for good
    │   └── ForkedError (RuntimeError)               an object inherited by a forked child
    ├── ClosedError (RuntimeError)                   the space was closed
    ├── SpaceInUseError (RuntimeError)               another process is connected to the space
    ├── SpaceNotEmptyError (ValueError)              a fork into a space that is not empty
    ├── InvalidNameError (ValueError)                a name that is not valid for a node or space
    ├── UnknownNodeError (KeyError, AttributeError)  a view of a node that does not exist
    ├── PathError (ValueError)                       a path that cannot be parsed, read or written
    ├── StateError (ValueError)                      a value that cannot be stored as a state
    ├── EventTypeError (ValueError)                  an event type that is not valid
    ├── IdTakenError (ValueError)                    an id that belongs to another event
    ├── PendingError (ValueError)                    an event that waits for its transform's commit
    ├── UnknownEventError (LookupError)              an event that is not stored
    ├── UnknownHandlerError (ValueError, LookupError)  a handler that is not registered
    ├── PatternError (ValueError)                    a pattern of event types that cannot be parsed
    ├── FrozenStateError (TypeError)                 an attempt to change a shared value
    ├── TransformError (RuntimeError)                a transform that does more than compute a state
    ├── PayloadError (ValueError)                    a payload, progress or result without a JSON form
    ├── HandlerError (RuntimeError)                  the handler of a sent event has raised
    ├── NoHandlerError (LookupError)                 no handler for a sent event
    ├── ReplyLostError (RuntimeError)                the handling process ended before it replied
    ├── DeadlockError (RuntimeError)                 handlers that wait for each other
    ├── CausalLoopError (RecursionError)             an endless causal chain
    ├── NondeterminismError (RuntimeError)           a durable handler whose runs differ
    ├── CancelledHandlingError (RuntimeError)        an action of a cancelled handler
    ├── ClockError (ValueError)                      a clock of the other kind, or one that others move
    ├── PaceError (RuntimeError)                     a step in a space that is not paused
    ├── HistoryGoneError (LookupError)               an old state that was trimmed
    ├── UnknownRevisionError (ValueError, LookupError)  a revision that does not exist yet
    ├── TooLargeError (ValueError)                   more than the server accepts in one message
    ├── ServerError (RuntimeError)                   the server refused to store something
    └── HappenTimeoutError (TimeoutError)            a timeout
        ├── NotStoredError                           ... and nothing was stored
        └── OutcomeUnknownError                      ... and the outcome is unknown

Each error is also the built-in named in parentheses, so ``except ValueError`` works as expected. A wrong
argument, of a wrong type or out of range, is a plain TypeError or ValueError, as in Python itself.
Every error that depends on the stored data or running processes is one of these.
"""

from __future__ import annotations

import re
import sys
import traceback

from happen_nb._frames import hide, render

__all__ = [
    "CancelledHandlingError",
    "CausalLoopError",
    "ClockError",
    "ClosedError",
    "DeadlockError",
    "EventTypeError",
    "ForkedError",
    "FrozenStateError",
    "HandlerError",
    "HappenConnectionError",
    "HappenError",
    "HappenTimeoutError",
    "HistoryGoneError",
    "IdTakenError",
    "InvalidNameError",
    "NoHandlerError",
    "NondeterminismError",
    "NotStoredError",
    "OutcomeUnknownError",
    "PaceError",
    "PathError",
    "PatternError",
    "PayloadError",
    "PendingError",
    "ReplyLostError",
    "ServerError",
    "SpaceInUseError",
    "SpaceNotEmptyError",
    "StateError",
    "TooLargeError",
    "TransformError",
    "UnknownEventError",
    "UnknownHandlerError",
    "UnknownNodeError",
    "UnknownRevisionError",
]


class HappenError(Exception):
    """Base of every error of this library: catching it catches them all.

    Examples
    --------
    >>> try:
    ...     space.create_node("no spaces, please")
    ... except happen.HappenError as error:
    ...     print(type(error).__name__)
    InvalidNameError
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        hide(sys._getframe(1))

    def _render_traceback_(self) -> list[str]:
        """Render the error for IPython, with the frames of the user's own code only."""
        return render(self) or traceback.format_exception(self)


class HappenConnectionError(HappenError, ConnectionError):
    """No usable server: it does not answer, has no JetStream, is too old, or refuses the credentials.

    The message names the reason and the address.

    Fix: check that the URL is right and the server runs; check ``token``, ``user`` and ``password``, or
    ``credentials``; start a server without JetStream with ``-js``, and upgrade one older than 2.12. For the
    embedded server, the message contains its store and its last error; ``connect(store=":memory:")`` needs
    no folder. ``happen doctor`` on the command line checks all of this: address, version, store and
    environment.
    """


class ForkedError(HappenConnectionError, RuntimeError):
    """An object of the parent process was used in a forked child, such as one of `multiprocessing` or joblib.

    A child cannot use the connection of its parent.

    Fix: call ``connect()`` in the child, for instance in the initializer of a pool, and use the space that
    it returns; or start processes with the method ``spawn``.
    """


class ClosedError(HappenError, RuntimeError):
    """The space was closed, or was being closed while something waited.

    A cell above may have closed it, or a ``with`` block has ended. Stored data is kept.

    Fix: ``connect()`` again, and recreate the nodes, views and widgets of the closed space.
    """


class SpaceInUseError(HappenError, RuntimeError):
    """Another process is connected to a space that should be emptied or removed; the message names it.

    Fix: end that process, or close the space in it (a notebook's kernel counts until it is shut down), or
    use another ``name``. Emptying can be forced, for all processes: ``connect(fresh="force")``,
    ``space.clear(force=True)``.
    """


class SpaceNotEmptyError(HappenError, ValueError):
    """The target space of a fork is not empty. It is unchanged.

    Fix: fork under another name, or remove the space first: ``connect(name=...).drop()``.
    """


class InvalidNameError(HappenError, ValueError):
    """The name is not valid: names of nodes and spaces have 1 to 64 of ``A-Z a-z 0-9 _ -``.

    A node cannot be named ``notebook``, which is the sender of events from cells.

    Fix: write ``_`` or ``-`` instead of a dot or a space, and put other information into the state.
    """


class UnknownNodeError(HappenError, KeyError, AttributeError):
    """The space has no node of that name; the message lists the nearest names.

    The name is misspelled, or the process that creates the node has neither committed nor registered a
    handler yet.

    Fix: check the names in the message; create the node with an ``initial`` state, which is its first
    commit. For nodes that may not exist, pass ``views.collect`` a `default`.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the repr of the message


class PathError(HappenError, ValueError):
    """The path cannot be parsed, or leads through a value that is neither a mapping nor a list.

    Fix: write keys with dots between them, ``"orders.o1.status"``, or a tuple if a key contains a dot:
    ``("orders", "o.1")``. To store below a number or a string, replace it by a mapping first.
    """


class StateError(HappenError, ValueError):
    """The value cannot be stored as a state: it, or a part of it, has no JSON form; or it is not a mapping.

    Nothing was stored.

    Fix: follow the message, which contains the path of the value and the expression to use instead:
    ``str(x)``, ``sorted(x)``, ``to_dict("records")``. If the transform returned None, its ``return`` is
    missing.
    """


class EventTypeError(HappenError, ValueError):
    """The event type is not valid: 1 to 256 characters after percent-encoding, no control characters.

    Fix: use a short name with dots between its parts, such as ``"order.paid"``, and put variable data into
    the payload.
    """


class IdTakenError(HappenError, ValueError):
    """The id given to ``broadcast`` belongs to a stored event with another type, payload or target.

    Nothing was stored. Broadcasting the same content again with the same id returns the stored event.

    Fix: give each event a unique id made from its subject, such as ``f"pay-{order}"``.
    """


class PendingError(HappenError, ValueError):
    """An event of a transform has no position in the journal yet: it is stored with the transform's commit.

    If the transform raised or ran again, the event is never stored.

    Fix: use the event after ``state.set`` has returned.
    """


class UnknownEventError(HappenError, LookupError):
    """No event with that id is stored: it never was, or it is older than ``event_ttl``.

    Fix: use an event or an id from ``space.events()``.
    """


class UnknownHandlerError(HappenError, ValueError, LookupError):
    """No handler of this process is registered with the function or pattern that ``node.off`` received.

    Fix: check ``node.handlers``. Each evaluation of a lambda makes a new function: unregister it by its
    pattern.
    """


class PatternError(HappenError, ValueError):
    """The pattern of event types cannot be parsed.

    Fix: use a string with ``*`` (any run without a dot), ``**`` (anything) and ``{a,b}`` (either), or a
    function of the type. Close each brace, and leave no alternative empty.
    """


class FrozenStateError(HappenError, TypeError):
    """An attempt to change a stored state or payload in place, although all readers share it.

    A draft ends with its transform: after that it is read-only, too.

    Fix: return a new value (``{**state, "open": 1}``), edit a draft (``@happen.draft``), or work on a copy
    (``copy.deepcopy``).
    """


class TransformError(HappenError, RuntimeError):
    """A transform awaited, committed or waited; it may only compute a new state, and may run again.

    Fix: read other nodes through its `views`, and commit, wait and await before or after ``state.set``. A
    transform may broadcast and send: those events are stored with its commit.
    """


class PayloadError(HappenError, ValueError):
    """A payload, a progress value or a result has no JSON form.

    Nothing was sent. The return value of a handler is sent, too.

    Fix: follow the message, which contains the path of the value and the expression to use instead, such as
    ``str(x)``.
    """


class HandlerError(HappenError, RuntimeError):
    """The handler of a sent event has raised; the message ends with its traceback.

    Fix: read the traceback, which comes from the process of the handler, and fix the handler there. Then
    send again, or call ``space.failures.retry()`` there, which handles the same event again.

    Attributes
    ----------
    node : str
        The node of the handler.
    error : str
        The text of its exception.
    remote_traceback : str
        The traceback in the other process.
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
    """A sent event has no handler: the node does not exist, no handler matches, or its process has ended.

    ``node.owner`` shows the process that handles a node's events, and ``node.handlers`` its patterns.

    Fix: run the cell that registers the handler, or start its process, then send again. If only the handler
    was missing, the event is stored, and ``space.unhandled.retry()`` handles it, too.
    """


class ReplyLostError(HappenError, RuntimeError):
    """The process that accepted a sent event ended before it replied.

    Everything that it stored until then is kept.

    Fix: check its effects with ``space.trace(reply.event)``, then send again if repeating them is harmless,
    for instance because the handler gives an ``id`` to each event that must be stored only once.
    """


class DeadlockError(HappenError, RuntimeError):
    """Handlers wait for each other in a cycle, so none can continue; the message shows the cycle.

    Fix: let one of them reply first, or do not wait for ``result()``: broadcast the answer as an event.
    """


class CausalLoopError(HappenError, RecursionError):
    """A causal chain of more than 1,000 causes was cut off: these handlers keep triggering each other.

    Fix: view the chain with ``space.trace`` of its first event, and add a stopping condition: a `where` on
    one of the handlers, or an event only if the commit changed something (``commit.changed``). Endless work
    should start each round with a new event from outside a handler.
    """


class NondeterminismError(HappenError, RuntimeError):
    """A durable handler ran again for an event, and did not take the steps of its earlier run.

    The message names the first step that differs. What the earlier run stored is kept, and nothing is stored
    twice. The error is a failure in ``space.failures``.

    Fix: let each run take the same steps in the same order. Decide inside a transform, whose result is
    stored, not by reading a state beforehand; record the time, random numbers and answers of the outside
    world with ``context.now``, ``context.random`` and ``context.once``. If you changed the handler, undo the
    change and call ``failures.retry()``, or correct the rest by hand.
    """


class CancelledHandlingError(HappenError, RuntimeError):
    """The reply was cancelled, by ``cancel()`` or an interrupt; its handler can no longer change anything.

    The error is raised where the reply is awaited, and in the handler where it tries to commit or send.

    Fix: none, if you meant to cancel it. A generator or async handler stops automatically. To do the work
    after all, send again.
    """


class HistoryGoneError(HappenError, LookupError):
    """The state or the events of that time are no longer stored.

    ``node.state.history()`` shows the stored commits; trimmed ones cannot be restored. Events are kept for
    ``event_ttl``; a state handler that was unregistered for longer has missed some.

    Fix: ``connect(history=..., event_ttl=...)`` keeps more from then on.
    """


class UnknownRevisionError(HappenError, ValueError, LookupError):
    """The node has not reached that revision; the message contains the newest one.

    Fix: use a revision from ``node.state.history()``; the newest is ``node.state.revision``.
    """


class TooLargeError(HappenError, ValueError):
    """A state or a payload is larger than the server accepts; the message contains the sizes.

    Nothing was stored. The embedded server accepts 8 MB.

    Fix: divide the state among several nodes, starting with the part that the message names; store large
    data in files, and their paths in the state; or raise ``max_payload`` of your own server.
    """


class ServerError(HappenError, RuntimeError):
    """The server refused something, for instance because its disk is full, or the user has no permission.

    The message contains the reason.

    Fix: free disk space, or raise the limits and permissions of the user, and try again. ``happen doctor``
    shows the free space, ``happen clean`` and ``space.drop()`` remove old spaces, and ``space.server.log``
    has details.
    """


class ClockError(HappenError, ValueError):
    """The call needs the other kind of clock, or another process moves the clock of the space.

    Fix: ``connect(clock="manual", fresh=True)`` empties the space and starts a manual clock, which
    ``space.advance`` moves. Let one process advance it.
    """


class PaceError(HappenError, RuntimeError):
    """``space.step`` or ``space.resume(slow=...)`` was called while the space was not paused.

    Fix: call ``space.pause()`` first; the repr of a space shows whether it is paused. Another process may
    have resumed it.
    """


class HappenTimeoutError(HappenError, TimeoutError):
    """The operation named in the message took longer than its timeout.

    Fix: pass a longer ``timeout``, or find out why it takes so long: if the message names a node, its repr
    shows how long it has been busy and how many events wait; ``space.failures`` lists the failures.
    """


class NotStoredError(HappenTimeoutError):
    """The operation timed out before anything was stored.

    The connection was lost, or other writers of the same node were faster each time.

    Fix: try again as soon as the server is available; this is safe. If many processes write one node, write
    less often, or let one node's handlers do it.
    """


class OutcomeUnknownError(HappenTimeoutError):
    """The operation timed out after sending: the message may or may not be stored.

    Fix: read before trying again: ``node.state.get(fresh=True)``. An event with an `id` can be broadcast
    again: it is stored only once.
    """
