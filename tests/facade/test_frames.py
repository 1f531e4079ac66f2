"""Frames keep stored values: none is converted to another one."""

import copy
import logging
import pickle

import numpy as np
import pandas as pd
import pytest

COLUMNS = {
    "beyond 2**53, and a float": [2**53 + 1, 0.5],
    "one, and a half": [1, 0.5],
    "beyond 2**53, and nothing": [2**53 + 1, None],
    "beyond 2**63, and below zero": [2**64 - 1, -1],
    "truth": [True, 1],
    "text": ["a", None],
    "numbers": [1, 2],
    "floats": [0.5, 1.0],
}


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_values_are_the_same_in_every_frame(space, values):
    node = space.create_node("n")
    for value in values:
        space.broadcast("m", {"id": value})
        node.state.set({"id": value})
    columns = [
        space.events("m").to_frame()["payload.id"],
        node.state.history().to_frame("id")["id"],
        node.state.history().to_frame(id=lambda s: s["id"])["id"],
    ]
    for column in columns:
        assert [(x, type(x)) for x in column.tolist()] == [(x, type(x)) for x in values]


def test_columns_of_one_kind_keep_the_types_of_pandas(space):
    node = space.create_node("n")
    for n in (1, 2):
        node.state.set({"n": n, "x": n / 2})
    assert node.state.history().to_frame("n", "x").dtypes[["n", "x"]].tolist() == [np.int64, np.float64]


def test_a_replayed_frame_stores_the_same_numbers(space):
    for value in (2**53 + 1, 0.5):
        space.broadcast("m", {"id": value})
    frame = space.events("m").to_frame()[["payload.id"]]
    space.replay(frame, type="again").wait(10)
    assert [event.payload["payload.id"] for event in space.events("again")] == [2**53 + 1, 0.5]


NAN = float("nan")
ARRAYS = {
    "array": (np.array([1.0, NAN]), [1.0, "gone"]),
    "two dimensions": (np.array([[1.0, NAN], [2.0, 3.0]]), [[1.0, "gone"], [2.0, 3.0]]),
    "no dimension": (np.array(NAN), "gone"),
    "objects": (np.array([1, NAN, [NAN]], dtype=object), [1, "gone", ["gone"]]),
    "moments": (np.array(["2024-01-01", "NaT"], dtype="M8[D]"), ["2024-01-01", "gone"]),
    "masked": (np.ma.array([1.0, 2.0], mask=[0, 1]), [1.0, "gone"]),
    "extension": (pd.array([1, None], dtype="Int64"), [1, "gone"]),
    "categories": (pd.Categorical(["a", None]), ["a", "gone"]),
    "nested": ({"a": [(NAN, {"b": np.array([NAN])})]}, {"a": [["gone", {"b": ["gone"]}]]}),
    "whole": (np.arange(2), [0, 1]),
}


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize(("value", "wanted"), ARRAYS.values(), ids=ARRAYS)
def test_a_replay_puts_nan_in_its_place_in_every_container(space, value, wanted, frame):
    rows = pd.DataFrame({"v": [value]}) if frame else [{"v": value}]
    space.replay(rows, type="scan", nan="gone").wait(10)
    assert space.events()[-1].payload == {"v": wanted}


def test_frames_of_other_libraries_have_a_hint(space):
    polars = type(
        "DataFrame", (), {"__module__": "polars.dataframe.frame", "__iter__": lambda self: iter(())}
    )()
    with pytest.raises(TypeError, match=r"polars.*rows\.iter_rows\(named=True\)"):
        space.replay(polars, type="x")


def test_a_path_with_a_typo_is_logged_with_the_nearest(space, caplog):
    node = space.create_node("room", initial={"temp": 20.5, "note": None})
    with caplog.at_level(logging.WARNING, "happen_nb"):
        node.state.history().to_frame("temp", "note", lambda s: s["tmp"])
        assert not caplog.records
        node.state.history().to_frame("tmp")
        node.state.history().plot("temp", x="tmp")
    said = 'history of node "room": nothing at tmp; there is temp'
    assert [record.message for record in caplog.records] == [said, said]


def test_objects_of_a_connection_name_what_to_pickle_instead(space):
    node = space.create_node("n", initial={"a": 1})
    event = space.broadcast("x", {"a": [1]})
    node.on("held", print)
    space.pause("held")
    space.broadcast("held")
    steps = space.step()
    attached = [
        space,
        node,
        node.state,
        event,
        node.state.history(),
        space.events(),
        space.journal(),
        space.views,
        space.views.n,
        space.record(),
        steps,
        steps[0],
    ]
    for each in attached:
        with pytest.raises(
            TypeError, match=rf"{type(each).__name__} belongs to a connection.*; (pickle|call) "
        ):
            pickle.dumps(each)
        assert copy.copy(each) is copy.deepcopy(each) is each
    commit = node.state.history()[0]
    assert pickle.loads(pickle.dumps(list(node.state.history())))[0].after == commit.after
    assert str(pickle.loads(pickle.dumps(steps[0].trace))) == str(steps[0].trace)
    assert pickle.loads(pickle.dumps(event.payload)) == {"a": [1]}
    assert len(node.state.history()[:1]) == 1
