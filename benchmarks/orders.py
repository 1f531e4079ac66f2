"""The orders a second of ``check(trying=)``, beside runs of the same handlers that nobody conducts.

Run it with ``python benchmarks/orders.py``; it takes half a minute.
"""

import statistics
import time

from side_by_side import median

import happen_nb as happen
from happen_nb._api.trials import Trials
from happen_nb._model.orders import AllOrders
from happen_nb.learn import check

ROUNDS, RUNS = 25, 20


def take(space, names):
    """Make shops that look for the last lamp, and then take it."""
    stock = space.create_node("stock", initial={"lamp": 1})
    for name in names:

        @space.create_node(name).on("buy")
        def buy(event):  # noqa: ARG001 - it is called with one
            if stock.state.get("lamp") > 0:
                stock.state.set(happen.put("lamp", lambda lamp: lamp - 1))

    return stock


def rush(space):
    space.broadcast("buy")


def conducted(trials):
    search, left = AllOrders(), RUNS
    while left:
        if not search.begin():
            search = AllOrders()
            search.begin()
        trials.run(search)
        left -= 1


def free(space, stock):
    for _ in range(RUNS):
        space.clear(force=True)
        stock.state.set({"lamp": 1})
        rush(space)
        space.settle()


for shops in (["web", "phone"], ["web", "phone", "desk"]):
    with happen.connect(store=":memory:", name="orders") as space:
        stock = take(space, shops)
        trials = Trials(space, "stock", rush)
        pairs = [
            (median(lambda: conducted(trials), 1), median(lambda: free(space, stock), 1))  # noqa: B023 - now
            for _ in range(ROUNDS)
        ]
        trials.drop()
        stock.state.set({"lamp": 1})
        begun = time.perf_counter()
        verdict = check("never negative", stock, lambda state: state["lamp"] >= 0, trying=rush)
        whole = time.perf_counter() - begun
    ratios = [ours / others for ours, others in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{len(shops)} shops: {RUNS / statistics.median(ours for ours, _ in pairs):,.0f} orders a second, "
        f"{RUNS / statistics.median(others for _, others in pairs):,.0f} free runs; "
        f"time ratio {middle:.2f} ({low:.2f} to {high:.2f}, {ROUNDS} turns); "
        f"a check of all {verdict.orders} with its fork {1000 * whole:,.0f} ms"
    )
