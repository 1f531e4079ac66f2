"""Any sequence of calls has the same results as a plain model of a space."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import happen_nb as happen

NAMES = st.sampled_from(["a", "b", "a-b", "a_b"])
KEYS = st.sampled_from(["x", "y", "0", "z.z"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False, width=16),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
STATES = st.dictionaries(KEYS, VALUES, max_size=3)

_count = itertools.count()


def same(a, b):
    """Equality of JSON, by the text that both have; the order of keys does not count."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b)


class Model:
    """A node as the contract describes it: every state that it ever had, and whether it is there."""

    def __init__(self):
        self.states = [{}]
        self.there = False

    @property
    def now(self):
        return self.states[-1]

    def set(self, state):
        """Return True if it is a change; an empty state of a node without one is none."""
        changed = bool(state) if not self.there else not same(self.now, state)
        if changed:
            self.states.append(state)
            self.there = True
        return changed


class AnySequence(RuleBasedStateMachine):
    """Calls on the facade and on the model, side by side."""

    store = None

    @initialize()
    def begin(self):
        self.space = happen.connect(store=self.store, name=f"any_{next(_count)}")
        self.models = {}

    def teardown(self):
        self.space.drop()

    def of(self, name):
        return self.space.create_node(name), self.models.setdefault(name, Model())

    def check(self, commit, model, before, *, changed):
        assert commit.changed is changed
        assert commit.revision == len(model.states) - 1
        assert same(commit.before, before)
        assert same(commit.after, model.now)
        assert bool(commit.diff) is (not same(before, model.now))

    @rule(name=NAMES, state=STATES)
    def replace(self, name, state):
        node, model = self.of(name)
        before = model.now
        changed = model.set(state)
        self.check(node.state.set(state), model, before, changed=changed)

    @rule(name=NAMES, key=KEYS, value=VALUES, draft=st.booleans())
    def edit(self, name, key, value, draft):
        node, model = self.of(name)
        before = model.now
        changed = model.set({**before, key: value})
        edit = happen.draft(lambda d: d.update({key: value})) if draft else happen.put((key,), value)
        self.check(node.state.set(edit), model, before, changed=changed)

    @rule(name=NAMES, key=KEYS)
    def remove(self, name, key):
        node, model = self.of(name)
        before = model.now
        changed = model.set({k: v for k, v in before.items() if k != key})

        def take_out(draft):
            draft.pop(key, None)

        self.check(node.state.set(happen.draft(take_out)), model, before, changed=changed)

    @rule(name=NAMES)
    def fail(self, name):
        node, _ = self.of(name)
        with pytest.raises(ZeroDivisionError):
            node.state.set(lambda s: {**s, "x": 1 / 0})

    @rule(name=NAMES, other=NAMES, key=KEYS)
    def copy_from_a_view(self, name, other, key):
        self.of(other)
        node, model = self.of(name)
        before = model.now
        value = self.models[other].now.get(key)
        changed = model.set({**before, "x": value})
        commit = node.state.set(lambda s, views: {**s, "x": views[other].get((key,))}, serializable=True)
        self.check(commit, model, before, changed=changed)

    @rule(name=NAMES, data=st.data())
    def revert(self, name, data):
        node, model = self.of(name)
        revision = data.draw(st.integers(0, len(model.states) - 1))
        before = model.now
        changed = model.set(model.states[revision])
        self.check(node.state.revert(revision), model, before, changed=changed)

    @rule(name=NAMES)
    def delete(self, name):
        node, model = self.of(name)
        node.delete()
        if model.there:
            model.states.append({})
            model.there = False
        if not node.state.revision:
            del self.models[name]

    @rule(name=NAMES, data=st.data())
    def look_back(self, name, data):
        node, model = self.of(name)
        revision = data.draw(st.integers(0, len(model.states) - 1))
        assert same(node.state.at(revision), model.states[revision])
        history = node.state.history()
        assert not history.truncated
        assert same([c.after for c in history], model.states[1:])
        for commit in history:
            assert same(node.state.at(commit.time), commit.after)
            assert same(node.state.at(commit), commit.before)

    @invariant()
    def reads_are_right(self):
        for name, model in getattr(self, "models", {}).items():
            state = self.space._nodes[name].state
            assert same(state.get(), model.now)
            assert state.revision == len(model.states) - 1
            if model.there:
                assert same(self.space.views[name].get(), model.now)


@pytest.mark.usefixtures("_server")
@pytest.mark.parametrize(
    "examples", [15, pytest.param(150, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_any_sequence_of_calls_does_what_the_model_does(store, examples):
    AnySequence.store = store
    run_state_machine_as_test(
        AnySequence,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
