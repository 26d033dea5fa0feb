"""Smoothed depth, its baselines, the drop within 5 s, and the running median of the spread."""

import random
from math import exp
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.signals.liquidity import UNIT_MAX, Liquidity, RunningMedian
from bot.domain.params import RiskParams
from bot.domain.units import NS_PER_MS, NS_PER_S

STEP_NS = 100 * NS_PER_MS
START = 1_760_000_000 * NS_PER_S


def risk(**changes: float) -> RiskParams:
    """Defaults with a short warm-up."""
    fields = {"loss_budget": 1e3, "max_position_lots": 100, "max_order_lots": 10}
    return RiskParams(**(fields | {"baseline_warmup_s": 60.0} | changes))  # type: ignore[arg-type]


class Feed:
    """Readings every 100 ms."""

    def __init__(self, **changes: float) -> None:
        self.liquidity = Liquidity(risk(**changes))
        self.now = START

    def run(
        self,
        seconds: float,
        bid: float = 100.0,
        ask: float = 100.0,
        spread: float = 1.0,
        frozen: bool = False,
    ) -> Liquidity:
        for _ in range(round(seconds * NS_PER_S / STEP_NS)):
            self.now += STEP_NS
            self.liquidity.learn(self.now, bid, ask, spread, frozen)
        return self.liquidity


def test_one_half_life_moves_half_of_the_way() -> None:
    feed = Feed()
    feed.run(100.0, bid=100.0)
    liquidity = feed.run(0.5, bid=0.0, frozen=True)
    assert liquidity.bid_ratio == pytest.approx(0.5, abs=1e-3)
    assert liquidity.ask_ratio == pytest.approx(1.0)


def test_the_pace_of_readings_does_not_matter() -> None:
    slow, fast = Feed(), Feed()
    slow.run(100.0)
    fast.run(100.0)
    slow.run(0.4, bid=20.0, frozen=True)
    for _ in range(400):
        fast.now += NS_PER_MS
        fast.liquidity.learn(fast.now, 20.0, 100.0, 1.0, True)
    assert slow.liquidity.bid_ratio == pytest.approx(fast.liquidity.bid_ratio, rel=1e-9)


def test_a_reading_after_a_gap_weighs_no_more_than_half() -> None:
    feed = Feed()
    feed.run(100.0)
    feed.now += 60 * NS_PER_S
    feed.liquidity.learn(feed.now, 0.0, 0.0, 1.0, True)
    assert feed.liquidity.bid_ratio == pytest.approx(0.5, abs=1e-3)
    assert feed.liquidity.drop < 0.6


def test_a_young_average_says_nothing() -> None:
    feed = Feed(depth_floor=100.0)
    assert feed.run(1.0, bid=1.0, ask=1.0).bid_ratio == 1.0
    assert feed.run(0.1, bid=1.0, ask=1.0).bid_ratio == pytest.approx(0.01)


def test_the_same_time_twice_changes_nothing() -> None:
    feed = Feed()
    feed.run(100.0)
    before = repr(feed.liquidity)
    feed.liquidity.learn(feed.now, 0.0, 0.0, 1.0, False)
    assert repr(feed.liquidity) == before


def test_static_floor_until_warm_then_the_baseline() -> None:
    feed = Feed(depth_floor=400.0)
    liquidity = feed.run(58.0)
    assert not liquidity.warm
    assert liquidity.bid_ratio == pytest.approx(0.25)
    liquidity = feed.run(4.0)
    assert liquidity.warm
    assert liquidity.bid_ratio == pytest.approx(1.0)


def test_no_floor_no_ratio_until_warm() -> None:
    liquidity = Feed().run(30.0, bid=3.0, ask=0.0)
    assert (liquidity.bid_ratio, liquidity.ask_ratio) == (1.0, 1.0)
    assert liquidity.low_bid.ns is None


def test_a_frozen_baseline_neither_moves_nor_warms() -> None:
    feed = Feed()
    assert not feed.run(600.0, frozen=True).warm
    assert feed.liquidity.spread_median_bps == 0.0
    feed.run(100.0)
    liquidity = feed.run(600.0, bid=40.0, ask=40.0, spread=5.0, frozen=True)
    assert liquidity.bid_ratio == pytest.approx(0.4)
    assert liquidity.spread_median_bps == pytest.approx(1.0)


