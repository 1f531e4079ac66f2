"""A recording in one file: what it holds, what it hides, and what it is read back as."""

from __future__ import annotations

import copy
import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from errno import ENOSPC

import pytest

import happen_nb as happen
from happen_nb._api.base import bundle_of
from happen_nb._api.recording import Recording
from happen_nb._display import recording as page
from happen_nb._model.recorded import decode


@pytest.fixture
def shop(space):
    """A run of two nodes: a handler commits and emits, a request is answered, one handling fails."""
    orders = space.create_node("orders", initial={"open": {}, "big": 2**63})
    stock = space.create_node("stock", initial={"lamp": 2, "log": [1.0]})

    @orders.on("order.placed")
    def keep(event):
        orders.state.set(happen.put(("open", event.payload["id"]), {"email": event.payload["email"]}))
        orders.broadcast("order.kept", {"left": orders.send(stock, "take").result()})

    @stock.on("take")
    def take(event):
        return stock.state.set(lambda state: {**state, "lamp": state["lamp"] - 1}).after["lamp"]

    @stock.on("order.kept")
    def note(event):
        if event.payload["left"] < 1:
            raise ValueError("ada@example.org gets none")
        stock.state.set(happen.draft(lambda state: state["log"].append("kept")))

    for number in (1, 2):
        order = {"id": f"o{number}", "email": "ada@example.org"}
        space.broadcast("order.placed", order, occurred=f"2024-01-0{number}")
        space.settle()
    return space


def same(one, other):
    """Return True if two journals hold the same, to the microsecond."""
    return [describe(each) for each in one] == [describe(each) for each in other]


def describe(item):
    names = ["id", "cause", "correlation", "sequence", "time"]
    if isinstance(item, happen.Event):
        names += ["type", "payload", "sender", "target", "path", "occurred", "due", "index"]
    else:
        names += ["node", "revision", "before", "after", "by", "deleted", "read"]
    return [type(item).__name__, *(repr(getattr(item, name)) for name in names)]


def deliver_one_later(space):
    space.nodes["orders"].broadcast("order.late", after=0.01)
    space.wait_for("order.late", since=0)


def test_a_file_is_read_back_as_what_was_recorded(shop, tmp_path):
    shop.nodes["orders"].broadcast("later", occurred=datetime(2026, 1, 1, tzinfo=UTC))
    deliver_one_later(shop)
    file = tmp_path / "shop.html"
    written = shop.record(file, title="Two orders")
    read = happen.recorded(file)
    assert (read.title, read.space, read.path, read.partial) == ("Two orders", shop.name, file, False)
    assert same(read.journal(), shop.journal())
    assert same(read.events("order.*"), shop.events("order.*"))
    assert same(written.journal(), read.journal())
    assert repr(read.events().to_frame()) == repr(shop.events().to_frame())


def test_the_states_of_each_moment_are_those_of_the_space(shop):
    recording = shop.record()
    for item in shop.journal():
        if isinstance(item, happen.Event) or item.read:
            assert dict(recording.at(item)) == dict(shop.at(item))
    moments = [item.time for item in shop.journal()]
    assert all(dict(recording.at(moment)) == dict(shop.at(moment)) for moment in moments)


def test_a_part_is_what_lies_between_two_moments(shop):
    journal = shop.journal()
    first, last = journal[4], journal[9]
    recording = shop.record(since=first, until=last)
    assert same(recording.journal(), journal[5:10])
    assert dict(recording.at(last)) == dict(shop.at(last))
    with pytest.raises(happen.HistoryGoneError, match="starts after that time"):
        recording.at(journal[0].time - timedelta(seconds=1))


def test_a_deleted_node_and_one_that_was_there_before_are_recorded(space):
    old, new = space.create_node("old", initial={"n": 1}), space.create_node("new")
    mark = space.broadcast("start")
    new.state.set({"n": 2})
    new.delete()
    recording = space.record(since=mark)
    assert [commit.deleted for commit in recording.journal()] == [False, True]
    assert dict(recording.at(recording.journal()[-1].time)) == {"old": {"n": 1}}
    assert old.state.get() == {"n": 1}


def test_a_fork_starts_from_the_recorded_states(shop, tmp_path):
    first = shop.record(tmp_path / "shop.html").journal().commits[2]
    with pytest.raises(happen.SpaceNotEmptyError):
        happen.recorded(tmp_path / "shop.html").fork(shop.name)
    fork = happen.recorded(tmp_path / "shop.html").fork("recorded-shop")
    earlier = shop.record().fork("recorded-earlier", at=first)
    try:
        assert {name: view.get() for name, view in fork.views.items()} == dict(shop.at(datetime.now(UTC)))
        assert {name: view.get() for name, view in earlier.views.items()} == dict(shop.at(first))
    finally:
        fork.drop()
        earlier.drop()


