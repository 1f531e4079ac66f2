import re
from typing import Any

import pytest
import reading
import standins as a
from hypothesis import given, settings
from hypothesis import strategies as st

from happen_nb._display.page import style
from happen_nb.errors import HandlerError, StateError
from tests.display.hostile import PAYLOADS


def everything(bad: str):
    """Each kind of display, with `bad` wherever a string can stand."""
    state = {
        bad: {bad: bad},
        "list": [bad] * 3,
        "long": bad * 200,
        "deep": {str(n): {bad: bad * 9} for n in range(20)},
    }
    own, broken = a.node(bad, state), a.node(bad + "2", StateError(bad))
    space = a.Space(bad, {bad: own, "broken": broken}, {bad + "3": a.view(bad, state)}, a.Server(store=bad))
    own.handlers = [a.Registration(bad, bad, where=True, retries=2, node=bad)]
    own.busy = bad
    event = a.Event(bad, state, bad, bad, occurred=a.NOON, repeated=True)
    failures = a.Failures(
        [
            a.Failure(bad, bad, ValueError(bad), f'  File "{bad}", line 3\n{bad}\n', 2, event),
            a.Failure(bad, bad, bad, bad),
        ]
    )
    space.failures = failures
    commits = [
        a.commit({}, state, node=bad, by=bad),
        a.commit(state, {**state, bad: bad[::-1], "long": bad * 150 + "!"}, by=bad),
        a.commit(state, {}, node=bad, deleted=True),
    ]
    history, journal = a.History(commits), a.Journal(commits)
    history.node = journal.space = bad
    yield own
    yield broken
    yield own.state
    yield a.view(bad, state)
    yield a.Views(space.views, space=space)
    yield a.Nodes(space.nodes, space=space)
    yield a.Snapshot({bad: a.view(bad, state), bad + "2": a.view(bad, StateError(bad))})
    yield space
    yield space.server
    yield from commits
    yield history
    yield journal
    yield from failures
    yield failures
    yield a.Watch(own, bad)
    yield a.Spaces([a.SpaceInfo(bad, 1, 1)])
    events, handlers = a.Events([event, a.Event(bad, bad, bad)]), a.Handlers(own.handlers)
    events.space = events.pattern = handlers.node = bad
    yield from events
    yield events
    yield a.UnhandledEvents(a.Unhandled(each, bad, bad) for each in events)
    yield a.Unhandled(event, bad, bad)
    yield handlers
    yield handlers[0]
    yield from replies(bad, event, state)
    yield trace(bad, state)
    yield a.Value(state)
    yield a.Value(bad)


def replies(bad: str, event: a.Event, state: dict[str, Any]):
    yield a.Reply(event, bad, bad, bad)
    yield a.Reply(event, bad, bad, {"progress": 0.5, bad: bad})
    yield a.Reply(event, bad, "done", value=state)
    yield a.Reply(event, bad, "done", value=bad)
    yield a.Reply(event, bad, "failed", error=HandlerError(bad, remote_traceback=bad))


def trace(bad: str, state: dict[str, Any]) -> a.Trace:
    events = [
        a.event_record("a", type=bad, sender=bad),
        a.event_record("b", "lost", path=("a", "lost"), type=bad, target=bad),
    ]
    more = {"node": bad, "by": bad + "2"}
    commits = [a.commit_pair("a", 1, state, **more), a.commit_pair("a", 2, {bad: bad}, {bad: 1}, **more)]
    commits += [a.commit_pair("b", 3, b"[]", **more), a.commit_pair("b", 4, None, **more)]
    handlings = [
        a.handled("a", bad, bad, handler=bad),
        a.handled("a", bad[::-1], "failed", handler=bad, error=bad, attempts=2),
    ]
    return a.trace(events, commits, handlings)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_string_becomes_markup(payload):
    for shown in everything(payload):
        reading.read(reading.html(shown))  # refuses unknown tags, attributes and bad nesting


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_and_html_have_the_same_content(payload):
    for shown in everything(payload):
        both = shown._repr_mimebundle_()
        visible = "".join(reading.read(both["text/html"]).visible)
        assert reading.squeezed(visible) == reading.squeezed(both["text/plain"]), shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=30),
    max_leaves=60,
)


STATES = st.dictionaries(st.text(), JSON, max_size=50)


