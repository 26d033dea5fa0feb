"""Ramps, cooldowns and counts of a day."""

import pytest

from bot.core.rearm import (
    CLEAN_NS,
    FULL,
    PLAIN,
    PLAIN_STEP_NS,
    STAGED,
    Cooldown,
    DailyCount,
    Ramp,
    Step,
)
from bot.domain.units import DAY_NS, NS_PER_S

START = 20_000 * DAY_NS


def test_a_ramp_that_never_started_is_full() -> None:
    assert Ramp().step(START) is FULL
    assert repr(Ramp()) == "Ramp(full)"


def test_plain_ramp() -> None:
    ramp = Ramp()
    ramp.start(START, PLAIN, PLAIN_STEP_NS)
    sizes = [ramp.step(START + s * NS_PER_S).size for s in (0, 29, 30, 59, 60, 89)]
    assert sizes == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert ramp.step(START + 90 * NS_PER_S) is FULL


def test_staged_ramp() -> None:
    ramp = Ramp()
    ramp.start(START, STAGED, 300 * NS_PER_S)
    assert repr(ramp) == f"Ramp(since={START}, step_ns=300000000000, first=0.1)"
    steps = [ramp.step(START + s * NS_PER_S) for s in (0, 299, 300, 600, 899)]
    assert steps == [(0.1, 3.0), (0.1, 3.0), (0.25, 2.0), (0.5, 1.5), (0.5, 1.5)]
    assert ramp.step(START + 900 * NS_PER_S) == Step(1.0, 1.0)


def test_a_second_start_begins_anew() -> None:
    ramp = Ramp()
    ramp.start(START, PLAIN, PLAIN_STEP_NS)
    ramp.start(START + 80 * NS_PER_S, STAGED, 300 * NS_PER_S)
    assert ramp.step(START + 90 * NS_PER_S).size == 0.1


def test_hold_must_be_in_one_stretch() -> None:
    cooldown = Cooldown(hold_ns=10)
    cooldown.trip(100)
    assert not cooldown.over(101, good=True)
    assert not cooldown.over(110, good=True)
    assert not cooldown.over(110, good=False)
    assert not cooldown.over(111, good=True)
    assert not cooldown.over(120, good=True)
    assert cooldown.over(121, good=True)


def test_a_trip_starts_the_hold_anew() -> None:
    cooldown = Cooldown(hold_ns=10)
    cooldown.trip(100)
    assert not cooldown.over(101, good=True)
    cooldown.trip(105)
    assert not cooldown.over(111, good=True)


def test_pause_counts_from_the_trip() -> None:
    cooldown = Cooldown(hold_ns=0, pause_ns=50)
    cooldown.trip(100)
    assert not cooldown.over(149, good=True)
    assert not cooldown.over(150, good=False)
    assert cooldown.over(150, good=True)


def test_pause_doubles_to_its_cap_and_falls_back_after_clean_hours() -> None:
    cooldown = Cooldown(hold_ns=0, pause_ns=5, pause_ns_max=300)
    pauses = []
    for trip in range(60):
        cooldown.trip(START + trip * 1_000)
        pauses.append(cooldown.pause_ns)
    assert pauses[:8] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert pauses[-1] == 300
    last = START + 59_000
    cooldown.trip(last + CLEAN_NS - 1)
    assert cooldown.pause_ns == 300
    cooldown.trip(last + 2 * CLEAN_NS - 1)
    assert cooldown.pause_ns == 5


def test_a_pause_without_a_cap_does_not_double() -> None:
    cooldown = Cooldown(hold_ns=0, pause_ns=5)
    for trip in range(5):
        cooldown.trip(START + trip)
        assert cooldown.pause_ns == 5
    assert repr(cooldown) == f"Cooldown(tripped_at={START + 4}, good_since=-1, repeats=4)"


def test_daily_count_ends_at_midnight_utc() -> None:
    count = DailyCount()
    midnight = START + DAY_NS
    assert count.today(START) == 0
    assert [count.add(midnight - 2), count.add(midnight - 1)] == [1, 2]
    assert count.today(midnight - 1) == 2
    assert count.today(midnight) == 0
    assert count.add(midnight) == 1
    count.clear()
    assert count.add(midnight + 1) == 1
    assert repr(count) == "DailyCount(day=20001, count=1)"


@pytest.mark.parametrize("steps", [PLAIN, STAGED])
def test_ramps_rise_to_full(steps: tuple[Step, ...]) -> None:
    assert steps[-1] is FULL
    assert list(steps) == sorted(steps)
    assert sorted((step.spread for step in steps), reverse=True) == [s.spread for s in steps]