def test_times_of_a_manual_clock_are_those_of_the_space(tmp_path):
    with happen.connect(store=":memory:", name="days", clock="manual") as space:
        node = space.create_node("n", initial={"day": 0})
        node.state.on("tick", lambda state, event: {"day": event.payload})
        for day in (1, 2, 3):
            space.broadcast("tick", day, after=day * 86400)
        space.advance(days=3)
        noons = [datetime(2000, 1, day, 12, tzinfo=UTC) for day in (1, 2, 3, 4, 5)]
        expected = [dict(space.at(noon)) for noon in noons]
        recording = space.record(tmp_path / "days.html")
        part = space.record(since=noons[1])
        again = happen.recorded(tmp_path / "days.html")
        assert [state["n"]["day"] for state in expected] == [0, 1, 2, 3, 3]
        for each in (recording, again):
            assert [dict(each.at(noon)) for noon in noons] == expected
            days = re.findall(r'datetime="([-\d]+)T', bundle_of(each.journal())["text/html"])
            assert list(dict.fromkeys(days)) == [f"2000-01-0{day}" for day in (1, 2, 3, 4)]
            assert 'datetime="2000-01-04T' in bundle_of(each.events()[-1])["text/html"]
        assert [dict(part.at(noon)) for noon in noons[1:]] == expected[1:]
        with pytest.raises(happen.HistoryGoneError, match="starts after that time"):
            part.at(noons[0])
        fork = again.fork("second-day", at=noons[2])
        assert (fork.views.n.get(), fork.now) == ({"day": 2}, datetime(2000, 1, 3, tzinfo=UTC))
        fork.drop()


def test_states_that_were_trimmed_before_the_recording_are_gone_in_it(store, monkeypatch, tmp_path):
    monkeypatch.setattr("happen_nb._journal.stream.MIN_COMMIT_AGE_SECONDS", 0.0)
    with happen.connect(store=store, name="trimmed_recording", history=10) as space:
        space.create_node("other", initial={"n": 0})
        node, event = space.create_node("n", initial={"n": 0}), space.broadcast("start")
        for n in range(600):
            node.state.set({"n": n})
        while node.state.history()[0].revision <= 500:
            time.sleep(0.01)
        space.record(tmp_path / "all.html")
        for recording in (happen.recorded(tmp_path / "all.html"), space.record(since=event)):
            assert recording.at(node.state.history()[-1])["n"] == {"n": 598}
            early = recording.at(event)
            assert early["other"] == {"n": 0}
            with pytest.raises(happen.HistoryGoneError, match='node "n"'):
                early["n"]
            with pytest.raises(happen.HistoryGoneError, match="of n at that time"):
                recording.fork("never", at=event)
        space.drop()


def test_a_file_of_an_earlier_version_is_read(shop, tmp_path):
    data = page.read(shop.record()._markup)
    del data["clocks"], data["gone"], data["events"]["due"]
    file = tmp_path / "old.html"
    file.write_text(page.render(data), encoding="utf-8")
    assert same(happen.recorded(file).journal(), shop.journal())


def test_a_file_that_cannot_be_written_stays_as_it_is_and_is_named(shop, tmp_path, monkeypatch):
    file = tmp_path / "shop.html"
    file.write_text("before")
    monkeypatch.setattr("happen_nb._api.base.Path.write_text", full_disk)
    for save in (shop.record().save, shop.record, shop.sequence().save):
        with pytest.raises(OSError, match=r"No space left on device: '.*shop\.html'"):
            save(file)
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_without_a_suffix_gets_the_one_that_a_browser_needs(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shop.record("shop").path.name == "shop.html"
    assert same(happen.recorded("shop").journal(), shop.journal())
    assert shop.sequence().save("shop").name == "shop.svg"
    assert shop.record("shop.htm").path.name == "shop.htm"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="'folder'"):
        shop.record("folder")


