"""``state.history``, ``space.journal`` and their frames."""

from __future__ import annotations

import pandas as pd
import pytest

import happen_nb as happen
from tests.guarantees.servers import Foreign


@pytest.fixture
def orders(space):
    return space.create_node("orders")


def fill(node, count):
    return [node.state.set({"n": n, "deep": {"list": [n]}}) for n in range(1, count + 1)]


# -- history -----------------------------------------------------------------------------------------


def test_a_history_is_a_sequence_of_commits_newest_last(orders):
    commits = fill(orders, 5)
    history = orders.state.history()

    assert [c.revision for c in history] == [1, 2, 3, 4, 5]
    assert len(history) == 5
    assert history[-1].after == commits[-1].after
    assert [c.revision for c in history[1:3]] == [2, 3]
    assert [c.revision for c in reversed(history)] == [5, 4, 3, 2, 1]
    with pytest.raises(IndexError):
        history[5]


def test_every_commit_of_a_history_knows_what_was_before(orders):
    fill(orders, 4)

    history = orders.state.history()

    assert [c.before for c in history] == [{}, *(c.after for c in history[:-1])]
    assert [c.diff[0].path for c in history[1:]] == [("n",)] * 3


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 99])
def test_a_limit_gives_the_newest_so_many(orders, limit):
    fill(orders, 5)

    history = orders.state.history(limit)

    assert [c.revision for c in history] == [1, 2, 3, 4, 5][max(0, 5 - limit) :]
    assert [c.before for c in history] == [c.before for c in orders.state.history()[max(0, 5 - limit) :]]


@pytest.mark.parametrize("limit", [-1, -99])
def test_a_negative_limit_is_a_value_error(orders, limit):
    with pytest.raises(ValueError, match="limit"):
        orders.state.history(limit)


def test_a_history_that_begins_with_the_first_commit_is_not_truncated(orders):
    assert not orders.state.history().truncated
    fill(orders, 3)
    assert not orders.state.history().truncated
    assert not orders.state.history(limit=3).truncated


def test_a_limit_alone_does_not_make_a_history_truncated(orders):
    fill(orders, 3)

    assert not orders.state.history(limit=1).truncated


def test_a_history_is_of_the_moment_it_was_asked_for(orders):
    fill(orders, 2)
    history = orders.state.history()
    fill(orders, 1)

    assert len(history) == 2


def test_a_history_has_the_commits_of_every_process(orders, other):
    other.do('space.create_node("orders").state.set({"by": "other"})')
    orders.state.get(fresh=True)
    orders.state.set({"by": "me"})

    assert [c.after["by"] for c in orders.state.history()] == ["other", "me"]


# -- its frame ---------------------------------------------------------------------------------------


def test_a_frame_has_a_row_a_commit_and_a_column_a_selector(orders):
    commits = fill(orders, 3)

    frame = orders.state.history().to_frame("n", ("deep", "list", 0), double=lambda s: s["n"] * 2)

    assert frame.index.name == "revision"
    assert frame.index.tolist() == [1, 2, 3]
    assert frame.columns.tolist() == ["time", "n", "deep.list.0", "double"]
    assert frame["n"].tolist() == [1, 2, 3]
    assert frame["deep.list.0"].tolist() == [1, 2, 3]
    assert frame["double"].tolist() == [2, 4, 6]
    assert str(frame["time"].dt.tz) == "UTC"
    assert frame["time"].tolist() == [pd.Timestamp(c.time) for c in commits]


def test_a_frame_without_selectors_has_the_times(orders):
    fill(orders, 2)

    assert orders.state.history().to_frame().columns.tolist() == ["time"]


@pytest.mark.parametrize("selectors", [(), ("n",)])
def test_the_frame_of_no_commits_has_the_same_columns(orders, selectors):
    frame = orders.state.history().to_frame(*selectors)

    assert (len(frame), frame.index.name, frame.columns.tolist()) == (0, "revision", ["time", *selectors])
    assert str(frame["time"].dt.tz) == "UTC"


