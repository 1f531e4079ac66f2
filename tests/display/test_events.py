from datetime import UTC, datetime, timedelta, timezone
from html import escape

import pytest
import reading
import standins as a

from happen_nb._display.reprs_events import ProgressPace
from happen_nb.errors import CancelledHandlingError, HandlerError, NoHandlerError


def test_an_event_shows_sender_target_and_payload():
    assert repr(a.Event("order.paid", {"id": "o1"}, "notebook")) == (
        'Event order.paid · notebook → all\n  {id: "o1"}'
    )
    assert repr(a.Event("pen.pick", None, "orders", "stock")) == "Event pen.pick · orders → stock"
    assert repr(a.Event("n", 7, pending=True)) == "Event n · orders → all · pending\n  7"
    assert repr(a.Event("n", repeated=True)).endswith(" · already stored")


def test_a_large_payload_is_a_tree():
    lines = repr(a.Event(payload={"items": [{"n": n} for n in range(1000)], "n": 1})).splitlines()
    assert lines[1] == "  items  [1,000 items]"
    assert lines[-1] == "  n      1"


def test_an_event_that_is_pending_has_no_time_and_leaves_no_gap():
    shown = reading.html(a.Event(time=None, pending=True))
    assert reading.read(shown).times == []
    assert "pending</div>" in shown


@pytest.mark.parametrize(
    ("occurred", "shown"),
    [
        (datetime(2031, 7, 8, 9, tzinfo=UTC), "occurred 2031-07-08 09:00:00.000 UTC"),
        (
            datetime(2031, 7, 8, 9, tzinfo=timezone(timedelta(hours=2))),
            "occurred 2031-07-08 07:00:00.000 UTC",
        ),
        (datetime(2031, 7, 8, 9), "occurred 2031-07-08 09:00:00.000"),  # noqa: DTZ001 - as its sender wrote it
    ],
)
def test_when_it_occurred_is_a_time_of_its_own(occurred, shown):
    made = a.Event(occurred=occurred)
    assert reading.read(reading.html(made)).times == [shown, "2026-03-14 12:00:00.250 UTC"]
    assert "2031" not in repr(made)


def test_events_are_a_table_of_the_newest():
    made = a.Events(a.Event(f"type.{n}", {"n": n}, time=a.NOON + timedelta(seconds=n)) for n in range(25))
    lines = repr(made).splitlines()
    assert lines[:4] == [
        "Events of default · 25 events",
        "  sender  type     payload",
        "  … 5 older",
        "  orders  type.5   {n: 5}",
    ]
    assert lines[-1] == "  orders  type.24  {n: 24}"
    made.pattern = "type.*"
    assert repr(made).splitlines()[0].endswith(" · matching type.*")
    read = reading.read(reading.html(made))
    assert (len(read.times), read.times[-1]) == (20, "2026-03-14 12:00:24.250")


def test_a_table_of_events_has_targets_only_if_something_was_sent_and_folds_large_payloads():
    made = a.Events([a.Event(target="stock", payload=a.SHOP), a.Event()])
    assert repr(made).splitlines()[1].split() == ["sender", "target", "type", "payload"]
    assert "warehouse moves" in "".join(reading.read(reading.html(made)).hidden)
    assert repr(a.Events()) == "Events of default · 0 events"


def test_unhandled_events_show_the_reason_and_the_nearest_pattern():
    made = a.UnhandledEvents(
        [
            a.Unhandled(a.Event("order.payed"), "no pattern", "order.paid"),
            a.Unhandled(a.Event("x"), "where"),
        ]
    )
    assert repr(made) == (
        "2 unhandled events\n"
        "  type         sender  reason      nearest pattern\n"
        "  order.payed  orders  no pattern  order.paid\n"
        "  x            orders  where"
    )
    assert repr(a.UnhandledEvents()) == "No unhandled events"