@pytest.mark.skipif(os.name != "posix", reason="the modes of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(shop, tmp_path, mode):
    file, link = tmp_path / "shop.html", tmp_path / "newest.html"
    link.symlink_to(file.name)
    file.write_text("before")
    file.chmod(mode)
    for save in (shop.record().save, shop.record, shop.sequence().save):
        save(link)
        assert link.is_symlink()
        assert file.stat().st_mode & 0o777 == mode
        assert file.read_text() != "before"
    assert len(list(tmp_path.iterdir())) == 2


def full_disk(path, text, **_):
    with path.open("w") as file:
        file.write(text[:100])
    raise OSError(ENOSPC, "No space left on device")


def test_an_event_or_a_commit_of_another_space_is_no_time_of_a_recording(shop):
    recording = shop.record()
    with happen.connect(store=":memory:", name="other") as other:
        items = (other.create_node("n").state.set({"a": 2}), other.broadcast("x"), happen.event("x"))
    for item in items:
        with pytest.raises(ValueError, match=r"at: .* (belongs to the space|is not recorded)"):
            recording.at(item)


def test_recorded_events_can_be_replayed_and_have_no_space(shop):
    recording = shop.record()
    other = shop.fork("replayed")
    try:
        other.replay(recording.events("order.kept")).wait()
        assert [event.payload for event in other.events()] == [{"left": 1}, {"left": 0}]
    finally:
        other.drop()
    event = recording.events()[0]
    for call in (event.settle, lambda: event.handled_by, lambda: shop.record(since=event)):
        with pytest.raises((happen.HappenError, ValueError), match="belongs to no space"):
            call()


def test_hidden_values_are_in_no_part_of_the_file(shop, tmp_path):
    recording = shop.record(tmp_path / "shop.html", hide=["**.email", "stock.lamp"])
    text = json.dumps(page.read((tmp_path / "shop.html").read_text()))
    assert "ada@example.org" not in text
    assert "••• gets none" in json.loads(text)["handled"]["error"].popitem()[1]
    states = [commit.after for commit in recording.journal().commits]
    assert {state["lamp"] for state in states if "lamp" in state} == {"•••"}
    assert {repr(order) for state in states for order in state.get("open", {}).values()} == {
        "{'email': '•••'}"
    }


def test_a_part_below_a_key_with_a_dot_is_hidden_by_a_tuple(space, capfd):
    space.create_node("orders", initial={"v.1": {"card": 4711}, "v": {"1": {"card": 4712}}, "v.2": 4713})
    space.broadcast("paid", {"v.1": {"card": 4714}, "list": [4715]})
    masks = [("orders", "v.*", "card"), ("**", "list", 0), ("orders", "x.y")]
    recording = space.record(hide=masks)
    assert recording.journal()[0].after == {"v.1": {"card": "•••"}, "v": {"1": {"card": 4712}}, "v.2": 4713}
    assert recording.events()[0].payload == {"v.1": {"card": 4714}, "list": ["•••"]}
    assert "nothing matches hide=[('orders', 'x.y')]" in capfd.readouterr().err


def test_a_hidden_number_is_in_no_error_text(space):
    node = space.create_node("cards")

    @node.on("pay")
    def pay(event):
        raise ValueError(f"card {event.payload['card']} is blocked")

    space.broadcast("pay", {"card": 4711_0815})
    space.settle()
    handled = page.read(space.record(hide=["**.card"])._markup)["handled"]
    assert list(handled["error"].values()) == ["ValueError: card ••• is blocked"]


def test_a_mask_that_matches_nothing_is_reported(shop, capfd):
    shop.record(hide=["**.email", "stocks.lamp"])
    assert "nothing matches hide=['stocks.lamp']" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"until": "noon"}, TypeError, "until is 'noon'; pass an Event"),
        ({"since": 9, "until": 8}, ValueError, "until is before since"),
        ({"title": 3}, TypeError, "title is 3"),
        ({"code": "yes"}, TypeError, "code is 'yes'"),
        ({"hide": None}, TypeError, "hide is None; pass a list of paths"),
    ],
)
def test_a_wrong_argument_is_an_error_that_names_it(shop, arguments, error, words):
    with pytest.raises(error, match=words):
        shop.record(**arguments)


@pytest.mark.parametrize(
    ("hide", "error", "words"),
    [
        (["email"], ValueError, "names no part"),
        (["a..b"], ValueError, "empty step"),
        ([7], TypeError, "not a path"),
        ([("email",)], ValueError, r'"email\.\*\*" hides the whole state'),
        ([()], ValueError, "names no part"),
        ([("a", 1.5)], ValueError, "steps are strings"),
    ],
)
def test_a_mask_that_hides_nothing_is_refused(space, hide, error, words):
    with pytest.raises(error, match=words):
        space.record(hide=hide)


def test_the_source_of_handlers_is_recorded_unless_it_is_left_out(shop):
    with_code, without = (page.read(shop.record(code=code)._markup)["handlers"] for code in (True, False))
    assert sorted(name.rpartition(".")[2] for _, name, _ in with_code) == ["keep", "note", "take"]
    assert all(source.startswith(("@orders.on(", "@stock.on(")) for _, _, source in with_code)
    assert not any(source for _, _, source in without)


