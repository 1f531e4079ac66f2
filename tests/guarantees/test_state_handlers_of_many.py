"""Many processes, many nodes, and many events: state handlers compute what one process would."""

from __future__ import annotations

import logging
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import happen_nb as happen
from tests.guarantees.applying import price
from tests.guarantees.histories import History
from tests.guarantees.life import name as cell
from tests.guarantees.processes import Processes

log = logging.getLogger(__name__)

SOAK = [pytest.mark.soak, pytest.mark.timeout(3600)]
MAX_REFUSED = 0.05
"""Of the commits that processes with the same handler try."""


@pytest.mark.parametrize(("number", "events"), [(3, 100), pytest.param(30, 1000, marks=SOAK)])
def test_many_processes_with_the_same_handler_apply_each_event_once_and_hardly_try_in_vain(
    url: str, name: str, processes: Processes, number: int, events: int
) -> None:
    with happen.connect(url, name=name, timeout=30) as space:
        loads = [processes.load("count", "applying.py", url=url, space=name, nodes=1) for _ in range(number)]
        for load in loads:
            load.wait_ready(within=60 + 10 * number)
        space.replay(({"n": n} for n in range(events)), type="n").wait(60)
        node = space.create_node("n0")
        node.state.wait_for(lambda state: len(state.get("seen", ())) >= events, timeout=60)
        for load in loads:
            load.say()
        calls = sum(load.hear() for load in loads)

        assert [each["n"] for each in node.state.get("seen", fresh=True)] == list(range(events))
        assert node.state.revision == events
        log.info("%d processes, %d events: the transform was called %d times", number, events, calls)
        assert calls <= (1 + MAX_REFUSED) * events


@pytest.mark.parametrize(("size", "ticks", "parts"), [(6, 4, 2), pytest.param(20, 30, 3, marks=SOAK)])
def test_a_game_of_life_in_several_processes_is_that_of_numpy_at_every_tick(
    url: str, name: str, processes: Processes, seed: int, size: int, ticks: int, parts: int
) -> None:
    board = np.random.default_rng(seed).integers(0, 2, (size, size))
    cells = list(product(range(size), repeat=2))
    with happen.connect(url, name=name, timeout=30) as space:
        for x, y in cells:
            space.create_node(cell(x, y, size), initial={"alive": int(board[x, y])})
        loads = [
            processes.load("live", "life.py", url=url, space=name, size=size, part=part, parts=parts)
            for part in range(parts)
        ]
        for load in loads:
            load.wait_ready()
        for tick in range(ticks):
            space.broadcast("tick").settle(timeout=60)
            around = sum(
                np.roll(board, step, (0, 1)) for step in product((-1, 0, 1), repeat=2) if step != (0, 0)
            )
            board = ((around == 3) | ((around == 2) & (board == 1))).astype(int)
            alive = space.views.collect(dict.fromkeys((cell(x, y, size) for x, y in cells), "alive"))
            found = np.array([alive[cell(x, y, size)] for x, y in cells]).reshape(size, size)
            assert (found == board).all(), f"seed {seed}, tick {tick}"


@pytest.mark.parametrize("events", [60, pytest.param(2000, marks=SOAK)])
def test_a_projection_from_the_beginning_equals_what_was_applied_live(
    url: str, name: str, processes: Processes, seed: int, events: int
) -> None:
    choose = random.Random(seed)
    with happen.connect(url, name=name, history=10 * events) as space:
        prices, live = space.create_node("prices"), space.create_node("live")
        live.state.on("n", price)
        for number in range(events):
            if choose.random() < 0.3:
                prices.state.set({"lamp": number})
            space.broadcast("n", number)
        space.settle(timeout=60)
        peer = processes.peer(url, name)
        peer.ask("apply", node="later", pattern="n", how="price", start="beginning")
        peer.ask("settle_all")
        later = space.create_node("later")
        later.state.get(fresh=True)

        assert [each.after for each in later.state.history()] == [each.after for each in live.state.history()]
        assert [each.cause for each in later.state.history()] == [each.cause for each in live.state.history()]
        assert live.state.revision == events


@pytest.mark.parametrize(("size", "width", "times"), [(2, 4, 300), pytest.param(5, 20, 30_000, marks=SOAK)])
def test_a_history_with_state_handlers_is_as_if_one_thing_happened_after_the_other(
    url: str, name: str, processes: Processes, seed: int, tmp_path: Path, size: int, width: int, times: int
) -> None:
    with happen.connect(url, name=name, history=10_000_000) as space:
        history = History(space, processes, tmp_path, width, applying=True)
        history.act([url] * size, seed, times=times, timeout=60)

        problems = history.finish(within=3000)
        assert not problems, f"seed {seed}\n{problems}"
        applied = sum(bool(entry.seen) for entry in history.journal)
        assert applied >= times / 3
        log.info("%d operations, %d events applied", len(history.operations), applied)
