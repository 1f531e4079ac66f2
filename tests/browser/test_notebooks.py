"""Every notebook in JupyterLab, as a newcomer runs it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

import run
from tests.notebooks.regenerate import mask_varying_parts

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
ERRORS = """() => [...jupyterapp.shell.currentWidget.content.model.cells]
    .flatMap(cell => cell.outputs?.toJSON() ?? [])
    .filter(output => output.output_type === "error" || output.name === "stderr")
    .map(output => output.evalue ?? [output.text].flat().join(""))"""
OPENED = """async () => {
    const shown = jupyterapp.shell.currentWidget;
    await shown.sessionContext.session.kernel.info;
    await new Promise(done => setTimeout(done));
    return {changed: shown.context.model.dirty, language: shown.context.model.getMetadata("language_info")};
}"""


def has_views(notebook):
    """Return True if it shows what a script draws, which another run of its cells has to draw again."""
    text = (FOLDER / notebook).read_text("utf-8")
    return "jupyter.widget-view" in text or "vnd.plotly" in text


def last_lines(texts):
    return [mask_varying_parts(text.splitlines()[-1]) for text in texts]


def kept_on_stderr(notebook):
    """Return what the notebook means to show on stderr: what it was saved with."""
    cells = [c for c in nbformat.read(FOLDER / notebook, as_version=4).cells if c.cell_type == "code"]
    return [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_it_opens_unchanged_and_run_all_works_without_errors_or_requests_to_elsewhere(tab, notebook):
    tab.open(notebook)
    is_marked_as_changed_only_where_python_is_another(tab, notebook)
    for _ in range(2 if has_views(notebook) else 1):
        tab.run_all()
        assert last_lines(tab.page.evaluate(ERRORS)) == last_lines(kept_on_stderr(notebook))
    tab.shoot(Path(notebook).stem, themes=["light"])
    empty = tab.page.locator(".hn-dash p:visible", has_text="no nodes yet")
    expect(empty).to_have_count(0)  # also where its view opens when the last cell has closed the space
    assert tab.console_errors == []
    assert tab.off_site == []


SHOWN = """() => {
    const {cells} = jupyterapp.shell.currentWidget.content.model;
    const lists = [...document.querySelectorAll(".happen ul")].filter(list => list.offsetParent);
    return {
        trusted: [...cells].every(cell => cell.type !== "code" || cell.trusted),
        signs: [...new Set(lists.map(list => getComputedStyle(list).listStyleType))],
    };
}"""


def test_a_trusted_notebook_opens_with_its_states_as_they_were_saved(lab, tab):
    folder = Path(lab.env["HAPPEN_STORE"]).parent / "notebooks"
    trust = [sys.executable, "-c", run.TRUST, "00_first_steps.ipynb"]
    subprocess.run(trust, cwd=folder, env=lab.env, check=True, capture_output=True)
    tab.open("00_first_steps.ipynb")
    expect(tab.page.locator(".happen ul:visible").first).to_be_visible()
    assert tab.page.evaluate(SHOWN) == {"trusted": True, "signs": ["none"]}
    assert tab.console_errors == tab.off_site == []


def is_marked_as_changed_only_where_python_is_another(tab, notebook):
    kept = nbformat.read(FOLDER / notebook, as_version=4).metadata.language_info
    opened = tab.page.evaluate(OPENED)
    assert opened["language"] == kept | {"version": platform.python_version()}
    assert opened["changed"] == (opened["language"] != kept)
