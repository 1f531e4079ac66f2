from datetime import UTC, datetime

import pytest
import standins as a

from happen_nb._display import human_duration
from happen_nb._model.frozen import Change
from happen_nb.errors import StateError, UnknownNodeError

BROKEN = StateError('node "legacy" holds no readable state at revision 7')


def test_a_node_is_its_name_its_revision_and_an_aligned_tree_of_its_state():
    state = {"orders": {"o1": {"status": "open", "items": ["pen"]}}, "rate": 0.5, "closed": False, "by": None}
    assert repr(a.node("orders", state, 3)) == (
        "Node orders · revision 3\n"
        '  orders  {o1: {status: "open", items: ["pen"]}}\n'
        "  rate    0.5\n"
        "  closed  False\n"
        "  by      None"
    )


def test_a_node_without_a_commit_reads_as_empty():
    assert repr(a.node("new", {}, 0)) == "Node new · revision 0\n  {}"


def test_state_and_view_name_their_node():
    assert repr(a.node("orders", {"n": 1}, 1200).state) == "State of orders · revision 1,200\n  n  1"
    assert repr(a.view("stock", {"n": 1})) == "View of stock · revision 1\n  n  1"


def test_a_value_too_long_for_a_line_becomes_a_tree_and_a_long_list_counts_the_rest():
    lines = a.value_text({"pairs": [[n, {"n": n}] for n in range(10_000)], "n": 1}).splitlines()
    assert lines[:2] == ["pairs  [10,000 items]", "  0  [0, {n: 0}]"]
    assert lines[-2:] == ["  … 9,990 more", "n      1"]


def test_a_long_list_of_plain_values_stays_a_line():
    lines = a.value_text({"numbers": list(range(5000)), "n": 1}).splitlines()
    assert lines == [
        "numbers  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, … 4,982 more]",
        "n        1",
    ]
    short = a.value_text({"numbers": [n * 10**9 for n in range(12)]}).splitlines()
    assert short[0] == "numbers  [12 items]"
    assert len(short) == 13


def test_all_top_level_keys_come_before_anything_deep():
    state = {f"k{n:02}": {f"c{m}": "x" * 40 for m in range(8)} for n in range(30)}
    lines = a.value_text(state).splitlines()
    assert len(lines) == 30
    assert lines[29].startswith("k29  {c0: ")


def test_a_long_string_ends_with_its_length():
    assert a.value_text({"note": "long " * 1000}).endswith('…"  5,000 characters')


def test_keys_that_could_be_mistaken_are_quoted():
    assert a.value_text({"a b": 1, "": 2, "a:b": 3, "über-1": 4}) == '{"a b": 1, "": 2, "a:b": 3, über-1: 4}'


def test_wide_characters_keep_the_columns_aligned():
    lines = a.value_text({"注文": "x" * 60, "n": "y"}).splitlines()
    assert lines == ['注文  "' + "x" * 60 + '"', 'n     "y"']


def test_a_state_that_cannot_be_read_shows_the_error_in_place_of_the_tree():
    assert repr(a.node("legacy", BROKEN, 7)) == f"Node legacy · revision 7\n  {BROKEN}"


def test_a_view_of_a_deleted_node_shows_the_error():
    class Gone(a.View):
        @property
        def revision(self):
            raise UnknownNodeError("there is no node x")

        @revision.setter
        def revision(self, value):
            pass

    assert repr(Gone("x", UnknownNodeError("there is no node x"))) == "View of x\n  there is no node x"


def test_a_commit_is_one_signed_line_a_change():
    before = {"orders": {"o1": {"status": "open"}}, "rate": 1}
    after = {"orders": {"o1": {"status": "shipped"}, "o2": {"total": 3}}}
    assert repr(a.commit(before, after, by="shipping")) == (
        "Commit of orders · revision 2 · by shipping\n"
        '  ~ orders.o1.status  "open" → "shipped"\n'
        "  + orders.o2         {total: 3}\n"
        "  - rate              1"
    )


def test_a_commit_of_an_equal_state_reads_no_change():
    assert repr(a.commit({"n": 1}, {"n": 1})) == "Commit of orders · revision 2\n  no change"


def test_a_deletion_is_marked_in_the_heading():
    assert repr(a.commit({"n": 1}, {}, deleted=True)).startswith("Commit of orders · revision 2 · deleted\n")


