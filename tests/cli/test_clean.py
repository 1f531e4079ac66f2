"""``happen clean``: removes a store, or spaces in it."""

from __future__ import annotations

import os
import subprocess

import pytest

import happen_nb
from happen_nb._server.store import spaces_on_disk
from tests.cli.commands import HAPPEN, environment, happen, server, visitor
from tests.server.processes import end_everything_of


def test_it_shows_the_spaces_and_prompts_first(filled):
    asked = happen("clean", cwd=filled.parent, stdin="n\n")
    assert asked.returncode == 1
    assert "lab" in asked.stdout
    assert "shop" in asked.stdout
    assert "kB in total" in asked.stdout
    assert "nothing was removed" in asked.stdout
    assert list(spaces_on_disk(filled)) == ["lab", "shop"]


def test_an_unanswered_prompt_means_no(filled):
    assert happen("clean", cwd=filled.parent).returncode == 1
    assert list(spaces_on_disk(filled)) == ["lab", "shop"]


@pytest.mark.parametrize(("options", "answer"), [([], "y\n"), (["--yes"], "")])
def test_it_removes_the_store(filled, options, answer):
    done = happen("clean", *options, cwd=filled.parent, stdin=answer)
    assert done.returncode == 0, done.stderr
    assert not filled.exists()


def test_foreign_files_remain(filled):
    (filled / "mine.txt").write_text("mine")
    done = happen("clean", "--yes", cwd=filled.parent)
    assert done.returncode == 0, done.stderr
    assert "mine.txt remains" in done.stdout
    assert [file.name for file in filled.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_no_store_is_not_touched(tmp_path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "jetstream").mkdir()
    refused = happen("clean", "--yes", "--store", tmp_path, cwd=tmp_path)
    assert refused.returncode == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["jetstream", "lock"]


def test_without_a_store_there_is_nothing_to_do(tmp_path):
    done = happen("clean", cwd=tmp_path, HAPPEN_STORE=tmp_path / "none")
    assert done.returncode == 0
    assert "does not exist" in done.stdout


def test_a_named_space_without_a_store_is_missing(tmp_path):
    refused = happen("clean", "lab", cwd=tmp_path, HAPPEN_STORE=tmp_path / "none")
    assert refused.returncode == 1
    assert "does not exist" in refused.stderr


def test_it_removes_what_it_names_though_nobody_reads_what_it_shows(filled):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*HAPPEN, "clean", "lab", "--yes"],
        cwd=filled.parent,
        env=environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(spaces_on_disk(filled)) == ["shop"]


def test_an_empty_store_is_not_this_folder(tmp_path):
    with pytest.raises(SystemExit, match="2"):
        happen("clean", "--store", "", cwd=tmp_path)
    with pytest.raises(ValueError, match="store is empty"):
        happen_nb.connect(store="")


def test_named_spaces_go_and_the_others_stay(filled):
    done = happen("clean", "lab", "--yes", cwd=filled.parent)
    assert done.returncode == 0, done.stderr
    assert list(spaces_on_disk(filled)) == ["shop"]
    with happen_nb.connect(store=filled, name="shop") as shop:
        assert shop.views.orders.get() == {"open": 1}


def test_an_unknown_space_is_refused_with_those_that_there_are(filled):
    refused = happen("clean", "lab", "shp", "--yes", cwd=filled.parent)
    assert refused.returncode == 1
    assert "no space shp" in refused.stderr
    assert "lab, shop" in refused.stderr
    assert list(spaces_on_disk(filled)) == ["lab", "shop"]


def test_a_store_in_use_is_refused_and_its_users_are_named(folder, start):
    notebook = start(visitor, folder)
    refused = happen("clean", "--yes", cwd=folder.parent)
    assert refused.returncode == 1
    assert f"process {notebook.pid}" in refused.stderr
    assert list(spaces_on_disk(folder)) == ["shop"]


def test_a_store_with_a_running_but_unused_server_is_refused(folder, start):
    start(server, folder)
    assert happen("clean", "--yes", cwd=folder.parent).returncode == 1
    assert folder.exists()


def test_a_space_in_use_is_refused_and_none_is_removed(filled, start):
    notebook = start(visitor, filled, name="shop")
    refused = happen("clean", "lab", "shop", "--yes", cwd=filled.parent)
    assert refused.returncode == 1
    assert f"process {notebook.pid}" in refused.stderr
    assert list(spaces_on_disk(filled)) == ["lab", "shop"]


def test_a_space_goes_while_another_one_is_in_use(filled, start):
    notebook = start(visitor, filled, name="shop")
    assert happen("clean", "lab", "--yes", cwd=filled.parent).returncode == 0
    assert list(spaces_on_disk(filled)) == ["shop"]
    notebook.leave()


def test_a_store_whose_server_was_killed_can_be_removed(folder, start):
    start(visitor, folder).kill()
    end_everything_of(folder)
    done = happen("clean", "--yes", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert not folder.exists()