def test_one_unhandled_event_shows_its_payload():
    made = a.Unhandled(a.Event("order.payed", {"id": "o1"}, "notebook"), "no pattern", "order.paid")
    assert repr(made) == (
        'Unhandled event order.payed · notebook → all · no pattern · nearest pattern order.paid\n  {id: "o1"}'
    )
    alone = a.Unhandled(a.Event("x", target="stock"), "no owner")
    assert repr(alone) == "Unhandled event x · orders → stock · no owner"
    assert reading.read(reading.html(alone)).times == ["2026-03-14 12:00:00.250 UTC"]


def test_handlers_are_a_line_each_in_their_order():
    made = a.Handlers([a.Registration(), a.Registration("**", "start.<locals>.audit", where=True, retries=3)])
    assert repr(made) == (
        "Handlers of orders · 2 handlers\n"
        "  pattern  function  where  retries\n"
        "  order.*  on_order\n"
        "  **       audit     yes          3"
    )
    assert repr(made[1]) == "Handler of orders · ** → audit · where · 3 retries"
    assert repr(a.Handlers([a.Registration(durable=True)])[0]).endswith(" · durable")
    made[0].active = False
    assert repr(made[0]) == "Handler of orders · order.* → on_order · unregistered"
    assert repr(a.Handlers()).splitlines()[1].startswith("  none yet: on(")


def test_a_node_shows_its_work_and_its_handlers_below_its_state():
    own = a.node("orders", {"n": 1})
    own.handlers = [a.Registration(), a.Registration("**", "audit", retries=1)]
    own.busy = "busy 12 s, 3,204 waiting"
    assert repr(own) == (
        "Node orders · revision 1 · busy 12 s, 3,204 waiting\n"
        "  n  1\n"
        "  2 handlers\n"
        "    order.* → on_order\n"
        "    ** → audit · 1 retry"
    )
    own.handlers *= 20
    assert repr(own).splitlines()[-1] == "    … 20 more"


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (0.4, "████████░░░░░░░░░░░░ 40 %"),
        (40, "████████░░░░░░░░░░░░ 40 %"),
        (0, "░░░░░░░░░░░░░░░░░░░░ 0 %"),
        (1.0, "████████████████████ 100 %"),
        (0.999, "████████████████████ 99 %"),
        ({"progress": 0.29}, "██████░░░░░░░░░░░░░░ 29 %"),
        ({"done": 3, "total": 12}, "█████░░░░░░░░░░░░░░░ 3 of 12"),
        ({"done": 1234.5, "total": 1e4, "file": "a"}, '██░░░░░░░░░░░░░░░░░░ 1,234 of 1e+04 · {file: "a"}'),
        ({"done": 9, "total": 3}, "████████████████████ 9 of 3"),
        ({"progress": 50, "step": "reading"}, '██████████░░░░░░░░░░ 50 % · {step: "reading"}'),
        ({"done": 3, "total": 0}, "{done: 3, total: 0}"),
        ({"progress": True}, "{progress: True}"),
        (-1, "-1"),
        (101, "101"),
        ("reading", '"reading"'),
        ([1, 2], "[1, 2]"),
    ],
)
def test_progress_is_a_bar_if_it_contains_a_share(progress, shown):
    assert repr(a.Reply(progress=progress)) == f"Reply of stock · order.created · accepted · {shown}"


def test_a_reply_shows_its_result_or_its_error_instead_of_progress():
    start = "Reply of stock · order.created"
    assert repr(a.Reply(state="waiting")) == f"{start} · waiting"
    assert repr(a.Reply(state="done", progress=0.5, value={"n": 7})) == f"{start} · done\n  {{n: 7}}"
    assert repr(a.Reply(state="done")) == f"{start} · done\n  None"
    error = HandlerError("the handler raised KeyError: 'o1'", remote_traceback=a.TRACEBACK)
    assert repr(a.Reply(state="failed", progress=0.5, error=error)) == (
        f"{start} · failed\n  HandlerError: the handler raised KeyError: 'o1'"
    )
    gone = NoHandlerError("nobody there")
    assert repr(a.Reply(state="failed", error=gone)).endswith("failed\n  NoHandlerError: nobody there")
    stopped = CancelledHandlingError("it was cancelled")
    assert repr(a.Reply(state="cancelled", error=stopped)).startswith(f"{start} · cancelled\n")


