import pytest
import reading
import standins as a

from happen_nb.errors import StateError

LIMIT = 100_000
SOAK = [pytest.mark.soak, pytest.mark.timeout(600)]
HOSTILE = [
    "&" * 5000,
    "<" * 5000,
    '"' * 5000,
    "\x00" * 5000,
    "\U0001f4a9" * 5000,
    "\u202e" * 5000,
    "注" * 5000,
]


#: States that are large in each direction, made of characters that grow when they are escaped.
LARGE = {
    "keys": lambda bad: {f"{bad[:200]}{n}": n for n in range(2_000)},
    "mappings": lambda bad: {f"{bad[:30]}{n}": {f"{m}": bad for m in range(50)} for n in range(50)},
    "lists": lambda bad: {"list": [[bad[:9]] * 9] * 1000, "ones": [1] * 20_000},
    "texts": lambda bad: {str(n): bad for n in range(500)},
    "depth": lambda bad: {str(n): {bad[:40]: {bad[:40]: {bad[:40]: list(range(999))}}} for n in range(40)},
}
SHAPES = list(LARGE)


def combined():
    """Each text with one shape, and under ``soak`` with all others: `HOSTILE` and the name in `LARGE`."""
    for number, bad in enumerate(HOSTILE):
        for shape in SHAPES:
            usual = shape == SHAPES[number % len(SHAPES)]
            yield pytest.param(bad, shape, id=f"{ord(bad[0]):x}-{shape}", marks=[] if usual else SOAK)


def trace(bad: str, state: dict[str, object]):
    events = [a.event_record(str(n), str(n // 3) if n else None, n, type=bad, sender=bad) for n in range(90)]
    commits = [a.commit_pair(str(n), 100 + n, {bad[:99]: bad}, state, node=bad, by=bad[1:]) for n in range(9)]
    handlings = [
        a.handled(str(n), f"{m}{bad}", "failed", error=bad, handler=bad) for n in range(90) for m in range(9)
    ]
    return a.trace(events, commits, handlings)


@pytest.mark.parametrize(("bad", "shape"), [*combined()])
def test_any_size_of_anything_stays_under_100_kb(bad, shape):
    for each in everything(bad, LARGE[shape](bad)):
        for mime, form in each._repr_mimebundle_().items():
            assert len(form.encode()) < LIMIT, (type(each), mime)


def everything(bad, state):
    """All objects that a cell may end with, as large as can be."""
    own = a.node(bad, state)
    commits = [a.Commit(bad, n, {}, own.state.content, by=bad) for n in range(9)]
    commits += [a.Commit(bad, n, own.state.content, a.frozen({"x": bad}), by=bad) for n in range(13)]
    nodes = {f"{n}{bad}": own for n in range(100)}
    space = a.Space(bad, nodes, nodes, a.Server())
    event = a.Event(bad, state, bad, bad)
    failures = a.Failures([a.Failure(bad, bad, ValueError(bad), (bad + "\n") * 100, event=event)] * 50)
    own.handlers = [a.Registration(bad, bad, where=True, retries=10**18)] * 50
    own.busy = bad
    view = a.view(bad, state)
    return [
        own,
        a.node(bad, StateError(bad)),
        a.Value(list(state.values())),
        commits[0],
        commits[-1],
        a.History(commits),
        a.Journal(commits),
        space,
        failures,
        failures[0],
        event,
        a.Events([event] * 50),
        trace(bad, state),
        a.UnhandledEvents([a.Unhandled(event, bad, bad)] * 50),
        a.Unhandled(event, bad, bad),
        a.Handlers(own.handlers),
        own.handlers[0],
        a.Nodes(nodes, space=space),
        a.Reply(event, bad, bad, {"progress": 0.5, bad: bad}),
        a.Reply(event, bad, "done", value=state),
        a.Snapshot({f"{n}{bad}": view for n in range(100)}),
    ]


def test_a_deep_value_is_no_recursion():
    value: dict[str, object] = {}
    for n in range(5000):
        value = {"deeper": value, "n": n, "text": "x" * 60}
    assert len(reading.html(a.Value(value))) < LIMIT


class Counted(dict):
    """A mapping that counts how many of its entries were looked at."""

    looked_at = 0

    def items(self):
        for pair in super().items():
            self.looked_at += 1
            yield pair


def test_a_display_reads_a_bounded_part_of_a_large_state():
    orders = Counted(a.orders(50_000)["orders"])
    a.Value({"orders": orders, "more": Counted()})._repr_mimebundle_()
    assert orders.looked_at < 500


def test_a_diff_of_many_changes_is_cut():
    made = a.commit({}, {f"k{n}": n for n in range(10_000)})
    text = reading.text(made)
    assert text.splitlines()[-1] == "  … 9,970 more"


def test_a_space_of_many_nodes_is_cut():
    nodes = {f"n{n}": a.node(f"n{n}", {}) for n in range(5000)}
    text = reading.text(a.Space(nodes=nodes))
    assert text.splitlines()[0].startswith("Space default · 5,000 nodes")
    assert text.splitlines()[-1] == "  … 4,970 more"


def test_a_large_trace_shows_the_first_levels_and_counts_the_rest():
    wide = a.trace([a.event_record("0"), *(a.event_record(str(n), "0", n) for n in range(1, 10_000))])
    lines = reading.text(wide).splitlines()
    assert lines[0] == "Trace of type.0 · 10,000 events · 0 commits"
    assert (len(lines), lines[-1]) == (102, "    … 9,900 more")


def test_a_deep_branch_of_a_trace_hides_no_other():
    deep = [a.event_record(str(n), str(n - 1) if n else None, n + 1) for n in range(5_000)]
    lines = reading.text(a.trace([*deep, a.event_record("last", "0", 9_999)])).splitlines()
    assert lines[-1] == "    type.last  orders → no handler yet"
    assert lines[-2].endswith("99 ↳ … 4,901 more")


def test_failures_that_a_trace_leaves_out_are_counted():
    events = [a.event_record("0"), *(a.event_record(str(n), "0", n) for n in range(1, 200))]
    shown = a.trace(events, [], [a.handled("150", "stock", "failed"), a.handled("199", "stock", "failed")])
    assert reading.text(shown).endswith("… 100 more, 2 failures")


@pytest.mark.parametrize("size", [1_000, pytest.param(10_000, marks=SOAK)])
def test_a_trace_in_any_shape_stays_under_100_kb(size):
    for parent in (lambda n: n - 1, lambda n: n // 2, lambda n: 0, lambda n: n // 100):
        half = range(size // 2)
        events = [a.event_record(str(n), str(parent(n)) if n else None, n + 1) for n in half]
        commits = [a.commit_pair(str(n), size + n, a.SHOP, {"n": n}) for n in half]
        handlings = [a.handled(str(n), f"node-{m}") for n in half for m in range(3)]
        for times in (False, True):
            shown = a.trace(events, commits, handlings)
            shown.times = times
            for mime, form in shown._repr_mimebundle_().items():
                assert len(form.encode()) < LIMIT, mime
                assert "more" in form


def test_the_lines_of_a_deep_trace_can_be_read():
    events = [a.event_record(str(n), str(n - 1) if n else None, n, type="x" * 200) for n in range(60)]
    handlings = [a.handled(str(n), f"node-{m}") for n in range(60) for m in range(40)]
    lines = reading.text(a.trace(events, [], handlings)).splitlines()
    assert len(lines) == 61
    assert max(map(len, lines)) <= 110
    assert lines[31].startswith(" " * 26 + "30 ↳ xxx")