def test_in_a_frame_what_is_missing_is_missing(orders):
    orders.state.set({"n": 1})
    orders.state.set({"m": [1]})

    frame = orders.state.history().to_frame(
        "n",
        key=lambda s: s["n"],
        index=lambda s: s.get("m", [])[0],
        kind=lambda s: s.get("n") + 1,
    )

    assert frame[["n", "key", "index", "kind"]].isna().to_numpy().tolist() == [
        [False, False, True, False],
        [True, True, False, True],
    ]


def test_in_a_frame_a_missing_path_is_none(orders):
    orders.state.set({"n": 1})
    orders.state.set({"m": 1})

    assert orders.state.history().to_frame("n")["n"].tolist() == [1, None]


def test_in_a_frame_any_other_exception_of_a_callable_comes_out(orders):
    orders.state.set({"n": 0})

    with pytest.raises(ZeroDivisionError):
        orders.state.history().to_frame(ratio=lambda s: 1 / s["n"])


def test_every_selector_has_its_column_also_if_its_name_is_taken(orders):
    orders.state.set({"a": 1, "b": 2, "time": 3})

    frame = orders.state.history().to_frame(lambda s: s["a"], lambda s: s["b"], "time", "a", a="b")

    assert frame.columns.tolist() == ["time", "<lambda>", "<lambda>_2", "time_2", "a", "a_2"]
    assert frame.iloc[0, 1:].tolist() == [1, 2, 3, 1, 2]


# -- trimmed -----------------------------------------------------------------------------------------


@pytest.fixture
def trimmed(store, monkeypatch):
    """A node whose first commits were let go: of 600, about 10 are kept."""
    monkeypatch.setattr("happen_nb._journal.stream.MIN_COMMIT_AGE_SECONDS", 0.0)
    with happen.connect(store=store, name="trimmed", history=10) as space:
        node = space.create_node("orders")
        space.create_node("other", initial={"n": "other"})
        first = node.state.set({"n": 1})
        fill(node, 600)
        oldest = wait_until_trimmed(node)
        yield node, first, oldest
        space.drop()


def wait_until_trimmed(node):
    """The oldest revision that is left, once trimming, which goes on in the background, is done."""
    for _ in range(1000):
        oldest = node.state.history()[0].revision
        if oldest > 500:
            return oldest
    raise AssertionError(f"not trimmed: the oldest is {oldest}")


def test_trimming_keeps_the_newest_and_marks_the_history_as_truncated(trimmed):
    node, _, oldest = trimmed
    history = node.state.history()

    assert history.truncated
    assert oldest == 512 - 10 + 1
    assert [c.revision for c in history] == list(range(oldest, 602))
    assert len(history.to_frame("n")) == len(history)


def test_the_oldest_commit_that_is_left_has_no_state_before(trimmed):
    node, _, _ = trimmed
    oldest, second = node.state.history()[:2]

    with pytest.raises(happen.HistoryGoneError, match="orders"):
        oldest.before  # noqa: B018
    assert second.before == oldest.after


def test_a_trimmed_revision_cannot_be_read_or_gone_back_to(trimmed):
    node, first, oldest = trimmed

    for trip in (
        lambda: node.state.at(oldest - 1),
        lambda: node.state.at(first.time),
        lambda: node.state.revert(1),
    ):
        with pytest.raises(happen.HistoryGoneError, match="orders"):
            trip()
    assert node.state.at(oldest) == node.state.history()[0].after


def test_a_space_of_the_past_raises_for_a_trimmed_node_only_when_it_is_looked_at(trimmed):
    node, first, _ = trimmed
    moment = node.space.at(first.time)

    assert moment["other"] == {"n": "other"}
    assert set(moment) == {"orders", "other"}
    with pytest.raises(happen.HistoryGoneError, match="orders"):
        moment["orders"]
    assert "its state of that time is no longer stored" in repr(moment)
    assert '{n: "other"}' in repr(moment)


def test_a_fork_of_a_trimmed_past_is_refused_at_once_and_leaves_nothing(trimmed):
    node, first, _ = trimmed

    with pytest.raises(happen.HistoryGoneError, match="orders"):
        node.space.fork("trimmed_fork", at=first.time)

    assert "trimmed_fork" not in [space.name for space in happen.spaces()]


