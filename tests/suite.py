"""Every check and every test; ``python3 run.py test`` sets up and runs this.

All parts run even when one fails. The last line sums up all pytest processes; a check that failed, and a
pytest process that ended before it could count, stand there as one failure each. Above it stand the names of
the tests that failed. With ``CI=true`` a test that was skipped, or a part that could not run, is a failure
too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
CORES = os.cpu_count() or 1
WORKERS = str(min(8, 3 * CORES))  # more than there are cores: most tests mostly wait
KERNELS = str(min(8, 2 * CORES))  # of notebooks: a cell that takes longer than a second may show its progress
BROWSERS = str(CORES)  # each has its own JupyterLab, and its widgets wait for 2 s at most
PART_LIMIT = 1500.0  # seconds after which a part is ended: a hanging process must not hide the other parts
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEBIAN_PACKAGES = ("chromium", "fonts-liberation")
FIREFOXES = ("firefox-esr", "firefox")
NODE_PACKAGES = ("nodejs", "npm")
NO_CHROMIUM = "no Chromium: install it (Debian: apt install chromium fonts-liberation) or set CHROMIUM"
NO_TESTS = 5  # pytest's exit code
MAX_NAMED_FAILURES = 20  # of one part, at the end


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one part."""

    name: str
    ok: bool
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    expected: int = 0
    note: str = ""
    failing: tuple[str, ...] = ()

    @property
    def failures(self) -> int:
        """The failed tests, or one for a part that failed without counting any."""
        return self.failed or int(not self.ok)

    def line(self) -> str:
        """One row of the table at the end."""
        counts = f"{self.passed} passed, {self.failed} failed" if self.passed or self.failed else ""
        if self.skipped:
            counts += f", {self.skipped} skipped"
        if self.expected:
            counts += f", {self.expected} failed as expected"
        word = "ok" if self.ok else "FAILED"
        return f"{self.name:<22} {word:<7} {self.seconds:6.1f} s  {counts or self.note}".rstrip()


def main() -> int:
    """Run what was asked for, print the table and the sum."""
    parser = argparse.ArgumentParser(prog="run.py test", description="Every check and every test.")
    parser.add_argument("--also", action="append", default=[], metavar="PYTHON", help="also test with it")
    options, pytest_arguments = parser.parse_known_args()
    os.chdir(ROOT)
    outcomes = [run_pytest("pytest", pytest_arguments)] if pytest_arguments else run_all(options.also)
    passed = sum(outcome.passed for outcome in outcomes)
    failed = sum(outcome.failures for outcome in outcomes)
    skipped = sum(outcome.skipped for outcome in outcomes)
    print("", *(outcome.line() for outcome in outcomes), "", sep="\n")
    for outcome in outcomes:
        for test in outcome.failing[:MAX_NAMED_FAILURES]:
            print(f"{outcome.name}: {test}")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""), flush=True)
    return int(failed > 0)


def run_all(other_pythons: list[str]) -> list[Outcome]:
    """Each part of the suite, one after the other, since each keeps all cores busy; the checks do not."""
    if not (shutil.which("node") and shutil.which("npm")):
        install(NODE_PACKAGES)  # else the tests that need them say what is missing
    with ThreadPoolExecutor() as pool:
        checks = pool.map(run_check, CHECKS, CHECKS.values())  # they run during the first tests
        compile_tests()
        tests = run_pytest("tests and doctests", TESTS)
    return [
        *checks,
        tests,
        run_pytest("notebooks", NOTEBOOKS),
        run_browser_tests(),
        *(run_pytest(f"core, {release_of(python)}", CORE, python) for python in other_pythons),
    ]


CHECKS = {
    "mypy": ["mypy"],
    "import direction": ["lint-imports"],
    "ruff check": ["ruff", "check", "--quiet"],
    "ruff format": ["ruff", "format", "--check", "--quiet"],
}
"""Each is one process on one core."""
WITHOUT_NBVAL = ["-p", "no:nbval"]  # the plugin takes 3 s to import
BY_FILE = "--dist=loadfile"
IN_THIS_ORDER = "--no-loadscope-reorder"  # otherwise files with few tests come last, however long they take
DOCS = "tests/test_docs.py"
PROJECT = "tests/test_project.py"  # of the checkout, the same for each Python
HEAVY = [f"tests/{folder}" for folder in ("guarantees", "server", "accidents", "cli")]
"""Kernels, kills and loads: they take longest, so they start first."""
ELSEWHERE = ["tests/browser", "tests/notebooks"]
"""Parts of their own."""
LIGHT = [
    path.relative_to(ROOT).as_posix()
    for path in sorted((ROOT / "tests").iterdir())
    if path.match("test_*.py") or any(path.rglob("test_*.py"))
]
LIGHT = [path for path in LIGHT if path not in {DOCS, PROJECT, *HEAVY, *ELSEWHERE}]
SIDE_BY_SIDE = [*WITHOUT_NBVAL, "-n", WORKERS, BY_FILE, IN_THIS_ORDER, "--doctest-modules"]
TESTS = [*SIDE_BY_SIDE, DOCS, *HEAVY, PROJECT, *LIGHT, "happen_nb"]
CORE = [*SIDE_BY_SIDE, *LIGHT, "happen_nb"]  # what another Python could change
NOTEBOOKS = [
    *("-n", KERNELS),
    BY_FILE,
    IN_THIS_ORDER,  # what takes longest first
    *("-p", "tests.notebooks.nbval_follow"),
    "--nbval",
    "--nbval-current-env",
    "--nbval-cell-timeout=60",
    "--nbval-sanitize-with=tests/notebooks/sanitize.cfg",
    "tests/notebooks",
    "notebooks",
]
BROWSER = [*WITHOUT_NBVAL, "-n", BROWSERS, "--dist=loadscope", IN_THIS_ORDER, "tests/browser"]


