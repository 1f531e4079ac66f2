"""Handlers that wait for replies: circles of them are found, not waited out. On the IO thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from happen_nb.errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.causes import Scope
    from happen_nb._runtime.handling import Box
    from happen_nb._runtime.replies import Answers, Request


class Waiting:
    """Which handlers of this process wait for what.

    Parameters
    ----------
    boxes : mapping of str to Box
        Of the nodes that are handled here.
    answers : Answers
    """

    def __init__(self, boxes: Mapping[str, Box], answers: Answers) -> None:
        self._boxes = boxes
        self._answers = answers

    async def begin(self, scope: Scope | None, request: Request) -> None:
        """A handler, or else somebody who is nobody's reply, begins to wait for one.

        Raises
        ------
        DeadlockError
            Who should reply waits, over however many others, for this handler.
        """
        if scope is None or scope.event is None or (box := self._boxes.get(scope.node)) is None:
            return
        chain = self._circle([scope.node, request.target])
        if chain and not request.done:
            error = DeadlockError(
                f'the reply of "{request.target}" to a handler of "{scope.node}" would never come: each of '
                f"{' -> '.join(chain)} waits for the next; reply first, or do not wait for the result"
            )
            self._refuse(request, error)
            raise error
        scope.waits.append(request)
        request.awaited = True
        if request.event is not None:
            self.awaited(request.event.id)
        self._look(box)

    def end(self, scope: Scope | None, request: Request) -> None:
        """A handler waits no longer."""
        if scope is not None and request in scope.waits:
            scope.waits.remove(request)

    def awaited(self, id: str) -> None:
        """A handler, here or elsewhere, waits for the reply to this event."""
        delivery = self._answers.delivery(id)
        if delivery is not None:
            delivery.awaited = True
            self._look(delivery.box)

    def _look(self, box: Box) -> None:
        """Refuse what waits for a handler to end that itself waits for what led to it."""
        current = box.current
        if current is None:
            return
        ids = {each.event.id for each in current.scope.waits if each.event is not None and not each.done}
        for delivery in list(box.queued):
            if delivery.awaited and not ids.isdisjoint(delivery.event.path):
                delivery.refuse(_circle(box.name, delivery.event))

    def _refuse(self, request: Request, error: DeadlockError) -> None:
        delivery = None if request.event is None else self._answers.delivery(request.event.id)
        if delivery is not None and delivery in delivery.box.queued:
            delivery.refuse(error)

    def _circle(self, chain: list[str]) -> list[str]:
        """The nodes of a chain of waits that ends where it began, if there is one; else nothing."""
        if chain[-1] in chain[:-1]:
            return chain if chain[-1] == chain[0] else []
        box = self._boxes.get(chain[-1])
        current = box.current if box is not None else None
        waits = [] if current is None else [each for each in list(current.scope.waits) if not each.done]
        circles = (self._circle([*chain, each.target]) for each in waits)
        return next((found for found in circles if found), [])


def _circle(node: str, event: EventRecord) -> DeadlockError:
    chain = " -> ".join((*event.path, event.id))
    return DeadlockError(
        f'send of "{event.type}" to node "{node}": its handler waits for the reply to what led to this '
        f"({chain}), so both would wait for ever; reply first, or send without waiting for the result"
    )