def test_two_long_strings_are_shown_from_where_they_differ():
    old = "The warehouse moves on Monday; " * 40
    new = old[:600] + "!" + old[600:]
    line = repr(a.commit({"note": old}, {"note": new})).splitlines()[1]
    assert len(line) < 100
    before, after = line.split(" → ")
    assert "!" in after
    assert "!" not in before


def test_a_replaced_root_is_a_change_too():
    class Replaced(a.Commit):
        @property
        def diff(self):
            return [Change("change", (), 1, {"n": 1})]

    made = Replaced("orders", 2, a.frozen({}), a.frozen({"n": 1}))
    assert repr(made).splitlines()[1] == "  ~ ()  1 → {n: 1}"


def test_a_history_is_a_table_of_its_newest_commits():
    made = a.history([{"n": 0}, {"n": 1, "m": 1}, {"n": 1, "m": 2}])
    made[1].by = "stock"
    assert repr(made) == (
        "History of orders · 3 commits\n"
        "  revision  by     changes\n"
        "         1         + n  0\n"
        "         2  stock  ~ n, + m\n"
        "         3         ~ m  1 → 2"
    )


def test_a_long_history_counts_its_older_commits():
    made = a.history([{"n": n} for n in range(1000)])
    made.truncated = True
    lines = repr(made).splitlines()
    assert lines[0] == "History of orders · 1,000 commits · older ones are gone"
    assert lines[2] == "  … 980 older"
    assert lines[-1] == "     1,000  ~ n  998 → 999"


def test_a_journal_shows_commits_and_events_in_one_table():
    made = a.Journal([*a.history([{"n": 0}]), a.Event(payload={"id": "o1"}, target="stock")])
    assert repr(made).splitlines() == [
        "Journal of default · 1 commit · 1 event",
        "  node    target  commit or event  changes or payload",
        "  orders          revision 1       + n  0",
        '  orders  stock   order.created    {id: "o1"}',
    ]


def test_an_empty_journal_reads_empty():
    assert repr(a.Journal()) == "Journal of default · empty"


def test_views_are_a_line_each_and_a_broken_one_hides_no_other():
    made = a.Views({"a": a.view("a", BROKEN, 7), "b": a.view("b", {"n": 1}, 2)}, space=a.Space())
    assert repr(made) == (
        "Views of default · 2 nodes\n"
        "  node  revision  state\n"
        '  a            7  node "legacy" holds no readable state at revision 7\n'
        "  b            2  {n: 1}"
    )


def test_a_node_that_is_deleted_while_its_space_is_shown_is_an_error_in_its_line():
    class Racing(a.Views):
        def __getitem__(self, name):
            raise UnknownNodeError(f'there is no node "{name}"')

    made = Racing({"a": None}, space=a.Space())
    assert repr(made).splitlines()[-1] == '  a     there is no node "a"'


def test_nodes_of_this_process_are_a_line_each():
    made = a.Nodes(
        {"orders": a.node("orders", {"n": 1}, 3), "new": a.node("new", {}, 0)}, space=a.Space("shop")
    )
    assert repr(made) == (
        "Nodes of shop · 2 nodes\n"
        "  node    revision  state\n"
        "  orders         3  {n: 1}\n"
        "  new            0  {}"
    )
    empty = repr(a.Nodes(space=a.Space("shop")))
    assert empty == 'Nodes of shop · 0 nodes\n  no nodes yet: create_node("orders") creates one'


def test_nodes_that_only_other_processes_have_are_named():
    nodes = a.Nodes(space=a.Space("shop", views={"room": a.view("room", {})}))
    assert repr(nodes) == (
        'Nodes of shop · 0 nodes\n  no nodes here yet; create_node("room") returns the stored one'
    )
    nodes.space.views = {f"n{number}": a.view(f"n{number}", {}) for number in range(7)}
    assert repr(nodes).splitlines()[1] == (
        "  no nodes here yet; create_node(name) returns a stored one: n0, n1, n2, n3, n4, … 2 more"
    )


def test_a_space_marks_its_own_nodes_only_if_there_are_others():
    own = a.node("orders", {"n": 1}, 2)
    space = a.Space(nodes={"orders": own}, views={"orders": None}, server=a.Server())
    assert repr(space) == (
        "Space default · 1 node · server running, stored in a folder\n"
        "  node    revision  state\n"
        "  orders         2  {n: 1}"
    )
    space.views = {"orders": None, "far": a.view("far", {}, 1)}
    assert repr(space).splitlines()[1:] == [
        "  node    here  revision  state",
        "  orders  ●            2  {n: 1}",
        "  far                  1  {}",
    ]