def test_an_unfrozen_baseline_follows_with_its_half_life() -> None:
    feed = Feed(baseline_half_life_s=60.0)
    feed.run(3_600.0)
    liquidity = feed.run(60.0, bid=0.0)
    # The ratio of zero depth is zero; the baseline shows when depth is back at once.
    assert liquidity.bid_ratio < 0.01
    assert feed.run(5.0, bid=100.0, frozen=True).bid_ratio == pytest.approx(2.0, rel=0.02)


def test_the_first_reading_is_no_anchor_of_the_baseline() -> None:
    feed = Feed(baseline_warmup_s=60.0)
    feed.run(0.1, bid=10_000.0)
    assert feed.run(120.0).bid_ratio == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_how_long_a_side_has_been_low(side: str) -> None:
    feed = Feed()
    feed.run(100.0)
    liquidity = feed.run(0.8, **{side: 0.0}, frozen=True)
    assert min(liquidity.bid_ratio, liquidity.ask_ratio) > 0.3
    assert (liquidity.low_bid.ns, liquidity.low_ask.ns) == (None, None)
    liquidity = feed.run(0.6, **{side: 0.0}, frozen=True)
    low = {"bid": liquidity.low_bid, "ask": liquidity.low_ask}
    assert low.pop(side).ns == 500 * NS_PER_MS  # below .3 from 0.9 s on
    assert [streak.ns for streak in low.values()] == [None]
    liquidity = feed.run(2.0, frozen=True)
    assert (liquidity.low_bid.ns, liquidity.low_ask.ns) == (None, None)


def test_drop_is_that_of_the_better_side() -> None:
    feed = Feed()
    feed.run(100.0)
    liquidity = feed.run(4.0, bid=20.0, ask=50.0, frozen=True)
    assert liquidity.drop == pytest.approx(0.5, abs=0.01)
    assert Feed().run(100.0, bid=5.0).drop == 0.0


def test_drop_forgets_after_five_seconds() -> None:
    feed = Feed()
    feed.run(100.0)
    assert feed.run(4.7, bid=30.0, ask=30.0, frozen=True).drop == pytest.approx(0.7, abs=0.01)
    assert feed.run(5.0, bid=30.0, ask=30.0, frozen=True).drop < 0.1


def test_one_side_down_is_no_drop() -> None:
    feed = Feed()
    feed.run(100.0)
    assert feed.run(3.0, bid=1.0, frozen=True).drop == 0.0


def test_restart_forgets_readings_and_keeps_baselines() -> None:
    feed = Feed()
    feed.run(100.0)
    feed.run(3.0, bid=10.0, ask=10.0, spread=50.0, frozen=True)
    assert feed.liquidity.wide.lasts(NS_PER_S)
    feed.liquidity.restart(feed.now)
    after = feed.liquidity
    assert (after.bid_ratio, after.ask_ratio, after.drop) == (1.0, 1.0, 0.0)
    assert (after.low_bid.ns, after.low_ask.ns, after.wide.ns) == (None, None, None)
    feed.now += 10 * NS_PER_S
    liquidity = feed.run(1.2, bid=50.0, frozen=True)
    assert liquidity.warm
    assert liquidity.bid_ratio == pytest.approx(0.5, abs=0.01)  # nothing of the 10 is left
    assert liquidity.drop == 0.0


def test_spread_limit_is_static_until_warm() -> None:
    feed = Feed(spread_bps=10.0)
    assert feed.run(50.0, spread=3.0).spread_limit_bps == 10.0
    assert feed.run(20.0, spread=3.0).spread_limit_bps == pytest.approx(18.0)


def test_spread_limit_has_a_least_value() -> None:
    assert Feed(spread_bps=10.0).run(70.0, spread=0.1).spread_limit_bps == 10.0


