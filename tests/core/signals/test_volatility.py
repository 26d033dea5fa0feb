"""Volatility: recovery of a known sigma, jump guard, warm-up, gaps, restart."""

from collections.abc import Iterator
from math import exp, inf, nan, sqrt
from random import Random

import pytest

from bot.core.signals.volatility import Volatility
from bot.domain.params import VolatilityParams
from bot.domain.units import NS_PER_MS, NS_PER_S

START = 1_700_000_000 * NS_PER_S


def walk(sigma_bp: float, seconds: float, seed: int) -> Iterator[tuple[int, float]]:
    """A lognormal walk seen every 50 to 150 ms."""
    rng = Random(seed)
    now, mid = START, 61_234.5
    end = START + int(seconds * NS_PER_S)
    while now < end:
        yield now, mid
        step = rng.randrange(50 * NS_PER_MS, 150 * NS_PER_MS)
        now += step
        mid *= exp(1e-4 * sigma_bp * sqrt(step / NS_PER_S) * rng.gauss(0.0, 1.0))


def steady(volatility: Volatility, seconds: int, step_bp: float = 1.0) -> tuple[int, float]:
    """Feed moves of exactly `step_bp` up and down each second; sigma is `step_bp`."""
    now, mid = START, 100.0
    volatility.learn(now, mid)
    for second in range(seconds):
        now += NS_PER_S
        mid = 100.0 * (1.0 + 1e-4 * step_bp) if second % 2 == 0 else 100.0
        volatility.learn(now, mid)
    return now, mid