def test_trimming_is_logged_once(store, monkeypatch, caplog):
    monkeypatch.setattr("happen_nb._journal.stream.MIN_COMMIT_AGE_SECONDS", 0.0)
    with happen.connect(store=store, name="told", history=10) as space:
        node = space.create_node("orders")
        for _ in range(3):
            fill(node, 600)
        wait_until_trimmed(node)
        space.drop()

    notices = [r.getMessage() for r in caplog.records if "history=" in r.getMessage()]
    assert len(notices) == 1
    assert "orders" in notices[0]


def test_no_commit_younger_than_a_minute_is_trimmed(store):
    with happen.connect(store=store, name="young", history=10) as space:
        node = space.create_node("orders")
        fill(node, 300)

        assert len(node.state.history()) == 300
        space.drop()


# -- the journal -------------------------------------------------------------------------------------


def test_the_journal_has_the_commits_of_all_nodes_in_one_order(space):
    a, b = space.create_node("a", initial={}), space.create_node("b", initial={})
    a.state.set({"n": 1})
    b.state.set({"n": 2})
    a.delete()

    journal = space.journal()

    assert [(c.node, c.revision, c.deleted) for c in journal] == [
        ("a", 1, False),
        ("b", 1, False),
        ("a", 2, False),
        ("b", 2, False),
        ("a", 3, True),
    ]
    assert [c.sequence for c in journal] == sorted(c.sequence for c in journal)
    assert journal[2].before == {}
    assert journal[2].after == {"n": 1}


def test_the_journal_since_and_limited(space):
    commits = fill(space.create_node("a"), 6)

    def revisions(**options):
        return [c.revision for c in space.journal(**options)]

    assert revisions(limit=2) == [5, 6]
    assert revisions(limit=0) == []
    assert revisions(since=commits[3]) == [5, 6]
    assert revisions(since=commits[3].sequence) == [5, 6]
    assert revisions(since=commits[3].time) == [5, 6]
    assert revisions(since=commits[0], limit=1) == [6]
    assert space.journal(since=commits[3])[0].before == commits[3].after
    assert space.journal(limit=1)[0].before == commits[4].after


def test_the_journal_has_commits_and_events_in_one_order(space):
    orders, stock = space.create_node("orders"), space.create_node("stock")
    stock.on("order.paid", lambda event: stock.state.set({"left": 1}))

    def pay(state):
        orders.broadcast("order.paid", {"id": "o1"})
        stock.broadcast("noted")
        return {"paid": True}

    space.broadcast("start", [1])
    paid = orders.state.set(pay)
    space.settle()

    journal = space.journal()

    assert [type(each) for each in journal] == [
        happen.Event,
        happen.Commit,
        happen.Event,
        happen.Event,
        happen.Commit,
    ]
    start, commit, first, second, effect = journal
    assert (start.type, commit.revision, first.type, second.sender) == ("start", 1, "order.paid", "stock")
    assert commit.sequence == first.sequence == second.sequence == paid.sequence
    assert (commit.before, commit.after, effect.cause, effect.by) == ({}, {"paid": True}, first.id, "stock")
    assert list(journal.commits) == [commit, effect]
    assert list(journal.events) == [start, first, second]


@pytest.mark.parametrize("limit", range(8))
def test_a_limited_journal_is_the_end_of_the_whole_one(space, limit):
    orders = space.create_node("orders")

    def emit_two(state):
        orders.broadcast("a")
        orders.broadcast("b")
        return {"n": state.get("n", 0) + 1}

    for _ in range(2):
        orders.state.set(emit_two)
        orders.broadcast("c")

    def described(journal):
        return [(each.sequence, getattr(each, "type", None)) for each in journal]

    whole = described(space.journal())
    assert len(whole) == 8
    assert described(space.journal(limit=limit)) == whole[8 - limit :]


def test_the_newest_of_a_long_journal_are_found_behind_other_messages(space):
    orders = space.create_node("orders")
    orders.on("tick", lambda event: None)
    commit = orders.state.set({"n": 1})
    space.replay([{}] * 700, type="tick").wait()
    space.settle()

    journal = space.journal(limit=701)

    assert len(journal) == 701
    assert journal[0].sequence == commit.sequence


