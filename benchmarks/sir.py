"""The epidemic of the cookbook, here and with mesa: ``python benchmarks/sir.py [turns]``.

It needs mesa, which is not a dependency of the project: install both in another environment. All sides use
the same contacts and probabilities. One side of mesa seeds a generator for each person and day, as the
cookbook does, and must give the same epidemic; the other one uses the generator of the model, as is usual.
"""

from __future__ import annotations

import random
import re
import statistics
import sys
import time
from pathlib import Path

import mesa

import happen_nb as happen

TURNS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
PAGE = Path(__file__).parent.parent / "docs" / "cookbook" / "sir.md"
*CODE, _PLOT = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
ADVANCE = "space.advance(days=DAYS)\n"


class Person(mesa.Agent):
    """A person as in the cookbook."""

    def __init__(self, model, name, health):
        super().__init__(model)
        self.name, self.health, self.next = name, health, health

    def step(self):
        page, luck = self.model.page, self.model.luck_of(self)
        if self.health == "I":
            self.next = "R" if luck.random() < page["RECOVERY"] else "I"
            return
        ill = sum(self.model.people[other].health == "I" for other in page["knows"][self.name])
        if self.health == "S" and luck.random() < 1 - (1 - page["INFECTION"]) ** ill:
            self.next = "I"

    def advance(self):
        self.health = self.next


class Epidemic(mesa.Model):
    """People who meet every day."""

    def __init__(self, page, *, same):
        super().__init__(rng=page["SEED"])
        self.page, self.same, self.day, self.rows = page, same, 0, []
        ill = page["first"]
        self.people = {name: Person(self, name, "I" if name in ill else "S") for name in page["names"]}

    def luck_of(self, person):
        return random.Random(f"{self.page['SEED']} {person.name} {self.day}") if self.same else self.random

    def step(self):
        self.day += 1
        self.agents.do("step")
        self.agents.do("advance")
        health = [person.health for person in self.people.values()]
        self.rows.append({each: health.count(each) for each in "SIR"})


def ours(page):
    """Run the cells of the page; return the seconds of its days, and the last count."""
    for cell in CODE:
        exec(cell.removesuffix(ADVANCE), page)
    begun = time.perf_counter()
    page["space"].advance(days=page["DAYS"])
    seconds = time.perf_counter() - begun
    return seconds, dict(page["census"].state.get())


def theirs(page, *, same):
    model = Epidemic(page, same=same)
    begun = time.perf_counter()
    for _ in range(page["DAYS"]):
        model.step()
    return time.perf_counter() - begun, model.rows[-1]


def main():
    print(f"mesa {mesa.__version__}, happen_nb {happen.__version__}")
    ours_, same_, usual_ = [], [], []
    for _ in range(TURNS):
        page = {}
        seconds, count = ours(page)
        ours_.append(seconds)
        seconds, other = theirs(page, same=True)
        same_.append(seconds)
        assert count == other, (count, other)
        usual_.append(theirs(page, same=False)[0])
        page["space"].drop()
    print(f"{page['PEOPLE']} people, {page['DAYS']} days; at the end {count}")
    for name, seconds in (("happen_nb", ours_), ("mesa, same", same_), ("mesa, usual", usual_)):
        ratio = statistics.median(mine / each for mine, each in zip(ours_, seconds, strict=True))
        print(f"{name}: {1000 * statistics.median(seconds) / page['DAYS']:.2f} ms a day, ratio {ratio:.0f}")


if __name__ == "__main__":
    main()
