"""One conversion for each kind of argument."""

import datetime as dt
import decimal
import fractions
import math

import numpy as np
import pandas as pd
import pytest

from happen_nb._model.arguments import (
    FIRST,
    LAST,
    UNLIMITED,
    check_label,
    count,
    is_index,
    moment,
    nanoseconds,
    seconds,
    timeout,
    to_utc,
)
from happen_nb._model.functions import function_name


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_values_that_count_as_three(value):
    assert type(count(value, "x")) is int
    assert count(value, "x") == 3


@pytest.mark.parametrize("value", [True, np.bool_(1), 3.0, np.float64(3), "3", None, [3], pd.NA, 3j])
def test_values_that_are_not_whole_numbers(value):
    assert not is_index(value)
    with pytest.raises(TypeError, match="call: n is"):
        count(value, "call: n")


DURATIONS = {
    1: 1,
    1.5: 1.5,
    np.float32(1.5): 1.5,
    np.int16(2): 2,
    dt.timedelta(minutes=1): 60,
    pd.Timedelta("1h"): 3600,
    np.timedelta64(1500, "ms"): 1.5,
    np.timedelta64(10, "D"): 864_000,
    decimal.Decimal("1.5"): 1.5,
    fractions.Fraction(1, 4): 0.25,
    math.inf: UNLIMITED,
    10**400: UNLIMITED,
    dt.timedelta.max: UNLIMITED,
}


@pytest.mark.parametrize(("value", "wanted"), DURATIONS.items(), ids=map(repr, DURATIONS))
def test_durations_are_seconds(value, wanted):
    assert seconds(value, "x") == timeout(value, "x") == wanted
    assert type(seconds(value, "x")) is float


@pytest.mark.parametrize("value", [-1, math.nan, -(10**400), pd.NaT, np.timedelta64("NaT"), dt.timedelta(-1)])
def test_durations_out_of_range(value):
    with pytest.raises(ValueError, match="call: t is"):
        timeout(value, "call: t")


@pytest.mark.parametrize("value", [True, np.bool_(1), "1", b"1", [1], 1j, pd.NA, object(), np.array([1])])
def test_values_that_are_not_durations(value):
    with pytest.raises(TypeError, match="call: t is"):
        timeout(value, "call: t")


NOON = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - without a zone


@pytest.mark.parametrize(
    "value", [NOON, pd.Timestamp(NOON), np.datetime64(NOON), np.datetime64("2024-05-01T12", "h")]
)
def test_moments_are_datetimes(value):
    assert moment(value, "x") == NOON
    assert type(moment(value, "x")) is dt.datetime


def test_a_moment_keeps_its_zone_and_loses_its_nanoseconds():
    assert moment(pd.Timestamp("2024-05-01T12:00:00.000000001+02:00"), "x") == NOON.replace(
        tzinfo=dt.timezone(dt.timedelta(hours=2))
    )


@pytest.mark.parametrize("hours", [None, 0, 14, -12])
@pytest.mark.parametrize("end", [FIRST, LAST])
def test_the_ends_of_the_calendar_stay_in_it(end, hours):
    zone = None if hours is None else dt.timezone(dt.timedelta(hours=hours))
    utc = to_utc(end.replace(tzinfo=zone))
    assert abs(utc - end) <= dt.timedelta(hours=24)
    assert nanoseconds(utc) == nanoseconds(end.replace(tzinfo=zone))


def test_a_label_with_half_of_a_character_is_refused():
    with pytest.raises(ValueError, match=r"state.on: name is '.ud800', which contains half of a character"):
        check_label("\ud800", "state.on: name", most=100)


def test_the_name_of_a_function_has_a_utf8_form_whatever_its_attributes_are():
    class Odd:
        def __getattr__(self, name):
            raise ValueError(name)

        def __call__(self):
            pass

    def function():
        pass

    function.__qualname__ = "half \ud800"
    assert function_name(function).encode() == b"half \\ud800"
    assert function_name(Odd()).endswith("Odd")
