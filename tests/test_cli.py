"""The command ``happen``."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from importlib.metadata import version
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient

from happen_nb import _cli as cli

DEADLINE = 60.0


class Lab:
    """A JupyterLab that ``happen lab --no-browser`` started."""

    def __init__(self, process, url):
        self.process = process
        self.port = urlsplit(url).port
        self.token = parse_qs(urlsplit(url).query)["token"][0]

    def call(self, path, body=None):
        url, headers = f"http://127.0.0.1:{self.port}/{path}", {"Authorization": f"token {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=DEADLINE) as answer:
            return json.load(answer)

    def start_kernel(self):
        """Start the kernel that a new notebook gets, and give its process."""
        self.call("api/kernels", {"name": "python3"})
        children = psutil.Process(self.process.pid).children()
        alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        [kernel] = [child for child in alive if "ipykernel_launcher" in child.cmdline()]
        return kernel


def first_url(process):
    """The first line on stdout that is a URL; the rest of the output goes on being read."""
    found = queue.Queue()

    def read():
        for line in process.stdout:
            if line.startswith("http"):
                found.put(line.strip())
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    url = found.get(timeout=DEADLINE)
    assert url, "JupyterLab ended before it served"
    return url


@contextmanager
def running_lab(folder, home, *options, stderr=None, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "happen_nb", "lab", "--no-browser", *options],
        cwd=folder,
        env={**os.environ, "HOME": str(home), "IPYTHONDIR": str(home / "ipython"), **environment},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        yield Lab(process, first_url(process))
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(DEADLINE)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which a kernel that cannot start bears the name python3."""
    home = tmp_path_factory.mktemp("home")
    spec = home / "data/kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    other = {"argv": ["/nonexistent/python"], "display_name": "other", "language": "python"}
    spec.write_text(json.dumps(other))
    return home


NAME_LOADED = """
import pathlib, sys
pathlib.Path("loaded").write_text("\\n".join(name for name, module in sys.modules.items() if module))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, home):
    """A JupyterLab asked for a port that is taken, beside a folder ``notebooks``."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "config").mkdir()
    (folder / "config/jupyter_server_config.py").write_text(NAME_LOADED)
    (folder / "notebooks").mkdir()
    (folder / "notebooks/only.ipynb").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        folders = {"JUPYTER_DATA_DIR": str(home / "data"), "JUPYTER_CONFIG_DIR": str(folder / "config")}
        with running_lab(folder, home, f"--port={port}", **folders) as lab:
            lab.asked_port = port
            lab.loaded = (folder / "loaded").read_text().splitlines()
            yield lab


def test_a_busy_port_is_not_a_failure(lab):
    assert lab.port != lab.asked_port
    assert lab.call("api/status")["kernels"] == 0


def test_lab_opens_the_notebooks_folder(lab):
    assert [item["name"] for item in lab.call("api/contents")["content"]] == ["only.ipynb"]


def test_kernels_run_in_the_python_of_lab_even_where_another_kernel_has_that_name(lab):
    kernel = lab.start_kernel()
    assert kernel.cmdline()[0] == sys.executable


def test_lab_does_not_load_what_nothing_needs_and_takes_a_second(lab):
    assert "jsonschema" in lab.loaded
    assert "rfc3987_syntax" not in lab.loaded


def test_lab_requests_no_news(lab):
    settings = lab.call("lab/api/settings/@jupyterlab/apputils-extension:notification")
    defaults = {name: rule["default"] for name, rule in settings["schema"]["properties"].items()}
    assert defaults["fetchNews"] == "false"
    assert defaults["checkForUpdates"] is False


def test_lab_opens_the_given_folder_is_quiet_and_ends_with_its_kernels_on_ctrl_c(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.ipynb").write_text("{}")
    own = ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    variables = {name: str(tmp_path / name) for name in own}
    with (
        (tmp_path / "errors").open("w") as errors,
        running_lab(tmp_path, tmp_path, "mine", "--port=0", stderr=errors, **variables) as lab,
    ):
        assert [item["name"] for item in lab.call("api/contents")["content"]] == ["a.ipynb"]

        kernel = lab.start_kernel()
        (connection,) = (tmp_path / "JUPYTER_RUNTIME_DIR").glob("kernel-*.json")
        client = BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels(hb=False)  # it would take a kernel that still starts for dead
        client.wait_for_ready(timeout=60)
        client.stop_channels()
        assert "curve_publickey" in json.loads(connection.read_text())
        shown = (tmp_path / "errors").read_text()
        assert [word for word in ("WARNING", "[W ", "[E ") if word in shown] == []

        os.killpg(lab.process.pid, signal.SIGINT)
        assert lab.process.wait(DEADLINE) == 0
    kernel.wait(DEADLINE)
    with pytest.raises(OSError, match="refused"):
        lab.call("api/status")


SLOW_FILES = """
import pathlib, time
import anyio.to_thread
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

class SlowFiles(AsyncLargeFileManager):
    async def get(self, *args, **options):
        pathlib.Path("reading").touch()
        await anyio.to_thread.run_sync(time.sleep, 1.0)
        return await super().get(*args, **options)

c.ServerApp.contents_manager_class = SlowFiles
"""


def test_lab_ends_while_it_reads_a_file_for_a_page(tmp_path, home, until):
    (tmp_path / "config").mkdir()
    (tmp_path / "config/jupyter_server_config.py").write_text(SLOW_FILES)
    with running_lab(tmp_path, home, "--port=0", JUPYTER_CONFIG_DIR=str(tmp_path / "config")) as lab:
        threading.Thread(target=suppressed, args=[lab.call, "api/contents"], daemon=True).start()
        until((tmp_path / "reading").exists)
        lab.process.terminate()
        assert lab.process.wait(DEADLINE) == 0


def suppressed(call, *args):
    with contextlib.suppress(Exception):
        call(*args)


def test_lab_without_jupyterlab_names_the_package_to_install(monkeypatch, capsys):
    monkeypatch.setattr("happen_nb._cli.find_spec", lambda name: None)
    assert cli.main(["lab"]) == 1
    assert 'pip install ".[lab]"' in capsys.readouterr().err


def test_lab_on_a_folder_that_is_not_there_names_it(capsys):
    assert cli.main(["lab", "no-such-folder"]) == 1
    assert "no-such-folder" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_lab_refuses_what_is_no_port(port, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["lab", f"--port={port}"])
    assert ended.value.code == 2
    assert f"--port: {port} is not a port; use a number from 0 to 65535" in capsys.readouterr().err


def test_version_is_the_installed_one(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"happen_nb {version('happen_nb')}"


def test_without_a_command_it_explains_itself(capsys):
    assert cli.main([]) == 0
    assert "lab" in capsys.readouterr().out
