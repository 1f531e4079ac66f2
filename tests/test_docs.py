"""The documentation is built without warnings and is complete."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from numpydoc.docscrape import NumpyDocString
from sphinx.util.inventory import InventoryFile

import happen_nb as happen
from happen_nb import errors, learn
from happen_nb._display import recording

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WITHOUT_A_NETWORK = """
import socket, sys
from sphinx.cmd.build import main

def connect(*_):
    raise SystemExit("the documentation is built without a network")

socket.socket.connect = socket.socket.connect_ex = connect
sys.exit(main(sys.argv[1:]))
"""
ERRORS = [name for name, each in vars(errors).items() if inspect.isclass(each) and name != "HappenError"]
CLASSES = [getattr(happen, name) for name in happen.__all__ if inspect.isclass(getattr(happen, name))]
KINDS = [each for each in CLASSES if not issubclass(each, Exception)]

pytestmark = pytest.mark.timeout(300)  # it takes 20 s where nothing else runs


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Return the finished build process and the folder of the pages."""
    folder = tmp_path_factory.mktemp("docs")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_NETWORK, *options, str(DOCS), str(folder / "html")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, folder / "html"


@pytest.fixture(scope="module")
def site(build):
    """Return the folder of the pages, which exist even after warnings."""
    return build[1]