@pytest.mark.parametrize("first_x", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recovers_the_sigma_of_a_random_walk(seed, first_x):
    """Tolerances are four standard deviations: that of an EWMA of squared normals, relative
    to sigma, is sqrt(ln 2 / hl) / 2^(1/2) ~ 0.59 sqrt(dt / hl).
    """
    sigma = 1.7
    volatility = Volatility(VolatilityParams(), first_sigma_bp=first_x * sigma)
    for now, mid in walk(sigma, seconds=7200, seed=seed):
        volatility.learn(now, mid)
    assert volatility.slow == pytest.approx(sigma, rel=4 * 0.59 * sqrt(1.05 / 600))
    assert volatility.mid == pytest.approx(sigma, rel=4 * 0.59 * sqrt(1.05 / 60))
    assert volatility.fast == pytest.approx(sigma, rel=4 * 0.59 * sqrt(1.05 / 15))
    assert volatility.ready


def test_the_mean_over_time_is_unbiased():
    """The mean of v_mid over two hours has a standard deviation of sqrt(2/7000) = 1.7 %."""
    volatility = Volatility(VolatilityParams(), first_sigma_bp=2.0)
    total = count = 0.0
    for now, mid in walk(2.0, seconds=7200, seed=11):
        volatility.learn(now, mid)
        total += volatility.mid**2
        count += 1
    assert total / count == pytest.approx(4.0, rel=4 * 0.017)


def test_one_update_is_the_formula_with_the_real_dt():
    params = VolatilityParams(warmup_s=0.0)
    volatility = Volatility(params, first_sigma_bp=2.0)
    volatility.learn(START, 100.0)
    volatility.learn(START + 1_500 * NS_PER_MS, 100.03)  # 3 bp in 1.5 s
    for value, half_life in ((volatility.fast, 15), (volatility.mid, 60), (volatility.slow, 600)):
        weight = 1.0 - 2.0 ** (-1.5 / half_life)
        assert value**2 == pytest.approx(4.0 + weight * (9.0 / 1.5 - 4.0), rel=1e-10)


def test_nothing_is_taken_within_a_second():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    volatility.learn(START, 100.0)
    volatility.learn(START + NS_PER_S - 1, 150.0)  # a wick that is gone at the next sample
    assert volatility.fast == 1.0
    volatility.learn(START + NS_PER_S, 100.0)
    assert volatility.fast < 1.0


def test_the_unit_of_the_mid_does_not_matter():
    dollars = Volatility(VolatilityParams(), first_sigma_bp=1.5)
    ticks = Volatility(VolatilityParams(), first_sigma_bp=1.5)
    for now, mid in walk(2.0, seconds=300, seed=5):
        dollars.learn(now, mid)
        ticks.learn(now, 10.0 * mid)
    assert ticks.sigma == pytest.approx(dollars.sigma, rel=1e-9)


def test_first_sigma_until_warm_and_no_cliff_then():
    volatility = Volatility(VolatilityParams(warmup_s=30.0), first_sigma_bp=1.0)
    steady(volatility, 29, step_bp=3.0)
    assert not volatility.ready
    assert volatility.sigma == volatility.fast == volatility.mid == volatility.slow == 1.0
    warm = Volatility(VolatilityParams(warmup_s=30.0), first_sigma_bp=1.0)
    steady(warm, 30, step_bp=3.0)
    assert warm.ready
    # Half of the middle memory is one half-life of 60 s away: v = 9 - 8 / sqrt(2).
    assert warm.mid == pytest.approx(sqrt(9.0 - 8.0 / sqrt(2.0)), rel=1e-3)
    assert 1.0 < warm.slow < warm.mid < warm.fast < 3.0


def test_sigma_is_the_middle_or_a_share_of_the_fast():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    now, mid = steady(volatility, 600)
    assert volatility.sigma == volatility.mid == pytest.approx(1.0, rel=1e-3)
    for _ in range(10):  # five times the usual moves: no jumps, but news to the fast one
        now += NS_PER_S
        mid *= 1.0005
        volatility.learn(now, mid)
    assert 0.7 * volatility.fast > volatility.mid
    assert volatility.sigma == pytest.approx(0.7 * volatility.fast)


def test_a_jump_counts_in_full_for_the_fast_and_up_to_six_sigmas_for_the_others():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    now, mid = steady(volatility, 600)
    sigma_mid, sigma_slow, sigma_fast = volatility.mid, volatility.slow, volatility.fast
    volatility.learn(now + NS_PER_S, mid * 1.01)  # 100 bp: a hundred sigmas
    for after, before, half_life, seen in (
        (volatility.fast, sigma_fast, 15, 100.0**2),
        (volatility.mid, sigma_mid, 60, 36.0 * sigma_mid**2),
        (volatility.slow, sigma_slow, 600, 36.0 * sigma_mid**2),
    ):
        weight = 1.0 - 2.0 ** (-1.0 / half_life)
        assert after**2 == pytest.approx(before**2 + weight * (seen - before**2), rel=1e-6)


@pytest.mark.parametrize(("move_bp", "seen_bp"), [(-5.9, 5.9), (5.9, 5.9), (-6.1, 6.0)])
def test_the_guard_stands_at_six_sigmas(move_bp, seen_bp):
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    volatility.learn(START, 100.0)
    volatility.learn(START + NS_PER_S, 100.0 * (1.0 + 1e-4 * move_bp))
    weight = 1.0 - 2.0 ** (-1.0 / 60)
    assert volatility.mid**2 == pytest.approx(1.0 + weight * (seen_bp**2 - 1.0), rel=1e-9)


def test_a_new_regime_is_learnt_in_spite_of_the_guard():
    volatility = Volatility(VolatilityParams(), first_sigma_bp=1.0)
    steady(volatility, 600, step_bp=20.0)
    assert volatility.mid == pytest.approx(20.0, rel=1e-2)


def test_a_market_at_rest_does_not_lock_the_guard():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    for second in range(200_000):
        volatility.learn(START + second * NS_PER_S, 100.0)
    assert volatility.sigma == volatility.slow == 0.2  # the floor, though v is 0
    now, mid = START + 200_000 * NS_PER_S, 100.0
    for _ in range(60):
        mid *= 1.0002
        volatility.learn(now, mid)
        now += NS_PER_S
    assert volatility.mid == pytest.approx(sqrt(2.0), rel=0.05)


def test_sigmas_are_read_between_floor_and_cap():
    volatility = Volatility(VolatilityParams(floor_x=0.5, cap_x=3.0), first_sigma_bp=2.0)
    steady(volatility, 3000, step_bp=100.0)
    assert volatility.sigma == volatility.fast == volatility.mid == volatility.slow == 6.0
    calm = Volatility(VolatilityParams(floor_x=0.5, cap_x=3.0), first_sigma_bp=2.0)
    steady(calm, 3000, step_bp=0.0)
    assert calm.sigma == calm.fast == calm.mid == calm.slow == 1.0


def test_a_gap_in_time_weighs_no_more_than_five_seconds():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    now, mid = steady(volatility, 600)
    sigma_fast, sigma_mid = volatility.fast, volatility.mid
    quiet = mid  # nothing moved in ten minutes: one observation, not ten minutes of them
    volatility.learn(now + 600 * NS_PER_S, quiet)
    assert volatility.fast**2 == pytest.approx(sigma_fast**2 * 2.0 ** (-5.0 / 15.0), rel=1e-9)
    assert volatility.mid**2 == pytest.approx(sigma_mid**2 * 2.0 ** (-5.0 / 60.0), rel=1e-9)


def test_a_gap_is_no_warm_up():
    volatility = Volatility(VolatilityParams(warmup_s=30.0), first_sigma_bp=1.0)
    now, mid = steady(volatility, 10)
    volatility.learn(now + 600 * NS_PER_S, mid)
    assert not volatility.ready


def test_a_move_over_a_gap_is_spread_over_it():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    now, mid = steady(volatility, 600)
    volatility.learn(now + 900 * NS_PER_S, mid * 1.003)  # 30 bp in 15 min is one sigma
    assert volatility.fast == pytest.approx(1.0, rel=1e-3)
    assert volatility.sigma == pytest.approx(1.0, rel=1e-3)


def test_absurd_mids_leave_finite_sigmas():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    for second, mid in enumerate([1e-300, 1e300, 1e-300, 1e300, 100.0, 100.0]):
        volatility.learn(START + second * NS_PER_S, mid)
        assert volatility.fast <= 25.0
        assert 0.0 < volatility.mid <= volatility.sigma <= 25.0


@pytest.mark.parametrize("mid", [0.0, -1.0, nan, inf])
def test_a_mid_that_is_no_price_is_refused(mid):
    with pytest.raises(ValueError, match="a mid must be positive"):
        Volatility(VolatilityParams(), first_sigma_bp=1.0).learn(START, mid)


def test_restart_forgets_the_mid_and_keeps_the_variances():
    volatility = Volatility(VolatilityParams(), first_sigma_bp=1.0)
    now, mid = steady(volatility, 120, step_bp=2.0)
    sigma = volatility.sigma
    now += 30 * NS_PER_S
    volatility.restart(now)
    volatility.learn(now - 1, mid * 3.0)  # from before the restart: nobody trusts it
    volatility.learn(now, mid * 2.0)
    assert (volatility.sigma, volatility.ready) == (sigma, True)
    volatility.learn(now + NS_PER_S, mid * 2.0)
    assert volatility.sigma < sigma


def test_time_that_jumps_back_is_ignored():
    volatility = Volatility(VolatilityParams(warmup_s=0.0), first_sigma_bp=1.0)
    volatility.learn(START, 100.0)
    volatility.learn(START - 3600 * NS_PER_S, 50.0)
    assert volatility.fast == 1.0
    volatility.learn(START + NS_PER_S, 100.0)
    assert volatility.fast**2 == pytest.approx(2.0 ** (-1.0 / 15))  # no move within a second


def test_parameters_are_checked():
    for first in (0.0, -1.0, nan, inf):
        with pytest.raises(ValueError, match="first sigma"):
            Volatility(VolatilityParams(), first_sigma_bp=first)
    for floor_x, cap_x in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="floor_x"):
            Volatility(VolatilityParams(floor_x=floor_x, cap_x=cap_x), first_sigma_bp=1.0)


def test_repr():
    volatility = Volatility(VolatilityParams(), first_sigma_bp=1.25)
    assert repr(volatility) == (
        "Volatility(sigma=1.25, fast=1.25, mid=1.25, slow=1.25, ready=False)"
    )
