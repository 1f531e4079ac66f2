"""One server a store, shared by processes, and gone after the last."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
from processes import (
    answer_of,
    eventually,
    everything_of,
    is_at_rest,
    kill,
    servers_of,
    supervisors_of,
)

from happen_nb._server.supervision.main import Clients


def test_processes_that_join_share_one_server(start, folder):
    kernels = [start() for _ in range(3)]
    assert len({kernel.joined["url"] for kernel in kernels}) == 1
    assert len(servers_of(folder)) == 1
    assert len(supervisors_of(folder)) == 1


def test_processes_that_join_at_the_same_time_share_one_server(start, folder):
    kernels = [start(wait=False) for _ in range(4)]
    assert len({kernel.hear()["url"] for kernel in kernels}) == 1
    assert len(servers_of(folder)) == 1
    assert eventually(lambda: len(supervisors_of(folder)) == 1)


def test_a_second_join_starts_nothing(start):
    assert start().joined["spawned"]
    assert not start().joined["spawned"]


def test_after_the_last_has_left_nothing_runs_and_the_lock_is_free(start, folder):
    first, second = start(), start()
    first.leave()
    assert second.ask("running")
    second.leave()
    assert eventually(lambda: is_at_rest(folder), 5)


def test_after_the_last_was_killed_nothing_runs_and_the_lock_is_free(start, folder):
    start().kill()
    assert eventually(lambda: is_at_rest(folder), 5)


def test_the_server_does_not_wait_after_a_member_reports_done(start, folder):
    first, second = start(), start()
    first.finish()
    assert second.ask("running")
    second.finish()
    assert eventually(lambda: is_at_rest(folder))


@pytest.mark.parametrize(("lines", "done"), [([b"done\n"], True), ([], False)])
def test_only_the_report_of_the_last_member_to_leave_counts(lines, done):
    clients = Clients("ask", "answer", lambda: "welcome\n")
    for said in ([] if done else [b"done\n"], lines):
        with socket.create_connection(("127.0.0.1", clients.port)) as member:
            for line in (b"hello ask\n", *said):
                member.sendall(line)
                assert eventually(lambda: clients.serve(0.01) or clients.joined)
        assert eventually(lambda: clients.serve(0.01) or not clients.joined)
    assert clients.done == done
    clients.close()


def test_a_process_that_joins_within_the_grace_period_gets_the_same_server(start, folder):
    start().leave()
    server = servers_of(folder)
    again = start()
    assert not again.joined["spawned"]
    assert servers_of(folder) == server


def test_the_next_session_has_the_same_port_and_token(start, folder):
    first = start()
    first.finish()
    assert eventually(lambda: is_at_rest(folder))
    second = start()
    assert second.joined["spawned"]
    assert (second.joined["url"], second.joined["token"]) == (first.joined["url"], first.joined["token"])


def test_the_process_that_started_the_server_has_no_dead_child_left_when_it_ended(start, folder):
    kernel = start()
    kernel.ask("finish")
    assert eventually(lambda: is_at_rest(folder), 5)
    assert eventually(lambda: children_of(kernel.pid) == "")


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_an_interrupt_of_the_kernels_process_group_does_not_reach_the_server(start, folder):
    kernel = start()
    before = everything_of(folder)
    os.killpg(kernel.pid, signal.SIGINT)
    assert kernel.ask("running")
    assert everything_of(folder) == before
    assert all(os.getsid(process.pid) != kernel.pid for process in before)


def test_connecting_needs_the_token(start):
    kernel = start()
    right, wrong = (
        f'CONNECT {{"auth_token": "{t}", "verbose": false}}' for t in (kernel.joined["token"], "x")
    )
    assert b"PONG" in answer_of(kernel.port, right, "PING")
    assert b"Authorization Violation" in answer_of(kernel.port, wrong, "PING")


def test_joining_needs_the_secret_that_only_the_user_can_read(start, folder):
    kernel = start()
    known = json.loads((folder / "server.json").read_text())
    assert answer_of(known["control"], "hello x") == b""
    kernel.finish()
    assert eventually(lambda: is_at_rest(folder), 5)


def test_files_with_secrets_are_readable_by_the_user_only(start, folder):
    start()
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("server.json", "nats.conf", "lock")}
    assert set(modes.values()) == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_forked_child_neither_ends_the_server_nor_keeps_it(start, folder):
    kernel = start()
    child = kernel.ask("fork")
    assert (child["running"], child["sockets"]) == (False, 0)
    kill(child["pid"])
    assert kernel.ask("running")
    child = kernel.ask("fork")
    kernel.kill()
    try:
        assert eventually(lambda: is_at_rest(folder), 5)
        os.kill(child["pid"], 0)
    finally:
        kill(child["pid"])


def test_asking_for_another_sync_than_the_server_has_is_logged(start, folder):
    start()
    other = start(sync="always", hear_log=True)
    assert 'sync="default"' in other.process.stderr.readline()


def test_sync_always_is_passed_to_the_server(start, folder):
    start(sync="always")
    assert "sync_interval: always" in (folder / "nats.conf").read_text()


def test_a_copied_folder_gets_a_server_of_its_own(start, folder, tmp_path):
    start()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    other = start(copy)
    try:
        assert len(servers_of(copy)) == 1
        assert (
            other.joined["url"]
            != f"nats://127.0.0.1:{json.loads((folder / 'server.json').read_text())['port']}"
        )
    finally:
        other.finish()
        assert eventually(lambda: is_at_rest(copy))


def test_the_log_is_the_servers(start):
    assert "Server is ready" in start().ask("log")
