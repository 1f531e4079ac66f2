"""The server that keeps nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from processes import eventually, everything_of, kill, servers_of, stop, supervisors_of


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files, empty."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_two_servers_in_memory_are_two(start, temporary):
    assert start(":memory:").joined["url"] != start(":memory:").joined["url"]


@pytest.mark.parametrize("end", ["leave", "kill"])
def test_nothing_is_left_when_its_process_has_left_or_was_killed(start, temporary, end):
    kernel = start(":memory:")
    getattr(kernel, end)()
    assert eventually(lambda: not list(temporary.iterdir()), 5)
    assert eventually(lambda: not everything_of(kernel.joined["folder"]), 5)


def test_its_data_survive_the_end_of_its_supervisor(start, temporary):
    kernel = start(":memory:")
    folder = Path(kernel.joined["folder"])
    (supervisor,) = supervisors_of(folder)
    kill(supervisor.pid)
    assert eventually(lambda: supervisors_of(folder) and supervisor not in supervisors_of(folder))
    assert eventually(lambda: kernel.ask("running"))
    assert kernel.ask("url") == kernel.joined["url"]
    assert list(temporary.iterdir()) == [folder]


def test_the_next_process_removes_leftovers_of_killed_ones(start, temporary):
    killed = start(":memory:")
    folder = Path(killed.joined["folder"])
    (supervisor,) = supervisors_of(folder)
    stop(supervisor.pid)  # or else it might remove the folder between the two kills
    kill(killed.pid)
    kill(supervisor.pid)
    assert eventually(lambda: not servers_of(folder), 5)
    assert folder.exists()
    living, brief = start(":memory:"), start(":memory:")
    brief.leave()
    assert eventually(lambda: list(temporary.iterdir()) == [Path(living.joined["folder"])])
    assert living.ask("running")


def test_a_server_that_cannot_start_leaves_no_folder(start, temporary):
    assert "(in memory) cannot run" in start(":memory:", disk_full=True).joined["error"]
    assert eventually(lambda: not list(temporary.iterdir()))
