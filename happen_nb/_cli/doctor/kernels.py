"""IPython, and what a notebook's kernel would be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from happen_nb._cli.doctor.findings import Finding, note, ok, wrong


def look() -> Iterator[Finding]:
    """IPython, the loop that can be entered twice, and the kernel ``python3``."""
    version = version_of("ipython")
    yield ok(f"IPython {version}") if version else wrong("IPython is missing", "pip install ipython")
    yield from _loops()
    yield from _kernel()


def version_of(package: str) -> str:
    """Its version, empty if it is not installed.

    Examples
    --------
    >>> version_of("no-such-package")
    ''
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _loops() -> Iterator[Finding]:
    old = version_of("nest-asyncio")
    if old:
        yield note(
            f"nest-asyncio {old} is there, too; happen_nb does not use it, and who applies it may hang",
            "in notebooks use nest_asyncio2, or happen.run",
        )
    if version_of("nest-asyncio2"):
        yield ok("happen.run re-enters a running loop by nest_asyncio2, and only when it is called")


def _kernel() -> Iterator[Finding]:
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        yield note("there is no Jupyter here; scripts work without")
        return
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        yield note('Jupyter knows no kernel "python3"', f"{sys.executable} -m ipykernel install --user")
        return
    if _is_this_python(command):
        yield ok('the kernel "python3" is this Python')
    else:
        yield note(
            f'the kernel "python3" is another Python ({command}), which may have no happen_nb',
            f"happen lab uses this one; or: {sys.executable} -m ipykernel install --user --name happen",
        )


def _is_this_python(command: str) -> bool:
    mine = f"python{sys.version_info.major}"
    if command in {"python", mine, f"{mine}.{sys.version_info.minor}"}:
        return True  # Jupyter starts its own Python for these
    return Path(command).absolute() == Path(sys.executable).absolute()
