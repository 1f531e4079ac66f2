import pytest
import standins as a

from happen_nb.display.bundle import bundle
from happen_nb.errors import StateError

LIMIT = 100_000
HOSTILE = [
    "&" * 5000,
    "<" * 5000,
    '"' * 5000,
    "\x00" * 5000,
    "\U0001f4a9" * 5000,
    "\u202e" * 5000,
    "注" * 5000,
]


def states(bad: str):
    """States that are large in each direction, made of characters that grow when they are escaped."""
    yield {f"{bad[:200]}{n}": n for n in range(2_000)}
    yield {f"{bad[:30]}{n}": {f"{m}": bad for m in range(50)} for n in range(50)}
    yield {"list": [[bad[:9]] * 9] * 1000, "ones": [1] * 20_000}
    yield {str(n): bad for n in range(500)}
    yield {str(n): {bad[:40]: {bad[:40]: {bad[:40]: list(range(999))}}} for n in range(40)}


@pytest.mark.parametrize("bad", HOSTILE)
def test_any_size_of_anything_stays_under_100_kb(bad):
    for state in states(bad):
        own = a.node(bad, state)
        commits = [a.Commit(bad, n, {}, own.state.content, by=bad) for n in range(9)]
        commits += [a.Commit(bad, n, own.state.content, a.frozen({"x": bad}), by=bad) for n in range(13)]
        nodes = {f"{n}{bad}": own for n in range(100)}
        space = a.Space(bad, nodes, nodes, a.Server())
        failures = [a.Failure(bad, bad, ValueError(bad), (bad + "\n") * 100) for _ in range(50)]
        shown = [
            ("node", own),
            ("value", list(state.values())),
            ("commit", commits[0]),
            ("commit", commits[-1]),
        ]
        shown += [("history", a.History(commits)), ("journal", a.Journal(commits)), ("space", space)]
        shown += [("failures", failures), ("failure", failures[0]), ("node", a.node(bad, StateError(bad)))]
        for kind, each in shown:
            for mime, form in bundle(each, kind).items():
                assert len(form.encode()) < LIMIT, (kind, mime)


def test_a_deep_value_is_no_recursion():
    value: dict[str, object] = {}
    for n in range(5000):
        value = {"deeper": value, "n": n, "text": "x" * 60}
    assert len(bundle(value, "value")["text/html"]) < LIMIT


class Counted(dict):
    """A mapping that counts how many of its entries were looked at."""

    looked_at = 0

    def items(self):
        for pair in super().items():
            self.looked_at += 1
            yield pair


def test_a_display_looks_at_a_bounded_part_of_a_large_state():
    orders = Counted(a.orders(50_000)["orders"])
    bundle({"orders": orders, "more": Counted()}, "value")
    assert orders.looked_at < 500


def test_a_diff_of_many_changes_is_cut():
    made = a.commit({}, {f"k{n}": n for n in range(10_000)})
    text = bundle(made, "commit")["text/plain"]
    assert text.splitlines()[-1] == "  … 9,970 more"


def test_a_space_of_many_nodes_is_cut():
    nodes = {f"n{n}": a.node(f"n{n}", {}) for n in range(5000)}
    text = bundle(a.Space(nodes=nodes), "space")["text/plain"]
    assert text.splitlines()[0].startswith("Space default · 5,000 nodes")
    assert text.splitlines()[-1] == "  … 4,970 more"