@pytest.mark.parametrize(
    "examples", [8, pytest.param(600, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_any_state_and_any_change_can_be_shown(examples):
    @settings(max_examples=examples, deadline=None)
    @given(STATES, STATES)
    def check(before, after):
        plain = a.Commit("orders", 2, before, after)
        for shown in (a.Value(before), plain, a.History([plain])):
            both = shown._repr_mimebundle_()
            visible = "".join(reading.read(both["text/html"]).visible)
            assert reading.squeezed(visible) == reading.squeezed(both["text/plain"])

    check()


def test_times_stand_in_time_elements_only():
    read = reading.read(reading.html(a.commit({"n": 1}, {"n": 2})))
    assert read.times == ["2026-03-14 12:00:00.250 UTC"]
    assert "2026" not in "".join(read.visible + read.hidden)
    assert '<time datetime="2026-03-14T12:00:01.250Z">' in reading.html(a.history([{"n": 1}]))


def test_a_display_contains_no_id_sequence_token_or_path():
    own = a.node("orders", a.SHOP)
    failures = a.Failures([a.Failure("orders", "f", ValueError("no"), a.TRACEBACK)])
    space = a.Space(nodes={"orders": own}, views={}, server=a.Server(), failures=failures)
    commit = a.commit({}, a.SHOP, by="shipping")
    shown = [space, space.server, commit, failures[0], a.order(), failures]
    shown += [a.History([commit]), a.Journal([commit])]
    shown += [each for each in everything("plain") if not isinstance(each, (a.Space, a.Server))]
    for each in shown:
        for form in each._repr_mimebundle_().values():
            for secret in (
                a.EVENT_ID,
                str(a.SEQUENCE),
                a.TOKEN,
                a.FOLDER,
                "40123",
                "site-packages",
                "ipykernel",
                "/home",
                "Users",
            ):
                assert secret not in form, (each, secret)
            assert " id=" not in form


def test_the_same_object_is_shown_the_same_way_again():
    own = a.node("orders", a.SHOP)
    assert own._repr_mimebundle_() == own._repr_mimebundle_()


def test_html_folds_the_rows_that_text_leaves_out():
    read = reading.read(reading.html(a.node("orders", a.orders(10_000))))
    hidden = "".join(read.hidden)
    assert "order-00009" in "".join(read.visible)
    assert 'city: "Lisbon"' in hidden
    assert '"order-00042"' in hidden
    assert read.summaries > 10


def test_the_start_of_a_long_string_can_be_unfolded_with_its_line_breaks():
    read = reading.read(reading.html(a.node("orders", {"note": "one\ntwo\n" + "x" * 5000})))
    assert "one\ntwo\nxxx" in "".join(read.hidden)


def test_every_change_carries_a_sign_beside_its_colour():
    shown = reading.html(a.commit({"a": 1, "b": 1}, {"a": 2, "c": 1}))
    assert [f">{sign}\N{NO-BREAK SPACE}</i>" in shown for sign in "+-~"] == [True] * 3
    assert "<del>1</del> → <ins>2</ins>" in shown


def test_a_sign_is_never_parted_from_its_path():
    made = a.commit({"a": 1, "b": 1}, {"a": 2, "c": [1] * 99})
    for shown in (reading.html(made), reading.html(a.History([made]))):
        signs = re.findall(r'<i class="\w">(.*?)</i>(..)', shown)
        assert signs
        assert all(sign[1:] == "\N{NO-BREAK SPACE}" and path == "<b" for sign, path in signs)


def test_only_long_cells_of_a_table_may_wrap():
    shown = reading.html(a.Events([a.Event("stock-room.counted", {"note": "long " * 9}, "stock-room")]))
    cells = re.findall(r"<td([^>]*)>(.*?)</td>", shown)
    assert [kind for kind, _ in cells] == ["", "", ' class="l"', ' class="l"']
    assert cells[2][1] == '<span class="p">stock-room.<wbr>counted</span>'
    assert ".l, th, td time { white-space: normal;" in style()
    assert re.search(r"th, td \{[^}]*white-space: nowrap", style())


def test_folds_need_no_script():
    shown = reading.html(a.node("orders", a.SHOP))
    assert "<details open><summary>" in shown
    assert "<script" not in shown
