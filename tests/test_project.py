"""The repository as a whole: the two commands, the wheel, and how the suite counts."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
TEXTS = {".py", ".md", ".toml", ".ipynb", ".json", ".css", ".js", ".cfg", ".txt"}
SOURCES = ("happen_nb", "tests", "notebooks", "benchmarks", "docs", "binder", ".ci")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def run():
    """run.py as a module."""
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_readme_gives_one_line_to_open_the_notebooks_and_one_to_test(run):
    commands = [line.split() for line in blocks("sh")[0].splitlines()]
    assert commands == [["python3", "run.py", command] for command in run.NEEDS]


def test_ci_runs_the_test_command_of_the_readme():
    assert "exec python3 run.py test" in (ROOT / ".ci/run").read_text("utf-8")


def test_the_readme_shows_the_real_output(space):
    """The text below a block of code is the result of its last line."""
    shown = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL)
    names = {}
    for code, output in shown:
        *statements, last = ast.parse(code).body
        exec(compile(ast.Module(statements, []), "README.md", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "README.md", "eval"), names)
        assert repr(value) + "\n" == output
    assert shown


def test_every_link_within_the_repository_leads_somewhere():
    links = [
        (page.name, page.parent / path)
        for page in PAGES
        for path in re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text("utf-8"))
    ]
    assert links
    assert [(name, str(path)) for name, path in links if not path.exists()] == []


def test_every_file_and_name_in_contributing_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    folders = (ROOT, ROOT / "happen_nb", ROOT / "happen_nb/_api", ROOT / "tests/display")
    files = re.findall(r"`([\w/]+\.(?:py|md|cfg))`", text)
    assert [file for file in files if not any((folder / file).exists() for folder in folders)] == []

    walk = text.split("## A walk")[1].split("\n## ")[0]
    named = set(re.findall(r"`(?:\w+\.)*(\w+)`", walk))
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "happen_nb").rglob("*.py"))
    defined = set(re.findall(r"(?:def|class) (\w+)", sources))
    defined |= {name for pair in re.findall(r"(\w+), (\w+) = faces\(", sources) for name in pair}
    assert named - defined == set()


def test_every_page_that_a_class_names_exists():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "happen_nb").rglob("*.py"))
    named = re.findall(r'shown_by\("(\w+)\.(\w+)"\)', sources)
    assert len(named) > 10
    for module, function in named:
        assert callable(getattr(importlib.import_module(f"happen_nb._display.{module}"), function))


def test_every_address_of_the_project_is_the_one_in_pyproject():
    ours = PROJECT["project"]["urls"]
    name = ours["Repository"].removeprefix("https://github.com/")
    starts = (
        ours["Repository"],
        ours["Documentation"],
        f"https://mybinder.org/v2/gh/{name}",
        f"https://raw.githubusercontent.com/{name}",
    )
    right = re.compile(rf"({'|'.join(map(re.escape, starts))})(\.git|/.*)?")
    address = re.compile(r"https?://[^\s)>`\"]*happen[-_]nb[^\s)>`\"]*")
    pages = [
        *PAGES,
        ROOT / "pyproject.toml",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs/api").glob("*.md"),
    ]
    found = [(page.name, each) for page in pages for each in address.findall(page.read_text("utf-8"))]
    assert {page for page, _ in found} >= {"README.md", "pyproject.toml"}
    assert [(page, each) for page, each in found if not right.fullmatch(each)] == []


def test_the_badge_of_the_pythons_names_those_that_are_supported():
    (badge,) = re.findall(r"badge/python-(.+?)-blue", README)
    supported = [
        each.rpartition(" ")[2] for each in PROJECT["project"]["classifiers"] if "Python :: 3." in each
    ]
    assert badge.split("_%7C_") == supported


def test_the_picture_of_the_readme_is_there_and_small():
    [picture] = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert (ROOT / picture).stat().st_size < 300_000


def test_the_code_in_the_readme_runs(tmp_path):
    script = "\n".join(blocks("python"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HAPPEN_STORE": str(tmp_path / ".happen")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_older_python_gets_as_far_as_the_message_that_it_is_too_old():
    source = (ROOT / "run.py").read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    first = next(node for node in tree.body if not isinstance(node, ast.Expr | ast.Import))
    assert "sys.version_info < (3, 11)" in ast.unparse(first)


def test_groups_are_spelled_out_for_a_pip_that_does_not_know_them(run):
    wanted = run.requirements("lab", ["dev"])
    assert wanted[:2] == ["--editable", ".[lab]"]
    groups = PROJECT["dependency-groups"]
    assert set(wanted[2:]) == {*groups["test"], *groups["lint"]}


def fake_python(path, prints, code=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {prints}\nexit {code}\n")
    path.chmod(0o755)


def test_a_shim_without_a_python_behind_it_is_passed_over(run, tmp_path, monkeypatch):
    fake_python(tmp_path / "shims/python3.12", "", code=127)
    monkeypatch.setenv("PATH", str(tmp_path / "shims"), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run.find_python("3.12") is None
    real = tmp_path / ".pyenv/versions/3.12.9/bin/python"
    fake_python(real, "3.12.9")
    assert run.find_python("3.12") == str(real)


def test_a_python_that_is_missing_is_passed_over_but_not_in_ci(run, monkeypatch, capsys):
    monkeypatch.setattr(run, "find_python", lambda release: None)
    monkeypatch.delenv("CI", raising=False)
    assert run.also(["--all-pythons", "-k", "x"]) == ["-k", "x"]
    assert "no Python 3.12 on this machine" in capsys.readouterr().err
    monkeypatch.setenv("CI", "true")
    with pytest.raises(SystemExit, match=r"no Python 3\.1\d on this machine"):
        run.also(["--all-pythons"])


def test_the_wheel_is_typed_and_holds_what_the_library_reads(wheel):
    shipped = {name for name in wheel.namelist() if not name.startswith("happen_nb-")}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "happen_nb").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "happen_nb/py.typed" in shipped
    extension = {
        name.rpartition("/labextensions/")[2] for name in wheel.namelist() if ".data/data/share/" in name
    }
    assert extension == {"happen-nb/package.json", "happen-nb/static/remoteEntry.js"}
    assert shipped == there


def test_the_sdist_holds_all_that_the_tests_need(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    pages = {path.name for path in ROOT.iterdir() if path.suffix in {".md", ".cff", ".toml", ".py"}}
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert (pages | tests | {"LICENSE", ".ci/run"}) - shipped == set()


def test_the_wheel_needs_jupyterlab_only_as_an_extra(wheel):
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
    lines = re.findall(r"^Requires-Dist: (jupyterlab|notebook)\b(.*)$", metadata, re.MULTILINE)
    assert len(lines) == 2
    assert all("extra == 'lab'" in condition for _, condition in lines)


def test_pypi_shows_the_readme_with_addresses_that_lead_somewhere(wheel):
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
    addresses = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(addresses) > 10
    assert [each for each in addresses if not each.startswith(("https://", "#"))] == []
    assert "https://raw.githubusercontent.com/happen-nb/happen_nb/main/docs/picture.png" in addresses


def test_what_the_library_imports_is_declared():
    names = {"nats": "nats-py", "orjson": "orjson", "IPython": "ipython", "nest_asyncio2": "nest-asyncio2"}
    beside = {path.stem for path in (ROOT / "happen_nb/_server/supervision").glob("*.py")}
    extras = {
        "jupyterlab",
        "jupyter_server",
        "jupyter_client",
    }  # of the extra "lab", and what it and ipykernel bring
    sources = [path.read_text("utf-8") for path in (ROOT / "happen_nb").rglob("*.py")]
    trees = [ast.walk(ast.parse(source)) for source in sources]
    imported = {name.partition(".")[0] for tree in trees for node in tree for name in _modules(node)}
    third = imported - set(sys.stdlib_module_names) - {"happen_nb"} - extras - beside
    third -= {"typing_extensions"}  # for type checkers, which bring it
    declared = {re.split(r"[\[><=]", each)[0] for each in PROJECT["project"]["dependencies"]}
    assert {names.get(name, name) for name in third} <= declared


def _modules(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def test_the_changelog_has_this_version():
    assert f"## [{PROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_no_path_of_a_machine_is_written_anywhere():
    personal = re.compile("|".join(re.escape(str(path)) + r"\b" for path in {Path.home(), ROOT}))
    files = [path for path in ROOT.glob("*") if path.suffix in TEXTS]
    files += [path for name in SOURCES for path in (ROOT / name).rglob("*") if path.suffix in TEXTS]
    assert files
    found = [str(path.relative_to(ROOT)) for path in files if personal.search(path.read_text("utf-8"))]
    assert found == []


def run_suite(tmp_path, test_source, **environment):
    """The exit code and the last line of the suite on one file of tests."""
    tests = tmp_path / "test_it.py"
    tests.write_text(test_source)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/suite.py"), "-p", "no:nbval", str(tests)],
        env={**os.environ, "CI": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()[-1]


ONE_OF_EACH = """
import pytest

def test_passes(): pass
def test_fails(): assert False
def test_is_skipped(): pytest.skip("for a reason")

@pytest.mark.xfail(strict=True)
def test_fails_as_expected(): assert False
"""
PASS_AND_SKIP = ONE_OF_EACH.replace("assert False", "pass", 1)


def test_the_last_line_sums_up(tmp_path):
    assert run_suite(tmp_path, ONE_OF_EACH) == (1, "1 passed, 1 failed, 1 skipped")


def test_a_skip_is_a_failure_in_ci_only(tmp_path):
    assert run_suite(tmp_path, PASS_AND_SKIP) == (0, "2 passed, 0 failed, 1 skipped")
    assert run_suite(tmp_path, PASS_AND_SKIP, CI="true") == (1, "2 passed, 1 failed, 1 skipped")


def test_running_no_test_is_a_failure(tmp_path):
    assert run_suite(tmp_path, "") == (1, "0 passed, 1 failed")


def test_a_process_that_dies_is_a_failure(tmp_path):
    assert run_suite(tmp_path, "import os\ndef test_dies(): os._exit(0)")[0] == 1
