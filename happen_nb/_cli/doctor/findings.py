"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    verdict : "ok", "note" or "wrong"
        A note is something that one may want to know; happen_nb works all the same.
    text : str
    mend : str, optional
        What to do about it.

    Examples
    --------
    >>> print(Finding("wrong", "pandas is missing", 'pip install "pandas>=2.2"'))
      wrong  pandas is missing
             -> pip install "pandas>=2.2"
    """

    verdict: Literal["ok", "note", "wrong"]
    text: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"  {self.verdict:<5}  {self.text}"
        return f"{line}\n         -> {self.mend}" if self.mend else line


def ok(text: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", text)


def note(text: str, mend: str = "") -> Finding:
    """One may want to know it."""
    return Finding("note", text, mend)


def wrong(text: str, mend: str = "") -> Finding:
    """It keeps happen_nb from working."""
    return Finding("wrong", text, mend)
