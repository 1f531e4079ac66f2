"""``state.at``, ``state.revert``, ``space.at`` and ``space.fork``."""

from __future__ import annotations

import datetime as dt
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

import happen_nb as happen
from tests.guarantees.servers import Foreign

LONG_AGO = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
FAR_AHEAD = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def orders(space):
    return space.create_node("orders")


def fill(node, count):
    return [node.state.set({"n": n}) for n in range(1, count + 1)]


# -- state.at ----------------------------------------------------------------------------------------


def test_at_a_revision(orders):
    fill(orders, 4)

    assert [orders.state.at(revision) for revision in range(5)] == [{}, *({"n": n} for n in range(1, 5))]


@pytest.mark.parametrize("revision", [5, 99])
def test_a_revision_that_is_not_there_yet_is_a_value_error(orders, revision):
    fill(orders, 4)

    with pytest.raises(ValueError, match="newest is 4"):
        orders.state.at(revision)


def test_a_node_without_commits_has_revision_0_only(orders):
    assert orders.state.at(0) == {}
    with pytest.raises(ValueError, match="no revision 1 yet; it has no commits"):
        orders.state.at(1)


def test_a_negative_revision_is_a_value_error(orders):
    fill(orders, 2)

    with pytest.raises(ValueError, match="revision"):
        orders.state.at(-1)


def test_at_the_time_of_a_commit_is_what_it_made(orders):
    commits = fill(orders, 5)

    assert [orders.state.at(commit.time) for commit in commits] == [commit.after for commit in commits]
    assert orders.state.at(commits[2].time - dt.timedelta(microseconds=1)) == commits[1].after


def test_at_a_naive_datetime_is_local_time(orders):
    commits = fill(orders, 3)
    local = commits[1].time.astimezone().replace(tzinfo=None)

    assert orders.state.at(local) == commits[1].after


def test_at_any_time_zone(orders):
    commits = fill(orders, 3)
    zone = dt.timezone(dt.timedelta(hours=5, minutes=45))

    assert orders.state.at(commits[1].time.astimezone(zone)) == commits[1].after


def test_before_the_first_and_after_the_last_commit(orders):
    fill(orders, 2)

    assert orders.state.at(LONG_AGO) == {}
    assert orders.state.at(FAR_AHEAD) == {"n": 2}


def test_at_a_commit_is_what_its_transform_read(space, orders):
    commits = fill(orders, 3)
    later = space.create_node("later").state.set({"n": 1})

    assert [orders.state.at(commit) for commit in commits] == [commit.before for commit in commits]
    assert orders.state.at(later) == {"n": 3}


def test_at_a_commit_that_changed_nothing_is_what_its_transform_read(orders):
    fill(orders, 2)

    assert orders.state.at(orders.state.set(lambda s: s)) == {"n": 2}


def test_an_unchanged_commit_of_a_node_without_commits_has_a_time_and_no_sequence(orders):
    before = dt.datetime.now(dt.UTC)
    commit = orders.state.set({})

    assert (commit.changed, commit.revision, commit.sequence, commit.deleted) == (False, 0, 0, False)
    assert before <= commit.time <= dt.datetime.now(dt.UTC)


def test_a_revision_from_before_a_clear_is_gone(space, orders):
    fill(orders, 1)
    space.clear()

    with pytest.raises(happen.HistoryGoneError, match="cleared"):
        orders.state.at(1)


def test_the_time_of_an_event_or_a_commit_from_before_a_clear_is_gone(space, orders):
    commit, event = orders.state.set({"n": 1}), space.broadcast("x")
    unchanged = orders.state.set({"n": 1})
    space.clear()

    calls = [orders.state.at, lambda when: space.fork("never", at=when), space.rerun]
    for call in calls:
        for when in (commit, event, unchanged):
            with pytest.raises(happen.HistoryGoneError, match="cleared"):
                call(when)
    with pytest.raises(happen.HistoryGoneError, match="cleared"):
        space.fork("never", at=commit.time)
    assert [dict(space.at(orders.state.set({"n": n}))) for n in (1, 1, 2)] == [
        {},
        {"orders": {"n": 1}},
        {"orders": {"n": 1}},
    ]


def test_a_fork_keeps_as_much_as_its_original(store):
    with happen.connect(store=store, name="keeps", history=7, event_ttl=dt.timedelta(hours=1)) as space:
        space.create_node("orders", initial={"n": 1})
        with space.fork("keeps_too") as fork:
            options = fork._log.info.options

    assert (options.history, options.event_ttl) == (7, 3600)


def test_at_a_commit_of_another_kv_client_is_what_it_replaced(space, orders):
    fill(orders, 2)
    with Foreign(space.server.url, token=space.server.token) as client:
        client.publish(f"$KV.happen_{space.name}.orders", b'{"n": "foreign"}')
    orders.state.get(fresh=True)
    commit = orders.state.history()[-1]

    assert commit.after == {"n": "foreign"}
    assert orders.state.at(commit) == {"n": 2}


