"""Second processes as a test holds them."""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ANSWER_WITHIN = 60.0
RESET_WITHIN = 5.0

_marks = itertools.count(1)


def freeze(process: subprocess.Popen[Any]) -> None:
    """Stop a process where it is; its threads go on until each has heard of it, which is waited for."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


class Process:
    """A Python script that talks JSON, one value a line."""

    def __init__(self, log: Path, script: str, *arguments: str) -> None:
        self._log = log
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def say(self, what: Any = "") -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def hear(self, within: float = ANSWER_WITHIN) -> Any:
        """The next line."""
        try:
            line = self._lines.get(timeout=within)
        except queue.Empty:
            raise AssertionError(f"no answer within {within:g} s; its errors: {self.errors}") from None
        assert line, f"the process has ended; its errors: {self.errors}"
        return json.loads(line)

    def hear_rest(self) -> list[Any]:
        """All lines until its end."""
        return [json.loads(line) for line in iter(lambda: self._lines.get(timeout=ANSWER_WITHIN), "")]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def ports(self) -> set[int]:
        """The local ports of its connections."""
        return {each.laddr.port for each in psutil.Process(self.pid).net_connections("tcp")}

    @property
    def running(self) -> bool:
        """Return True if it has not ended."""
        return self._process.poll() is None

    @property
    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        return self._log.read_text()[-4000:]

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it where it is, until `resume`."""
        freeze(self._process)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill it if it still runs, and let go of its pipes."""
        self.kill()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Load(Process):
    """One load of ``work.py``, or of another script with loads; `say` begins it."""

    def __init__(self, log: Path, load: str, script: str = "work.py", **arguments: Any) -> None:
        super().__init__(log, script, load, json.dumps(arguments))

    def wait_ready(self, within: float = ANSWER_WITHIN) -> None:
        """Wait until it may begin."""
        assert self.hear(within) == "ready"


class Peer(Process):
    """A process that does what it is asked; see ``peer.py`` and ``event_peer.py``."""

    def __init__(self, log: Path) -> None:
        super().__init__(log, "event_peer.py")

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have something done; its result."""
        self.tell(do, **arguments)
        return self.answer()

    def tell(self, do: str, **arguments: Any) -> None:
        """Have something done, without waiting."""
        self.say({"do": do, **arguments})

    def answer(self, within: float = ANSWER_WITHIN) -> Any:
        """The result of what was asked first of what is unanswered."""
        answer = self.hear(within)
        assert "error" not in answer, f"{answer['error']}: {answer['text']}"
        return answer["ok"]

    def reset(self) -> bool:
        """Have it close its space, whatever is unanswered; False if it does not."""
        mark = f"reset {next(_marks)}"
        try:
            self.tell("reset", mark=mark)
            while self.hear(RESET_WITHIN) != {"ok": mark}:
                pass  # an answer that nobody has waited for
        except (AssertionError, OSError):
            return False
        return True

    def fail(self, do: str, **arguments: Any) -> tuple[str, str]:
        """Have something done that must fail; the class of the error and its text."""
        self.tell(do, **arguments)
        answer = self.hear()
        assert "error" in answer, f"{do} did not fail: {answer}"
        return answer["error"], answer["text"]


class Pool:
    """Processes that are used by one test after the other, since each takes half a second to start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._idle: list[Peer] = []
        self._count = itertools.count(1)

    def take(self) -> Peer:
        """One that is connected to nothing, and that nobody else has."""
        while self._idle:
            if (peer := self._idle.pop()).running:
                return peer
        return Peer(self._folder / f"pooled-{next(self._count)}.log")

    def give(self, peer: Peer) -> None:
        """A test is done with it; what does not answer is ended."""
        if peer.running and peer.reset():
            self._idle.append(peer)
        else:
            peer.end()

    def end(self) -> None:
        """End all."""
        for peer in self._idle:
            peer.end()


class Processes:
    """Starts second processes, and ends them all.

    Parameters
    ----------
    folder : Path
        Where the logs of loads go.
    pool : Pool
        Of peers.
    """

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder = folder
        self._pool = pool
        self._started: list[Load] = []
        self._taken: list[Peer] = []

    def load(self, load: str, script: str = "work.py", **arguments: Any) -> Load:
        """One load of ``work.py``, or of another script, which is ready or will be soon."""
        log = self._folder / f"process-{len(self._started)}.log"
        self._started.append(Load(log, load, script, **arguments))
        return self._started[-1]

    def peer(self, url: str | None = None, name: str = "", **options: Any) -> Peer:
        """A process that does what it is asked, connected to a space if a URL is given.

        Another test may have used it before.
        """
        peer = self._pool.take()
        self._taken.append(peer)
        if url is not None:
            peer.ask("connect", url=url, name=name, **options)
        return peer

    def end(self) -> None:
        """End all that still run, or give them back."""
        for process in self._started:
            process.end()
        for peer in self._taken:
            self._pool.give(peer)


def start_together(loads: list[Load]) -> None:
    """Begin all of them at once, when all are ready."""
    for load in loads:
        load.wait_ready()
    for load in loads:
        load.say()


def eventually(condition: Callable[[], T], within: float = 30.0, what: Callable[[], object] = str) -> T:
    """Return what `condition` returns, once that is true; `what` explains a failure."""
    deadline = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < deadline, f"it does not hold within {within:g} s: {what()}"
        time.sleep(0.02)
    return result
