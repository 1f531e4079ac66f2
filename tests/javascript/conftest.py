"""Programs in JavaScript, with the NATS packages of the npm registry in a cache outside of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGES = ("@nats-io/transport-node@3.4.0", "@nats-io/jetstream@3.4.0")
OLDEST_NODE = 18


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the packages, installed where it is missing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _unavailable("no Node.js with npm: install them (Debian: apt install nodejs npm)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        _unavailable(f"Node.js {version} is too old: install {OLDEST_NODE} or newer")
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "happen_nb-tests" / "javascript"
    )
    if not _installed(cache):
        made = tmp_path_factory.mktemp("npm")
        command = [
            npm,
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--prefix",
            str(made),
            *PACKAGES,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            _unavailable(f"npm could not install {', '.join(PACKAGES)}: {done.stderr[-2000:]}")
        cache.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.move(made, cache)
        except OSError:  # another worker was faster
            assert _installed(cache)
    return cache / "node_modules"


def _installed(cache: Path) -> bool:
    """Return True if exactly these versions are there."""
    for package in PACKAGES:
        name, _, version = package.rpartition("@")
        about = cache / "node_modules" / name / "package.json"
        if not about.is_file() or json.loads(about.read_text("utf-8"))["version"] != version:
            return False
    return True


def _unavailable(why: str) -> None:
    """Skip; in CI everything must run."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def javascript(tmp_path: Path, node_modules: Path, space):
    """Start a program of this folder in the test's space."""
    for source in HERE.glob("*.mjs"):
        shutil.copy(source, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules, target_is_directory=True)
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        options = {"url": space.server.url, "token": space.server.token, "space": space.name}
        process = subprocess.Popen(
            ["node", program, json.dumps(options)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
