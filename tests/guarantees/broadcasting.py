"""Events that are said all the while, whatever happens meanwhile."""

from __future__ import annotations

import threading
from typing import Self

import happen_nb as happen

PAUSE = 0.01
"""Seconds between two broadcasts."""


class Broadcasting:
    """Broadcasts 0, 1, 2, ... in a thread of its own."""

    def __init__(self, space: happen.Space) -> None:
        self.sent: list[int] = []
        self.failed: list[str] = []
        self._space = space
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE):
            try:
                self._space.broadcast("tick", number)
            except happen.HappenError as error:
                self.failed.append(f"{number}: {error}")
            else:
                self.sent.append(number)
            number += 1
