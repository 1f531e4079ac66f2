"""Fixtures for tests of widgets: real ipywidgets models, without a browser."""

from __future__ import annotations

import json

import pytest

from happen_nb._widgets.live_pictures import LivePicture


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"open": 1})


@pytest.fixture
def comms():
    """Return the number of comms that are open, and were not when the test began."""
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    return lambda: len(set(_instances) - before)


@pytest.fixture
def sent(monkeypatch):
    """The messages that live pictures send to the browser."""
    messages = []

    def send(_, message, buffers=None):
        messages.append(json.loads(json.dumps(message)))

    monkeypatch.setattr(LivePicture, "send", send)
    return messages
