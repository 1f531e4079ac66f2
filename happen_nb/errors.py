"""Every error of the library.

::

    HappenError
    ├── HappenConnectionError (ConnectionError)      no usable server, or it went away for good
    │   └── ForkedError (RuntimeError)               an object inherited by a forked child
    ├── ClosedError (RuntimeError)                   the space was closed
    ├── SpaceInUseError (RuntimeError)               another process is connected to the space
    ├── SpaceNotEmptyError (ValueError)              a fork into a space that holds something
    ├── InvalidNameError (ValueError)                a name that no node or space may have
    ├── UnknownNodeError (KeyError, AttributeError)  a view of a node that does not exist
    ├── PathError (ValueError)                       a path that leads nowhere it could be written
    ├── StateError (ValueError)                      a value that is no state
    ├── EventTypeError (ValueError)                  a type that no event may have
    ├── IdTakenError (ValueError)                    an id that another event has
    ├── PendingError (ValueError)                    an event that still waits for its transform's commit
    ├── UnknownEventError (LookupError)              an event that is not stored
    ├── UnknownHandlerError (ValueError, LookupError)  a handler that is not registered
    ├── PatternError (ValueError)                    a pattern of event types that cannot be read as one
    ├── FrozenStateError (TypeError)                 an attempt to change what is shared
    ├── TransformError (RuntimeError)                a transform that does what it must not
    ├── PayloadError (ValueError)                    a payload, progress or result without a JSON form
    ├── HandlerError (RuntimeError)                  the handler of what was sent has raised
    ├── NoHandlerError (LookupError)                 nobody handles what was sent
    ├── ReplyLostError (RuntimeError)                the process that handled it ended before it replied
    ├── DeadlockError (RuntimeError)                 handlers that wait for each other
    ├── CausalLoopError (RecursionError)             a chain of causes that never ends
    ├── CancelledHandlingError (RuntimeError)        a cancelled handling that goes on
    ├── HistoryGoneError (LookupError)               an old state that was trimmed
    ├── UnknownRevisionError (ValueError, LookupError)  a revision that a node has not reached
    ├── TooLargeError (ValueError)                   more than the server takes in one message
    ├── ServerError (RuntimeError)                   the server refused to store something
    └── HappenTimeoutError (TimeoutError)            the time was up
        ├── NotStoredError                           ... and nothing was stored
        └── OutcomeUnknownError                      ... and what was sent may be stored or not

Each one is also the built-in named in parentheses, so ``except ValueError`` works as expected. A wrong
argument, of a wrong type or out of range, is a plain TypeError or ValueError, as in Python itself.
Everything that depends on what is stored or running is one of these.
"""

from __future__ import annotations

import re
import sys
import traceback

from happen_nb._frames import hide, render


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

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        hide(sys._getframe(1))

    def _render_traceback_(self) -> list[str]:
        """How IPython shows it: where the user's own code led to it, and what it says."""
        return render(self) or traceback.format_exception(self)


class HappenConnectionError(HappenError, ConnectionError):
    """No usable server: nobody is there, or it has no JetStream, is too old, or refuses the credentials.

    The message says which, and where.

    Cure: see whether the URL is right and the server runs; check ``token``, ``user`` and ``password``, or
    ``credentials``; start a server without JetStream with ``-js``, and upgrade one older than 2.12. Of
    the embedded server the message has the store and what the server said; ``connect(store=":memory:")``
    needs no folder. ``happen doctor`` on the command line looks at all of it: address, version, store and
    environment.
    """


class ForkedError(HappenConnectionError, RuntimeError):
    """An object of the parent process was used in a forked child, as `multiprocessing` and joblib make them.

    A child has no connection of its parent's.

    Cure: call ``connect()`` in the child, for instance in the initializer of a pool, and use what that
    gives; or start processes by ``spawn``.
    """


class ClosedError(HappenError, RuntimeError):
    """The space was closed, or was being closed while something waited.

    A cell above may have closed it, or a ``with`` block has ended. What is stored is still there.

    Cure: ``connect()`` again; nodes, views and widgets of the closed space are to be made anew.
    """