def test_how_long_the_spread_has_been_wide() -> None:
    feed = Feed(spread_bps=10.0)
    assert feed.run(70.0, spread=10.0).wide.ns is None
    feed = Feed(spread_bps=10.0)
    feed.run(70.0)
    assert feed.run(0.1, spread=10.01).wide.ns == 0
    assert feed.run(1.0, spread=11.0).wide.ns == NS_PER_S
    assert feed.run(0.1, spread=9.99).wide.ns is None


def test_calm_spread_is_three_medians_and_half_the_static_limit_until_then() -> None:
    feed = Feed(spread_bps=10.0)
    assert feed.run(30.0, spread=0.1).spread_calm_bps == pytest.approx(5.0)
    assert feed.run(40.0, spread=0.1).spread_calm_bps == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(4))
def test_noise_moves_the_ratio_little(seed: int) -> None:
    rng = random.Random(seed)
    feed = Feed()
    lows, raw_lows = [], []
    for i in range(20_000):
        bid, ask = exp(rng.gauss(0.0, 0.5)), exp(rng.gauss(0.0, 0.5))
        liquidity = feed.run(0.1, bid, ask)
        raw_lows.append(min(bid, ask))
        if i > 1_000:
            lows.append(min(liquidity.bid_ratio, liquidity.ask_ratio))
            assert liquidity.drop < 0.6
    assert min(raw_lows) < 0.3 < 0.4 < min(lows)


def median_of(values: list[float], half_life_s: float = 1e9) -> float:
    running = RunningMedian(half_life_s)
    for value in values:
        running.learn(value, 0.25)
    return running.value


def test_median_of_nothing_is_zero() -> None:
    assert median_of([]) == 0.0


def test_median_of_a_constant_is_exact() -> None:
    assert median_of([0.0857] * 1_000) == pytest.approx(0.0857, rel=1e-12)


@given(st.lists(st.floats(0.01, 1_000.0), min_size=1, max_size=99).filter(lambda v: len(v) % 2))
def test_median_is_within_a_bucket(values: list[float]) -> None:
    assert median_of(values) == pytest.approx(median(values), rel=2 ** (1 / 8) - 1 + 1e-6)


@settings(max_examples=30)
@given(st.lists(st.just(0.0) | st.floats(1e-3, 1e6), min_size=1, max_size=60), st.floats(0.5, 50.0))
def test_median_stays_within_its_values(values: list[float], half_life_s: float) -> None:
    found = median_of(values, half_life_s)
    assert min(values) * (1 - 1e-9) <= found <= max(values) * (1 + 1e-9)


def test_median_ignores_a_short_excursion_of_any_size() -> None:
    assert median_of([1.0] * 700 + [5_000.0] * 300) == pytest.approx(1.0)
    assert median_of([1.0] * 499 + [5_000.0] * 501) == pytest.approx(5_000.0)


def test_median_forgets() -> None:
    running = RunningMedian(half_life_s=10.0)
    for _ in range(10_000):
        running.learn(1.0, 0.1)
    found = []
    for _ in range(200):
        running.learn(4.0, 0.1)
        found.append(running.value)
    assert found[:98] == pytest.approx([1.0] * 98)  # half of the mass after one half-life
    assert found[102:] == pytest.approx([4.0] * 98)


def test_median_survives_the_growth_of_its_unit() -> None:
    running = RunningMedian(half_life_s=1.0)
    rng = random.Random(7)
    for _ in range(2_000):  # 2^2000 without rescaling
        running.learn(rng.choice([1.0, 2.0, 2.0, 8.0]), 1.0)
        assert running._unit <= UNIT_MAX
        assert 0.0 < running._total < 1e12
    for _ in range(60):
        running.learn(3.0, 1.0)
    assert running.value == pytest.approx(3.0)


def test_median_takes_no_time_for_no_time() -> None:
    running = RunningMedian(1.0)
    running.learn(5.0, 0.0)
    assert running.value == 0.0


def test_repr() -> None:
    feed = Feed()
    feed.run(100.0)
    assert repr(feed.liquidity) == (
        "Liquidity(warm=True, bid=100/100, ask=100/100, drop=0.000, "
        "spread_limit_bps=10, wide=Streak(ns=None))"
    )
    assert repr(feed.liquidity._median) == "RunningMedian(value=1)"
