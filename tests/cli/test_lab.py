"""``run.py lab``: trusted notebooks, and the progress of a set-up."""

from __future__ import annotations

import os
import sqlite3
import sys
import time

import nbformat
import pytest

import run


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one notebook, in this environment."""
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "VENV", tmp_path / "venv")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "venv").mkdir()
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "notebooks/first.ipynb")
    return tmp_path


def signatures(checkout):
    """Return the number of trusted notebooks."""
    with sqlite3.connect(checkout / "data/nbsignatures.db") as known:
        return known.execute("SELECT count(*) FROM nbsignatures").fetchone()[0]


def test_the_notebooks_are_trusted_at_set_up_and_when_they_changed(checkout, monkeypatch):
    run.trust_notebooks(sys.executable)
    assert signatures(checkout) == 1

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    nbformat.write(notebook, checkout / "notebooks/first.ipynb")
    run.trust_notebooks(sys.executable)
    assert signatures(checkout) == 2

    monkeypatch.setattr(run, "succeeds", lambda *_, **__: pytest.fail("they are trusted already"))
    run.trust_notebooks(sys.executable)


def test_notebooks_that_cannot_be_trusted_do_not_keep_lab_from_starting(checkout, capsys):
    run.trust_notebooks("/bin/false")
    assert "could not be marked as trusted" in capsys.readouterr().err


def test_set_up_shows_its_slow_steps_and_their_progress(tmp_path, capsys):
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    with run.step("installing", tmp_path):
        pass
    first, last = capsys.readouterr().err.splitlines()
    assert first.strip() == "installing ..."
    assert last.strip() == "installing: 0 s, 3 MB"
    assert run.BRINGS.keys() == run.NEEDS.keys()


def test_in_a_terminal_a_line_counts(tmp_path, capfd):
    reader, writer = os.openpty()
    with os.fdopen(writer, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with run.step("installing", tmp_path):
            shown = os.read(reader, 4096)
            while b"MB so far" not in shown:
                shown += os.read(reader, 4096)
                time.sleep(0)
    os.close(reader)
    assert b"\rinstalling" in shown.replace(b"  installing", b"installing")
