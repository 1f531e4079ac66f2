"""Connecting to spaces; clearing, listing, dropping and closing them."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import pickle
import signal
import ssl
import threading
import time

import pytest

import happen_nb as happen
from happen_nb._journal import consumer, presence
from happen_nb._journal.stream import Stream
from tests.facade.processes import OtherProcess
from tests.guarantees.servers import Foreign

CLOSED_CALLS = {
    "create_node": lambda space, node: space.create_node("more"),
    "get": lambda space, node: node.state.get(),
    "set": lambda space, node: node.state.set({"n": 2}),
    "revision": lambda space, node: node.state.revision,
    "history": lambda space, node: node.state.history(),
    "at": lambda space, node: node.state.at(1),
    "revert": lambda space, node: node.state.revert(1),
    "watch": lambda space, node: node.state.watch(print),
    "wait_for": lambda space, node: node.state.wait_for(lambda s: True),
    "delete": lambda space, node: node.delete(),
    "views": lambda space, node: space.views["orders"].get(),
    "collect": lambda space, node: space.views.collect({"orders": "n"}),
    "nodes": lambda space, node: list(space.nodes),
    "space.at": lambda space, node: space.at(dt.datetime.now(dt.UTC)),
    "journal": lambda space, node: space.journal(),
    "clear": lambda space, node: space.clear(),
    "fork": lambda space, node: space.fork("more"),
    "drop": lambda space, node: space.drop(),
}


# -- the same space ----------------------------------------------------------------------------------


def test_the_same_arguments_again_give_the_same_space(space, store):
    assert happen.connect(store=store, name=space.name) is space
    assert happen.connect(store=str(store), name=space.name) is space


def test_there_is_one_space_a_server_and_name_in_a_process_however_it_is_reached(space, store):
    url = space.server.url

    assert happen.connect(url, token=space.server.token, name=space.name) is space
    assert happen.connect([url], token=space.server.token, name=space.name) is space
    assert happen.connect(store=store, name=space.name, timeout=9) is space


def test_reaching_a_space_in_another_way_changes_nothing_in_it(space, store):
    orders = space.create_node("orders")
    orders.on("add", lambda event: event.payload)
    orders.on("count", lambda event: orders.state.set(happen.put("n", event.payload)), durable=True)
    orders.state.on("count", lambda state, event: {**state, "sum": state.get("sum", 0) + event.payload})
    for number in range(1, 6):
        assert happen.connect(store=store, name=space.name, timeout=10 + number) is space
        assert space.send("orders", "add", number).result() == number
        space.broadcast("count", number)
    space.settle()
    assert orders.state.get() == {"n": 5, "sum": 15}
    assert not space.unhandled


def test_a_space_that_was_deleted_is_the_same_one_when_it_is_reached_in_another_way(space, store):
    orders = space.create_node("orders", initial={"n": 1})
    with Foreign(space.server.url, token=space.server.token) as foreign:
        foreign.api(f"STREAM.DELETE.KV_happen_{space.name}")
    assert happen.connect(store=store, name=space.name, timeout=9) is space
    assert orders.state.get() == {}
    assert orders.state.set({"n": 2}).revision == 1


def test_many_threads_that_connect_at_once_get_one_space(store):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(happen.connect(store=store, name="at_once")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    found[0].drop()


def test_other_names_are_other_spaces(space, store):
    space.create_node("orders", initial={"n": 1})
    with happen.connect(store=store, name="elsewhere") as elsewhere:
        assert elsewhere is not space
        assert list(elsewhere.views) == []
        elsewhere.create_node("orders", initial={"n": 2})
        assert space.views.orders.get("n") == 1
        elsewhere.drop()


def test_nats_url_is_where_a_plain_connect_goes(space, monkeypatch):
    space.create_node("orders", initial={"n": 1})
    address = space.server.url.replace("nats://", f"nats://{space.server.token}@")
    monkeypatch.setenv("NATS_URL", address)

    plain = happen.connect(name=space.name)

    assert plain.views.orders.get("n") == 1


def test_servers_and_store_together_are_refused(store):
    with pytest.raises(ValueError, match="not both"):
        happen.connect("nats://127.0.0.1:4222", store=store)


@pytest.mark.parametrize(
    "option",
    [
        {"history": 0},
        {"history": -1},
        {"replicas": 0},
        {"replicas": 6},
        {"replicas": 3},
        {"event_ttl": dt.timedelta(0)},
        {"event_ttl": dt.timedelta(days=-1)},
        {"sync": "sometimes"},
        {"timeout": 0},
        {"timeout": -1},
        {"fresh": "yes"},
        {"fresh": 2},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_a_value_error_that_names_it(store, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        happen.connect(store=store, name="never", **option)


@pytest.mark.parametrize(
    "option",
    [
        {"history": 1.5},
        {"history": "many"},
        {"replicas": True},
        {"event_ttl": "1 day"},
        {"token": 5},
        {"user": b"me"},
        {"credentials": 5},
        {"receipts": 2},
    ],
    ids=str,
)
def test_an_option_of_another_type_is_a_type_error_that_names_it(store, option):
    with pytest.raises(TypeError, match=next(iter(option))):
        happen.connect(store=store, name="never", **option)


@pytest.mark.parametrize("option", [{"servers": 5}, {"servers": [5]}, {"store": 5}], ids=str)
def test_a_server_or_store_of_another_type_is_a_type_error_that_names_it(option):
    with pytest.raises(TypeError, match=f"^connect: {next(iter(option))} is "):
        happen.connect(name="never", **option)


@pytest.mark.parametrize("servers", ["", " ", [], [""]], ids=repr)
def test_no_servers_are_a_value_error_and_not_the_embedded_one(servers):
    with pytest.raises(ValueError, match=r"^connect: servers is empty"):
        happen.connect(servers, name="never")


# -- options that are stored -------------------------------------------------------------------------


def test_options_given_explicitly_are_stored_and_defaults_never_change_them(store, other):
    week = dt.timedelta(days=7)

    def stored():
        """Return what another process finds, which connects without options."""
        other.do(f'there = happen.connect(store={str(store)!r}, name="stored_options")')
        info = other.ask("[there._log.info.history, there._log.info.event_ttl]")
        other.do("there.close()")
        return info

    with happen.connect(store=store, name="stored_options") as space:
        assert stored() == [1000, week.total_seconds()]
        assert happen.connect(store=store, name="stored_options", history=5) is space
        assert stored() == [5, week.total_seconds()]
        happen.connect(store=store, name="stored_options", event_ttl=dt.timedelta(hours=1))
        assert stored() == [5, 3600]
    with happen.connect(store=store, name="stored_options") as space:
        assert stored() == [5, 3600]
        happen.connect(store=store, name="stored_options", history=1000, event_ttl=week)
        assert stored() == [1000, week.total_seconds()]
        space.drop()


# -- fresh and clear ---------------------------------------------------------------------------------


def test_fresh_empties_the_space_at_every_call(space, store):
    node = space.create_node("orders")
    for _ in range(2):
        node.state.set({"n": 1})

        assert happen.connect(store=store, name=space.name, fresh=True) is space

        assert node.state.get() == {}
        assert node.state.revision == 0
        assert len(space.journal()) == 0


def test_a_refused_fresh_start_leaves_no_connection_in_the_space(space, store, other):
    with happen.connect(store=store, name=f"{space.name[:50]}_mine") as mine:
        other.do(
            "try:\n"
            f"    happen.connect(store={str(store)!r}, name={mine.name!r}, fresh=True)\n"
            "except happen.SpaceInUseError:\n"
            "    pass"
        )
        mine.clear()


def test_the_notebook_of_a_process_that_uses_a_space_is_named(space, store, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/ada/sales [1].ipynb")
    other = OtherProcess(store=store, name=space.name)
    monkeypatch.delenv("JPY_SESSION_NAME")
    try:
        with pytest.raises(happen.SpaceInUseError) as caught:
            space.clear()
    finally:
        other.end()
    assert f"is in use by process {other.pid} on " in str(caught.value)
    assert " (sales [1].ipynb); clear(force=True) empties it anyway" in str(caught.value)


def test_fresh_and_clear_are_refused_while_another_process_is_connected(space, store, other):
    node = space.create_node("orders", initial={"n": 1})

    with pytest.raises(happen.SpaceInUseError, match=f"process {other.pid}"):
        happen.connect(store=store, name=space.name, fresh=True)
    with pytest.raises(happen.SpaceInUseError, match=f"process {other.pid}"):
        space.clear()
    assert node.state.get(fresh=True) == {"n": 1}

    happen.connect(store=store, name=space.name, fresh="force")
    assert node.state.get() == {}
    node.state.set({"n": 2})
    space.clear(force=True)
    assert node.state.get() == {}


def test_clear_empties_the_space_for_every_process_and_the_nodes_stay(space, other):
    node = space.create_node("orders", initial={"n": 1})
    other.do('orders = space.create_node("orders")')

    space.clear(force=True)

    assert dict(space.nodes) == {"orders": node}
    assert other.ask("orders.state.get(fresh=True)") == {}
    assert node.state.set({"n": 2}).revision == 1
    assert other.ask('[orders.state.get("n", fresh=True), orders.state.revision]') == [2, 1]


def test_what_was_before_a_clear_is_gone(space):
    node = space.create_node("orders", initial={"n": 1})
    before = node.state.set({"n": 2})
    space.clear()

    with pytest.raises(happen.HistoryGoneError):
        node.state.at(before.time)
    with pytest.raises(happen.HistoryGoneError):
        node.state.at(1)


# -- listing and dropping ----------------------------------------------------------------------------


def test_spaces_lists_what_is_on_the_server(space, store):
    for name in ("listed_b", "listed_a"):
        happen.connect(store=store, name=name)
    listed = happen.connect(store=store, name="listed_b")
    listed.create_node("one", initial={"text": "x" * 1000})
    listed.create_node("gone", initial={}).delete()
    commit = listed.create_node("two").state.set({"n": 2})

    spaces = happen.spaces()
    found = {item.name: item for item in spaces}

    assert [item.name for item in spaces] == sorted(found)
    assert {"listed_a", "listed_b", space.name} <= set(found)
    assert (found["listed_b"].nodes, found["listed_a"].nodes) == (2, 0)
    assert found["listed_b"].bytes > 1000
    assert found["listed_b"].last_change == commit.time
    assert found["listed_a"].last_change is None
    for name in ("listed_a", "listed_b"):
        happen.connect(store=store, name=name).drop()


def test_a_dropped_space_is_gone_and_closed(space, store):
    dropped = happen.connect(store=store, name="dropped")
    node = dropped.create_node("orders", initial={"n": 1})

    dropped.drop()

    happen.connect(store=store, name=space.name)
    assert "dropped" not in [item.name for item in happen.spaces()]
    why = 'the space "dropped" was dropped; connect again to create it'
    for use in (node.state.get, dropped.events, lambda: node.state.set({}), dropped.settle):
        with pytest.raises(happen.ClosedError, match=f"^{why}$"):
            use()
    assert repr(dropped) == "Space dropped\n  dropped; connect again to create it"
    with happen.connect(store=store, name="dropped") as again:
        assert list(again.views) == []
        assert again.create_node("orders").state.set({"n": 1}).revision == 1
        again.drop()


@pytest.mark.parametrize("step", ["_runtime.log.Log.close", "_journal.stream.Stream.drop"])
def test_the_name_of_a_space_whose_drop_was_interrupted_is_free(store, space, monkeypatch, step):
    async def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(20)

    name = f"{space.name[:40]}_dropped"
    dropped = happen.connect(store=store, name=name)
    with monkeypatch.context() as patch:
        patch.setattr(f"happen_nb.{step}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            dropped.drop()
    again = happen.connect(store=store, name=name, fresh=True)
    assert again is not dropped
    assert again.create_node("orders").state.set({"n": 1}).revision == 1
    again.drop()


def test_an_interrupt_while_the_server_creates_a_space_leaves_none(store, space, monkeypatch):
    create, name = Stream._create, f"{space.name[:40]}_created"

    async def interrupted(*arguments):
        creating = asyncio.ensure_future(create(*arguments))
        await asyncio.sleep(0)  # the request is sent now
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return await creating

    for _ in range(10):
        with monkeypatch.context() as patch:
            patch.setattr(Stream, "_create", interrupted)
            with pytest.raises(KeyboardInterrupt):
                happen.connect(store=store, name=name)
        assert name not in [each.name for each in happen.spaces()]


def test_a_space_that_is_dropped_while_spaces_are_listed_is_left_out(space, monkeypatch):
    count_nodes, gone = presence._count_nodes, space.fork(f"{space.name[:40]}_gone")
    gone.close()

    async def count(connection, subjects, timeout):
        await connection.api(f"STREAM.DELETE.KV_happen_{gone.name}", {}, timeout=timeout)
        return await count_nodes(connection, subjects, timeout)

    assert gone.name in [item.name for item in happen.spaces()]
    monkeypatch.setattr(presence, "_count_nodes", count)
    listed = [item.name for item in happen.spaces()]
    assert space.name in listed
    assert gone.name not in listed


def test_a_space_is_not_dropped_while_another_process_is_in_it(space, other):
    space.create_node("orders", initial={"n": 1})

    with pytest.raises(happen.SpaceInUseError, match=f"process {other.pid}"):
        space.drop()

    assert space.views.orders.get("n") == 1


# -- closing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CLOSED_CALLS.values(), ids=CLOSED_CALLS)
def test_a_closed_space_raises_closed_error(store, call):
    space = happen.connect(store=store, name="closed")
    node = space.create_node("orders", initial={"n": 1})
    space.close()

    with pytest.raises(happen.ClosedError, match='"closed" was closed; connect again, and create its nodes'):
        call(space, node)


def test_closing_twice_does_nothing(store):
    space = happen.connect(store=store, name="closed_twice")
    space.close()
    space.close()


THINGS = {
    "space": lambda space, node: space,
    "space.views": lambda space, node: space.views,
    "view": lambda space, node: space.views.orders,
    "node": lambda space, node: node,
    "state": lambda space, node: node.state,
    "watch": lambda space, node: node.state.watch(print),
    "commit": lambda space, node: node.state.set({"n": 2}),
    "history": lambda space, node: node.state.history(),
    "journal": lambda space, node: space.journal(),
    "failures": lambda space, node: space.failures,
    "server": lambda space, node: space.server,
}


@pytest.mark.parametrize(
    "get",
    [pytest.param(get, id=name) for name, get in THINGS.items()],
)
def test_what_belongs_to_a_closed_space_still_shows_itself(store, get):
    space = happen.connect(store=store, name="closed_repr")
    thing = get(space, space.create_node("orders", initial={"n": 1}))
    space.close()

    assert repr(thing)
    assert {"text/plain", "text/html"} <= set(thing._repr_mimebundle_())


def test_with_closes_the_space_also_when_its_body_fails(store):
    def use():
        with happen.connect(store=store, name="with") as space:
            left.append(space.create_node("orders"))
            raise LookupError("mine")

    left = []
    with pytest.raises(LookupError, match="mine"):
        use()
    with pytest.raises(happen.ClosedError):
        left[0].state.get()


def test_async_with_closes_the_space(store):
    async def work():
        async with await happen.aconnect(store=store, name="async_with") as space:
            node = await space.acreate_node("orders", initial={"n": 1})
            assert (await node.state.aset({"n": 2})).revision == 2
        return node

    node = asyncio.run(work())

    with pytest.raises(happen.ClosedError):
        node.state.get()


def test_a_call_that_waits_while_its_space_is_closed_ends(store):
    space = happen.connect(store=store, name="closed_under")
    node = space.create_node("orders", initial={"n": 1})
    raised = []

    def wait():
        try:
            node.state.wait_for(lambda s: s["n"] == 2, timeout=60)
        except happen.HappenError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    space.close()
    waiting.join(20)

    assert not waiting.is_alive()
    assert isinstance(raised[0], happen.ClosedError)


@pytest.mark.parametrize("held", [False, True])
def test_a_settle_that_waits_while_its_space_is_closed_ends(store, held):
    space = happen.connect(store=store, name="settled_under")
    node = space.create_node("orders", initial={"n": 1})
    begun, go_on = threading.Event(), threading.Event()

    def slow(event):
        begun.set()
        go_on.wait(10)

    node.on("order", slow, durable=True)
    node.state.on("order", lambda state, event: {**state, "n": 2})
    for _ in range(3):
        node.broadcast("order")
    assert begun.wait(5)
    if held:
        space.pause()
        space.resume(slow=60)
    raised = []

    def wait():
        try:
            space.settle(60)
        except happen.HappenError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    pause = threading.Event()
    while not space._runtime.in_flight._waits:
        pause.wait(0.01)
    space.close()
    go_on.set()
    waiting.join(20)

    assert not waiting.is_alive()
    assert [type(error) for error in raised] == [happen.ClosedError]


def test_a_wait_goes_on_no_longer_when_the_space_is_closed_between_two_events(store):
    space = happen.connect(store=store, name="closed_between")
    space.broadcast("tick")
    began = time.monotonic()
    with pytest.raises(happen.ClosedError):
        space.wait_for("tick", where=lambda event: space.close(), since=0, timeout=20)
    assert time.monotonic() - began < 10


def test_a_reading_whose_messages_do_not_come_ends_when_the_space_is_closed(store, monkeypatch):
    space = happen.connect(store=store, name="closed_reading", timeout=60)
    space.broadcast("tick")
    read, raised = threading.Event(), []

    def lose(*_):
        read.set()

    def work():
        try:
            space.events()
        except happen.HappenError as error:
            raised.append(type(error))

    monkeypatch.setattr(consumer, "SILENCE_SECONDS", 60)
    monkeypatch.setattr(consumer.Consumer, "_on_received", lose)
    reading = threading.Thread(target=work)
    reading.start()
    assert read.wait(20)
    space.close()
    reading.join(20)

    assert raised == [happen.ClosedError]


def test_a_space_is_no_thing_to_send_elsewhere(space):
    with pytest.raises(TypeError):
        pickle.dumps(space)


# -- the current space -------------------------------------------------------------------------------


def test_the_current_space_is_the_one_connected_last(space, store):
    with happen.connect(store=store, name="connected_last") as last:
        assert happen.current() is last
        assert happen.connect(store=store, name=space.name) is space
        assert happen.current() is space
        assert happen.connect(store=store, name="connected_last") is last
        last.drop()
    assert happen.current() is space  # again, since it is open


def test_a_notice_names_the_current_space_once_if_another_one_was_closed(store, capsys):
    with happen.connect(store=store, name="first"), happen.connect(store=store, name="second"):
        happen.create_node("orders")
        assert capsys.readouterr().err == ""
        happen.current().close()
        assert happen.create_node("orders").space.name == "first"
        assert capsys.readouterr().err == 'the space "second" is closed; the current space is "first"\n'
        happen.create_node("orders")
        happen.connect(store=store, name="second").close()
        happen.connect(store=store, name="second")
        assert happen.current().name == "second"
        assert capsys.readouterr().err == ""


def test_current_connects_the_default_space_if_there_is_none(store, monkeypatch):
    monkeypatch.setenv("HAPPEN_STORE", str(store))
    monkeypatch.setattr("happen_nb._api.connect.registry._connected", {})
    happen.connect(store=store, name="only").drop()

    with happen.current() as space:
        assert space.name == "default"
        assert happen.current() is space
        assert happen.create_node("orders", initial={"n": 1}).space is space
        space.drop()


# -- the server --------------------------------------------------------------------------------------


def test_the_embedded_server_is_on_loopback_with_a_token(space, store):
    server = space.server

    assert server.url.startswith("nats://127.0.0.1:")
    assert server.running
    assert server.token
    assert server.token not in repr(server) + repr(space)
    assert str(store) in str(server.store)
    assert "Server is ready" in server.log


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"token": "secret"}, "token"),
        ({"user": "ada", "password": "secret"}, "user, password"),
        ({"credentials": "secret.creds"}, "credentials"),
        ({"tls": ssl.create_default_context()}, "tls"),
    ],
)
def test_a_notice_says_that_the_embedded_server_uses_no_credentials(space, store, capsys, options, named):
    assert happen.connect(store=store, name=space.name) is space
    assert capsys.readouterr() == ("", "")

    assert happen.connect(store=store, name=space.name, **options) is space
    shown = "".join(capsys.readouterr())
    assert f"connect: ignored {named}: the embedded server creates its own token" in shown
    assert "secret" not in shown


def test_a_killed_server_is_restarted_with_everything_that_was_stored(tmp_path):
    with happen.connect(store=tmp_path / ".happen") as space:
        orders, server = space.create_node("orders", initial={"n": 1}), space.server
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        orders.state.set(lambda state: {"n": state["n"] + 1})

        assert orders.state.history()[-1].after == {"n": 2}
        assert server.pid not in {killed, None}
    assert server.pid is None


def test_a_server_given_by_url_is_not_shown_as_embedded(space):
    address = space.server.url.replace("127.0.0.1", "localhost")
    with happen.connect(address, token=space.server.token, name="by_url") as by_url:
        assert by_url.server is None
        by_url.drop()


def test_a_memory_store_is_private_and_leaves_nothing():
    with happen.connect(store=":memory:", name="memory") as space:
        space.create_node("orders", initial={"n": 1})
        folder = space.server.store
    with happen.connect(store=":memory:", name="memory") as space:
        assert list(space.views) == []
    assert folder is None or not folder.exists()


@pytest.mark.parametrize(("step", "notes"), [("_refuse_others", 1), ("_drop_stream", 1), ("_close", 0)])
def test_an_interrupted_drop_says_if_it_has_to_be_called_again_and_can_be(store, monkeypatch, step, notes):
    space = happen.connect(store=store, name="interrupted-drop")
    space.create_node("orders", initial={"open": 1})
    real = getattr(space, step)

    async def interrupted(*_):
        if step == "_close":  # the space is deleted by then
            await real()
        raise KeyboardInterrupt

    monkeypatch.setattr(space, step, interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        space.drop()
    monkeypatch.undo()

    said = getattr(caught.value, "__notes__", [])
    assert said == ['the space "interrupted-drop" is not dropped yet; call drop() again'] * notes
    space.drop()
    assert "interrupted-drop" not in [each.name for each in happen.spaces()]
