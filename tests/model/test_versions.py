"""Snapshots of all nodes: each shows the records of its own time, whatever is stored later."""

import gc
import random

from happen_nb._model.records import CommitRecord
from happen_nb._model.versions import Versions


def commit(node, sequence):
    return CommitRecord(node, sequence, 1, 0, b"{}")


def test_a_snapshot_shows_what_a_copy_of_its_time_shows():
    random.seed(4)
    versions, held = Versions(), []
    for sequence in range(1, 2_000):
        node = f"n{random.randrange(20)}"
        if random.random() < 0.02:
            for name in [name for name, _ in list(versions.newest.items()) if random.random() < 0.5]:
                versions.remove(name, sequence)
        else:
            versions.put(commit(node, sequence))
        if random.random() < 0.3:
            held.append((versions.snapshot(), dict(versions.newest)))
        if random.random() < 0.3 and held:
            held.pop(random.randrange(len(held)))
        for snapshot, copy in random.sample(held, min(2, len(held))):
            assert dict(snapshot) == copy
            assert len(snapshot) == len(copy)
            assert snapshot.get("another") is None
            assert ("n1" in snapshot) == ("n1" in copy)


def kept(node):
    gc.collect()
    records = [each for each in gc.get_objects() if type(each) is CommitRecord]
    return sorted(each.sequence for each in records if each.node == node)


def test_older_records_are_kept_only_while_a_snapshot_shows_them():
    versions = Versions([commit("kept", 1)])
    snapshot = versions.snapshot()
    for sequence in range(2, 1_000):
        versions.put(commit("kept", sequence))
        versions.snapshot()  # ends at once
    assert kept("kept")[0] == 1
    assert len(kept("kept")) < 100
    assert snapshot["kept"].sequence == 1
    del snapshot
    versions.put(commit("kept", 1_000))
    assert kept("kept") == [1_000]


def test_events_between_two_commits_share_one_snapshot():
    versions = Versions([commit("a", 1)])
    assert versions.snapshot() is versions.snapshot()
