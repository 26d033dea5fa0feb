"""The gamma valve: vectors of MODEL 5.2, attack and release."""

from itertools import pairwise
from math import exp, inf, log, nan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bot.core.valve import LOG_MULTIPLIER_MAX, Valve, log_multiplier, z_vol
from bot.domain.params import GammaParams
from bot.domain.units import NS_PER_S

S1, S2, S3, S4 = 1.0, 3.0, 2.0, 8.0
START = 1_700_000_000 * NS_PER_S


@pytest.mark.parametrize(
    ("regime", "vol", "tox", "depth", "multiplier", "tolerance"),
    [
        (S1, 0, 0, 1, 1.0, 1e-15),
        (S2, 0, 0, 1, 3.0, 1e-15),
        (S3, 1, 0, 0.8, 4.0275, 5e-5),
        (S4, 2, 1, 0.6, 64.87, 5e-3),
        (S1, 3, 2, 0.5, 33.51, 5e-3),
        (S4, 4, 3, 0.05, 14105.5, 5e-2),
    ],
)
def test_multiplier_vectors(regime, vol, tox, depth, multiplier, tolerance):
    log_m = log_multiplier(regime=regime, z_vol=vol, z_tox=tox, depth_ratio=depth)
    assert exp(log_m) == pytest.approx(multiplier, abs=tolerance)


def test_calm_markets_ask_for_nothing():
    assert log_multiplier() == 0.0
    assert log_multiplier(z_vol=-5.0, z_tox=-2.0, depth_ratio=4.0) == 0.0
    assert log_multiplier(depth_ratio=exp(-0.349)) == 0.0
    assert log_multiplier(depth_ratio=exp(-0.36)) == pytest.approx(0.012)


def test_news_degraded_feed_and_weight():
    assert log_multiplier(news=True) == 1.0
    assert log_multiplier(feed_degraded=True) == 0.7
    assert log_multiplier(z_vol=2.0, volatility_weight=0.25) == 0.5


def test_an_empty_side_asks_for_everything():
    assert log_multiplier(depth_ratio=0.0) == LOG_MULTIPLIER_MAX
    assert log_multiplier(depth_ratio=1e-300) == LOG_MULTIPLIER_MAX
    assert log_multiplier(z_vol=inf) == LOG_MULTIPLIER_MAX
    assert exp(LOG_MULTIPLIER_MAX) == pytest.approx(1e6)


@pytest.mark.parametrize(
    "numbers",
    [
        {"regime": 0.5},
        {"regime": nan},
        {"depth_ratio": -0.1},
        {"depth_ratio": nan},
        {"volatility_weight": -0.1},
        {"z_vol": nan},
        {"z_tox": nan},
    ],
)
def test_what_is_not_a_sane_number_is_refused(numbers):
    with pytest.raises(ValueError, match="the valve needs"):
        log_multiplier(**numbers)


def test_z_vol():
    assert z_vol(2.0, 2.0) == -1.0
    assert z_vol(2.0 * exp(0.35), 2.0) == pytest.approx(0.0, abs=1e-12)
    assert z_vol(2.0 * exp(1.05), 2.0) == pytest.approx(2.0)
    for fast, slow in ((0.0, 1.0), (1.0, 0.0), (nan, 1.0), (1.0, inf)):
        with pytest.raises(ValueError, match="positive sigmas"):
            z_vol(fast, slow)


def valve_at(multiplier: float) -> Valve:
    valve = Valve(GammaParams(release_half_life_s=60.0, withdraw_multiplier=50.0))
    valve.learn(START, log(multiplier))
    return valve


def test_a_new_valve_is_open():
    valve = Valve(GammaParams())
    assert valve.multiplier == 1.0
    assert valve.learn(START, 0.0) == 1.0
    assert repr(valve) == "Valve(multiplier=1)"


def test_attack_is_instant():
    valve = valve_at(2.0)
    assert valve.learn(START, log(30.0)) == pytest.approx(30.0)
    assert valve.learn(START + 1, log(31.0)) == pytest.approx(31.0)


def test_release_halves_what_is_above_the_target_in_ln():
    valve = valve_at(64.0)
    assert valve.learn(START + 60 * NS_PER_S, 0.0) == pytest.approx(8.0)
    assert valve.learn(START + 120 * NS_PER_S, 0.0) == pytest.approx(64.0**0.25)
    # From 64 toward 4: half-way in ln is 16.
    assert valve_at(64.0).learn(START + 60 * NS_PER_S, log(4.0)) == pytest.approx(16.0)


@given(st.lists(st.integers(1, 90 * NS_PER_S), min_size=1, max_size=20))
def test_release_does_not_depend_on_the_steps(steps):
    once = valve_at(40.0)
    often = valve_at(40.0)
    now = START
    for step in steps:
        now += step
        often.learn(now, log(2.0))
    once.learn(now, log(2.0))
    assert often.multiplier == pytest.approx(once.multiplier, rel=1e-12)


@given(
    st.lists(
        st.tuples(st.integers(-5 * NS_PER_S, 60 * NS_PER_S), st.floats(0.0, LOG_MULTIPLIER_MAX)),
        max_size=30,
    )
)
@example([(0, 6.0), (1, 0.0), (0, 1.5183935373084991)])  # the sum rounds up
def test_never_below_what_is_asked_and_never_above_what_was(steps):
    valve = Valve(GammaParams())
    now, before = START, 1.0
    for elapsed, log_m in steps:
        now += elapsed
        multiplier = valve.learn(now, log_m)
        assert multiplier >= exp(log_m)
        assert multiplier <= max(before, exp(log_m))
        before = multiplier


def test_release_is_monotone_and_ends():
    valve = valve_at(1e6)
    seen = [valve.learn(START + s * NS_PER_S, 0.0) for s in range(0, 1200, 10)]
    assert all(later < earlier for earlier, later in pairwise(seen))
    assert seen[-1] == pytest.approx(1.0, abs=1e-4)


def test_time_that_jumps_back_releases_nothing():
    valve = valve_at(64.0)
    assert valve.learn(START - 3600 * NS_PER_S, 0.0) == pytest.approx(64.0)
    # Nor does the way back to the present count as time.
    assert valve.learn(START, 0.0) == pytest.approx(64.0)
    assert valve.learn(START + 60 * NS_PER_S, 0.0) == pytest.approx(8.0)


def test_attack_works_even_when_time_jumps_back():
    valve = valve_at(2.0)
    assert valve.learn(START - NS_PER_S, log(20.0)) == pytest.approx(20.0)


def test_the_way_back_below_the_withdrawal():
    valve = valve_at(50.01)
    # ln 50.01 to just under ln 50 takes a moment, not a half-life.
    assert valve.learn(START + NS_PER_S, 0.0) < 50.0
    # The worst that can be asked for is over within 1.9 half-lives.
    worst = valve_at(1e6)
    assert worst.learn(START + 108 * NS_PER_S, 0.0) > 50.0
    assert worst.learn(START + 114 * NS_PER_S, 0.0) < 50.0


@pytest.mark.parametrize("log_m", [-0.1, nan, inf, LOG_MULTIPLIER_MAX + 1.0])
def test_an_impossible_log_multiplier_is_refused(log_m):
    with pytest.raises(ValueError, match="ln M must be in"):
        Valve(GammaParams()).learn(START, log_m)