@pytest.mark.parametrize("when", ["yesterday", 1.5, None, True, object(), (2001, 1, 1)])
def test_what_is_no_moment_is_a_type_error(space, orders, when):
    with pytest.raises(TypeError, match="datetime"):
        orders.state.at(when)
    with pytest.raises(TypeError, match="datetime"):
        space.at(when)


def test_a_commit_of_another_space_is_no_moment_of_this_one(space, orders):
    with happen.connect(store=":memory:", name="other") as other:
        node = other.create_node("n", initial={"open": 0})
        commits = [node.state.set({"open": 1}), node.state.history()[0], other.journal()[0]]
        commits += [node.state.set({"open": 1}), pickle.loads(pickle.dumps(commits[0]))]
    calls = [
        space.at,
        orders.state.at,
        lambda commit: space.fork("never", at=commit),
        lambda commit: space.events(since=commit),
        space.rerun,
        lambda commit: space.record(until=commit),
    ]
    for call in calls:
        for commit in commits:
            with pytest.raises(ValueError, match='of node "n" belongs to the space "other"'):
                call(commit)


def test_a_deleted_node_reads_as_empty_from_its_deletion_on(orders):
    fill(orders, 2)
    orders.delete()

    assert orders.state.at(2) == {"n": 2}
    assert orders.state.at(3) == {}


# -- revert ------------------------------------------------------------------------------------------


def test_revert_is_a_new_commit_with_the_old_state(orders):
    fill(orders, 3)

    commit = orders.state.revert(1)

    assert (commit.revision, commit.before, commit.after) == (4, {"n": 3}, {"n": 1})
    assert len(orders.state.history()) == 4


def test_revert_to_before_the_first_commit_empties_the_state(orders):
    fill(orders, 2)

    assert orders.state.revert(0).after == {}


def test_revert_to_the_present_state_commits_nothing(orders):
    fill(orders, 2)

    assert not orders.state.revert(2).changed


def test_revert_brings_a_deleted_nodes_state_back(space, orders):
    fill(orders, 2)
    orders.delete()

    assert orders.state.revert(2).after == {"n": 2}
    assert space.views.orders.get("n") == 2


def test_revert_takes_a_revision_only(orders):
    commit = fill(orders, 2)[-1]

    for other in ("1", 1.0, None, True, commit, commit.time):
        with pytest.raises(TypeError, match=r"^revert: revision is .*whole number"):
            orders.state.revert(other)
    with pytest.raises(ValueError, match=r"^revert: revision is -1"):
        orders.state.revert(-1)


# -- space.at ----------------------------------------------------------------------------------------


def test_a_space_at_one_moment_has_the_states_of_all_nodes(space):
    a, b = space.create_node("a"), space.create_node("b")
    first = a.state.set({"n": 1})
    second = b.state.set({"n": 1})
    a.state.set({"n": 2})
    b.delete()

    assert dict(space.at(first)) == {}
    assert dict(space.at(second)) == {"a": {"n": 1}}
    assert dict(space.at(first.time)) == {"a": {"n": 1}}
    assert dict(space.at(second.time)) == {"a": {"n": 1}, "b": {"n": 1}}
    assert dict(space.at(FAR_AHEAD)) == {"a": {"n": 2}}
    assert dict(space.at(LONG_AGO)) == {}


def test_a_node_that_a_past_moment_does_not_have_is_unknown_there(space):
    commit = space.create_node("orders").state.set({"n": 1})
    past = space.at(commit.time)
    with pytest.raises(happen.UnknownNodeError, match='no node "order" in the snapshot'):
        past["order"]
    assert "order" not in past
    assert past.get("order") is None


def test_a_moment_shows_each_node_with_its_revision_and_state(space):
    a = space.create_node("a", initial={"n": 1})
    commit = a.state.set({"n": 2})
    space.create_node("b", initial={"text": "<b>"})

    lines = repr(space.at(commit)).splitlines()
    assert [line.split() for line in lines[1:]] == [["node", "revision", "state"], ["a", "1", "{n:", "1}"]]
    both = space.at(FAR_AHEAD)._repr_mimebundle_()
    assert both["text/plain"].splitlines()[0] == "Snapshot · 2 nodes"
    assert "&lt;b&gt;" in both["text/html"]
    assert repr(space.at(LONG_AGO)) == "Snapshot · 0 nodes"


def test_a_commit_saw_the_cut_that_its_transform_read(space, other):
    a = space.create_node("a", initial={"n": 0})
    b = space.create_node("b", initial={"n": 0})
    other.do('a = space.create_node("a")')
    runs = []

    def transform(state, views):
        if not runs:
            runs.append(1)
            other.do('a.state.set({"n": 1})')
        return {"n": state["n"] + 1, "seen": views.a.get("n")}

    commit = b.state.set(transform)

    assert commit.after["seen"] == space.at(commit)["a"]["n"]
    a.state.get(fresh=True)
    assert a.state.get("n") == 1