def test_a_space_without_nodes_shows_how_to_make_one():
    assert repr(a.Space()) == (
        'Space default · 0 nodes · a server elsewhere\n  no nodes yet: create_node("orders") creates one'
    )


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (a.Server(), "Server · running · stored in a folder"),
        (a.Server(running=False, store=None), "Server · stopped · in memory"),
        (a.Server(store=":memory:"), "Server · running · in memory"),
    ],
)
def test_a_server_shows_if_it_runs_and_stores_anything(server, expected):
    assert repr(server) == expected


def test_a_failure_shows_where_without_a_path_of_this_machine():
    made = a.Failure("orders", "start.<locals>.on_order", ValueError("no stock"), a.TRACEBACK, 3)
    assert repr(made).splitlines() == [
        "Failure in orders · on_order · 3 attempts",
        "  ValueError: no stock",
        "  Traceback (most recent call last):",
        '    File "mailbox.py", line 88, in _handle',
        "      value = handler(event, context)",
        "    In a cell, line 7, in on_order",
        "      reserve(event.payload)",
        '    File "stock.py", line 12, in reserve',
        '      raise ValueError("no stock")',
    ]


def test_an_exception_that_cannot_be_printed_is_still_shown():
    class SilentError(Exception):
        def __str__(self):
            raise RuntimeError

    made = a.Failure("orders", "f", SilentError(), "")
    assert "SilentError: (its message cannot be shown: RuntimeError)" in repr(made)


def test_failures_are_counted_and_the_newest_are_listed():
    made = a.Failures(a.Failure("orders", "f", ValueError(n), a.TRACEBACK) for n in range(12))
    lines = repr(made).splitlines()
    assert lines[0] == "12 failures"
    assert lines[2] == "  … 2 older"
    assert lines[-1] == "  orders  f               1  ValueError: 11"
    assert repr(a.Failures()) == "No failures"


def test_a_watch_shows_its_node_and_if_it_is_active():
    orders = a.node("orders", {})
    assert repr(a.Watch(orders, "on_change")) == "Watch of orders · on_change · active"
    assert repr(a.Watch(orders, "Board.update", active=False)).endswith("Board.update · stopped")


def test_spaces_are_listed_with_their_size():
    made = a.Spaces([a.SpaceInfo("default", 5, 1_400_000), a.SpaceInfo("empty", 0, 0, None)])
    assert repr(made) == (
        "2 spaces\n  space    nodes    size\n  default      5  1.4 MB\n  empty        0     0 B"
    )


def test_no_time_is_in_any_text():
    made = a.commit({"n": 1}, {"n": 2}, time=datetime(2031, 7, 8, tzinfo=UTC))
    assert "2031" not in repr(made)


def test_control_characters_do_not_reach_the_terminal():
    shown = a.value_text({"a\x1b[2J": "x\u202ey\r\n", "n": "\ud800"})
    assert shown == r'{"a\x1b[2J": "x\u202ey\r\n", n: "\ud800"}'


EMOJI = [
    "👩\u200d💻",
    "🏳️\u200d🌈",
    "🧑🏽\u200d🚀",
    "👩\u200d❤️\u200d👨",
    "🏴\U000e0067\U000e0062\U000e0077\U000e006c\U000e0073\U000e007f",
]


@pytest.mark.parametrize("emoji", EMOJI)
def test_an_emoji_that_is_joined_from_several_is_shown(emoji):
    assert a.value_text({"by": f"{emoji}!"}) == f'{{by: "{emoji}!"}}'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay\u200dpal", r"pay\u200dpal"),
        ("👩\u200d", r"👩\u200d"),
        ("\u200d💻", r"\u200d💻"),
        ("👩\u202e\u200d💻", r"👩\u202e\u200d💻"),
        ("🏴\U000e0067\U000e0062", r"🏴\U000e0067\U000e0062"),
    ],
)
def test_elsewhere_the_joiners_of_emoji_are_visible(text, shown):
    assert a.value_text([text]) == f'["{shown}"]'


def test_durations_are_short():
    made = [human_duration(each) for each in (0, 0.000_001_5, 0.000_999_999, 0.0125, 59, 90, 3600)]
    assert made == ["0 µs", "1.5 µs", "1 ms", "12.5 ms", "59 s", "1.5 min", "1 h"]
