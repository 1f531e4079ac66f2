"""Messages from the browser to live pictures, without a browser."""

from __future__ import annotations

import threading

from happen_nb._runtime.io import io_thread


def receive(picture, message):
    """Let a picture receive a message, and wait until it has done what it asks for."""
    picture._on_message(None, message, [])
    done = threading.Event()
    io_thread().call_soon(picture._messages.put, done.set)  # behind the message
    assert done.wait(20)
