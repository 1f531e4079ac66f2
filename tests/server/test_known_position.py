"""A loss that the server does not mention is noticed when a space is opened."""

from __future__ import annotations

import json

import pytest
from processes import eventually, is_at_rest, kill, servers_of

import happen_nb as happen
from happen_nb._server import join
from happen_nb._server.store import KnownPosition


def end(folder):
    """End the server of a store in good order."""
    join(folder).close(at_once=True)
    assert eventually(lambda: is_at_rest(folder))


def damage(folder, *, index=False):
    """Change a few bytes of a message in the middle, as a failing disk does; `index` keeps the index."""
    (block,) = folder.glob("jetstream/$G/streams/KV_happen_shop/msgs/*.blk")
    if not index:  # without it the server reads the block as it starts
        (block.parent / "index.db").unlink(missing_ok=True)
    stored = block.read_bytes()
    with block.open("r+b") as file:
        file.seek(stored.index(b"x" * 400, len(stored) // 2))  # not where a message begins
        file.write(b"zzz")


def test_data_lost_in_a_damaged_file_are_warned_of_once(folder, caplog):
    with happen.connect(store=folder, name="shop") as space:
        node = space.create_node("orders")
        for n in range(20):
            node.state.set({"n": n, "text": "x" * 500})
    end(folder)
    damage(folder)

    with happen.connect(store=folder, name="shop") as space:
        assert 0 < space.create_node("orders").state.revision < 20
    (warning,) = [text for text in caplog.messages if "are lost" in text]
    assert 'the space "shop" ends at message 1' in warning
    assert "was at 20 before" in warning
    assert str(folder) in warning
    happen.connect(store=folder, name="shop").close()
    assert len([text for text in caplog.messages if "are lost" in text]) == 1


def test_commits_lost_with_the_end_of_a_file_are_warned_of(folder, caplog):
    with happen.connect(store=folder, name="shop") as space:
        node = space.create_node("orders")
        for n in range(20):
            node.state.set({"n": n})
    end(folder)
    (block,) = folder.glob("jetstream/$G/streams/KV_happen_shop/msgs/*.blk")
    with block.open("r+b") as file:  # its index is intact, so the server goes on after message 20
        file.truncate(block.stat().st_size // 2)

    with happen.connect(store=folder, name="shop") as space:
        left = space.create_node("orders").state.revision
    assert 0 < left < 20
    (warning,) = [text for text in caplog.messages if "are lost" in text]
    assert f"ends at message {left}, and was at 20 before" in warning


def test_a_commit_that_the_server_cannot_read_any_more_is_missed_in_the_history(folder, caplog):
    with happen.connect(store=folder, name="shop") as space:
        node = space.create_node("orders")
        for n in range(20):
            node.state.set({"n": n, "text": "x" * 500})
    end(folder)
    damage(folder, index=True)

    with happen.connect(store=folder, name="shop") as space:
        history = space.create_node("orders").state.history()
        (missing,) = set(range(1, 21)) - {commit.revision for commit in history}
    (warning,) = [text for text in caplog.messages if "can be read" in text]
    assert f"between revisions {missing - 1} and {missing + 1}" in warning
    assert 'node "orders"' in warning


def test_nothing_is_warned_of_after_kills_a_clear_and_a_drop(folder, caplog):
    space = happen.connect(store=folder, name="shop")
    for n in range(20):
        space.create_node("orders").state.set({"n": n})
    space.clear()
    (server,) = servers_of(folder)
    kill(server.pid)
    space.create_node("orders").state.set({"n": 0})
    space.close()
    happen.connect(store=folder, name="shop").drop()
    happen.connect(store=folder, name="shop").close()
    assert [text for text in caplog.messages if "are lost" in text] == []


def test_how_far_a_space_is_gets_noted_while_it_is_open(folder):
    with happen.connect(store=folder, name="shop") as space:
        space.create_node("orders", initial={"n": 1})
        info = space._log.info
        assert eventually(lambda: KnownPosition(folder, "KV_happen_shop", info.created).last == 1)
        assert KnownPosition(folder, "KV_happen_shop", "another time").last == 0


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"KV_happen_shop": 7}', '{"KV_happen_shop": [1, 2]}'])
def test_a_damaged_note_is_replaced(folder, content):
    folder.mkdir()
    (folder / "seen.json").write_text(content)
    seen = KnownPosition(folder, "KV_happen_shop", "now")
    assert seen.last == 0
    seen.update(5)
    assert seen.last == 5
    assert json.loads((folder / "seen.json").read_text()) == {"KV_happen_shop": ["now", 5]}
