"""The IPython extension in a real kernel and in a terminal: what the tab key brings, and ``%happen``."""

from __future__ import annotations

import os
import sys
import time

import pexpect
import pytest

from tests.accidents.kernels import Kernel

WITHIN = 60
SPACE = """
happen.connect(name=space.name)
orders.state.set({"orders": {"o1": {"status": "open", "total": 3}}, "it's": 1, 'say "hi"': 2})
stock = space.create_node("stock", initial={"pens": 3})
service = space.create_node("customer-service", initial={"customers": {}})
stock.on("order.{paid,sent}", lambda event: None)
orders.broadcast("order.lost")
from ipywidgets import IntSlider
slider = IntSlider()
"""


class Keys:
    """Presses the tab key where a cell has a `¦`."""

    def __init__(self, kernel):
        self.kernel = kernel

    def tab(self, cell):
        """The cells that it could become."""
        before, _, after = cell.partition("¦")
        reply = self.kernel._client.complete(before + after, len(before), reply=True, timeout=WITHIN)
        found = reply["content"]
        assert found["status"] == "ok"
        code, start, end = before + after, found["cursor_start"], found["cursor_end"]
        return [f"{code[:start]}{match}{code[end:]}" for match in found["matches"]]

    def until(self, cell, become):
        """Press it until a cell could become that."""
        deadline = time.monotonic() + WITHIN
        while become not in (found := self.tab(cell)):
            assert time.monotonic() < deadline, found


@pytest.fixture
def loaded(kernel):
    """A kernel with the extension and three nodes."""
    kernel.do(f"%load_ext happen_nb\n{SPACE}")
    yield kernel
    kernel.do("%unload_ext happen_nb\n%config IPCompleter.use_jedi = True")


@pytest.fixture(params=[True, False], ids=["jedi", "no jedi"])
def keys(loaded, request):
    loaded.do(f"%config IPCompleter.use_jedi = {request.param}")
    return Keys(loaded)


# -- what a key brings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "becomes"),
    [
        ("space.views.cu¦", ["space.views.customer_service"]),
        ("lambda state, views: views.cu¦", ["lambda state, views: views.customer_service"]),
        ("lambda state, views: views['cu¦", ["lambda state, views: views['customer-service"]),
        ('space.views["cu¦"]', ['space.views["customer-service"]']),
        ('space.send("sto¦', ['space.send("stock']),
        ('space.send("st¦ock")', ['space.send("stockock")']),
        ('print("🙂"); space.send("sto¦")', ['print("🙂"); space.send("stock")']),
        (
            'x = 1\norders.send("stock", "order.¦", 3)\ny = 2',
            [f'x = 1\norders.send("stock", "order.{each}", 3)\ny = 2' for each in ("paid", "sent", "lost")],
        ),
        ('orders.on("order.l¦', ['orders.on("order.lost']),
        ('orders.broadcast("order.l¦', ['orders.broadcast("order.lost']),
        (
            'orders.state.get("orders.o1.¦")',
            ['orders.state.get("orders.o1.status")', 'orders.state.get("orders.o1.total")'],
        ),
        ("orders.state.get('it¦", ["orders.state.get('it\\'s"]),
        ('orders.state.get("say¦', ['orders.state.get("say \\"hi\\"']),
        ('orders.state.set(happen.put("orders.o1.s¦', ['orders.state.set(happen.put("orders.o1.status']),
        ('happen.put("pe¦', ['happen.put("pens']),
        ('views.orders.get("orders.¦")', ['views.orders.get("orders.o1")']),
        ('orders.state.live("orders.¦', ['orders.state.live("orders.o1']),
        ('happen.bind(slider, orders, "orders.o1.to¦")', ['happen.bind(slider, orders, "orders.o1.total")']),
        ("%happen cu¦", ["%happen customer-service"]),
    ],
)
def test_a_key_completes_what_is_ours(keys, cell, becomes):
    assert keys.tab(cell) == becomes


@pytest.mark.parametrize(
    ("cell", "becomes"),
    [
        ("orders.stat¦", "orders.state"),
        ("space.creat¦", "space.create_node"),
        ("import collecti¦", "import collections"),
        ("{'lemon': 1}.ke¦", "{'lemon': 1}.keys"),
        ("1\nkept['le¦", "1\nkept['lemon"),
        ("%load_e¦", "%load_ext"),
        ("open('extension_¦", "open('extension_test.txt"),
        ("\\beta¦", "β"),
    ],
)
def test_what_is_not_ours_is_completed_as_before(keys, cell, becomes):
    keys.kernel.do("kept = {'lemon': 1}\nopen('extension_test.txt', 'w').close()")
    with_it = keys.tab(cell)

    keys.kernel.do("%unload_ext happen_nb")
    without = keys.tab(cell)
    keys.kernel.do("%load_ext happen_nb")

    assert becomes in with_it
    assert with_it == without


def test_nodes_types_and_paths_of_another_process_are_completed(loaded):
    keys, other = Keys(loaded), Kernel(loaded.folder)
    try:
        other.do(
            "import happen_nb as happen\n"
            f"space = happen.connect(name={loaded.ask('space.name')!r})\n"
            "far = space.create_node('far-away', initial={'deep': {'er': 1}})\n"
            "far.on('far.called', lambda event: None)\n"
            "far.broadcast('far.heard')"
        )

        keys.until("space.views.far¦", "space.views.far_away")
        keys.until('space.send("far-away", "far.c¦', 'space.send("far-away", "far.called')
        keys.until('orders.on("far.h¦', 'orders.on("far.heard')
        keys.until('views.far_away.get("deep.¦', 'views.far_away.get("deep.er')
    finally:
        other.end()


