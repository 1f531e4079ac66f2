"""A server whose disk is full: a clear error that names it, nothing half written, and a way back."""

from __future__ import annotations

import pytest

import happen_nb as happen
from tests.guarantees.servers import Server


@pytest.fixture
def small(tmp_path):
    """A server that stores two megabytes."""
    folder = tmp_path / "small"
    server = Server(
        folder, f'jetstream {{ store_dir: "{folder / "store"}", max_file_store: 2MB }}', jetstream=False
    ).start()
    yield server
    server.kill()


def fill(node):
    for n in range(1, 50):
        node.state.set({"n": n, "text": "x" * 100_000})


def test_a_set_that_the_server_has_no_room_for_is_a_clear_error_and_stores_nothing(small):
    with happen.connect(small.url, name="full") as space:
        node = space.create_node("orders", initial={"n": 0})

        with pytest.raises(happen.ServerError, match=r'"orders".*disk full'):
            fill(node)

        stored = node.state.get(fresh=True)
        assert stored["n"] == len(node.state.history()) - 1
        assert node.state.history()[-1].after == stored


def test_dropping_the_space_makes_room(small):
    full = happen.connect(small.url, name="full")
    with pytest.raises(happen.ServerError):
        fill(full.create_node("orders"))

    full.drop()

    with happen.connect(small.url, name="full") as again:
        assert again.create_node("orders").state.set({"n": 1}).revision == 1
