"""``happen doctor``: looks at everything that happen_nb needs here, and says how to mend what is wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from happen_nb._cli.doctor import kernels, packages, programs, servers, stores, variables
from happen_nb._cli.doctor.findings import Finding, wrong
from happen_nb._cli.parsing import Commands, add_command, add_store, tell

_DESCRIPTION = """\
Look at all that happen_nb needs here: Python and packages, kernels, nats-server,
the store and its server, who is connected, and the environment. Each finding is
"ok", a "note", or "wrong", with what mends it below. Nothing is started and
nothing is changed. The exit status is 1 if something is wrong."""
_EXAMPLES = """\
  happen doctor                             what connect() would use here
  happen doctor --store old/.happen         another store
  happen doctor --servers nats://host:4222  a server of one's own
"""


def add_to(commands: Commands) -> None:
    """Add it to the command line."""
    parser = add_command(
        commands,
        "doctor",
        _run,
        help="find what is wrong here, and how to mend it",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_store(parser)
    parser.add_argument("--servers", metavar="URL", help="look at these servers; default: $NATS_URL")


def _run(options: argparse.Namespace, _: list[str]) -> int:
    bad = 0
    for title, check in _checks(options):
        tell(title)
        for finding in _carefully(check):
            bad += finding.verdict == "wrong"
            tell(str(finding))
    tell("nothing is wrong" if not bad else f"{bad} wrong")
    return int(bad > 0)


def _checks(options: argparse.Namespace) -> list[tuple[str, Callable[[], Iterable[Finding]]]]:
    urls = servers.urls_of(options)
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("Python", packages.look),
        ("Jupyter", kernels.look),
        ("environment", variables.look),
        ("nats-server", lambda: programs.look(needed=not urls)),
    ]
    if urls:
        checks.append(("servers", lambda: servers.look(urls)))
    if not urls or options.store is not None:
        checks.append(("store", lambda: stores.look(options)))
    return checks


def _carefully(check: Callable[[], Iterable[Finding]]) -> Iterable[Finding]:
    """What a check finds; one that fails is a finding, too, and the others go on."""
    try:
        yield from check()
    except Exception as error:
        yield wrong(f"this could not be looked at: {type(error).__name__}: {error}")