@pytest.fixture(scope="module")
def described(site):
    """Return the names in the reference."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    return {name for kind in inventory.data.values() for name in kind}


def pages(site):
    return [
        path
        for path in site.rglob("*.html")
        if path.name not in {"genindex.html", "search.html", "recording.html"}
    ]


def test_it_is_built_without_warnings_and_without_a_network(build):
    done, site = build
    assert done.returncode == 0, done.stderr
    assert [
        page.name for page in pages(site) if "ERROR: Adding a table of contents" in page.read_text("utf-8")
    ] == []


def test_read_the_docs_installs_the_extra_for_the_docs():
    asked = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text("utf-8"))
    (install,) = asked["python"]["install"]
    assert (ROOT / asked["sphinx"]["configuration"]).samefile(DOCS / "conf.py")
    assert install["extra_requirements"] == ["docs"]


def test_every_public_name_is_in_the_reference(described):
    names = {
        *(f"happen_nb.{name}" for name in happen.__all__),
        *(f"happen_nb.learn.{name}" for name in learn.__all__),
    }
    assert names - described == set()


@pytest.mark.parametrize("kind", [*KINDS, learn.Verdict], ids=lambda kind: kind.__name__)
def test_every_public_attribute_is_in_the_reference(described, kind):
    told = {each.name for each in NumpyDocString(inspect.getdoc(kind))["Attributes"]}
    public = {
        name
        for base in kind.__mro__
        if base.__module__.startswith("happen_nb")
        for name in vars(base)
        if not name.startswith("_")
    }
    place = f"happen_nb.learn.{kind.__name__}" if kind is learn.Verdict else f"happen_nb.{kind.__name__}"
    assert {name for name in public - told if f"{place}.{name}" not in described} == set()


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_a_cause_and_a_fix(name):
    cause, fix, _ = inspect.getdoc(getattr(errors, name)).partition("\n\nFix: ")
    assert cause
    assert fix
    assert f".. autoexception:: {name}\n" in (DOCS / "api/errors.md").read_text("utf-8")


def test_the_page_on_the_command_line_has_the_usage_of_every_command(site):
    page = (site / "cli.html").read_text("utf-8")
    listed = subprocess.run(
        [sys.executable, "-m", "happen_nb", "--help"], capture_output=True, text=True, check=True
    )
    (commands,) = re.findall(r"\{([\w,]+)\} \.\.\.", listed.stdout)
    for command in commands.split(","):
        assert f"usage: happen {command} " in page


def test_every_notebook_is_a_page_with_its_saved_outputs(site):
    notebooks = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    listed = re.findall(r'href="notebooks/([^"]+)\.html"', (site / "tutorials.html").read_text("utf-8"))
    assert list(dict.fromkeys(listed)) == notebooks
    for name in notebooks:
        assert 'class="happen' in (site / f"notebooks/{name}.html").read_text("utf-8")


def test_reading_needs_no_network(site):
    loads = re.compile(
        r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"|url\(["\']?https?:'
    )
    texts = [*site.rglob("*.html"), *site.rglob("*.css")]
    found = [(path.name, each) for path in texts for each in loads.findall(path.read_text("utf-8"))]
    assert found == []


def test_no_path_of_a_machine_is_in_a_page(site):
    personal = (str(ROOT), str(Path.home()) + "/")
    read = [path for path in site.rglob("*") if path.suffix in {".html", ".js", ".css", ".txt"}]
    assert [path.name for path in read if any(each in path.read_text("utf-8") for each in personal)] == []


def test_the_code_of_the_first_page_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "index.md").read_text("utf-8"), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code + "\nassert stock.state.get('pens') == 5"],
        cwd=tmp_path,
        env={**os.environ, "HAPPEN_STORE": str(tmp_path / ".happen"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def epidemic(folder, more, **changes):
    """Run the cookbook's epidemic, with other numbers and more code at the end."""
    *code, plot = re.findall(r"```python\n(.*?)```", (DOCS / "cookbook/sir.md").read_text("utf-8"), re.DOTALL)
    source = "".join(code)
    for before, after in changes.values():
        assert before in source
        source = source.replace(before, after)
    done = subprocess.run(
        [sys.executable, "-c", f"{source}\nfigure = {plot}\n{more}"],
        cwd=folder,
        env={**os.environ, "HAPPEN_STORE": str(folder / ".happen"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_epidemic_of_the_cookbook_runs(tmp_path):
    rows = "for commit in census.state.history(): print(*commit.after.values())"
    smaller = ("PEOPLE, DAYS, SEED = 200, 60, 7", "PEOPLE, DAYS, SEED = 30, 8, 7")
    told = epidemic(tmp_path, f"{rows}\nassert figure.svg()", size=smaller)
    counts = [
        tuple(map(int, line.split())) for line in told.splitlines() if re.fullmatch(r"\d+ \d+ \d+", line)
    ]
    assert counts[0] == (27, 3, 0)
    assert {sum(each) for each in counts} == {30}
    assert counts[-1][2] > 0


@pytest.mark.soak
def test_the_picture_of_the_epidemic_is_what_it_gives_today(tmp_path):
    epidemic(
        tmp_path, f"from pathlib import Path; Path({str(tmp_path / 'sir.svg')!r}).write_text(figure.svg())"
    )
    assert (tmp_path / "sir.svg").read_text("utf-8") == (DOCS / "_static/sir.svg").read_text("utf-8")


def test_each_test_that_the_guarantees_name_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "guarantees.md").read_text("utf-8"))
    assert len(named) > 30

    def functions(path):
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        return {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }

    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


def test_the_recording_is_what_the_demo_gives_today(tmp_path):
    stored, fresh = DOCS / "_static" / "recording.html", tmp_path / "recording.html"
    subprocess.run(
        [sys.executable, str(DOCS / "record_demo.py"), str(fresh)],
        env={**os.environ, "HAPPEN_STORE": str(tmp_path / ".happen"), "PYTHONPATH": str(ROOT)},
        check=True,
    )
    command = "record the demo anew: python docs/record_demo.py"
    assert recording.render(recording.read(stored.read_text("utf-8"))) == stored.read_text("utf-8"), command
    assert essence(stored) == essence(fresh), command


def essence(file):
    """Return the parts that do not depend on the time and the order in which handlers run."""
    demo = happen.recorded(file)
    code = sorted((name, source) for _, name, source in recording.read(file.read_text("utf-8"))["handlers"])
    sent = Counter((event.type, event.sender, repr(event.payload)) for event in demo.events())
    return demo.title, demo.space, dict(demo.at(demo.journal()[-1].time)), sent, code
