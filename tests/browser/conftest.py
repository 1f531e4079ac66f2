"""JupyterLab as `happen lab` starts it, and a Chromium that watches what it does."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as PageTimeoutError
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent.parent.parent
SHOTS = Path(__file__).parent / "shots"
KEEPS_SHOTS = bool(os.environ.get("HAPPEN_SHOTS"))  # to look at; no test needs them, and they take a while
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
DEADLINE = 60.0
expect.set_options(timeout=20_000)  # a busy machine takes seconds for what takes a moment on a quiet one
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
WINDOW = {"width": 1200, "height": 1400}
IDLE = "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
OPEN = """path => {
    const {shell} = window.jupyterapp ?? {};
    const opened = [...shell?.widgets("main") ?? []].find(({context}) => context?.path === path);
    if (opened && opened !== shell.currentWidget) shell.activateById(opened.id);
    return opened === shell?.currentWidget && opened?.context.isReady && opened.sessionContext.isReady
        && opened.sessionContext.session?.kernel?.status === "idle";
}"""
SHOWN = """() => ({
    widgets: [...jupyterapp.shell.widgets("main")].map(shown => [
        shown.id, shown.context?.path, shown.context?.isReady, shown.sessionContext?.kernelDisplayStatus,
    ]),
    current: jupyterapp.shell.currentWidget?.id,
    dialogs: [...document.querySelectorAll(".jp-Dialog")].map(dialog => dialog.textContent),
})"""
IS_LIGHT = "() => document.body.dataset.jpThemeLight === 'true'"
LEAVE = """() => {
    window.leaving = {};
    for (const shown of [...jupyterapp.shell.widgets("main")]) {
        const {path, session} = shown.sessionContext ?? {}, id = session?.id;
        shown.dispose();  // closing it would ask about changes, and the end of a kernel is one
        if (id) window.leaving[path] = jupyterapp.serviceManager.sessions.shutdown(id);
    }
}"""
ONE_ENDED = "path => window.leaving?.[path]"
ALL_ENDED = "() => Promise.all(Object.values(window.leaving ?? {}))"
COMMAND = """([name, options, seconds]) => Promise.race([
    jupyterapp.commands.execute(name, options),
    new Promise((_, no) => setTimeout(() => no(new Error(`${name}: not done in time`)), seconds * 1000)),
]).then(() => null)"""
FROM_THE_TOP = """async () => {
    document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0;
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
}"""
NOT_OURS = (
    "._ensureFocus",  # where JupyterLab 4.6 looks for the focus of a notebook that was just closed
    "Failed to initialize model",  # of anywidget, in a busy page; the widget starts nevertheless
    "widget model not found",  # of the views in a saved notebook, whose kernel is gone: the static ones stay
)
ERROR_OUTPUTS = (
    '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"], '
    '.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]'
)


LONGEST_FIRST = ("hostile_text", "accessibility", "binder", "what_survives", "notebooks")
"""Tests that would keep one process busy alone if they started last."""


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # A call into a page that hangs never returns, and nothing can be raised in it: end the process.
            item.add_marker(pytest.mark.timeout(300, method="thread"))
    items.sort(key=lambda item: [item.path != here / f"test_{name}.py" for name in LONGEST_FIRST])


class TestByTest(LoadScopeScheduling):
    """Hand out one test after the other, but all of one file where each process would build an image."""

    __test__ = False

    def _split_scope(self, nodeid):
        file, _, _ = nodeid.partition("::")
        return file if file.endswith("test_binder.py") else nodeid


@pytest.hookimpl(optionalhook=True)  # one may run them without xdist
def pytest_xdist_make_scheduler(config, log):
    return TestByTest(config, log)


@dataclass
class Lab:
    """A running JupyterLab: its address, and the environment of its kernels."""

    origin: str
    token: str
    env: dict[str, str]


@pytest.fixture(scope="package")
def lab(tmp_path_factory):
    """One JupyterLab for all, on a copy of the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    with serving(folder) as lab:
        yield lab


