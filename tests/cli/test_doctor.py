"""``happen doctor``: finds problems, names their fixes, and changes nothing."""

from __future__ import annotations

import fcntl
import json
import os
import socketserver
import threading
from pathlib import Path

import pytest

import happen_nb
from happen_nb._server.store import store_status
from tests.cli.commands import happen, happen_process, visitor
from tests.guarantees.servers import Server, free_port
from tests.server.processes import end_everything_of, everything_of


def doctor(folder, *options, **variables):
    """Return its findings by verdict, each with its fix, and its output."""
    run = happen_process if "PYTHONPATH" in variables else happen
    done = run("doctor", *options, cwd=folder, **variables)
    assert done.stderr == ""
    findings = {"ok": [], "note": [], "wrong": []}
    last = findings["ok"]
    for line in done.stdout.splitlines():
        verdict, _, text = line.strip().partition(" ")
        if verdict in findings and line.startswith("  "):
            last = findings[verdict]
            last.append(text.strip())
        elif verdict == "->":
            last[-1] += f" -> {text}"
    assert done.returncode == int(bool(findings["wrong"]))
    return findings, done.stdout


def has(findings, *parts):
    """Return whether one finding has all these parts."""
    return any(all(str(part) in text for part in parts) for text in findings)


def snapshot(folder):
    """All that is below a folder, and when it was changed."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def foreign(tmp_path):
    """Starts nats-servers that are not embedded."""
    started = []

    def start(config="", **options):
        started.append(Server(tmp_path / f"foreign{len(started)}", config, **options).start())
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_in_an_empty_folder_it_finds_nothing_wrong_and_creates_nothing(tmp_path):
    findings, said = doctor(tmp_path)
    assert not findings["wrong"], said
    assert has(findings["ok"], tmp_path / ".happen", "first connect() creates")
    assert has(findings["ok"], "ipykernel")
    assert has(findings["ok"], "nats-server 2.")
    assert snapshot(tmp_path) == {}


def test_a_store_at_rest_is_described_and_not_changed(filled):
    before = snapshot(filled)
    findings, _ = doctor(filled.parent)
    assert has(findings["ok"], "no server runs on it")
    assert has(findings["ok"], 'space "shop"', "B")
    assert snapshot(filled) == before
    assert everything_of(filled) == []


def test_a_running_server_is_described_with_the_processes_in_each_space(filled, start):
    notebook = start(visitor, filled, name="shop")
    findings, said = doctor(filled.parent)
    known = store_status(filled)
    assert has(findings["ok"], known.url, f"process {known.info.pid}")
    assert has(findings["ok"], 'space "shop"', f"process {notebook.pid} on")
    assert has(findings["ok"], 'space "lab"', "no process is connected")
    assert known.info.token not in said
    assert known.info.ask not in said


def test_the_leftovers_of_a_killed_server_are_a_note(folder, start):
    start(visitor, folder).kill()
    end_everything_of(folder)
    before = snapshot(folder)
    findings, said = doctor(folder.parent)
    assert not findings["wrong"], said
    assert everything_of(folder) == []
    assert snapshot(folder) == before
    assert has(findings["note"], "was killed", "nothing stored is lost")
    assert has(findings["ok"], 'space "shop"')


def test_a_lock_whose_holder_does_not_answer_is_wrong(filled):
    with (filled / "lock").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        findings, _ = doctor(filled.parent)
    assert has(findings["wrong"], filled, "does not answer", "-> end")


def test_a_store_that_another_host_serves_is_wrong(filled):
    hints = json.loads((filled / "server.json").read_text())
    hints |= {"host": "elsewhere 42", "serving": True}
    (filled / "server.json").write_text(json.dumps(hints))
    findings, _ = doctor(filled.parent)
    assert has(findings["wrong"], '"elsewhere"', "connect to a server by its URL")


def test_a_damaged_server_json_harms_nothing(filled):
    (filled / "server.json").write_text("{ no json")
    findings, said = doctor(filled.parent)
    assert not findings["wrong"], said


def test_a_file_in_the_place_of_the_store_is_wrong(tmp_path):
    (tmp_path / "store").write_text("")
    findings, _ = doctor(tmp_path, "--store", "store")
    assert has(findings["wrong"], "store is a file", "-> use another store")


def test_a_folder_with_files_of_another_server_is_wrong(tmp_path):
    (tmp_path / "nats.conf").write_text("port: 4222")
    findings, _ = doctor(tmp_path, "--store", ".")
    assert has(findings["wrong"], "nats.conf was not written by happen_nb", "-> use another store")


def test_a_store_in_memory_is_a_note(tmp_path):
    findings, _ = doctor(tmp_path, HAPPEN_STORE=":memory:")
    assert has(findings["note"], "in memory")


def test_variables_are_shown_without_secrets(tmp_path):
    url = f"nats://ada:lovelace@127.0.0.1:{free_port()}"
    findings, said = doctor(tmp_path, NATS_URL=url, HAPPEN_STORE="here", HAPPEN_TOKEN="s3cret")
    assert has(findings["ok"], "NATS_URL is nats://127.0.0.1:")
    assert has(findings["note"], "NATS_URL takes precedence over HAPPEN_STORE")
    assert has(findings["note"], "HAPPEN_TOKEN is set, but happen_nb does not read it")
    assert "lovelace" not in said
    assert "s3cret" not in said


def test_an_address_without_a_server_is_wrong(tmp_path):
    url = f"nats://127.0.0.1:{free_port()}"
    findings, _ = doctor(tmp_path, NATS_URL=url)
    assert has(findings["wrong"], url, "no answer", "-> start it", "unset NATS_URL")


def test_an_address_of_another_kind_of_server_is_wrong(tmp_path):
    class Other(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"SSH-2.0-other\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        findings, _ = doctor(tmp_path, "--servers", f"nats://127.0.0.1:{other.server_address[1]}")
        other.shutdown()
    assert has(findings["wrong"], "the server there is not a nats-server")


def test_a_separate_server_is_described_with_its_processes(tmp_path, foreign, start):
    address = foreign("authorization { user: ada, password: lovelace }").url.removeprefix("nats://")
    url = f"nats://ada:lovelace@{address}"
    notebook = start(visitor, servers=url)
    findings, said = doctor(tmp_path, NATS_URL=url)
    assert not findings["wrong"], said
    assert has(findings["ok"], f"nats://{address}: nats-server 2.")
    assert has(findings["ok"], 'space "shop"', f"process {notebook.pid} on")
    assert "lovelace" not in said


def test_a_server_that_requires_credentials_the_url_lacks_is_a_note(tmp_path, foreign):
    findings, said = doctor(tmp_path, NATS_URL=foreign("authorization { token: abc }").url)
    assert not findings["wrong"], said
    assert has(findings["note"], "requires authentication", "-> put them into the URL", "TOKEN@", ".creds")


def test_wrong_credentials_are_wrong(tmp_path, foreign):
    address = foreign("authorization { token: abc }").url.removeprefix("nats://")
    findings, said = doctor(tmp_path, NATS_URL=f"nats://mistake@{address}")
    assert has(findings["wrong"], "refused the credentials", "-> correct", "before the @")
    assert not has(findings["wrong"], "start it")
    assert "mistake" not in said


def test_a_server_without_jetstream_is_wrong(tmp_path, foreign):
    findings, _ = doctor(tmp_path, "--servers", foreign(jetstream=False).url)
    assert has(findings["wrong"], "no JetStream", "nats-server -js")


def test_an_outdated_package_is_wrong_with_the_command_to_upgrade_it(tmp_path):
    old = tmp_path / "old/pandas-1.5.3.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: pandas\nVersion: 1.5.3\n")
    path = os.pathsep.join([str(old.parent), os.environ.get("PYTHONPATH", "")])
    findings, _ = doctor(tmp_path, PYTHONPATH=path)
    assert has(
        findings["wrong"], "pandas 1.5.3, but >=2.2 is required", 'pip install --upgrade "pandas>=2.2"'
    )


def test_only_the_requirements_of_happen_lab_are_optional(tmp_path):
    site = tmp_path / "site"
    information = site / f"happen_nb-{happen_nb.__version__}.dist-info"
    information.mkdir(parents=True)
    (site / "happen_nb").symlink_to(Path(happen_nb.__file__).parent)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: happen_nb\nVersion: {happen_nb.__version__}\nRequires-Python: >=3.11\n"
        "Requires-Dist: pandas>=2.2\n"
        "Requires-Dist: no-such-lab>=4; extra == 'lab'\n"
        "Requires-Dist: no-such-theme>=1; extra == 'docs'\n"
    )
    findings, said = doctor(tmp_path, PYTHONPATH=site)
    assert has(findings["ok"], "pandas")
    assert has(findings["note"], "no-such-lab is missing", "happen lab needs it")
    assert "no-such-theme" not in said


def test_a_kernel_of_another_python_is_a_note(tmp_path):
    spec = tmp_path / "kernels/python3/kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": ["/other/python"], "display_name": "other", "language": "python"}))
    findings, _ = doctor(tmp_path, JUPYTER_PATH=tmp_path, JUPYTER_PREFER_ENV_PATH="0")
    assert has(findings["note"], "another Python (/other/python)", "happen lab")
