"""Select the states that a fork copies."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from happen_nb._model.arguments import check_name
from happen_nb.errors import HistoryGoneError, InvalidNameError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from happen_nb._api.moment import Moment
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.records import CommitRecord

log = logging.getLogger("happen_nb")


def states_now(records: Iterable[CommitRecord]) -> dict[str, FrozenDict]:
    """Return the states by node; leave out and log invalid ones, which other clients have stored."""
    states: dict[str, FrozenDict] = {}
    for record in records:
        record.check()
        if record.deleted:
            continue
        try:
            states[check_name(record.node, "node")] = record.state
        except (InvalidNameError, StateError) as error:
            log.warning('fork: "%s" is left out, another client stored it: %s', record.node, error)
    return states


def states_then(moment: Moment) -> dict[str, FrozenDict]:
    """Return the states of a snapshot; raise HistoryGoneError if some are no longer stored."""
    if moment.gone:
        gone = ", ".join(moment.gone)
        raise HistoryGoneError(f"fork: the states of {gone} at that time are no longer stored")
    return states_now(moment._then(name).record for name in moment)
