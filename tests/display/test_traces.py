import reading
import standins as a


def test_a_trace_shows_causes_effects_and_nodes():
    assert repr(a.order()) == (
        "Trace of order.created · 4 events · 3 commits · 1 failure\n"
        "  order.created  notebook → billing failed, orders, stock\n"
        "    ! billing charge · 3 attempts  ValueError: no card\n"
        "    orders revision 2  + o7  {total: 12}\n"
        "    parcel.send  orders → shipping not yet\n"
        "    stock revision 2  ~ pen, + ink, - paper\n"
        "    stock.low  stock → purchasing\n"
        "      purchasing revision 1 by buyer  + pen  40\n"
        "      pen.bought  purchasing → audit refused"
    )


def test_an_event_that_caused_nothing_is_a_trace_too():
    assert repr(a.trace([a.event_record("a")])) == (
        "Trace of type.a · 1 event · 0 commits\n  type.a  orders → no handler yet"
    )


def test_durations_are_times_in_html_and_not_in_text():
    read = reading.read(reading.html(a.order()))
    assert read.times == ["62.5 ms in handlers", *["12.5 ms"] * 5]
    time = '<time datetime="PT0.012500S" title="time in the handler">12.5 ms</time>'
    assert time in reading.html(a.order())
    assert "ms" not in repr(a.order())


def test_with_times_text_has_durations_moments_positions_and_ids():
    made = a.order()
    made.times = True
    lines = repr(made).splitlines()
    assert lines[0] == "Trace of order.created · 4 events · 3 commits · 1 failure · 62.5 ms in handlers"
    assert lines[1] == (
        "  order.created  notebook → billing failed 12.5 ms, orders 12.5 ms, stock 12.5 ms"
        "  2026-03-14 12:00:00.250 UTC  #1 a"
    )
    assert lines[3].endswith("+ o7  {total: 12}  2026-03-14 12:00:00.250 UTC  #2 5fX2kQ9aBc7Zt1Lm")
    assert "2026" not in "".join(reading.read(reading.html(made)).visible)


def test_several_handlers_of_a_node_are_one_and_the_worst_outcome_counts():
    handlings = [a.handled("a", "stock"), a.handled("a", "audit", "refused"), a.handled("a", "audit")]
    handlings += [
        a.handled("a", "stock", "failed", error="E: 1", handler="f"),
        a.handled("a", "x", "cancelled"),
    ]
    lines = repr(a.trace([a.event_record("a")], [], handlings)).splitlines()
    assert lines[1:] == ["  type.a  orders → audit, stock failed, x cancelled", "    ! stock f  E: 1"]


def test_many_failures_of_one_event_are_counted():
    handlings = [a.handled("a", f"n{n}", "failed", error="E: 1", handler="f") for n in range(9)]
    lines = repr(a.trace([a.event_record("a")], [], handlings)).splitlines()
    assert lines[-2:] == ["    ! n3 f  E: 1", "    … 5 failures more"]


def test_a_record_below_an_earlier_cause_is_marked():
    made = a.trace([a.event_record("a"), a.event_record("c", "b", 7, path=("a", "b"))])
    assert repr(made).splitlines()[-1] == "    … type.c  orders → no handler yet"


def test_a_node_that_has_acted_and_not_ended_is_named():
    commits = [a.commit_pair("a", 1, {"n": 1}, revision=1)]
    acting = a.trace([a.event_record("a")], commits)
    assert repr(acting).splitlines()[1] == "  type.a  orders → stock not done yet"
    emitting = a.trace([a.event_record("a"), a.event_record("b", "a")])
    assert repr(emitting).splitlines()[1] == "  type.a  orders → orders not done yet"


def test_commits_whose_change_is_not_known_show_the_reason():
    commits = [
        a.commit_pair("a", 1, {"n": 1}, revision=5),
        a.commit_pair("a", 2, b"[]", revision=1),
        a.commit_pair("a", 3, None, {"n": 1}),
        a.commit_pair("a", 4, {"n": 1}, {"n": 1}),
    ]
    lines = repr(a.trace([a.event_record("a")], commits)).splitlines()[2:]
    assert lines[0] == "    stock revision 5  (its changes are not stored)"
    assert lines[1].startswith('    stock revision 1  node "stock" holds no readable state')
    assert lines[2:] == ["    stock revision 2  deleted", "    stock revision 2  no change"]


def test_all_changes_of_a_commit_can_be_unfolded():
    read = reading.read(reading.html(a.order()))
    assert "7 → 6" in "".join(read.hidden)
    assert "7 → 6" not in "".join(read.visible)


def test_effects_can_be_folded_and_are_open():
    shown = reading.html(a.order())
    assert shown.count("<details open>") == 2
    assert reading.read(shown).summaries == 3
    assert "<script" not in shown


def test_a_chain_deeper_than_the_indentation_keeps_its_depth():
    made = a.trace([a.event_record(str(n), str(n - 1) if n else None, n + 1) for n in range(31)])
    lines = repr(made).splitlines()
    assert [line.strip().split("  ")[0] for line in lines[12:15]] == ["type.11", "type.12", "13 ↳ type.13"]
    assert {len(line) - len(line.lstrip()) for line in lines[14:]} == {26}
    visible = "".join(reading.read(reading.html(made)).visible)
    assert reading.squeezed(visible) == reading.squeezed(repr(made))


def test_a_trace_of_a_large_state_folds_its_changes_within_bounds():
    commits = [a.commit_pair("a", n, a.orders(500), {"count": 0}, node=f"n{n}") for n in range(60)]
    shown = reading.html(a.trace([a.event_record("a")], commits))
    assert len(shown.encode()) < 100_000
    assert shown.count("<details>") >= 60
