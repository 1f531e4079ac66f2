"""The server survives killed processes, and removed or damaged files, while it is in use."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import time

import nats
import pytest
from processes import eventually, is_at_rest, kill, lock_is_free, servers_of, stop, supervisors_of


@pytest.fixture
def kernel(start):
    return start()


def pids(processes):
    return {process.pid for process in processes}


async def publish(kernel, subjects):
    connection = await nats.connect(kernel.joined["url"], token=kernel.joined["token"])
    stream = connection.jetstream()
    await stream.add_stream(name="kept", subjects=["kept.*"])
    for subject in subjects:
        await stream.publish(subject, b"x")
    await connection.close()


async def stored(kernel):
    connection = await nats.connect(kernel.joined["url"], token=kernel.joined["token"])
    info = await connection.jetstream().stream_info("kept")
    await connection.close()
    return info.state.messages


def test_a_killed_server_is_back_on_the_same_port_with_all_it_had_acknowledged(kernel, folder):
    asyncio.run(publish(kernel, [f"kept.{number}" for number in range(200)]))
    (killed,) = servers_of(folder)
    kill(killed.pid)
    assert eventually(lambda: kernel.ask("running") and servers_of(folder) != [killed])
    assert kernel.ask("url") == kernel.joined["url"]
    assert asyncio.run(stored(kernel)) == 200


def test_after_the_supervisor_was_killed_there_is_one_server_and_every_member_has_it(start, kernel, folder):
    others = [start(), start()]
    asyncio.run(publish(kernel, ["kept.1"]))
    (killed,) = supervisors_of(folder)
    kill(killed.pid)
    assert eventually(lambda: supervisors_of(folder) and killed not in supervisors_of(folder))
    assert eventually(lambda: all(k.ask("running") for k in [kernel, *others]))
    assert len(servers_of(folder)) == 1
    assert kernel.ask("url") == kernel.joined["url"]
    assert asyncio.run(stored(kernel)) == 1


def test_after_all_was_killed_but_the_kernel_it_gets_its_server_back(kernel, folder):
    for process in supervisors_of(folder) + servers_of(folder):
        kill(process.pid)
    assert eventually(lambda: kernel.ask("running"))
    assert len(servers_of(folder)) == 1


def test_the_server_ends_when_its_supervisor_and_the_kernel_are_killed(kernel, folder):
    (supervisor,) = supervisors_of(folder)
    kill(kernel.pid)
    kill(supervisor.pid)
    assert eventually(lambda: is_at_rest(folder), 5)


def test_a_server_ends_when_its_supervisor_is_killed_while_starting_it(start, folder):
    for delay in range(0, 20, 2):
        kernel = start()
        (supervisor,), (server,) = supervisors_of(folder), servers_of(folder)
        kill(kernel.pid)
        kill(server.pid)
        time.sleep(delay / 2000)  # the moment is what varies here: before, at and after the fork and the exec
        kill(supervisor.pid)
        assert eventually(lambda: is_at_rest(folder), 5)


def test_an_orphaned_server_is_ended_by_the_next_supervisor(start, folder):
    kernel = start()
    (supervisor,), (server,) = supervisors_of(folder), servers_of(folder)
    stop(server.pid)  # so that it does not notice the end of its supervisor
    kernel.kill()
    kill(supervisor.pid)
    assert not lock_is_free(folder)
    again = start()
    assert again.ask("running")
    assert server.pid not in pids(servers_of(folder))


def test_a_port_taken_in_the_meantime_is_replaced_and_every_member_notified(kernel, folder):
    port = kernel.port
    (supervisor,), (server,) = supervisors_of(folder), servers_of(folder)
    os.kill(supervisor.pid, signal.SIGSTOP)
    kill(server.pid)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert eventually(lambda: bind(squatter, port))
        os.kill(supervisor.pid, signal.SIGCONT)
        assert eventually(lambda: kernel.ask("moves"))
        assert kernel.ask("running")
        assert kernel.ask("moves") == [kernel.ask("url")] != [kernel.joined["url"]]


def bind(listener, port):
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        return False
    return True


def test_a_removed_folder_is_made_again_and_served_with_the_same_token(kernel, folder, start):
    (server,) = servers_of(folder)
    shutil.rmtree(folder)
    assert eventually(lambda: kernel.ask("running") and pids(servers_of(folder)) - {server.pid})
    other = start()
    assert other.joined["token"] == kernel.joined["token"]
    assert len(servers_of(folder)) == 1


def test_a_moved_project_is_not_made_again_in_its_old_place(start, tmp_path):
    project = tmp_path / "project"
    kernel = start(project / ".happen")
    (server,) = servers_of(project / ".happen")
    project.rename(tmp_path / "elsewhere")
    assert eventually(lambda: server not in servers_of(project / ".happen"))
    assert not kernel.ask("running")
    assert not project.exists()
    assert eventually(lambda: lock_is_free(tmp_path / "elsewhere" / ".happen"))


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"\xff\xfe", b"[1]", b'{"control": 99999999, "token": 1}']
)
def test_a_server_file_removed_or_damaged_while_in_use_is_restored(kernel, folder, start, content):
    (folder / "server.json").unlink()
    if content is not None:
        (folder / "server.json").write_bytes(content)
    other = start()
    assert other.joined["url"] == kernel.joined["url"]
    assert other.joined["token"] == kernel.joined["token"]
    assert len(servers_of(folder)) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 60_000, b'{"serving": true, "port": -1}'])
def test_a_damaged_server_file_does_not_prevent_a_start(folder, start, content):
    folder.mkdir()
    (folder / "server.json").write_bytes(content)
    (folder / "server.json.1.tmp").write_bytes(b"half")
    assert start().ask("running")
    assert not list(folder.glob("*.tmp"))


def test_a_server_file_of_a_time_before_a_crash_does_not_prevent_a_start(folder, start, kernel):
    stale = (folder / "server.json").read_bytes()
    kernel.finish()
    assert eventually(lambda: is_at_rest(folder), 5)
    (folder / "server.json").write_bytes(stale)
    assert start().ask("running")


def test_a_process_that_has_got_the_recorded_id_of_a_server_is_not_touched(folder, start, kernel):
    stale = (folder / "server.json").read_text()
    (server,) = servers_of(folder)
    kernel.finish()
    assert eventually(lambda: is_at_rest(folder), 5)
    bystander = start(":memory:")
    (folder / "server.json").write_text(stale.replace(str(server.pid), str(bystander.pid)))
    assert start().ask("running")
    assert bystander.ask("running")


def test_a_token_that_others_could_read_is_replaced(folder, start, kernel):
    kernel.finish()
    assert eventually(lambda: is_at_rest(folder), 5)
    (folder / "server.json").chmod(0o644)
    assert start().joined["token"] != kernel.joined["token"]


def test_a_stranger_on_the_recorded_control_port_is_not_believed(folder, start, kernel):
    stale = (folder / "server.json").read_text()
    kernel.finish()
    assert eventually(lambda: is_at_rest(folder), 5)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        control = f'"control": {stranger.getsockname()[1]}'
        (folder / "server.json").write_text(
            stale.replace(stale[stale.index('"control"') :].split(",")[0], control)
        )
        assert start().ask("running")


def test_a_supervisor_that_is_asked_to_end_ends_in_good_order_and_its_members_start_the_next(kernel, folder):
    (supervisor,) = supervisors_of(folder)
    os.kill(supervisor.pid, signal.SIGTERM)
    assert eventually(lambda: supervisors_of(folder) and supervisor not in supervisors_of(folder))
    assert eventually(lambda: kernel.ask("running"))
    assert len(servers_of(folder)) == 1
