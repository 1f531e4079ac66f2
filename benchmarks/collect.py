"""`views.collect` inside a `state.set`, beside the same `set` without it: what one consistent cut costs.

Run it with ``python benchmarks/collect.py``. All states are of 1 kB, in a space of 102 nodes; each commit
makes the next cut a new one.
"""

from side_by_side import alternate, report

import happen_nb as happen

BODY = {"stock": 7, "pad": "x" * 900, "nested": {"list": [1, 2, 3]}}
COUNT = 60


def count_up(state):
    return {**state, "stock": state["stock"] + 1}


def collecting(nodes):
    """A transform that reads `nodes` from one cut."""
    selectors = {node.name: lambda state: state["stock"] for node in nodes}

    def transform(state, views):
        return {**state, "stock": state["stock"] + 1, "seen": sum(views.collect(selectors).values())}

    return transform


def main():
    with happen.connect(store=":memory:", name="benchmark") as space:
        nodes = [space.create_node(f"node-{number}", initial=BODY) for number in range(100)]
        reader = space.create_node("reader", initial=BODY).state
        writer = space.create_node("writer", initial=BODY).state
        for count, bar in ((3, 1.15), (100, 1.5)):
            transform = collecting(nodes[:count])

            def ours(transform=transform):
                reader.set(transform)

            pairs = alternate(ours, lambda: writer.set(count_up), count=COUNT)
            report(f"set, collecting {count}", pairs, peer="plain set", bar=bar)


if __name__ == "__main__":
    main()
