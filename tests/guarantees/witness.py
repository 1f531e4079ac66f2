"""The notes of the handlers of all processes of a test, in one file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple


class Note(NamedTuple):
    """The note of a handler: its name, its event, and what it did."""

    pid: int
    node: str
    word: str
    type: str
    payload: Any
    event: str
    sequence: int


class Witness:
    """The notes of ``event_peer.py``'s handlers; they survive the processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def notes(self, word: str = "begun") -> list[Note]:
        """All notes of a kind, in the order in which they were written."""
        lines = (Note(*json.loads(line)) for line in self.path.read_text().splitlines())
        return [note for note in lines if note.word == word]

    def handled(self, node: str | None = None) -> list[Any]:
        """The payloads of the events that a node, or any, has begun to handle."""
        return [note.payload for note in self.notes() if node in (None, note.node)]

    def doubled(self) -> list[tuple[str, str]]:
        """Event and node, where it was handled more than once."""
        times = Counter((note.event, note.node) for note in self.notes())
        return [key for key, count in times.items() if count > 1]
