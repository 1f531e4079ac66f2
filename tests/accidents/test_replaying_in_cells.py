"""A replay in a notebook: followed below its cell, stopped by the stop button or when its cell runs again."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.accidents.kernels import SAY_WHEN_IT_WAITS, WITHIN

PICTURES = ("display_data", "update_display_data", "execute_result")
ROWS = """
import itertools, threading
may_go = threading.Semaphore(0)

def rows(count):
    for n in range(count):
        may_go.acquire()
        yield {'n': n}

def endless():
    return ({'n': n} for n in itertools.count())
"""
DONE = "Replay of row · done · 4 events"


@pytest.fixture(autouse=True)
def _rows(kernel):
    kernel.do(ROWS)
    yield
    kernel.do("may_go.release(999)")


def pictures(run):
    """Kind and text of everything that was shown below a cell, in its order."""
    shown = [message for message in run.messages if message["msg_type"] in PICTURES]
    return [(message["msg_type"], message["content"]["data"]["text/plain"]) for message in shown]


def test_a_replay_that_ends_a_cell_is_followed_there(kernel):
    cell = kernel.do("space.replay(rows(4), type='row')")
    assert pictures(cell) == [("display_data", "Replay of row · running · 0 events")]

    kernel.do("may_go.release(2)")
    cell.until(lambda run: "running · 2 events" in pictures(run)[-1][1])
    kernel.do("may_go.release(2)")
    cell.until(lambda run: pictures(run)[-1][1] == DONE)
    assert {kind for kind, _ in pictures(cell)[1:]} == {"update_display_data"}


def test_with_known_rows_there_is_a_bar(kernel):
    cell = kernel.do(
        "space.replay([{'n': n} for n in range(600)], type=lambda row: row['n'] < 300 and 'row'"
        " or (may_go.acquire() and 'row'))"
    )
    cell.until(lambda run: "██████████░░░░░░░░░░ 300 of 600" in pictures(run)[-1][1])
    kernel.do("may_go.release(300)")
    cell.until(lambda run: pictures(run)[-1][1] == "Replay · done · 600 events")


@pytest.mark.parametrize("cell", ["cell-1", None], ids=["cell ids", "no cell ids"])
def test_running_the_cell_again_stops_the_replay_before_it(kernel, cell):
    code = "replays = globals().get('replays', []) + [space.replay(endless(), type='row')]"
    kernel.do("replays = []")
    kernel.do(code, cell)
    kernel.do(code, cell)
    assert kernel.ask("[replay.state for replay in replays]") == ["stopped", "running"]
    kernel.do("replays[1].stop()")


def test_the_stop_button_during_wait_stops_it_and_the_space_stays_usable(kernel):
    kernel.do(f"{SAY_WHEN_IT_WAITS}\nreplay = space.replay(endless(), type='row')")
    run = kernel.begin("say_when_it_waits(); replay.wait()")
    run.until(lambda run: "it waits" in run.stdout)
    kernel.press_stop()

    assert run.wait().error.startswith("KeyboardInterrupt")
    assert kernel.ask("replay.state") == "stopped"
    assert kernel.ask("[e.payload['n'] for e in space.events()] == list(range(replay.stored))")


def test_what_handlers_print_stands_below_the_cell_of_the_replay(kernel):
    kernel.do("orders.on('row', lambda event: print('row', event.payload['n']));")
    cell = kernel.do("replay = space.replay([{'n': 1}, {'n': 2}], type='row')")
    other = kernel.do("space.settle()")
    cell.until(lambda run: run.stdout == "row 1\nrow 2\n")
    assert other.stdout == ""


def test_an_error_is_shown_where_the_replay_is(kernel):
    cell = kernel.do("space.replay([{'n': 1}, {'n': {1}}], type='row')")
    cell.until(
        lambda run: "failed · 1 of 2 events\n  PayloadError: replay: row 1 at n:" in pictures(run)[-1][1]
    )
    assert cell.stderr == ""


def test_who_waits_for_it_has_the_last_picture_in_the_saved_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPPEN_STORE", ":memory:")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    connect = "import happen_nb\nspace = happen_nb.connect(name='saved')\n"
    show = "replay = space.replay(rows(4), type='row')\ndisplay(replay)\n"
    cells = [connect + ROWS]
    for finish in ("replay.wait()", "await replay"):
        cells += [show, f"may_go.release(4)\n{finish}", f"{show}may_go.release(4)\n{finish};"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=WITHIN, kernel_name="python3").execute(cwd=str(tmp_path))
    for cell in notebook.cells[1:]:
        assert [output["data"]["text/plain"] for output in cell.outputs] == [DONE]
