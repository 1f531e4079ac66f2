"""Firefox as users have it, driven by WebDriver BiDi: Playwright only knows a patched one of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from queue import Queue

import pytest
from websocket import create_connection

DEADLINE = 60.0
PREFERENCES = {
    "app.normandy.enabled": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}
KEYS = {
    "End": "\ue010",
    "Home": "\ue011",
    "Shift": "\ue008",
    "Left": "\ue012",
    "Up": "\ue013",
    "Right": "\ue014",
}


def find_firefox():
    """Return the path of the program, or None if it is not installed."""
    return os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox:
    """A Firefox with one tab, and what the tab requested and complained about.

    Parameters
    ----------
    url : str
        Where it listens.
    """

    def __init__(self, url):
        self._socket = create_connection(f"{url}/session", timeout=DEADLINE, suppress_origin=True)
        self._number = 0
        self.requested = []
        self.wrong = []
        self.call(
            "session.new", capabilities={"alwaysMatch": {"unhandledPromptBehavior": {"default": "dismiss"}}}
        )
        events = ["log.entryAdded", "network.beforeRequestSent", "browsingContext.userPromptOpened"]
        self.call("session.subscribe", events=events)
        self._tab = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def call(self, method, **parameters):
        """Send a command, and return its result; note what happens until then."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv())).get("id") != self._number:
            self._note(message["method"], message["params"])
        assert message["type"] == "success", f"{method}: {message['error']}: {message['message']}"
        return message["result"]

    def _note(self, method, event):
        if method == "network.beforeRequestSent":
            self.requested.append(event["request"]["url"])
        elif method != "log.entryAdded" or event["level"] == "error":
            self.wrong.append(event.get("text") or event)

    def open(self, url, width, height=900):
        """Open a page in a window of a size."""
        self.call(
            "browsingContext.setViewport", context=self._tab, viewport={"width": width, "height": height}
        )
        self.call("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, expression):
        """Return what a JavaScript expression, or its promise, comes to."""
        target = {"context": self._tab}
        whole = f"Promise.resolve({expression}).then(value => JSON.stringify(value ?? null))"
        found = self.call("script.evaluate", expression=whole, target=target, awaitPromise=True)
        assert found["type"] == "success", found["exceptionDetails"]["text"]
        return json.loads(found["result"]["value"])

    def run(self, script):
        """Run a script in the page."""
        self.call("script.evaluate", expression=script, target={"context": self._tab}, awaitPromise=False)

    def wait_for(self, condition):
        """Wait until a JavaScript expression is true."""
        self.evaluate(
            "new Promise((yes, no) => { const end = performance.now() + 30_000;"
            f"const look = () => ({condition}) ? yes() : performance.now() > end ? no('never') :"
            "requestAnimationFrame(look); look(); })"
        )

    def press(self, *keys):
        """Press keys, and release them in the opposite order."""
        values = [KEYS.get(key, key) for key in keys]
        actions = [{"type": "keyDown", "value": value} for value in values]
        actions += [{"type": "keyUp", "value": value} for value in reversed(values)]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self.call("input.performActions", context=self._tab, actions=[source])

    def screenshot(self):
        """Return a picture of the page, as PNG in base64."""
        return self.call("browsingContext.captureScreenshot", context=self._tab, origin="document")["data"]


@contextmanager
def browsing(profile):
    """Firefox with a profile in an empty folder."""
    program = find_firefox()
    if program is None:
        pytest.skip("no Firefox: install it (Debian: apt install firefox-esr) or set FIREFOX")
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
    command = [program, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield Firefox(_url(process))
    finally:
        process.terminate()
        process.wait(DEADLINE)


def _url(process):
    """Return its address, which it writes first; read on, so that it can write more."""
    found = Queue()

    def read():
        for line in process.stderr:
            if match := re.search(r"WebDriver BiDi listening on (ws://\S+)", line):
                found.put(match[1])

    threading.Thread(target=read, daemon=True).start()
    return found.get(timeout=DEADLINE)