def test_the_journal_after_a_commit_begins_with_the_events_that_it_emitted(space):
    orders = space.create_node("orders")

    def pay(state):
        orders.broadcast("order.paid")
        orders.broadcast("order.noted")
        return {"paid": True}

    commit = orders.state.set(pay)
    paid, _ = space.events()

    assert [each.type for each in space.journal(since=commit)] == ["order.paid", "order.noted"]
    assert [each.type for each in space.journal(since=paid)] == ["order.noted"]
    assert list(space.journal(since=commit.sequence)) == []


def test_a_journal_that_starts_late_numbers_the_commits_of_other_clients(space):
    commits = fill(space.create_node("a"), 3)
    with Foreign(space.server.url, token=space.server.token) as client:
        client.publish(f"$KV.happen_{space.name}.a", b'{"n": 9}')
    space.create_node("a").state.get(fresh=True)

    for journal in (space.journal(since=commits[-1]), space.journal(limit=1)):
        assert [(each.revision, each.before, each.after) for each in journal] == [
            (4, commits[-1].after, {"n": 9})
        ]


COLUMNS = ["kind", "time", "node", "type", "revision", "id", "cause", "correlation", "by"]


def test_the_frame_of_a_journal(space):
    orders, stock = space.create_node("orders"), space.create_node("stock")
    stock.on("order.*", lambda event: stock.state.set({"left": 1}))
    event = orders.broadcast("order.paid", {"id": "o1", "price": 3})
    space.settle()

    journal = space.journal()
    frame = journal.to_frame()

    assert frame.index.name == "sequence"
    assert frame.index.tolist() == [each.sequence for each in journal]
    assert frame.columns.tolist() == COLUMNS
    assert str(frame["time"].dt.tz) == "UTC"
    assert frame.drop(columns=["time", "id"]).to_numpy().tolist() == [
        ["event", "orders", "order.paid", None, None, event.id, None],
        ["commit", "stock", None, 1, event.id, event.id, "stock"],
    ]
    assert frame["id"].tolist() == [each.id for each in journal]
    assert journal[1].correlation == event.correlation
    assert space.journal(limit=0).to_frame().columns.tolist() == COLUMNS


def test_the_flat_frame_of_a_journal_has_a_column_for_each_key_of_the_payloads(space):
    orders = space.create_node("orders", initial={})
    orders.broadcast("order.paid", {"id": "o1"})
    orders.broadcast("count", 3)

    frame = space.journal().to_frame(flatten=True)

    assert frame.columns.tolist() == [*COLUMNS, "payload.id", "payload"]
    assert frame["payload.id"].tolist() == [None, "o1", None]
    assert frame["payload"].tolist() == [None, None, 3]
    assert space.events().to_frame(flatten=True).columns.tolist()[-2:] == ["payload.id", "payload"]


@pytest.mark.parametrize("since", ["yesterday", 1.5, object(), True])
def test_what_is_no_moment_is_a_type_error(space, since):
    with pytest.raises(TypeError):
        space.journal(since=since)


def test_a_negative_limit_of_the_journal_is_a_value_error(space):
    fill(space.create_node("a"), 3)

    with pytest.raises(ValueError, match="limit"):
        space.journal(limit=-1)


def test_a_commit_is_equal_to_itself_however_it_is_read(space, orders, until):
    seen = []
    orders.state.watch(seen.append)
    first, second, unchanged = (orders.state.set({"open": number}) for number in (1, 2, 2))
    until(lambda: len(seen) == 2)
    assert seen == list(orders.state.history()) == list(space.journal().commits) == [first, second]
    assert {first, second, unchanged} == {*seen, unchanged}
    assert first != second
    assert unchanged not in seen
    assert first != first.id


def test_a_commit_of_another_client_is_equal_to_itself(space, orders):
    with Foreign(space.server.url, token=space.server.token) as client:
        for number in range(2):
            client.publish(f"$KV.happen_{space.name}.orders", b'{"open": %d}' % number)
    orders.state.get(fresh=True)
    first, second = orders.state.history()
    assert [first, second] == list(orders.state.history())
    assert first != second
