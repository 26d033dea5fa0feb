"""Delays in receive coordinates: multiples of the feed's age, within bounds, never negative."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import NS_PER_MS
from bot.sim.latency import Latency, LatencyParams

DEFAULT = Latency(LatencyParams())
AGES = st.integers(-(10**12), 10**13)


def ms(ns: int) -> float:
    return ns / NS_PER_MS


@pytest.mark.parametrize(
    ("age_ms", "acts_ms", "reported_ms"),
    [
        (0.0, 1 + 5, 2),  # the floor stands for the feed; its fourfold is below the least entry
        (0.25, 1.25 + 5, 2.5),  # exactly at the least entry
        (1.0, 2 + 8, 4),
        (10.0, 11 + 44, 22),
        (749.0, 750 + 3_000, 1_500),  # exactly at the greatest entry
        (999.0, 1_000 + 3_000, 2_000),  # entry is capped, feed and response not yet
        (1_999.0, 2_000 + 3_000, 4_000),  # exactly at the greatest feed
        (60_000.0, 2_000 + 3_000, 4_000),  # such a feed is broken, not far away
    ],
)
def test_delays(age_ms: float, acts_ms: float, reported_ms: float) -> None:
    age = round(age_ms * NS_PER_MS)
    assert ms(DEFAULT.acts_after(age)) == acts_ms
    assert ms(DEFAULT.reported_after(age)) == reported_ms


def test_stress_multiplies_entry_and_response() -> None:
    stressed = Latency(LatencyParams(entry_x=40.0, response_x=30.0))
    assert ms(stressed.acts_after(NS_PER_MS)) == 2 + 80
    assert ms(stressed.reported_after(NS_PER_MS)) == 60 - 2


@given(AGES)
def test_entry_stays_within_its_bounds(age: int) -> None:
    feed = min(max(age, 0) + NS_PER_MS, 2_000 * NS_PER_MS)
    assert 5 * NS_PER_MS <= DEFAULT.acts_after(age) - feed <= 3_000 * NS_PER_MS


@given(st.integers(-(10**12), 0))
def test_a_negative_age_counts_as_none(age: int) -> None:
    assert DEFAULT.acts_after(age) == DEFAULT.acts_after(0)
    assert DEFAULT.reported_after(age) == DEFAULT.reported_after(0)


@given(AGES, AGES)
def test_an_older_feed_never_shortens_a_delay(one: int, other: int) -> None:
    young, old = sorted((one, other))
    assert DEFAULT.acts_after(young) <= DEFAULT.acts_after(old)
    assert DEFAULT.reported_after(young) <= DEFAULT.reported_after(old)


@pytest.mark.parametrize("response_x", [0.0, 0.5, 1.0])
@given(age=AGES)
def test_a_report_never_precedes_what_it_reports(response_x: float, age: int) -> None:
    # The response may be faster than the feed: we then hear of it no sooner than we see it.
    assert Latency(LatencyParams(response_x=response_x)).reported_after(age) == 0


def test_floor_is_a_parameter() -> None:
    none = Latency(LatencyParams(feed_ms_floor=0.0))
    assert ms(none.acts_after(0)) == 5
    assert none.reported_after(0) == 0
    assert ms(Latency(LatencyParams(feed_ms_floor=2.5)).acts_after(0)) == 2.5 + 10
