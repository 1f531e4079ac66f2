"""Hints on paths that look like a typo."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import Any, Final

from happen_nb._model.paths import MISSING, Path, lookup, missing_hint, parse_path

_LOOKED_AT: Final = 1_000  # keys


def typo_hint(state: Any, path: Path) -> str | None:
    """Name what is at a path that looks like this one; None if there is something here, or nothing like it.

    Examples
    --------
    >>> typo_hint({"temp": 20}, "tmp")
    'nothing at tmp; there is temp'
    >>> typo_hint({"temp": 20}, "temp"), typo_hint({"temp": 20}, "people")
    (None, None)
    """
    steps = parse_path(path)
    for at, step in enumerate(steps):
        above = lookup(state, steps[:at])
        if lookup(above, (step,), MISSING) is not MISSING:
            continue
        known = list(islice(above, _LOOKED_AT)) if isinstance(above, dict) else []
        return missing_hint(state, steps) or None if get_close_matches(str(step), known) else None
    return None
