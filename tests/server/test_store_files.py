"""A store may contain foreign files: they stay unchanged, and other users cannot read the server's files."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from processes import end_everything_of, eventually, is_at_rest

import happen_nb as happen
from happen_nb._server import join
from happen_nb._server.store import remove_store
from happen_nb._server.supervision import store_folder
from happen_nb.errors import HappenConnectionError

CONFIG_OF_0_1 = """\
listen: "127.0.0.1:20123"
authorization { token: "0123456789abcdef0123456789abcdef" }
max_payload: 8MB
log_file: "server.log"
logfile_size_limit: 1MB
logfile_max_num: 2
jetstream { store_dir: "." }
"""


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("nats.conf", "port: 4222 # my own server"),
        ("nats.conf", CONFIG_OF_0_1 + "http: 8222\n"),
        ("server.json", '{"mine": true}'),
        ("server.json", '{"host": "0.0.0.0", "port": 8080}'),
        ("server.json", "not even JSON"),
        ("server.log", "my own log"),
        ("lock", "a lock file of another program"),
        ("foreground", "a note"),
        ("seen.json", '{"mine": true}'),
        ("seen.json", "films that I have seen"),
        ("jetstream/$G/streams/orders/meta.inf", "data of another nats-server"),
    ],
)
def test_a_folder_with_foreign_files_that_a_server_would_change_is_refused(tmp_path, name, content):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    before = contents(tmp_path)

    with pytest.raises(HappenConnectionError, match=rf"{tmp_path} cannot be used: its {name.split('/')[0]} "):
        join(tmp_path)

    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("nats.conf", "port: 4222 # my own server"), ("server.json", '{"mine": true}'), ("lock", "mine")],
)
def test_the_name_of_a_folder_does_not_make_its_files_ours(folder, name, content):
    folder.mkdir()
    (folder / name).write_text(content)

    with pytest.raises(HappenConnectionError, match=name):
        join(folder)

    assert (folder / name).read_text() == content


def test_other_files_beside_a_server_stay(tmp_path):
    others = ["results.tmp", "nats.conf.old", "server.json.tmp", "nats.conf.x.tmp", "server.log.txt", "table"]
    for name in others:
        (tmp_path / name).write_text(name)
    (tmp_path / "server.json.4711.tmp").write_text("left by a killed supervisor")

    join(tmp_path).close(at_once=True)
    assert eventually(lambda: is_at_rest(tmp_path))
    left = remove_store(tmp_path)

    assert left == sorted(others)
    assert contents(tmp_path) == {name: name.encode() for name in others}


def test_a_store_of_version_0_1_opens_with_its_port_and_token(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "lock").touch(0o600)
    (tmp_path / "server.json").write_text(
        f"""{{"host": "lab 5", "serving": false, "control": 20001, "ask": "aa", "answer": "bb",
        "supervisor": 17, "port": {port}, "token": "0123456789abcdef0123456789abcdef", "name": "happen01",
        "pid": 18, "sync": "default", "lock": {(tmp_path / "lock").stat().st_ino}}}"""
    )
    (tmp_path / "server.json").chmod(0o600)
    (tmp_path / "nats.conf").write_text(CONFIG_OF_0_1)
    (tmp_path / "server.log").write_text("[18] 2026/11/25 10:00:00.000000 [INF] Server Exiting..\n")

    server = join(tmp_path)

    assert (server.url, server.token) == (f"nats://127.0.0.1:{port}", "0123456789abcdef0123456789abcdef")
    server.close(at_once=True)
    assert eventually(lambda: is_at_rest(tmp_path))


def test_a_file_that_a_power_failure_left_empty_is_no_obstacle(tmp_path):
    for name in ("nats.conf", "server.json"):
        (tmp_path / name).write_bytes(b"\0" * 200)
    server = join(tmp_path)
    assert server.running
    server.close(at_once=True)
    assert eventually(lambda: is_at_rest(tmp_path))


def test_a_store_that_is_open_to_others_is_closed_to_them(folder):
    folder.mkdir()
    folder.chmod(0o777)
    join(folder).close(at_once=True)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_with_other_files_that_others_can_write_in_is_refused(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "table.csv").touch()
    shared.chmod(0o777)

    with pytest.raises(HappenConnectionError, match=r"its mode is 777.*chmod go-w"):
        join(shared)

    assert [path.name for path in shared.iterdir()] == ["table.csv"]
    assert shared.stat().st_mode & 0o777 == 0o777


def test_a_server_file_of_another_user_is_not_believed(folder, monkeypatch):
    join(folder).close(at_once=True)
    assert eventually(lambda: is_at_rest(folder))
    fstat = os.fstat

    def as_of_another_user(fd):
        found = fstat(fd)
        return os.stat_result((*found[:4], found.st_uid + 1, *found[5:]))

    monkeypatch.setattr(os, "fstat", as_of_another_user)
    assert store_folder.read_info(str(folder)).token == ""
    with pytest.raises(HappenConnectionError, match=r"is not a file of yours"):
        join(folder)


def abandoned(parent: Path, name: str, pid: int) -> Path:
    """The folder of an in-memory server that seems to be left, with an orphan that seems to serve it."""
    folder = parent / f"{store_folder.MEMORY_PREFIX}{name}"
    folder.mkdir(mode=0o700)
    for file in (store_folder.ALIVE, store_folder.LOCK):
        (folder / file).touch(0o600)
    (folder / "server.json").write_text(
        f"""{{"host": "", "serving": true, "control": 1, "ask": "a", "answer": "b", "supervisor": 1,
        "port": 1, "name": "sleep", "pid": {pid}, "lock": {(folder / store_folder.LOCK).stat().st_ino}}}"""
    )
    return folder


def test_only_folders_that_no_other_user_can_have_created_are_removed(tmp_path):
    with subprocess.Popen(["sleep", "60"]) as bystander:
        ours = abandoned(tmp_path, "ours", bystander.pid)
        held = abandoned(tmp_path, "held", bystander.pid)
        opened = abandoned(tmp_path, "open", bystander.pid)
        opened.chmod(0o755)
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        linked = tmp_path / f"{store_folder.MEMORY_PREFIX}link"
        linked.symlink_to(abandoned(tmp_path / "elsewhere", "there", bystander.pid))
        trap = abandoned(tmp_path, "trap", bystander.pid)
        (trap / store_folder.LOCK).unlink()
        (trap / store_folder.LOCK).symlink_to(tmp_path / "made-by-a-link")

        taken = store_folder.try_acquire(str(held / store_folder.LOCK))
        try:
            store_folder.sweep(str(tmp_path / f"{store_folder.MEMORY_PREFIX}own"))
        finally:
            os.close(taken)

        assert bystander.poll() is None
        bystander.kill()
    assert not ours.exists()
    assert held.exists()
    assert opened.exists()
    assert linked.exists()
    assert not (tmp_path / "made-by-a-link").exists()


def test_the_copy_of_a_store_is_another_space_in_the_same_process(folder, tmp_path):
    server = join(folder)
    with happen.connect(store=folder, name="shop") as space:
        space.create_node("n", initial={"from": "original"})
    server.close(at_once=True)
    assert eventually(lambda: is_at_rest(folder))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    original = happen.connect(store=folder, name="shop")
    with original as first, happen.connect(store=copy, name="shop") as second:
        second.create_node("n").state.set({"from": "copy"})
        assert first.create_node("n").state.get(fresh=True) == {"from": "original"}
    for store in (folder, copy):
        end_everything_of(store)


def test_invalid_members_of_server_json_are_ignored():
    info = store_folder.parse_info(b'{"port": 20123, "token": "a b", "pid": "7", "other": 1}')
    assert (info.port, info.token, info.pid) == (20123, "", 0)
    assert not store_folder.is_info(b'{"host": "0.0.0.0", "port": 80}')
    assert store_folder.is_info(store_folder.ServerInfo().as_json())