def test_a_failure_names_the_event_that_was_handled_but_no_commit_that_was_watched():
    made = a.Failure("orders", "f", ValueError("no"), "", event=a.Event("order.paid"))
    assert repr(made).splitlines()[0] == "Failure in orders · f · order.paid · 1 attempt"
    watched = a.Failure("orders", "g", ValueError("no"), "", event=a.commit({}, {"n": 1}))
    assert repr(watched).splitlines()[0] == "Failure in orders · g · 1 attempt"
    assert repr(a.Failures([made, watched])).splitlines()[1:] == [
        "  node    handler  event       attempts  error",
        "  orders  f        order.paid         1  ValueError: no",
        "  orders  g                           1  ValueError: no",
    ]


@pytest.mark.parametrize(
    ("type", "reason", "nearest", "is_error"),
    [
        ("order.shipped", "no pattern", None, False),
        ("order.shipped", "no pattern", "order.placed", False),
        ("order.paid", "no owner", "order.paid", False),
        ("order.paid", "where", None, False),
        ("order.payed", "no pattern", "order.paid", True),
        ("order.item.added", "no pattern", "order.*", True),
        ("order.paid", "owner died", None, True),
    ],
)
def test_an_unhandled_event_is_an_error_only_where_something_went_wrong(type, reason, nearest, is_error):
    made = a.Unhandled(a.Event(type, None), reason, nearest)
    for markup in (reading.html(a.UnhandledEvents([made])), reading.html(made)):
        assert (f'<span class="e">{reason}</span>' in markup) is is_error
        assert (f'<span class="p">{reason}</span>' in markup) is not is_error


def test_progress_has_its_rate_and_the_time_that_is_left_in_html_only():
    reply = a.Reply(progress={"done": 30, "total": 120}, pace=ProgressPace({"done": 10, "total": 120}, 5.0))
    page = reply._repr_mimebundle_()
    assert page["text/plain"] == "Reply of stock · order.created · accepted · █████░░░░░░░░░░░░░░░ 30 of 120"
    assert '<progress value="0.2500" max="1" title="progress">█████░' in page["text/html"]
    assert "4/s</time>" in page["text/html"]
    assert "23 s left</time>" in page["text/html"]
    share_only = a.Reply(progress=0.5, pace=ProgressPace(0.25, 2.0))._repr_mimebundle_()["text/html"]
    assert "4 s left</time>" in share_only
    assert "/s</time>" not in share_only


@pytest.mark.parametrize(
    "pace",
    [ProgressPace(0.5, 2.0), ProgressPace(0.9, 2.0), ProgressPace("reading", 2.0), ProgressPace(0.1, 0.0)],
)
def test_progress_that_does_not_grow_has_no_rate(pace):
    assert "<time" not in a.Reply(progress=0.5, pace=pace)._repr_mimebundle_()["text/html"]


LONG = f"order.{'a-part-of-a-long-type.' * 9}<i>\"'"


def test_all_of_a_type_that_is_cut_can_be_read_while_the_pointer_is_on_it():
    event = a.Event(LONG, time=a.NOON)
    shown = [
        event,
        a.Events([event]),
        a.UnhandledEvents([a.Unhandled(event)]),
        a.Held([a.HeldEvent("stock", event)]),
        a.Journal([event]),
        a.Failures([a.Failure("stock", "f", ValueError(), "", event=event)]),
        a.Reply(event),
        a.trace([a.event_record("e", type=LONG)]),
    ]
    for each in shown:
        assert f'title="{escape(LONG)}"' in reading.html(each)
        assert LONG not in repr(each)
    assert "title" not in reading.html(a.Event("order.paid"))
