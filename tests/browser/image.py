"""Make of this repository what repo2docker would make, in a venv instead of a Docker image.

repo2docker says itself which commands it would run. Two things are done otherwise: of its base image only the
Jupyter packages are there, in the versions that it pins, and uv installs, from its cache, where pip would
download everything again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from repo2docker.app import Repo2Docker

import run

ROOT = Path(__file__).parent.parent.parent
NOT_CLONED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
IN_THE_BASE = ("ipykernel", "ipywidgets", "jupyter_server", "jupyterlab", "notebook")
BY_PIP = "${KERNEL_PYTHON_PREFIX}/bin/pip install --no-cache-dir"
OF_THE_USER = ("PYTHON", "PYTEST", "JUPYTER", "IPYTHON", "HAPPEN", "NATS", "XDG", "VIRTUAL_ENV")
MINUTES = 60.0


@dataclass(frozen=True)
class Image:
    """A folder with the repository, and the environment in which its commands run."""

    source: Path
    start: Path
    environment: dict[str, str]

    def popen(self, *command: str, **options) -> subprocess.Popen:
        """Start a command as the image's entry point does."""
        return subprocess.Popen(
            [str(self.start), *command], cwd=self.source, env=self.environment, text=True, **options
        )


def release() -> str:
    """The Python that the image has."""
    with chdir(ROOT):
        return buildpack().python_version


def build(folder: Path, python: str) -> Image:
    """Make it: a home, the repository in it, and beside it what is installed."""
    source, prefix = folder / "home", folder / "notebook"
    shutil.copytree(ROOT, source, ignore=NOT_CLONED)
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    subprocess.run([python, "-m", "venv", *(["--without-pip"] if uv else []), str(prefix)], check=True)
    environment = surroundings(source, prefix)
    installing = BY_PIP
    if uv:
        cache = subprocess.run(
            [uv, "cache", "dir"], check=True, capture_output=True, text=True
        ).stdout.strip()
        environment["UV_CACHE_DIR"] = cache
        installing = f'"{uv}" pip install --quiet'
    with chdir(source):
        commands, start = planned()
    for command in [f"{BY_PIP} {' '.join(base())}", *commands]:
        shell = ["bash", "-c", command.replace(BY_PIP, installing)]
        subprocess.run(shell, cwd=source, env=environment, check=True, timeout=10 * MINUTES)
    return Image(source, source / start, environment)


def surroundings(source: Path, prefix: Path) -> dict[str, str]:
    """Return the environment that repo2docker sets, without anything of the user."""
    kept = {key: value for key, value in run.environment().items() if not key.startswith(OF_THE_USER)}
    path = os.pathsep.join([str(prefix / "bin"), os.environ["PATH"]])
    own = {"HOME": source, "REPO_DIR": source, "NB_PYTHON_PREFIX": prefix, "KERNEL_PYTHON_PREFIX": prefix}
    own |= {"PATH": path, "VIRTUAL_ENV": prefix}
    return kept | {key: str(value) for key, value in own.items()}


def buildpack():
    """The one that repo2docker takes for the repository in the working directory."""
    pack = next(pack for pack in (make("debian:12") for make in Repo2Docker().buildpacks) if pack.detect())
    pack.platform = "linux/amd64"
    return pack


def planned() -> tuple[list[str], str]:
    """The commands that would build the image for the repository in the working directory, and its start."""
    pack = buildpack()
    pack.render(build_args={"NB_UID": "1000"})  # an error if a file of binder/ makes no sense
    steps = [*pack.get_preassemble_scripts(), *pack.get_assemble_scripts()]
    after = [f"chmod +x {script} && ./{script}" for script in pack.get_post_build_scripts()]
    start = pack.get_start_script().replace("${REPO_DIR}/", "")
    Path(start).chmod(0o755)  # repo2docker does that too
    return [*(command for _, command in steps), *after], start


def base() -> list[str]:
    """The pinned Jupyter packages of repo2docker's base image."""
    lock = resources.files("repo2docker.buildpacks.conda") / f"environment.py-{release()}-linux-64.lock"
    pinned = dict(re.findall(r"/([\w.-]+)-(\d[\w.]*)-\w+\.conda", lock.read_text("utf-8")))
    return [f"{name}=={pinned[name]}" for name in IN_THE_BASE]
