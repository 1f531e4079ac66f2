"""Transforms that several tests use as state handlers."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def take(state, event):
    return {**state, "lamp": state["lamp"] - event.payload}


def add(state, event):
    return {**state, "seen": [*state.get("seen", ()), event.payload]}


def elsewhere(space, code):
    """Run code in a second process that is connected to the space."""
    script = f"""
import happen_nb as happen
space = happen.connect({space.server.url!r}, name={space.name!r}, token={space.server.token!r})
stock = space.create_node("stock")
def add(state, event):
    return {{**state, "seen": [*state.get("seen", ()), event.payload]}}
{textwrap.dedent(code)}
space.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
