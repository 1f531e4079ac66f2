"""Settings of Sphinx; build with ``sphinx-build -W --keep-going -n -b html docs docs/_build``.

Building and reading the documentation need no network.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from docutils.nodes import Element, literal_block
from numpydoc.xref import DEFAULT_LINKS
from sphinx.util.docutils import SphinxDirective

import happen_nb
from happen_nb._cli import main

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# jsonschema checks IRIs with it, of which notebooks have none; its import takes 1.5 s.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# -- project -----------------------------------------------------------------------------------------

project = PROJECT["name"]
version = release = PROJECT["version"]
copyright = f"the authors of {project}, {PROJECT['license']}"
extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "literal"  # `name` in a docstring is code
nitpicky = True

# -- pages and notebooks -----------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist"]  # without dollarmath: $KV is a subject
myst_heading_anchors = 3
nb_execution_mode = "off"  # tests compare the saved outputs with those of a fresh kernel
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # the default loads scripts from a CDN
suppress_warnings = ["mystnb.unknown_mime_type"]  # plotly figures have a static image too

# -- reference ---------------------------------------------------------------------------------------

add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_inherit_docstrings = False  # the members of lists and widgets are documented elsewhere
maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
DEFAULT_LINKS.clear()  # the documentation of Python is on another site
HELD = (
    "CallCounter Change CommitRecord Dashboard Diff EventRecord Failure Failures HandledRecord Handler "
    "Handlers Live LiveGraph LivePlot LiveTimeline Origin Owner Repeater SecondKernel SpaceInfo Totals "
    "TraceNode Unhandled Verdict"
)
"""Classes whose objects users get, but which `happen_nb` does not export."""
numpydoc_xref_aliases = {name: f"happen_nb.{name}" for name in [*happen_nb.__all__, *HELD.split()]}
numpydoc_xref_ignore = "all"
OTHERS = {*sys.stdlib_module_names, *dir(builtins), "Figure", "pd", "timedelta"}
"""First parts of names that are documented elsewhere, and get no link."""
VARIABLES = {"F", "P", "Rule", "T"}

# -- appearance --------------------------------------------------------------------------------------

html_theme = "furo"
html_title = project
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def bring_notebooks(app: Sphinx) -> None:
    """Copy the notebooks next to the pages, since Sphinx reads one folder only."""
    target = Path(app.srcdir, "notebooks")
    target.mkdir(exist_ok=True)
    found = {path.name: path.read_bytes() for path in (ROOT / "notebooks").glob("*.ipynb")}
    for copy in target.glob("*.ipynb"):
        if copy.name not in found:
            copy.unlink()
    for name, content in found.items():
        copy = target / name
        if not copy.exists() or copy.read_bytes() != content:
            new = copy.with_suffix(f".{os.getpid()}")
            new.write_bytes(content)
            new.replace(copy)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: Element) -> Element | None:
    """Link a type of this project that an annotation names by its module; show other names without a link.

    Sphinx reports the names that remain: broken links.
    """
    parts = node["reftarget"].replace(":", ".").split(".")
    if parts[0] in OTHERS or parts[-1] in VARIABLES:
        return shown
    domain = env.domains.python_domain
    ours = [
        name
        for name, known in domain.objects.items()
        if name.startswith("happen_nb.")
        and not known.aliased
        and name.split(".")[-1] == parts[-1]
        and known.objtype in {"class", "exception", "type"}
    ]
    ours = [name for name in ours if "._" not in name] or ours
    if node["refdomain"] != "py" or len(ours) != 1:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "class", ours[0], node, shown)


def skip_others(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Skip members that a class inherits from a class of another project."""
    maker = getattr(obj, "fget", None) or getattr(obj, "func", None) or getattr(obj, "__objclass__", obj)
    module = getattr(maker, "__module__", None) or project  # a plain value has no module
    return None if module.startswith(project) else True


def hide_constructor(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """Hide the signature of classes that only the library instantiates."""
    made_by_us = what in {"class", "exception"} and obj is not happen_nb.Result
    return ("", "") if signature and made_by_us else None


class Help(SphinxDirective):
    """Show the help of a subcommand of ``happen``."""

    required_arguments = 1

    def run(self) -> list[Element]:
        """Called by docutils."""
        os.environ["COLUMNS"] = "88"
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
            main([self.arguments[0], "--help"])
        return [literal_block(output.getvalue(), output.getvalue(), language="none")]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("happen-help", Help)
    app.connect("autodoc-skip-member", skip_others)
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("builder-inited", bring_notebooks)
    app.connect("missing-reference", resolve)
