"""Python and the packages: whether they are what happen_nb asks for."""

from __future__ import annotations

import platform
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import happen_nb
from happen_nb._cli.doctor.findings import Finding, note, ok, wrong

NAME = "happen_nb"


class Asked(NamedTuple):
    """What happen_nb asks for."""

    python: str
    needed: list[Requirement]
    optional: list[Requirement]


def look() -> Iterator[Finding]:
    """Python, happen_nb, and each package that it asks for."""
    asked = asked_for(Path(happen_nb.__file__).parent.parent)
    if asked is None:
        where = Path(happen_nb.__file__).parent
        yield note(f"what happen_nb asks for is not known: it is no installed package ({where})")
        return
    yield _python(asked.python)
    yield _itself()
    for requirement in asked.needed:
        yield of(requirement)
    for requirement in asked.optional:
        yield of(requirement, only_for="happen lab")


def asked_for(folder: Path) -> Asked | None:
    """By the ``pyproject.toml`` of a checkout in a folder, else by what is installed."""
    file = folder / "pyproject.toml"
    project = tomllib.loads(file.read_text("utf-8")).get("project", {}) if file.is_file() else {}
    if project.get("name") == NAME:
        optional = project.get("optional-dependencies", {}).get("lab", [])
        return Asked(project["requires-python"], _parsed(project["dependencies"]), _parsed(optional))
    try:
        found = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        return None
    all_of_them = _parsed(found.requires or [])
    needed = [one for one in all_of_them if _is_asked_by(one, extra="")]
    optional_ones = [one for one in all_of_them if one not in needed and _is_asked_by(one, extra="lab")]
    return Asked(found.metadata["Requires-Python"] or "", needed, optional_ones)


def _is_asked_by(requirement: Requirement, *, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _parsed(texts: Iterable[str]) -> list[Requirement]:
    return [Requirement(text) for text in texts]


def _python(asked: str) -> Finding:
    version = platform.python_version()
    kind = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    if SpecifierSet(asked).contains(version, prereleases=True):
        return ok(f"Python {version}, {sys.executable} ({kind}), {platform.platform()}")
    return wrong(
        f"Python {version} ({sys.executable}); happen_nb asks for {asked}", "run it with such a Python"
    )


def _itself() -> Finding:
    where = Path(happen_nb.__file__).parent
    try:
        installed = metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return note(f"happen_nb {happen_nb.__version__} in {where}, which is not installed as a package")
    if installed != happen_nb.__version__:
        return note(
            f"happen_nb {happen_nb.__version__} in {where}, but {installed} is what is installed",
            "is another copy first on PYTHONPATH, or in this folder?",
        )
    return ok(f"happen_nb {installed} in {where}")


def of(requirement: Requirement, *, only_for: str = "") -> Finding:
    """Whether a package is there, and new enough.

    Examples
    --------
    >>> print(of(Requirement("no-such-package>=2")))
      wrong  no-such-package is missing, and >=2 is asked for
             -> pip install "no-such-package>=2"
    """
    bad = note if only_for else wrong
    what = f"; {only_for} needs it" if only_for else ""
    plain = f"{requirement.name}{_extras(requirement)}{requirement.specifier}"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        asked = f", and {requirement.specifier} is asked for" if requirement.specifier else ""
        return bad(f"{requirement.name} is missing{asked}{what}", f'pip install "{plain}"')
    if not requirement.specifier.contains(version, prereleases=True):
        text = f"{requirement.name} {version}, and {requirement.specifier} is asked for{what}"
        return bad(text, f'pip install --upgrade "{plain}"')
    return ok(f"{requirement.name} {version}")


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
