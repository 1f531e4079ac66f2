"""What a user holds of events: one, and what the journal has of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from happen_nb.commits import frame, times, utc
from happen_nb.runtime.bridge import wait_for, wait_in_loop
from happen_nb.shown import Listing, Shown

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb.model.commits import EventRecord
    from happen_nb.readings import Timeout
    from happen_nb.space import Space
    from happen_nb.trace import Trace


class Event(Shown, kind="event"):
    """Something that was said in a space: by ``broadcast`` to all, by ``send`` to one node.

    Attributes
    ----------
    type : str
    payload : frozen JSON
    id : str
    sender : str
        The node's name; ``"notebook"`` for the person at the keyboard.
    target : str or None
        The node that it was sent to.
    cause : str or None
        The id of the event whose handler emitted it.
    correlation : str
        The id of the first of the chain of causes; its own if it is the first.
    path : tuple of str
        The ids of all its causes, from the first on.
    repeated : bool
        Whether it was stored before under the same ``id``, so that it was not stored again.

    Examples
    --------
    >>> event = orders.broadcast("order.paid", {"id": "o1"})
    >>> event.type, event.payload, event.sender
    ('order.paid', {'id': 'o1'}, 'orders')
    """

    _pickle = "pickle its parts: event.type, event.payload, event.id"

    def __init__(self, record: EventRecord, space: Space, *, repeated: bool = False) -> None:
        self._record = record
        self._space = space
        self.repeated = repeated

    @property
    def type(self) -> str:  # noqa: D102 - described above, as the others
        return self._record.type

    @property
    def payload(self) -> Any:  # noqa: D102
        return self._record.payload

    @property
    def id(self) -> str:  # noqa: D102
        return self._record.id

    @property
    def sender(self) -> str:  # noqa: D102
        return self._record.sender

    @property
    def target(self) -> str | None:  # noqa: D102
        return self._record.target

    @property
    def cause(self) -> str | None:  # noqa: D102
        return self._record.cause

    @property
    def correlation(self) -> str:  # noqa: D102
        return self._record.correlation or self._record.id

    @property
    def path(self) -> tuple[str, ...]:  # noqa: D102
        return self._record.path

    @property
    def pending(self) -> bool:
        """Whether it still waits for the commit of the transform that emitted it."""
        return not self._record.sequence

    @property
    def sequence(self) -> int | None:
        """Its position in the space's journal; None while it is pending."""
        return self._record.sequence or None

    @property
    def index(self) -> int:
        """Which of the events of one commit it is, from 0."""
        return self._record.index

    @property
    def time(self) -> datetime | None:
        """When the server stored it, in UTC; None while it is pending."""
        return utc(self._record.time) if self._record.time else None

    @property
    def occurred(self) -> datetime | None:
        """When what it tells of happened, if its sender said so."""
        occurred = self._record.occurred
        return None if occurred is None else datetime.fromisoformat(occurred)

    @property
    def handled_by(self) -> tuple[str, ...]:
        """The nodes that have handled it, in any process, read from the journal."""
        return wait_for(self._space._handled_by(self))

    def settle(self, timeout: Timeout = 10.0) -> Trace:
        """Wait until all that it caused has been committed and handled, in every process.

        Parameters
        ----------
        timeout : float or timedelta, optional
            Seconds to wait; None waits without limit.

        Returns
        -------
        Trace
            The tree of its effects.

        Raises
        ------
        HappenTimeoutError
            Something still runs after `timeout` seconds; the message names it.

        Examples
        --------
        >>> counting = orders.on("order.*", lambda e: orders.state.set({"paid": 1}))
        >>> print(orders.broadcast("order.paid").settle())
        Trace of order.paid ...
        """
        return wait_for(self._space._settle_event(self, timeout))

    async def asettle(self, timeout: Timeout = 10.0) -> Trace:
        """`settle`, to await."""
        return await wait_in_loop(self._space._settle_event(self, timeout))


class Events(Listing[Event], kind="events"):
    """Stored events of a space, newest last.

    Attributes
    ----------
    space : str
    pattern : str
        What their types match.
    """

    _pickle = "pickle events.to_frame()"

    def __init__(self, space: str, pattern: str, events: Sequence[Event]) -> None:
        self.space = space
        self.pattern = pattern
        self._items = list(events)

    def to_frame(self, *, flatten: bool = True) -> pd.DataFrame:
        """One row an event.

        Parameters
        ----------
        flatten : bool, optional
            A column ``payload.<key>`` for each key of the payloads; else one column ``payload``.

        Returns
        -------
        pandas.DataFrame
            Index ``sequence``; ``time`` in UTC, ``type sender id cause correlation``, then the payload.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1", "price": 3})
        >>> space.events().to_frame()[["type", "payload.price"]].values.tolist()
        [['order.paid', 3]]
        """
        import pandas as pd

        data: dict[str, Any] = {"time": times(event.time for event in self)}
        for name in ("type", "sender", "id", "cause", "correlation"):
            data[name] = [getattr(event, name) for event in self]
        data |= _payloads(self, flatten=flatten)
        return frame(pd.Index([event.sequence for event in self], name="sequence"), data)


def _payloads(events: Sequence[Event], *, flatten: bool) -> dict[str, list[Any]]:
    """The columns of the payloads; what is no mapping has one of its own."""
    if not flatten:
        return {"payload": [event.payload for event in events]}
    payloads = [event.payload for event in events]
    mappings = [payload if isinstance(payload, Mapping) else {} for payload in payloads]
    keys = dict.fromkeys(key for payload in mappings for key in payload)
    columns = {f"payload.{key}": [payload.get(key) for payload in mappings] for key in keys}
    others = [None if isinstance(payload, Mapping) else payload for payload in payloads]
    return {**columns, "payload": others} if any(other is not None for other in others) else columns
