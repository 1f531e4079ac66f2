"""Set up this checkout and run it.

::

    python3 run.py lab  [--no-browser] [--port N]    JupyterLab on the notebooks
    python3 run.py test [--all-pythons]              every check and every test
    python3 run.py test tests/test_cli.py -k busy    pytest with these arguments

It needs only CPython 3.11 or newer with pip. Everything goes into ``.venv`` in the checkout, which is made
once, and updated when ``pyproject.toml`` changes.
"""

import sys

if sys.version_info < (3, 11):
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(f"run.py: happen_nb needs Python 3.11 or newer, but this is {found}: try python3.11 run.py")

import argparse
import hashlib
import os
import shutil
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
SUPPORTED = ("3.11", "3.12", "3.13")

#: `jupyter trust`, without a module that takes 1.5 s to import: jsonschema checks IRIs with it.
TRUST = """
import sys
sys.modules["rfc3987_syntax"] = None
from nbformat.sign import main
main()
"""

#: What a command needs beside the library: extras, and dependency groups.
NEEDS: dict[str, tuple[str, list[str]]] = {"lab": ("lab", []), "test": ("lab,docs", ["dev"])}

#: What its set-up brings, and about how long that takes.
BRINGS = {
    "lab": "JupyterLab, happen_nb and a nats-server: 500 MB, mostly within a minute",
    "test": "JupyterLab, happen_nb, and what checks and tests need: 1 GB, mostly within two minutes",
}


def main() -> int:
    """Prepare the venv, then hand over to the command in it."""
    parser = argparse.ArgumentParser(prog="run.py", description="Set up this checkout and run it.")
    parser.add_argument("command", choices=NEEDS, help="open the notebooks, or run every check and test")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="passed on")
    arguments = parser.parse_args()
    python = prepare(VENV, arguments.command)
    if arguments.command == "lab":
        trust_notebooks(python)
        return hand_over([python, "-m", "happen_nb", "lab", *arguments.rest])
    return hand_over([python, "tests/suite.py", *map(str, also(arguments.rest))])


def also(rest: list[str]) -> list[str]:
    """Replace ``--all-pythons`` by an ``--also PYTHON`` for each other supported Python found here."""
    if "--all-pythons" not in rest:
        return rest
    options = [argument for argument in rest if argument != "--all-pythons"]
    current = version(VENV / SCRIPTS / "python")
    for release in SUPPORTED:
        if current.startswith(f"{release}."):
            continue
        if found := find_python(release):
            options += ["--also", str(prepare(ROOT / f".venv-{release}", "test", found))]
        elif os.environ.get("CI", "").lower() in {"1", "true"}:
            sys.exit(f"run.py: no Python {release} on this machine, but CI tests every version")
        else:
            report(f"no Python {release} on this machine: skipped")
    return options


def find_python(release: str) -> str | None:
    """Return a Python of that release that runs; pyenv's shims may exist without one."""
    on_path = shutil.which(f"python{release}")
    by_pyenv = sorted(Path.home().glob(f".pyenv/versions/{release}.*/bin/python"))
    candidates = [on_path] if on_path else []
    for candidate in [*candidates, *map(str, by_pyenv)]:
        if version(candidate).startswith(f"{release}."):
            return candidate
    return None


def prepare(venv: Path, command: str, interpreter: str | None = None) -> Path:
    """Make the venv, or bring it up to date, and return its Python."""
    interpreter = interpreter or base_interpreter()
    python = venv / SCRIPTS / "python"
    wanted = fingerprint(interpreter)
    if python.exists() and any(stamp(venv, name) == wanted for name in (command, "test")):
        return python
    report(f"Setting up {venv.name}, once. {BRINGS[command]}.")
    if version(python) != version(interpreter):
        with step("making the environment", venv):
            check([interpreter, "-m", "venv", "--clear", "--without-pip", venv])
    with step("downloading and installing", venv):
        install(python, requirements(*NEEDS[command]))
    (venv / f"happen-{command}.stamp").write_text(wanted, encoding="utf-8")
    return python


