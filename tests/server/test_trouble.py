"""A full disk or a removed store: calls name it, and work continues once it is fixed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from types import SimpleNamespace

import pytest
from processes import eventually, is_at_rest, servers_of, stop

import happen_nb as happen
from happen_nb._journal import outbox
from happen_nb._runtime.io import io_thread

FULL = SimpleNamespace(free=400_000)


@pytest.fixture
def space(folder):
    """A space on a store of its own, whose server then runs for connections with short timeouts, too."""
    with happen.connect(store=folder, name="shop") as space:
        yield space


@pytest.fixture
def orders(space):
    """A node that has a state."""
    return space.create_node("orders", initial={"n": 0})


@pytest.fixture
def stopped(space):
    """Stops the server while a block runs, so that no call has an answer."""
    pid = space.server.pid
    stop(pid)
    yield
    with suppress(ProcessLookupError):  # it was started anew
        os.kill(pid, signal.SIGCONT)


def test_a_call_without_an_answer_names_a_full_disk(orders, folder, monkeypatch, stopped):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: FULL)

    with pytest.raises(happen.OutcomeUnknownError, match=rf"disk of the store {folder} is full \(0\.4 MB"):
        orders.state.set({"n": 1}, timeout=60)


def test_after_a_failed_write_the_server_is_started_anew_when_there_is_room(space, folder):
    node = space.create_node("orders", initial={"n": 1})
    broken = space.server.pid
    with (folder / "server.log").open("a") as log:
        log.write(f"[{broken}] 2026/11/28 20:00:00.000000 [ERR] write 2.blk: no space left on device\n")
    stop(broken)  # as it is after a failed write: it answers nothing any more

    assert node.state.set({"n": 2}, timeout=60).revision == 2

    assert eventually(lambda: space.server.pid not in {None, broken})
    assert [commit.after["n"] for commit in node.state.history()] == [1, 2]


def test_an_unanswered_call_on_a_disk_with_room_waits_for_its_time(orders, stopped):
    with pytest.raises(happen.OutcomeUnknownError, match="does not answer in time"):
        orders.state.set({"n": 1}, timeout=1.5)


def test_a_write_whose_first_reading_has_no_answer_says_that_nothing_was_stored(space, folder):
    with happen.connect(store=folder, name="written_in_vain", timeout=1) as hasty:
        orders, new = hasty.create_node("orders", initial={"n": 0}), hasty.create_node("new")
        orders.state.set({"n": 1})
        pid = hasty.server.pid
        stop(pid)
        try:
            for write in (
                lambda: new.state.set(lambda state: {**state, "n": 1}),
                lambda: orders.state.revert(1),
                orders.delete,
            ):
                with pytest.raises(happen.NotStoredError, match=r"node .*: reading .*; nothing was stored"):
                    write()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_reading_without_an_answer_does_not_say_that_something_may_be_stored(space, folder):
    with happen.connect(store=folder, name="read_in_vain", timeout=1) as hasty:
        node = hasty.create_node("orders", initial={"n": 1})
        commit, pid = node.state.set({"n": 2}), hasty.server.pid
        stop(pid)
        try:
            for read in (
                hasty.events,
                hasty.journal,
                hasty.timeline,
                node.state.history,
                lambda: node.state.get(fresh=True),
                lambda: hasty.at(commit),
            ):
                with pytest.raises(
                    happen.HappenTimeoutError, match=r'^reading the space "read_in_vain": '
                ) as caught:
                    read()
                assert type(caught.value) is happen.HappenTimeoutError
                assert "stored" not in str(caught.value)
        finally:
            os.kill(pid, signal.SIGCONT)


def fill(node):
    for n in range(1, 50):
        node.state.set({"n": n, "text": "x" * 400_000})


@pytest.mark.soak
def test_after_a_full_disk_acknowledged_commits_are_kept_and_sets_work_again(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=True)
    try:
        with happen.connect(store=disk / "store", name="shop") as space:
            node = space.create_node("orders", initial={"n": 0})
            (disk / "other").write_bytes(bytes(shutil.disk_usage(disk).free - 4_000_000))
            with pytest.raises(happen.OutcomeUnknownError, match="is full"):
                fill(node)
            acknowledged = node.state.get("n")
            (disk / "other").unlink()
            after = node.state.set(lambda state: {"n": state["n"], "more": True})
            assert after.after["n"] in (acknowledged, acknowledged + 1)
            stored = [commit.after["n"] for commit in node.state.history()]
            assert stored[: acknowledged + 1] == list(range(acknowledged + 1))
        assert eventually(lambda: is_at_rest(disk / "store"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_calls_name_a_store_that_was_removed_and_connecting_again_starts_anew(space, folder, caplog):
    node = space.create_node("orders", initial={"n": 1})
    heard = []
    node.on("tick", lambda event: heard.append(event.payload))
    (server,) = servers_of(folder)
    shutil.rmtree(folder)
    assert eventually(lambda: server not in servers_of(folder) and space.server.pid)

    with pytest.raises(happen.HappenError, match=rf"{folder} was removed while it was in use.*connect again"):
        node.state.set({"n": 2}, timeout=60)
    with pytest.raises(happen.HappenError, match=rf"{folder} was removed while it was in use.*connect again"):
        node.state.get(fresh=True)
    assert "was removed while it was in use" in caplog.text

    assert happen.connect(store=folder, name="shop") is space
    assert node.state.get() == {}
    assert node.state.set({"n": 3}).revision == 1
    space.broadcast("tick", 1).settle()
    assert heard == [1]


def test_a_space_that_another_process_dropped_is_made_anew_by_connecting_again(space, folder, monkeypatch):
    node = space.create_node("orders", initial={"n": 1})
    io_thread().run(space._log.stream.drop())
    with pytest.raises(happen.HappenError, match="no longer exists: it was dropped; connect again"):
        node.state.get(fresh=True)

    monkeypatch.setattr(outbox, "UNCLEAR_SECONDS", 3600)  # what is known to be dropped is not waited for
    for call in (
        lambda: node.state.set({"n": 2}),
        lambda: space.broadcast("tick"),
        node.state.history,
        lambda: node.state.on("tick", lambda state, event: state),
    ):
        with pytest.raises(happen.HappenError, match="no longer exists: it was dropped; connect again"):
            call()
    monkeypatch.undo()

    assert happen.connect(store=folder, name="shop") is space
    assert node.state.set({"n": 2}).revision == 1


def test_the_process_id_is_that_of_the_new_server_right_after_a_kill(space, folder):
    killed = space.server.pid
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: space.server.pid != killed)
    assert [process.pid for process in servers_of(folder)] == [space.server.pid]


def test_the_process_id_is_known_while_server_json_is_missing(space, folder):
    known = space.server.pid
    (folder / "server.json").unlink()
    assert space.server.pid == known


def test_connecting_again_to_a_server_that_does_not_answer_returns_the_open_space(space, folder):
    with happen.connect(store=folder, name="again", timeout=1) as again:
        node = again.create_node("orders", initial={"n": 1})
        pid = again.server.pid
        stop(pid)
        try:
            assert happen.connect(store=folder, name="again", timeout=1) is again
            assert node.state.get() == {"n": 1}
        finally:
            os.kill(pid, signal.SIGCONT)