# -- fork --------------------------------------------------------------------------------------------


@pytest.fixture
def forked(space):
    made = []

    def fork(**options):
        made.append(space.fork(f"{space.name[:50]}_fork{len(made)}", **options))
        return made[-1]

    yield fork
    for fork_ in made:
        fork_.drop()


def test_a_fork_begins_with_the_states_at_revision_1_and_is_independent(space, forked):
    node = space.create_node("orders")
    fill(node, 3)
    space.create_node("gone", initial={}).delete()

    fork = forked()

    assert {name: (view.get(), view.revision) for name, view in fork.views.items()} == {
        "orders": ({"n": 3}, 1)
    }
    fork.create_node("orders").state.set({"n": 99})
    node.state.set({"n": 4})
    assert (node.state.get("n"), fork.views.orders.get("n")) == (4, 99)
    assert len(space.journal()) == 6


def test_of_forks_in_several_threads_to_one_name_a_single_one_succeeds(space):
    space.create_node("orders", initial={"n": 1})

    def fork(_):
        try:
            return space.fork("one_name")
        except happen.SpaceNotEmptyError:
            return None

    with ThreadPoolExecutor(4) as threads:
        made = [found for found in threads.map(fork, range(4)) if found is not None]

    (only,) = made
    assert only.views.orders.get() == {"n": 1}
    only.drop()
    space.fork("one_name").drop()


def test_a_fork_of_a_past_that_is_gone_names_all_its_nodes_and_leaves_nothing(space):
    first = [space.create_node(name).state.set({"n": 1}) for name in ("orders", "stock", "till")][-1]
    space.clear()
    for name in ("orders", "till"):
        space.nodes[name].state.set({"n": 2})

    moment = space.at(first)

    assert {"orders", "till"} <= set(moment)
    assert "orders" in moment
    with pytest.raises(happen.UnknownNodeError, match="before the space was cleared"):
        moment["stock"]
    with pytest.raises(happen.HistoryGoneError, match=r"of orders, till "):
        space.fork("gone_fork", at=first)
    assert "gone_fork" not in [each.name for each in happen.spaces()]


def test_a_fork_of_the_past(space, forked):
    commits = fill(space.create_node("orders"), 3)

    assert forked(at=commits[1].time).views.orders.get() == {"n": 2}
    assert forked(at=commits[1]).views.orders.get() == {"n": 1}
    assert dict(forked(at=LONG_AGO).views) == {}


def test_a_fork_has_no_nodes_of_this_process(space, forked):
    space.create_node("orders", initial={"n": 1})

    assert dict(forked().nodes) == {}


def test_a_fork_is_not_the_current_space(space, forked):
    forked()

    assert happen.current() is space


def test_a_fork_keeps_an_empty_state(space, forked):
    space.create_node("orders", initial={})

    assert list(forked().views) == ["orders"]


def test_a_target_that_is_not_empty_is_refused_and_left_alone(space, store):
    space.create_node("orders", initial={"n": 1})
    with happen.connect(store=store, name="taken") as taken:
        taken.create_node("mine", initial={"n": 7})

        with pytest.raises(ValueError, match="taken"):
            space.fork("taken")

        assert taken.views.mine.get() == {"n": 7}
        taken.drop()


def test_a_target_that_holds_only_events_is_not_empty(space, store):
    with happen.connect(store=store, name="only_events") as target:
        target.broadcast("a")
        with pytest.raises(ValueError, match="only_events"):
            space.fork("only_events")
        assert len(target.events()) == 1
        target.drop()


def test_a_space_cannot_be_forked_into_itself(space):
    space.create_node("orders", initial={"n": 1})

    with pytest.raises(ValueError, match="not empty"):
        space.fork(space.name)

    assert space.views.orders.get("n") == 1


def test_an_empty_space_that_exists_may_be_the_target(space, store):
    space.create_node("orders", initial={"n": 1})
    with happen.connect(store=store, name="empty_target") as target:
        assert space.fork("empty_target") is target
        assert target.views.orders.get("n") == 1
        target.drop()


def test_a_fork_that_was_refused_is_not_held_open(space, store, other):
    other.do(
        f'taken = happen.connect(store={str(store)!r}, name="taken_there")\n'
        'taken.create_node("n", initial={})'
    )
    with pytest.raises(ValueError, match="not empty"):
        space.fork("taken_there")

    other.do("taken.drop()")


@pytest.mark.parametrize("at", ["yesterday", 1, True])
def test_a_fork_at_no_moment_is_a_type_error_and_leaves_nothing(space, at):
    with pytest.raises(TypeError):
        space.fork("never_made", at=at)

    assert "never_made" not in [found.name for found in happen.spaces()]
