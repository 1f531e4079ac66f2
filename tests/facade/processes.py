"""Another process in the same space, for tests about what processes see of each other."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

_CHILD = """
import json, sys, traceback
import happen_nb as happen

space = happen.connect(**json.loads(sys.argv[1]))
names = {"happen": happen, "space": space}
print("null", flush=True)
for line in sys.stdin:
    kind, code = json.loads(line)
    try:
        value = eval(code, names) if kind == "ask" else exec(code, names)
        print(json.dumps({"value": value}), flush=True)
    except BaseException:
        print(json.dumps({"error": traceback.format_exc()}), flush=True)
space.close()
"""


class OtherProcess:
    """A Python of its own that is connected to a space until it is ended.

    Its names are ``happen`` and ``space``, and whatever `do` has defined.
    """

    def __init__(self, **connect: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(connect, default=str)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    @property
    def pid(self) -> int:
        return self._process.pid

    def do(self, statements: str) -> None:
        """Run statements there, to their end."""
        self._send("do", statements)

    def ask(self, expression: str) -> Any:
        """The value of an expression there, by way of JSON."""
        return self._send("ask", expression)

    def end(self) -> None:
        """Let it close its space and end."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _send(self, kind: str, code: str) -> Any:
        self._process.stdin.write(json.dumps([kind, code]) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise AssertionError(f"in the other process:\n{answer['error']}")
        return answer["value"]

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the other process ended with {self._process.wait(30)}")
        return json.loads(line)
