"""Limits fit each other and the venue's; allowances and pauses never give more than they have."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.shell.feedlimits import Allowance, FeedLimits
from bot.venues.binance.endpoints import PRODUCTS, endpoints

S = 1_000_000_000


@pytest.mark.parametrize("venue", PRODUCTS)
def test_the_defaults_keep_the_limits_of_every_product(venue):
    FeedLimits().check(endpoints(venue, "BTCUSDT"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"watch_ms": 0}, "positive"),
        ({"ping_interval_ms": 0}, "positive"),
        ({"queue_frames_max": 0}, "positive"),
        ({"watch_ms": 5_000}, "watch_ms exceeds"),
        ({"pong_ms": 9_000}, "pong_behind_ms"),
        ({"backoff_first_ms": 40_000}, "backoff_ms_max"),
        ({"age_jitter_ms": 23 * 3_600_000}, "no age"),
    ],
)
def test_limits_that_contradict_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        FeedLimits(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ping_interval_ms": 200}, "messages a second"),
        ({"age_ms_max": 24 * 3_600_000}, "outlives"),
        ({"attempts_max": 301}, "attempts_max"),
        ({"attempts_window_ms": 60_000}, "attempts_max"),
        ({"snapshot_weight_per_min_max": 49}, "no snapshot"),
        ({"snapshot_weight_per_min_max": 6_001}, "too many"),
    ],
)
def test_limits_that_would_break_the_venues(changes, message):
    with pytest.raises(ValueError, match=message):
        FeedLimits(**changes).check(endpoints("binance-spot", "BTCUSDT"))


def test_frozen_ns_by_kind():
    limits = FeedLimits(depth_frozen_ms=1, ticker_frozen_ms=2, trade_frozen_ms=3)
    kinds = ("depth", "ticker", "trade")
    assert [limits.frozen_ns(kind) for kind in kinds] == [1_000_000, 2_000_000, 3_000_000]


def test_backoff_doubles_to_its_ceiling():
    limits = FeedLimits(backoff_first_ms=250, backoff_ms_max=30_000)
    ceilings_ms = [limits.backoff_ns(n, 1.0) // 1_000_000 for n in (0, 1, 2, 3, 7, 8, 10_000)]
    assert ceilings_ms == [0, 250, 500, 1_000, 16_000, 30_000, 30_000]
    assert limits.backoff_ns(3, 0.0) == 0
    assert limits.backoff_ns(3, 0.25) == 250_000_000


@pytest.mark.parametrize(
    ("status", "retry_after", "pause_s"),
    [
        (429, "17", 17),
        (418, "120", 120),
        (418, "99999999", 3 * 24 * 3_600),
        (429, "", 60),
        (429, "soon", 60),
        (429, "-5", 60),
        (429, "\u0665", 60),
        (429, "1" * 5_000, 60),
        (503, "17", 0),
        (200, "17", 0),
    ],
)
def test_pause(status, retry_after, pause_s):
    assert FeedLimits(limited_ms=60_000).pause_ns(status, retry_after) == pause_s * S


def test_limits_are_one_value():
    limits = FeedLimits()
    assert msgspec.convert(msgspec.to_builtins(limits), FeedLimits) == limits


def test_an_allowance_by_example():
    allowance = Allowance(100, 60 * S)
    assert allowance.wait_ns(0, 50) == 0
    allowance.spend(0, 50)
    allowance.spend(10 * S, 50)
    assert allowance.wait_ns(20 * S, 50) == 40 * S
    assert allowance.wait_ns(20 * S, 60) == 50 * S
    assert allowance.wait_ns(60 * S, 50) == 0
    assert allowance.wait_ns(60 * S, 60) == 10 * S


@given(
    amount_max=st.integers(1, 20),
    asks=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), max_size=40),
)
def test_no_window_ever_holds_more_than_the_maximum(amount_max, asks):
    window = 50
    allowance = Allowance(amount_max, window)
    now, spent = 0, []
    for pause, amount in asks:
        if amount > amount_max:
            continue
        now += pause
        wait = allowance.wait_ns(now, amount)
        assert 0 <= wait <= window
        if wait:  # and not a moment too long
            early = sum(a for at, a in spent if now + wait - 1 - window < at)
            assert early + amount > amount_max
        now += wait
        assert allowance.wait_ns(now, amount) == 0
        allowance.spend(now, amount)
        spent.append((now, amount))
        assert sum(a for at, a in spent if now - window < at) <= amount_max
