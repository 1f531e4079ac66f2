"""Messages from the browser to live pictures, without a browser."""

from __future__ import annotations

import threading


def receive(picture, message):
    """Let a picture receive a message, and wait until it has done what it asks for."""
    picture._on_message(None, message, [])
    done = threading.Event()
    picture._messages.put(done.set)
    assert done.wait(20)
