"""Notebooks exported as pages: every picture is seen without a kernel and without a network."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.browser.conftest import take_screenshot
from tests.notebooks.figures import PLOTLY

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SEEN = """() => [...document.querySelectorAll(".jp-Cell-outputArea")].map(area => area.innerText)"""
IMAGES = """() => [...document.querySelectorAll(".jp-OutputArea-output img")].map(image => ({
    drawn: image.complete && image.naturalWidth > 0 && image.getBoundingClientRect().height > 100,
    wide: image.getBoundingClientRect().right > document.documentElement.clientWidth,
    said: image.alt,
}))"""


@pytest.fixture(scope="module")
def exporter():
    return HTMLExporter()


@pytest.fixture(scope="module")
def page(chromium):
    """A tab without a network."""
    page = chromium.new_page()
    page.route(lambda url: not url.startswith("file:"), lambda route: route.abort())
    yield page
    page.close()


def outputs(path):
    """The outputs of each cell that has one."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell.outputs for cell in cells if cell.cell_type == "code" and cell.outputs]


def first_line(output):
    """Return the first line of an output; empty for one without text, such as that of a widget."""
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "" if text.startswith("<IPython.") else next(iter(text.splitlines()), "")


def words(text):
    return "".join(text.split())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_exported_page_shows_what_the_notebook_showed(path, exporter, page, tmp_path):
    exported = tmp_path / "page.html"
    exported.write_text(exporter.from_filename(str(path))[0], encoding="utf-8")
    page.goto(exported.as_uri(), wait_until="domcontentloaded")
    page.wait_for_function("() => [...document.images].every(image => image.complete)")

    figures = [output for cell in outputs(path) for output in cell if PLOTLY in output.get("data", {})]
    images = page.evaluate(IMAGES)
    figures_shown = [image for image in images if not image["said"].startswith("Live plot")]
    assert [image["said"] for image in figures_shown] == [figure.data["text/plain"] for figure in figures]
    assert [image for image in images if not image["drawn"] or image["wide"]] == []

    captions = {image["said"].partition("\n")[0] for image in images}
    shown = page.evaluate(SEEN)
    assert len(shown) == len(outputs(path))
    for cell, seen in zip(outputs(path), shown, strict=True):
        said = [first_line(output) for output in cell if PLOTLY not in output.get("data", {})]
        assert [text for text in said if words(text) not in words(seen) and text not in captions] == []
    take_screenshot(page, f"exported-{path.stem}", full_page=True)
