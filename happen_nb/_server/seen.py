"""How far each space of a store was when a process last saw it, so that a loss is noticed at the next start.

nats-server starts without a word on a store whose file is damaged, and leaves out what it cannot read.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from happen_nb._server.supervision import hints
from happen_nb._server.supervision.belongings import SEEN

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("happen_nb")


class Seen:
    """How far a space is, in a file of its store: a hint, which two processes may overwrite at once.

    Parameters
    ----------
    store : pathlib.Path
    stream : str
        The stream of the space.
    created : str
        When the stream was made: another one of its name begins anew.
    """

    def __init__(self, store: Path, stream: str, created: str) -> None:
        self._store = store
        self._stream = stream
        self._created = created

    @property
    def last(self) -> int:
        """The sequence that was noted last; 0 if none was."""
        match self._read().get(self._stream):
            case [str(created), int(sequence)] if created == self._created:
                return sequence
        return 0

    def warn_of_loss(self, space: str, last: int) -> None:
        """Log that the space ends at `last` and was further before."""
        if last < self.last:
            log.warning(
                'the space "%s" ends at message %s, and was at %s before: what was stored in between is '
                "lost, by a damaged file in %s or a power failure",
                space,
                f"{last:,}",
                f"{self.last:,}",
                self._store,
            )

    def note(self, position: int) -> None:
        """Note the position; a store that was removed is not made again by that."""
        content = json.dumps({**self._read(), self._stream: [self._created, position]}).encode()
        try:
            hints.write_private(str(self._store / SEEN), content)
        except OSError as error:
            log.debug("noting how far %s is: %s", self._stream, error)

    def _read(self) -> dict[str, object]:
        try:
            found = json.loads(hints.read_file(str(self._store), SEEN) or b"")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