@contextmanager
def serving(folder):
    """JupyterLab in a folder, as `happen lab` starts it; nothing of the user's Jupyter is seen."""
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    env |= {key: str(folder / key.lower()) for key in (*own, "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")}
    env |= {"HAPPEN_STORE": str(folder / ".happen")}
    command = [sys.executable, "-m", "happen_nb", "lab", "--no-browser", "--port=0"]
    command += [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
    command += ["--LabApp.extension_manager=readonly"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - it makes one system call
        )
        try:
            url = _first_url(process)
            assert url, (folder / "server.log").read_text()
            parts = urlsplit(url)
            yield Lab(f"{parts.scheme}://{parts.netloc}", parse_qs(parts.query)["token"][0], env)
        finally:
            process.terminate()  # the server stops its kernels
            process.wait(DEADLINE)


def _end_with_parent():
    """End when the tests end, also when a timeout has killed them: kernels would go on."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _first_url(process):
    """The first URL that the process prints; None if it ends before."""
    found = Queue()

    def read():
        for line in process.stdout:
            if line.startswith("http"):
                found.put(line.strip())
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found.get(timeout=DEADLINE)


@pytest.fixture(scope="package")
def chromium(tmp_path_factory):
    """One browser for all, with a profile of its own."""
    if not find_chromium():
        pytest.skip("no Chromium: install it (Debian: apt install chromium fonts-liberation) or set CHROMIUM")
    with browsing(tmp_path_factory.mktemp("profile")) as context:
        yield context


def find_chromium():
    """Return the path of the program, or None if it is not installed."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


@contextmanager
def browsing(profile):
    """Chromium with a profile in a folder."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=find_chromium(),
            headless=True,
            args=FLAGS,
            viewport=WINDOW,
        )
        yield context
        context.close()


def take_screenshot(page, name, **options):
    """Put a screenshot of a page, or of a part of it, into the folder `shots`, if they are wanted."""
    if KEEPS_SHOTS:
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", **options)


@dataclass
class Watched:
    """A browser tab, and what it did that it should not."""

    page: Page
    lab: Lab
    off_site: list[str] = field(default_factory=list)
    console_errors: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", self._note_error)

    def _note_request(self, request):
        if request.url.startswith("http") and not request.url.startswith(self.lab.origin):
            self.off_site.append(request.url)

    def _note_console(self, message):
        if message.type == "error":
            self._note_error(f"{message.text} ({message.location.get('url', '')})")

    def _note_error(self, error):
        if not any(known in str(error) for known in NOT_OURS):
            self.console_errors.append(str(error))

    def open(self, notebook):
        """Open a notebook with a kernel of its own, and wait until that is idle."""
        if not self.page.url.startswith(f"{self.lab.origin}/lab"):
            self.load(notebook)
            return
        self.page.bring_to_front()
        self.page.evaluate(ONE_ENDED, notebook)  # else the notebook gets the kernel that is about to end
        self.command("docmanager:open", {"path": notebook})
        self._wait(notebook)
        self.page.evaluate(ALL_ENDED)  # the kernel of the test before may have the same space

    def load(self, notebook, place="lab/tree"):
        """Load a page that shows a notebook, and wait until its kernel is idle."""
        self.page.goto(f"{self.lab.origin}/{place}/{notebook}?reset&token={self.lab.token}")
        self._wait(notebook)

    def _wait(self, notebook):
        try:
            self.page.wait_for_function(OPEN, arg=notebook, timeout=DEADLINE * 1000)
        except PageTimeoutError as error:
            error.add_note(f"{notebook} is not ready; JupyterLab shows {self.page.evaluate(SHOWN)}")
            raise

    def command(self, name, options=None, seconds=120):
        """Run a JupyterLab command to its end."""
        self.page.evaluate(COMMAND, [name, options or {}, seconds])

    def run_all(self):
        """Run all cells, and wait until the kernel is idle again."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(IDLE, timeout=DEADLINE * 1000)

    def error_outputs(self):
        """Return what stands on stderr or as a traceback under the cells."""
        return self.page.locator(ERROR_OUTPUTS).all_inner_texts()

    def shoot(self, name, themes=tuple(THEMES)):
        """Take a screenshot of the whole notebook in the light and in the dark theme, or in one of them."""
        if not KEEPS_SHOTS:
            return
        self.page.set_viewport_size({"width": 1200, "height": 600})
        height = self.page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight")
        self.page.set_viewport_size({"width": 1200, "height": min(8000, height + 150)})
        for theme in themes:
            self.show_theme(theme)
            self.page.evaluate(FROM_THE_TOP)
            take_screenshot(self.page.locator(".jp-NotebookPanel"), f"{name}-{theme}")

    def show_theme(self, theme):
        """Change to the light or the dark theme, and wait until it is there."""
        if self.page.evaluate(IS_LIGHT) == (theme == "light"):
            return
        self.command("apputils:change-theme", {"theme": THEMES[theme]})
        self.page.wait_for_function(f"light => ({IS_LIGHT})() === light", arg=theme == "light")
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def close(self):
        """End the kernel too, so that the next notebook does not share the machine with it."""
        self.command("kernelmenu:shutdown")
        self.page.close()

    def leave(self):
        """Leave the page as it was before a notebook was opened in it, and end the kernel without waiting."""
        self.page.remove_listener("request", self._note_request)
        self.page.remove_listener("console", self._note_console)
        self.page.remove_listener("pageerror", self._note_error)
        self.page.evaluate(LEAVE)
        self.page.locator(
            ".jp-Launcher"
        ).wait_for()  # it opens by itself, and would come before what opens next
        self.show_theme("light")
        self.page.set_viewport_size(WINDOW)


@pytest.fixture
def own_tab(lab, chromium, left):
    """A new browser tab that is watched."""
    for page in left:
        page.evaluate(ALL_ENDED)
    watched = Watched(chromium.new_page(), lab)
    yield watched
    watched.close()


@pytest.fixture(scope="package")
def left():
    """The page that a test has left for the next: loading JupyterLab takes seconds."""
    return []


@pytest.fixture
def tab(lab, chromium, left, request):
    """A browser tab that is watched, in which other tests have opened notebooks before."""
    watched = Watched(left.pop() if left else chromium.new_page(), lab)
    failed = request.session.testsfailed
    yield watched
    if request.session.testsfailed > failed:
        watched.close()
        return
    watched.leave()
    left.append(watched.page)
