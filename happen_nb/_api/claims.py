"""The calls that open a space: one that fails closes what it has opened, unless another call has it, too."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from happen_nb._api.base import runtime_of
from happen_nb._runtime.io import on_io
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._api.space import Space


class Claims:
    """The calls that are opening spaces; `forget` removes a space from those that later calls return."""

    def __init__(self, forget: Callable[[Space], None]) -> None:
        self.opening = asyncio.Lock()
        self.unsettled: dict[Space, set[Claim]] = {}
        """The spaces that no call has returned yet, with the calls that are to return them."""
        self.forget = forget


class Claim:
    """One call that opens a space, or gets the one that is open."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._space: Space | None = None
        self.is_new = False
        """True if this call has opened the space."""

    @property
    def space(self) -> Space:
        assert self._space is not None
        return self._space

    def take(self, space: Space, *, is_new: bool = False) -> None:
        """Get a space. On the IO thread, while `Claims.opening` is locked."""
        self._space, self.is_new = space, is_new
        if is_new:
            self._claims.unsettled[space] = {self}
        elif space in self._claims.unsettled:
            self._claims.unsettled[space].add(self)

    def keep(self) -> None:
        """Let the space stay open, whatever becomes of other calls."""
        self._claims.unsettled.pop(self.space, None)

    async def give_up(self, *, drop: bool = False) -> None:
        """Close the space, unless it was open before or another call has it; `drop` deletes a new one."""
        if await on_io(self._release(drop=drop)):
            await self.space._close()

    async def _release(self, *, drop: bool) -> bool:
        """Return whether no other call has the space. On the IO thread."""
        async with self._claims.opening:  # after this call, if it was interrupted
            space = self._space
            callers = None if space is None else self._claims.unsettled.get(space)
            if space is None or callers is None:
                return False
            callers.remove(self)
            if callers:
                return False
            del self._claims.unsettled[space]
            self._claims.forget(space)
            if drop:
                with suppress(HappenError):  # the server does not answer
                    await runtime_of(space).log.stream.drop_new()
            return True