class SpaceInUseError(HappenError, RuntimeError):
    """Another process is connected to what was to be emptied or removed; the message names it.

    Cure: end it, or close the space there (a notebook's kernel counts until it is shut down), or take
    another ``name``. Emptying can be forced, for everybody: ``connect(fresh="force")``,
    ``space.clear(force=True)``.
    """


class SpaceNotEmptyError(HappenError, ValueError):
    """The space that a fork was to become is not empty. It is left as it was.

    Cure: fork under another name, or remove the space first: ``connect(name=...).drop()``.
    """


class InvalidNameError(HappenError, ValueError):
    """No node or space may be named so: a name is 1 to 64 of ``A-Z a-z 0-9 _ -``.

    No node is named ``notebook``: that is who sends from a cell.

    Cure: write ``_`` or ``-`` for a dot or a space, and put what else you know about the thing into its
    state.
    """


class UnknownNodeError(HappenError, KeyError, AttributeError):
    """No node of that name is in the space; the message lists the nearest names.

    It is misspelt, or the process that makes it has neither committed nor registered a handler yet.

    Cure: look at the names in the message; give the node an ``initial`` state, which is its first commit.
    For nodes that need not exist, give ``views.collect`` a `default`.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the repr of the message


class PathError(HappenError, ValueError):
    """A path that cannot be read as one, or that leads through something that is no mapping or list.

    Cure: write keys with dots between them, ``"orders.o1.status"``, or a tuple where a key has a dot of
    its own: ``("orders", "o.1")``. To go through a number or a text, replace it by a mapping first.
    """


class StateError(HappenError, ValueError):
    """A value that cannot be stored: it has no JSON form, is NaN, or a transform returned no mapping.

    Nothing was stored.

    Cure: follow the message, which names the path of the value and what to write instead: ``str(x)``,
    ``sorted(x)``, ``to_dict("records")``. If the transform returned None, its ``return`` is missing.
    """


class EventTypeError(HappenError, ValueError):
    """A type that no event may have: 1 to 256 characters after percent-encoding, no control characters.

    Cure: give a short name, with dots between its parts, as ``"order.paid"``; what varies belongs in the
    payload.
    """


class IdTakenError(HappenError, ValueError):
    """The id given to ``broadcast`` belongs to a stored event with another type, payload or target.

    Nothing was stored. The same id with the same content gives the stored event, as often as it is repeated.

    Cure: give each event an id of its own, made of what it is about, such as ``f"pay-{order}"``.
    """


class PendingError(HappenError, ValueError):
    """An event of a transform has no place in the journal yet: it leaves with the transform's commit.

    If the transform raised or ran again, the event never leaves.

    Cure: use the event after ``state.set`` has returned.
    """


class UnknownEventError(HappenError, LookupError):
    """No event with that id is stored: there never was one, or it is older than ``event_ttl``.

    Cure: take an event or an id from ``space.events()``.
    """


class UnknownHandlerError(HappenError, ValueError, LookupError):
    """``node.off`` was given a function or pattern with which nothing is registered in this process.

    Cure: look at ``node.handlers``. A lambda is another function each time it is written: unregister it by
    its pattern.
    """


class PatternError(HappenError, ValueError):
    """A pattern of event types that cannot be read as one.

    Cure: give a string with ``*`` (any run without a dot), ``**`` (anything) and ``{a,b}`` (either), or a
    function of the type. Close each brace, and have something in each alternative.
    """


class FrozenStateError(HappenError, TypeError):
    """A stored state or a payload was about to be changed in place; others read the same one.

    A draft ends with its transform: after that it cannot be changed either.

    Cure: return a new value (``{**state, "open": 1}``), edit a draft (``@happen.draft``), or work on a copy
    (``copy.deepcopy``).
    """


class TransformError(HappenError, RuntimeError):
    """A transform awaited, committed or waited; it may only compute a new state, and may run again.

    Cure: read other nodes by its `views`, and commit, wait and await before or after ``state.set``. It
    may broadcast and send: that leaves with the commit.
    """


class PayloadError(HappenError, ValueError):
    """A payload, a progress value or a result has no JSON form.

    Nothing was sent. What a handler returns is sent too.

    Cure: follow the message, which names the path of the value and what to write instead, as ``str(x)``.
    """


class HandlerError(HappenError, RuntimeError):
    """The handler of what was sent has raised; the message ends with its traceback.

    Cure: read the traceback, which is that of the process in which it ran, and mend the handler there.
    Then send again; or there call ``space.failures.retry()``, which hands the same event to it again.

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

    ``node.owner`` says who handles a node's events, and ``node.handlers`` what it takes.

    Cure: run the cell that registers the handler, or start the process that has it, then send again. If
    only the handler was missing the event is stored, and ``space.unhandled.retry()`` handles it, too.
    """


class ReplyLostError(HappenError, RuntimeError):
    """The process that had accepted what was sent ended before it replied.

    What it did until then is stored.

    Cure: look at it, ``space.trace(reply.event)``, then send again if doing it twice is harmless: as it
    is where the handler gives an ``id`` to what must not happen twice.
    """


class DeadlockError(HappenError, RuntimeError):
    """Handlers wait for each other in a circle, so none could go on; the message has the chain.

    Cure: let one of them reply first, or send without waiting for ``result()``: broadcast the answer as
    an event.
    """


class CausalLoopError(HappenError, RecursionError):
    """A chain of more than 1,000 causes was cut: handlers that set each other off without an end.

    Cure: look at the chain, ``space.trace`` of its first event, and make one of them stop: by a `where`
    on its handler, or by telling nothing if its commit changed nothing (``commit.changed``). Work that
    repeats for ever begins each round by an event of its own, from outside a handler.
    """


class CancelledHandlingError(HappenError, RuntimeError):
    """The reply was cancelled, by ``cancel()`` or the stop button, so its handler changes nothing any more.

    Who waits for the reply gets it, and so does the handler, at what it still tries to commit or send.

    Cure: none is needed if it was meant. A handler that is a generator or async function stops by itself.
    To do the work after all, send again.
    """


class HistoryGoneError(HappenError, LookupError):
    """The state at that moment was trimmed, to keep the store small.

    ``node.state.history()`` shows what there is; what is gone stays gone.

    Cure: ``connect(history=...)`` keeps more commits of each node from then on.
    """


class UnknownRevisionError(HappenError, ValueError, LookupError):
    """The node has not reached that revision; the message has its newest.

    Cure: take a revision from ``node.state.history()``; the newest is ``node.state.revision``.
    """


class TooLargeError(HappenError, ValueError):
    """A state or a payload is larger than the server takes at once; the message has the sizes.

    Nothing was stored. The embedded server takes 8 MB.

    Cure: divide the state among several nodes, beginning with the part that the message names; keep big
    data in files and their paths in the state; or raise ``max_payload`` of a server of one's own.
    """


class ServerError(HappenError, RuntimeError):
    """The server refused to store something, for instance because its disk is full; the message says why.

    Cure: make room, or raise the limits of the account, and try again. ``happen doctor`` shows the room
    that is left, ``happen clean`` and ``space.drop()`` remove old spaces, and ``space.server.log`` says
    more.
    """


class HappenTimeoutError(HappenError, TimeoutError):
    """Something took longer than its timeout; the message names what was waited for.

    Cure: give a longer ``timeout``, or see why it takes so long: if the message names a node, that node's
    repr says what it is busy with, and how many events wait; ``space.failures`` says what went wrong.
    """


class NotStoredError(HappenTimeoutError):
    """The time was up before anything could be stored.

    The connection was away, or other writers of the same node were faster each time.

    Cure: try again, which is safe, as soon as the server is there. Where many write one node, write less
    often, or let one node's handlers do it.
    """


class OutcomeUnknownError(HappenTimeoutError):
    """The time was up after sending, so it may be stored or not.

    Cure: read before trying again: ``node.state.get(fresh=True)``. An event with an `id` may simply be
    broadcast again: it is stored once.
    """