def compile_tests() -> None:
    """Collect the tests of a fresh checkout once, else each worker would compile all of them."""
    if not any(ROOT.glob("tests/__pycache__")):
        command = [sys.executable, "-m", "pytest", *TESTS, "-n0", "--collect-only", "--quiet"]
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:  # the run itself shows what is wrong
            limited(command, with_scripts(sys.executable), nowhere)


def release_of(python: str) -> str:
    """Return the release of a Python; run.py names a venv by it."""
    return Path(python).parent.parent.name.removeprefix(".venv-")


def run_check(name: str, command: list[str]) -> Outcome:
    """Run one tool that passes or fails, and print its output when it has ended."""
    started = time.monotonic()
    tool = shutil.which(command[0], path=with_scripts(sys.executable)["PATH"])
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        code = limited([tool or command[0], *command[1:]], output=output)
        output.seek(0)
        announce(f"{name}\n{output.read()}".rstrip())
    return Outcome(name, ok=code == 0, seconds=time.monotonic() - started)


def run_pytest(name: str, arguments: list[str], python: str = sys.executable) -> Outcome:
    """One pytest run, counted by the report it writes."""
    announce(name)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [python, "-m", "pytest", "--durations=12", *arguments, f"--junit-xml={report}"]
        code = limited(command, with_scripts(python))
        counts = count(report)
    must_run = IN_CI and counts["skipped"] > 0
    if must_run:
        announce(f"{name}: {counts['skipped']} skipped, and in CI everything must run")
    return Outcome(
        name,
        ok=code == 0 and counts["passed"] > 0 and not must_run,
        seconds=time.monotonic() - started,
        note="no test ran" if code in {0, NO_TESTS} else f"ended with code {code}",
        **counts,
    )


def run_browser_tests() -> Outcome:
    """The browser tests: a process of their own, since Playwright keeps an event loop running."""
    if chromium := find_chromium():
        os.environ["CHROMIUM"] = chromium
        if not (os.environ.get("FIREFOX") or any(map(shutil.which, FIREFOXES))):
            install(FIREFOXES[:1])  # else the test that needs it says what is missing
        return run_pytest("browser", BROWSER)
    announce(f"browser: not run, {NO_CHROMIUM}")
    return Outcome("browser", ok=not IN_CI, note=f"NOT RUN, {NO_CHROMIUM}")


def install(packages: tuple[str, ...]) -> None:
    """Install the Debian packages that are missing, where that may be done."""
    if is_root() and shutil.which("apt-get") and (missing := [p for p in packages if not has(p)]):
        announce(f"installing {' '.join(missing)}")
        limited(["apt-get", "update", "-qq"])
        limited(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing])


def find_chromium() -> str | None:
    """The Chromium that CHROMIUM names or that is on PATH, installed first where that may be done."""
    if chosen := os.environ.get("CHROMIUM"):
        return chosen
    install(DEBIAN_PACKAGES)
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


def is_root() -> bool:
    """Return True if packages may be installed without asking for a password."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def has(package: str) -> bool:
    """Return True if Debian's package is installed."""
    command = ["dpkg-query", "-W", "-f=${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


def with_scripts(python: str) -> dict[str, str]:
    """The environment in which that Python's scripts come first, as in an active venv.

    Modules are compiled once: the tests start hundreds of processes.
    """
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PATH": path}


def limited(
    command: list[str], environment: dict[str, str] | None = None, output: IO[str] | None = None
) -> int:
    """Run a command to its end, or end it when its time is up."""
    try:
        return subprocess.run(
            command, check=False, timeout=PART_LIMIT, env=environment, stdout=output, stderr=output
        ).returncode
    except subprocess.TimeoutExpired:
        announce(f"ended after {PART_LIMIT:.0f} s: {' '.join(command)}")
        return -1


def count(report: Path) -> dict[str, Any]:
    """Passed, failed, skipped and expected to fail; nothing if pytest did not come to writing a report."""
    counts = dict.fromkeys(("passed", "failed", "skipped", "expected"), 0)
    failing = []
    for case in ET.parse(report).iter("testcase") if report.is_file() else ():
        skipped = case.find("skipped")
        failure = next(
            (case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None
        )
        if failure is not None:
            counts["failed"] += 1
            message = failure.get("message", "").partition("\n")[0]
            failing.append(f"{case.get('classname')}::{case.get('name')}: {message[:300]}")
        elif skipped is None:
            counts["passed"] += 1
        else:
            counts["expected" if skipped.get("type") == "pytest.xfail" else "skipped"] += 1
    return {**counts, "failing": tuple(failing)}


def announce(text: str) -> None:
    """A heading between the output of the parts."""
    print(f"\n--- {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