def test_handlings_have_their_start_duration_reply_and_error(shop):
    handled = page.read(shop.record()._markup)["handled"]
    assert all(0 <= waited < 10_000_000 for waited in handled["waited"])
    assert sorted(handled["reply"].values()) == [0, 1]
    assert list(handled["error"].values()) == ["ValueError: ada@example.org gets none"]


def test_of_too_much_the_newest_records_that_fit_are_kept(space, monkeypatch):
    monkeypatch.setattr("happen_nb._api.recording.MAX_BYTES", 90_000)
    noisy, quiet = space.create_node("noisy"), space.create_node("quiet", initial={"n": 1})
    for number in range(60):
        noisy.state.set({"n": number, "noise": [hash((number, each)) for each in range(200)]})
    recording = space.record()
    assert recording.partial
    assert 60_000 < recording.bytes <= 90_000
    assert 5 < len(recording.journal()) < 60
    assert same(recording.journal()[-1:], space.journal()[-1:])
    assert dict(recording.at(recording.journal()[-1]))["quiet"] == quiet.state.get()
    assert "the newest that fit" in repr(recording)
    monkeypatch.setattr("happen_nb._api.recording.MAX_BYTES", 1_000)
    with pytest.raises(happen.TooLargeError, match="hide="):
        space.record()


def test_a_thousand_events_and_commits_take_less_than_150_kb(space):
    stock = space.create_node("stock", initial={"orders": {f"o{n}": {"status": "new"} for n in range(50)}})

    def ship(state, event):
        return happen.put(("orders", event.payload["id"]), {"status": "sent", "n": event.payload["n"]})(state)

    stock.state.on("order.*", ship)
    space.replay(({"id": f"o{n % 50}", "n": n} for n in range(1_000)), type="order.paid").wait()
    space.settle()
    recording = space.record()
    assert recording.counts == (1_000, 1_001, 0)
    assert recording.bytes <= 150_000


def test_without_a_file_the_notebook_shows_a_player_that_may_only_run_its_script(shop, tmp_path):
    shown = shop.record()._repr_mimebundle_()
    assert 'sandbox="allow-scripts"' in shown["text/html"]
    assert "<script" not in shown["text/html"]  # but escaped, in the frame
    assert shown["text/plain"].startswith(f"Recording of {shop.name[:10]}")
    assert "<iframe" not in shop.record(tmp_path / "shop.html")._repr_mimebundle_()["text/html"]


def test_the_policy_of_a_file_forbids_every_request(space):
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', space.record()._markup)
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives.pop("default-src") == "'none'"
    assert set(directives) == {"script-src", "style-src", "base-uri", "form-action"}
    assert all(re.fullmatch(r"'none'|'sha256-[\w+/=]+'", source) for source in directives.values())


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "<p>something else</p>",
        lambda text: text.replace('id="data">', 'id="data">AAAA'),
        lambda text: page.render({**page.read(text), "format": 2}),
        lambda text: page.render({**page.read(text), "events": {}}),
        lambda text: page.render({**page.read(text), "title": "x", "space": 5}),
        lambda text: text.encode("utf-16"),
    ],
)
def test_a_file_that_is_no_recording_is_an_error_that_names_it(shop, tmp_path, damage):
    file = tmp_path / "other.html"
    damaged = damage(shop.record()._markup)
    file.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    with pytest.raises(ValueError, match=r"other\.html is not a recording of happen_nb: "):
        happen.recorded(file)


def places(value, above=()):
    """The paths to all parts of JSON values."""
    yield above
    steps = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for step in steps:
        yield from places(value[step], (*above, step))


def test_a_file_in_which_any_value_was_replaced_is_shown_or_refused(shop):
    deliver_one_later(shop)
    data = page.read(shop.record()._markup)
    odd = [None, True, -1, 10**30, 1e308, "x", "\ud800", [], {}, [[1]], {"a": 1}, "\x011e999", "\x01x"]
    for *above, last in filter(None, places(data)):
        for value in odd:
            damaged = copy.deepcopy(data)
            part = damaged
            for step in above:
                part = part[step]
            part[last] = value
            try:
                found = Recording(decode(damaged), "", None, None)
            except ValueError:
                continue
            for each in (found, found.events(), found.journal()):
                repr(each)
                each._repr_mimebundle_()
            found.journal().to_frame()
            found.events("*").to_frame()