def test_types_that_were_stored_before_one_connects_are_completed(loaded):
    keys = Keys(loaded)
    loaded.do("orders.state.set(lambda s: orders.broadcast('order.kept') and {**s, 'n': 1})")
    loaded.do("space.close()")
    assert keys.tab('node.on("order.k¦') == []

    loaded.do("space = happen.connect(name=space.name)")

    keys.until('space.wait_for("order.k¦', 'space.wait_for("order.kept')


def test_of_a_closed_space_nothing_is_completed_and_nothing_is_wrong(loaded):
    keys = Keys(loaded)
    loaded.do("space.close()")

    cells = "space.views.cu¦", 'space.send("¦")', "space.nodes['¦']", 'orders.state.get("¦")', 'happen.put("¦'
    found = [each for cell in cells for each in keys.tab(cell)]

    assert [each for each in found if "customer" in each or "it's" in each] == []
    assert loaded.do("pass").output == ""
    loaded.do("space = happen.connect(name=space.name)")


# -- %happen -----------------------------------------------------------------------------------------


def result(run):
    """Return what a cell ended with."""
    (shown,) = [m["content"]["data"] for m in run.messages if m["msg_type"] == "execute_result"]
    return shown


def test_happen_shows_the_current_space(loaded):
    assert result(loaded.do("%happen")) == result(loaded.do("space"))


def test_happen_shows_a_node_or_a_view_where_it_is_another_processs(loaded):
    assert result(loaded.do("%happen stock")) == result(loaded.do("stock"))
    assert result(loaded.do("%happen 'customer-service'")) == result(loaded.do("service"))
    loaded.do("del space._nodes['stock']")
    assert result(loaded.do("%happen stock")) == result(loaded.do("space.views.stock"))


def test_happen_names_the_nearest_of_an_unknown_node(loaded):
    run = loaded.run("%happen stok")

    assert 'UsageError: %happen: no node "stok" in the space' in run.output
    assert "did you mean stock" in run.output
    assert "Traceback" not in run.output


def test_happen_does_not_connect(own_kernel):
    own_kernel.do("%load_ext happen_nb")

    said = own_kernel.do("%happen").stdout
    assert said == "no space is connected; connect to one with happen_nb.connect()\n"
    assert own_kernel.do("%happen orders").stdout.startswith("no space is connected")
    assert Keys(own_kernel).tab("views.¦") == []
    assert own_kernel.ask("(happen._api.connect.registry.spaces, happen._api.connect.registry.current)") == (
        {},
        None,
    )
    assert not (own_kernel.folder / ".happen").exists()


# -- loading -----------------------------------------------------------------------------------------


def matchers(kernel):
    return kernel.ask("[m.matcher_identifier for m in get_ipython().Completer.custom_matchers]")


def test_loading_twice_is_loading_once_and_unloading_leaves_nothing(loaded):
    keys = Keys(loaded)
    listeners = "len(space._log.on_event) - 2"  # the dispatcher and the clock always listen
    assert "already loaded" in loaded.do("%load_ext happen_nb").stdout
    loaded.do("happen.load_ipython_extension(get_ipython())")
    assert matchers(loaded) == ["happen_nb"]
    loaded.do("%reload_ext happen_nb")
    assert (matchers(loaded), keys.tab('space.send("cu¦')) == (
        ["happen_nb"],
        ['space.send("customer-service'],
    )
    assert loaded.ask(listeners) == 1

    loaded.do("%unload_ext happen_nb")

    assert matchers(loaded) == keys.tab("lambda s, views: views.cu¦") == []
    assert loaded.ask("get_ipython().find_line_magic('happen')") is None
    loaded.do(f"while {listeners}: pass")
    loaded.do("happen.unload_ipython_extension(get_ipython())")
    loaded.do("%load_ext happen_nb")
    assert matchers(loaded) == ["happen_nb"]


@pytest.fixture
def terminal(tmp_path):
    """IPython as it starts in a terminal, in which a test types and looks for what comes."""
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "HAPPEN_STORE": str(tmp_path / ".happen")}
    environment |= {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    environment.pop("NATS_URL", None)
    command = ["-m", "IPython", "--no-banner", "--colors=NoColor", "--no-autoindent"]
    spawned = pexpect.spawn(
        sys.executable, command, cwd=tmp_path, env=environment, timeout=WITHIN, encoding="utf-8"
    )
    yield spawned
    spawned.close(force=True)


def test_it_works_in_a_terminal(terminal):
    def see(text, then):
        terminal.expect_exact(text)
        terminal.send(then)

    see("[1]:", "%load_ext happen_nb\r")
    see("[2]:", "import happen_nb as happen; space = happen.connect(name='terminal')\r")
    see("[3]:", "stock = space.create_node('stock-keeper', initial={'pens': 3})\r")
    see("[4]:", "print('it', 'has', (lambda views: views['stock-k\t")
    see("eeper", "'].get('pe")
    see("pe", "\t")
    see("ns", "'))(space.views), 'pens')\r")
    see("it has 3 pens", "")
    see("[5]:", "%happen sto\t")
    see("ck-keeper", "\r")
    see("Node stock-keeper", "")
    see("[6]:", "exit()\r")
    terminal.expect(pexpect.EOF)
