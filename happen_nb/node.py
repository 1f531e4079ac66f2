"""A node: a named owner of one state."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from happen_nb.errors import InvalidNameError
from happen_nb.runtime.bridge import wait_for, wait_in_loop
from happen_nb.shown import Shown
from happen_nb.state import State

if TYPE_CHECKING:
    from happen_nb.space import Space

RESERVED = "notebook"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Node(Shown, kind="node"):
    """A named owner of one state; made by ``create_node``.

    Attributes
    ----------
    name : str
    space : Space
    state : State

    Examples
    --------
    >>> node = space.create_node("customer-service", initial={"customers": {}})
    >>> node.state.get()
    {'customers': {}}
    """

    def __init__(self, space: Space, name: str) -> None:
        self.name = name
        self.space = space
        self.state = State(self)

    def delete(self) -> None:
        """Remove the node's state, for every process; its history stays, and revisions count on."""
        wait_for(self._delete())

    async def adelete(self) -> None:
        """`delete`, to await."""
        await wait_in_loop(self._delete())

    async def _delete(self) -> None:
        await self.state._delete()
        self.space._forget(self)


def check_name(name: object, what: str) -> str:
    """The name, if a `what` ("node", "space") may have it.

    Raises
    ------
    InvalidNameError
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidNameError(f"a {what} cannot be named {name!r}: use 1 to 64 of A-Z a-z 0-9 _ -")
    if what == "node" and name == RESERVED:
        raise InvalidNameError(f'no node may be named "{RESERVED}": that is the person at the keyboard')
    return name
