"""Random kills of kernels, supervisors and servers: never two servers, never a failed join, nothing left."""

from __future__ import annotations

import random
import time

import pytest
from processes import eventually, is_at_rest, kill, servers_of, supervisors_of


class Chaos:
    """A store with kernels that come and go, and processes that are killed."""

    def __init__(self, start, folder, seed):
        self.random = random.Random(seed)
        self.start = start
        self.folder = folder
        self.living = []
        self.coming = []
        self.joins = self.kills = 0

    def round(self):
        """Some kernels come, some things are killed, and the kernels that live get a server."""
        self.coming = [self.start(wait=False) for _ in range(self.random.randint(1, 3))]
        for _ in range(self.random.randint(1, 6)):
            time.sleep(self.random.uniform(0, 0.15))
            self.kill_something()
        for kernel in self.coming:
            joined = kernel.hear()
            assert "url" in joined, joined
            self.joins += 1
        self.living += self.coming
        self.coming = []
        assert eventually(self.all_have_the_server)
        while self.living and self.random.random() < 0.6:
            self.end(self.living.pop(self.random.randrange(len(self.living))))

    def kill_something(self):
        self.check_for_a_second_server()
        victims = self.random.choice([servers_of, supervisors_of, self.kernels])(self.folder)
        if victims:
            victim = self.random.choice(victims)
            kill(victim.pid)
            self.kills += 1
            self.living = [kernel for kernel in self.living if kernel is not victim]
            self.coming = [kernel for kernel in self.coming if kernel is not victim]

    def kernels(self, _folder):
        return self.living + self.coming

    def check_for_a_second_server(self):
        """Check twice: one that has just ended may still be listed beside the next."""
        assert eventually(lambda: len(servers_of(self.folder)) <= 1, 0.2), servers_of(self.folder)

    def all_have_the_server(self):
        self.check_for_a_second_server()
        return all(kernel.ask("running") for kernel in self.living)

    def end(self, kernel):
        kernel.leave() if self.random.random() < 0.5 else kernel.kill()

    def end_all(self):
        """Let all leave or be killed, and sometimes the server or supervisor, too."""
        while self.living:
            self.end(self.living.pop())
        for process in self.random.choice([[], servers_of(self.folder), supervisors_of(self.folder)]):
            kill(process.pid)


def run(start, folder, *, rounds, seed):
    chaos = Chaos(start, folder, seed)
    for number in range(rounds):
        chaos.round()
        if number % 5 == 4:
            chaos.end_all()
            assert eventually(lambda: is_at_rest(folder), 5)
    chaos.end_all()
    assert eventually(lambda: is_at_rest(folder), 5)
    return chaos


def test_random_kills_never_lead_to_two_servers_or_a_failed_join(start, folder):
    chaos = run(start, folder, rounds=5, seed=1)
    assert chaos.joins > 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_rounds_of_random_kills_never_lead_to_two_servers_or_a_failed_join(start, folder):
    chaos = run(start, folder, rounds=100, seed=time.time_ns())
    assert chaos.joins >= 50
    assert chaos.kills > 100
