"""The folder of a server that keeps nothing: removed at the end, or by the next one if all were killed."""

from __future__ import annotations

import os
from pathlib import Path

from happen_nb._server.store import unusable
from happen_nb._server.supervision import lock


class PrivateFolder:
    """A new temporary folder, with a locked file that says that its process lives."""

    def __init__(self) -> None:
        try:
            self.path, self._alive = _make()
        except OSError as error:
            raise unusable(None, f"no temporary folder can be made: {error}") from error

    def let_go(self) -> None:
        """Say that this process does not need it any more; its supervisor removes it."""
        if self._alive >= 0:
            os.close(self._alive)
        self._alive = -1

    def remove(self) -> None:
        """Remove it, if there is no supervisor that would."""
        self.let_go()
        lock.remove_folder(str(self.path))


def _make() -> tuple[Path, int]:
    import tempfile

    while True:
        folder = tempfile.mkdtemp(prefix=lock.PREFIX)
        try:
            alive = lock.try_take(os.path.join(folder, lock.ALIVE))  # noqa: PTH118
        except OSError:
            lock.remove_folder(folder)
            raise
        if alive is not None:
            return Path(folder).absolute(), alive
