"""``happen server``: the embedded server in the foreground."""

from __future__ import annotations

import signal

import pytest

from happen_nb._server.store import store_status
from tests.cli.commands import WAIT, happen, server, starting, visitor
from tests.server.processes import eventually, is_at_rest, kill, servers_of


def test_it_prints_where_it_is_and_how_to_connect(folder, start):
    running = start(server, folder)
    said = "\n".join(running.lines)
    assert store_status(folder).url in said
    assert f'happen.connect(store="{folder}")' in said
    assert store_status(folder).info.token not in said


def test_it_shows_the_token_only_when_asked(folder, start):
    running = start(server, folder, "--show-token")
    token = store_status(folder).info.token
    assert token in "\n".join(running.lines)
    running.end()
    start(visitor, folder).leave()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_all_that_it_started(folder, start, number):
    code, said = start(server, folder).end(number)
    assert code == 0, said
    assert is_at_rest(folder)


def test_processes_of_the_store_use_it(folder, start):
    running = start(server, folder)
    start(visitor, folder).leave()
    assert [found.pid for found in servers_of(folder)] == [store_status(folder).info.pid]
    running.end()
    assert is_at_rest(folder)


def test_the_server_continues_for_other_connected_processes(folder, start):
    running = start(server, folder)
    other = start(visitor, folder)
    code, said = running.end()
    assert (code, str(other.pid) in said) == (0, True)
    assert store_status(folder).state == "serving"
    other.leave()
    assert eventually(lambda: is_at_rest(folder))


def test_a_second_one_is_refused_with_the_address_of_the_first(folder, start):
    start(server, folder)
    second = happen("server", "--store", folder, cwd=folder.parent)
    known = store_status(folder)
    assert second.returncode == 1
    assert known.url in second.stderr
    assert f"process {known.info.pid}" in second.stderr
    assert f'happen.connect(store="{folder}")' in second.stderr


@pytest.mark.parametrize("processes", [3, pytest.param(8, marks=pytest.mark.soak)])
def test_of_several_started_together_one_serves_and_the_others_name_it(folder, start, processes):
    started = [start(starting, folder) for _ in range(processes)]
    assert eventually(lambda: [each.process.poll() for each in started].count(1) == processes - 1, WAIT)
    (first,) = [each for each in started if each.process.poll() is None]
    first.until("Ctrl-C")
    known = store_status(folder)
    for each in started:
        assert each is first or f"{known.url}, process {known.info.pid}" in each.errors()
    assert first.end()[0] == 0
    assert start(server, folder).end()[0] == 0


def test_a_server_that_notebooks_use_is_named_with_them(folder, start):
    notebook = start(visitor, folder, name="lab")
    refused = happen("server", cwd=folder.parent, HAPPEN_STORE=folder)
    assert refused.returncode == 1
    assert f"process {notebook.pid}" in refused.stderr
    assert 'space "lab"' in refused.stderr


def test_a_server_that_waits_for_its_end_is_no_obstacle(folder, start):
    start(visitor, folder).leave()
    assert store_status(folder).state == "serving"
    assert start(server, folder).end()[0] == 0


def test_it_starts_a_killed_nats_server_again(folder, start):
    running = start(server, folder)
    killed = store_status(folder).info.pid
    kill(killed)
    assert eventually(
        lambda: store_status(folder).state == "serving" and store_status(folder).info.pid != killed
    )
    assert running.end()[0] == 0


def test_it_needs_a_folder(tmp_path):
    refused = happen("server", cwd=tmp_path, HAPPEN_STORE=":memory:")
    assert refused.returncode == 1
    assert "--store FOLDER" in refused.stderr


def test_a_file_in_the_place_of_the_store_is_named(tmp_path):
    (tmp_path / "a-file").write_text("")
    refused = happen("server", "--store", "a-file", cwd=tmp_path)
    assert refused.returncode == 1
    assert "a-file" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_it_warns_that_a_plain_connect_goes_elsewhere(folder, start):
    running = start(server, folder, NATS_URL="nats://ada:secret@127.0.0.1:1")
    code, said = running.end()
    assert code == 0, said
    assert "$NATS_URL is set" in running.errors()
    assert "secret" not in running.errors()