def trust_notebooks(python: Path) -> None:
    """Let JupyterLab show the widgets and HTML that are stored in the notebooks of this checkout."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    content = hashlib.sha256(b"".join(notebook.read_bytes() for notebook in notebooks)).hexdigest()
    if stamp(VENV, "trust") == content:
        return
    if succeeds([python, "-c", TRUST, *notebooks], quiet=True):
        (VENV / "happen-trust.stamp").write_text(content, encoding="utf-8")
    else:
        report("the notebooks could not be marked as trusted: run their cells to see widgets in them")


@contextmanager
def step(text: str, venv: Path) -> Iterator[None]:
    """Show progress: a line that counts in a terminal, elsewhere a line from time to time."""
    started = time.monotonic()
    ended = threading.Event()
    in_place = sys.stderr.isatty()

    def show() -> None:
        now = f"  {text}: {time.monotonic() - started:.0f} s, {megabytes(venv)} MB so far"
        sys.stderr.write(f"\r{now}" if in_place else f"{now}\n")
        sys.stderr.flush()

    def count() -> None:
        while not ended.wait(0.5 if in_place else 10):
            show()

    counting = threading.Thread(target=count, daemon=True)
    report(f"  {text} ...")
    counting.start()
    try:
        yield
    finally:
        ended.set()
        counting.join()
        if in_place:
            sys.stderr.write("\r")
        report(f"  {text}: {time.monotonic() - started:.0f} s, {megabytes(venv)} MB         ")


def megabytes(folder: Path) -> int:
    """Return the size of a folder whose files may change meanwhile."""
    size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += Path(where, name).lstat().st_size
    return round(size / 1e6)


def stamp(venv: Path, command: str) -> str:
    """Return the fingerprint of the last complete set-up for that command."""
    path = venv / f"happen-{command}.stamp"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def fingerprint(interpreter: str) -> str:
    """Return a fingerprint of the Python, folder and pyproject.toml from which a venv is made."""
    project = (ROOT / "pyproject.toml").read_bytes()
    return hashlib.sha256(project + f"{ROOT} {version(interpreter)}".encode()).hexdigest()


def requirements(extra: str, groups: list[str]) -> list[str]:
    """Return the arguments of an install, with groups spelled out: pip knows them only since 25.1."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]

    def members(group: str) -> list[str]:
        return [
            requirement
            for entry in known[group]
            for requirement in ([entry] if isinstance(entry, str) else members(entry["include-group"]))
        ]

    return ["--editable", f".[{extra}]", *(requirement for group in groups for requirement in members(group))]


def install(python: Path, wanted: list[str]) -> None:
    """Install by uv, which is ten times as fast as pip, or by pip if uv is not available."""
    uv = VENV / SCRIPTS / ("uv.exe" if os.name == "nt" else "uv")
    pip = [*find_pip(), "--python", str(python), "install", "-qq"]
    if not has_own_index(pip) and (uv.exists() or succeeds([*pip, "uv"])):
        by_uv = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
        if sys.dont_write_bytecode:
            by_uv.append("--compile-bytecode")  # else each start of a kernel would compile again
        if succeeds([*by_uv, *wanted]):
            return
        report("uv failed; installing with pip ...")
    check([*pip, *wanted])


def find_pip() -> list[str]:
    """Return a pip from outside the venv: some distributions lack ensurepip to put one into it."""
    for host in dict.fromkeys((sys.executable, base_interpreter())):
        if succeeds([host, "-m", "pip", "--version"], quiet=True):
            return [host, "-m", "pip"]
    sys.exit(f"run.py: {sys.executable} has no pip: install it (Debian: apt install python3-pip)")


def has_own_index(pip: list[str]) -> bool:
    """Return True if pip is configured with an index of its own that uv does not know."""
    if "UV_DEFAULT_INDEX" in os.environ or "UV_INDEX_URL" in os.environ:
        return False
    done = subprocess.run([*pip[:3], "config", "list"], capture_output=True, text=True, check=False)
    return ".index-url=" in done.stdout


def base_interpreter() -> str:
    """Return the Python that an active venv was made from, else the one that runs."""
    return getattr(sys, "_base_executable", None) or sys.executable


def version(python: str | Path) -> str:
    """Return the version of a Python; empty if it does not run."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def environment() -> dict[str, str]:
    """Return the caller's environment, with pip's certificates, and without installs outside the venv."""
    return {"UV_SYSTEM_CERTS": "true", **os.environ, "PIP_USER": "0"}


def succeeds(command: Sequence[str | Path], *, quiet: bool = False) -> bool:
    """Run a command in the checkout; return True if it succeeded."""
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=output, stderr=output, check=False)
    return done.returncode == 0


def check(command: Sequence[str | Path]) -> None:
    """Run a command, and exit if it fails."""
    if not succeeds(command):
        sys.exit(f"run.py: command failed: {' '.join(map(str, command))}")


def hand_over(command: Sequence[str | Path]) -> int:
    """Become that command, so that Ctrl-C and signals reach it alone."""
    os.chdir(ROOT)
    if os.name != "nt":
        os.execv(command[0], list(map(str, command)))
    return subprocess.call(command)


def report(text: str) -> None:
    """Print the progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
