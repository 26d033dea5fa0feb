"""The numbers of a run for Prometheus."""

import gc
import sys
import tracemalloc

import msgspec
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.core.triggers import Severity
from bot.domain.decisions import Amend, Cancel, Place, Rearm, Resync, Trip
from bot.domain.events import (
    AmendRejected,
    FeedLost,
    FeedOpened,
    Filled,
    FillRecovered,
    Obstructed,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    PositionAdopted,
)
from bot.domain.units import NS_PER_S, Side
from bot.ops.metrics import CAUSES_MAX, LEVELS, Metrics
from tests.ops.test_rows import BTC, VIEW


def scrape(metrics: Metrics) -> dict[str, float]:
    """Sample name with its labels -> value, as Prometheus would read them."""
    text, kind = metrics.exposition()
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(BTC)


def test_a_fresh_run(metrics: Metrics) -> None:
    found = scrape(metrics)
    assert found["mmbot_decisions_total"] == 0
    assert found["mmbot_fills_total{liquidity=maker,side=BUY}"] == 0
    assert found["mmbot_instrument_info{symbol=BTCUSDT,venue=binance-usdm}"] == 1
    assert repr(metrics) == "<Metrics level=ACTIVE>"


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_process(metrics: Metrics) -> None:
    found = scrape(metrics)
    assert found["mmbot_process_resident_memory_bytes"] > 1e6
    assert found["mmbot_process_open_fds"] > 0


def test_every_name_is_ours(metrics: Metrics) -> None:
    assert all(name.startswith("mmbot_") for name in scrape(metrics))


def test_runs_share_nothing(metrics: Metrics) -> None:
    before = prometheus_client.generate_latest()
    other = Metrics(BTC)
    other.decided(1, [])
    assert scrape(metrics)["mmbot_decisions_total"] == 0
    assert b"mmbot" not in before
    assert b"mmbot" not in prometheus_client.generate_latest()


def test_own_events(metrics: Metrics) -> None:
    for n in range(3):
        metrics.learned(Filled(n, "a", str(n), Side.SELL, 618_000, 5, True))
    metrics.learned(Filled(9, "a", "9", Side.BUY, 618_000, 1, False))
    metrics.learned(OrderOpened(1, "a"))
    metrics.learned(OrderRejected(1, "b", "would take"))
    metrics.learned(OutcomeLost(1, "c"))
    metrics.learned(AmendRejected(1, "c", "filter"))
    metrics.learned(OrderExpired(1, "c", "self_trade"))
    metrics.learned(PositionAdopted(1, 5, 1_236_001, "reconcile"))
    metrics.learned(Obstructed(1, "reconcile"))
    metrics.learned(FillRecovered(9, "old", "9", Side.BUY, 618_000, 1, False))
    metrics.learned(FeedOpened(1, "x"))
    metrics.learned(FeedLost(1, "overflow"))
    found = scrape(metrics)
    assert found["mmbot_fills_total{liquidity=maker,side=SELL}"] == 3
    assert found["mmbot_fills_total{liquidity=taker,side=BUY}"] == 2
    assert found["mmbot_filled_base_total{side=SELL}"] == pytest.approx(0.015)
    assert found["mmbot_orders_rejected_total"] == 1
    assert found["mmbot_outcomes_lost_total"] == 1
    assert found["mmbot_amends_rejected_total"] == 1
    assert found["mmbot_orders_expired_total"] == 1
    assert found["mmbot_positions_adopted_total"] == 1
    assert found["mmbot_obstructions_total{cause=reconcile}"] == 1
    assert found["mmbot_feed_losses_total{cause=overflow}"] == 1


def test_decisions(metrics: Metrics) -> None:
    metrics.decided(1, [])
    place = Place("a", Side.BUY, 1, 1, 0)
    trip = Trip("PAUSED", "depth", {})
    metrics.decided(
        2,
        [
            place,
            place,
            Amend("a", Side.BUY, 2, 1, 0),
            Cancel("a"),
            trip,
            Rearm("depth", 1.0),
            Resync("gap"),
        ],
    )
    found = scrape(metrics)
    assert found["mmbot_decisions_total"] == 2
    assert found["mmbot_orders_placed_total{side=BUY}"] == 2
    assert found["mmbot_orders_placed_total{side=SELL}"] == 0
    assert found["mmbot_orders_amended_total"] == 1
    assert found["mmbot_orders_cancelled_total"] == 1
    assert found["mmbot_halts_total{cause=depth}"] == 1
    assert found["mmbot_rearms_total{cause=depth}"] == 1
    assert found["mmbot_resyncs_total{cause=gap}"] == 1


def test_trust(metrics: Metrics) -> None:
    metrics.trust(1, True)
    assert scrape(metrics)["mmbot_book_trusted"] == 1
    metrics.trust(2, False)
    found = scrape(metrics)
    assert found["mmbot_book_trusted"] == 0
    assert found["mmbot_book_distrusted_total"] == 1


def test_a_sample_of_the_engine(metrics: Metrics) -> None:
    metrics.sample(VIEW)
    found = scrape(metrics)
    assert found["mmbot_position_base"] == pytest.approx(-0.012)
    assert found["mmbot_equity_quote"] == 100
    assert found["mmbot_pnl_quote{part=inventory}"] == -3.5
    assert found["mmbot_pnl_quote{part=maker_fees}"] == 1
    assert found["mmbot_fair_price_quote"] == pytest.approx(61_800.225)
    assert found["mmbot_reservation_price_quote"] == pytest.approx(61_800.1)
    assert found["mmbot_half_spread_quote"] == pytest.approx(0.4)
    assert found["mmbot_market_spread_quote"] == pytest.approx(0.1)
    assert found["mmbot_sigma_bp_per_sqrt_second{window=fast}"] == 0.6
    assert found["mmbot_gamma_multiplier_ratio"] == 2
    assert found["mmbot_feed_lag_seconds"] == pytest.approx(1e-6)
    assert found["mmbot_book_trusted"] == 1
    parts = {name for name in found if name.startswith("mmbot_pnl_quote")}
    assert len(parts) == len(VIEW.pnl.__struct_fields__) - 1  # the total is the equity


def test_a_broken_book_changes_no_price(metrics: Metrics) -> None:
    metrics.sample(VIEW)
    broken = msgspec.structs.replace(
        VIEW, trusted=False, fair_ticks=float("nan"), bid_tick=9, ask_tick=3
    )
    metrics.sample(broken)
    found = scrape(metrics)
    assert found["mmbot_book_trusted"] == 0
    assert found["mmbot_fair_price_quote"] == pytest.approx(61_800.225)
    assert found["mmbot_market_spread_quote"] == pytest.approx(0.1)


def test_exactly_one_level_holds(metrics: Metrics) -> None:
    assert tuple(level.name for level in Severity) == LEVELS
    for level in (*LEVELS, *reversed(LEVELS)):
        metrics.sample(msgspec.structs.replace(VIEW, level=level))
        found = scrape(metrics)
        assert {name: found[f"mmbot_level{{level={name}}}"] for name in LEVELS} == {
            name: float(name == level) for name in LEVELS
        }


def test_what_the_caller_knows(metrics: Metrics) -> None:
    metrics.sample(VIEW, feed_age_ns=NS_PER_S // 4, inbox_length=3, tasks=9)
    metrics.sample(VIEW, dropped_frames=5, journal_bytes=1_000)
    metrics.sample(VIEW, dropped_frames=7, journal_bytes=1_000)
    found = scrape(metrics)
    assert found["mmbot_feed_age_seconds"] == 0.25
    assert found["mmbot_inbox_length"] == 3
    assert found["mmbot_tasks"] == 9
    assert found["mmbot_dropped_frames_total"] == 7
    assert found["mmbot_journal_bytes_total"] == 1_000
    with pytest.raises(AssertionError, match="a total fell from 7 to 6"):
        metrics.sample(VIEW, dropped_frames=6)


def test_durations(metrics: Metrics) -> None:
    metrics.observe_loop_lag(3 * NS_PER_S // 1_000)
    metrics.observe_decide(40_000)
    metrics.observe_decide(60_000)
    found = scrape(metrics)
    assert found["mmbot_loop_lag_seconds_bucket{le=0.0025}"] == 0
    assert found["mmbot_loop_lag_seconds_bucket{le=0.005}"] == 1
    assert found["mmbot_loop_lag_seconds_sum"] == pytest.approx(0.003)
    assert found["mmbot_decide_duration_seconds_bucket{le=5e-05}"] == 1
    assert found["mmbot_decide_duration_seconds_count"] == 2


def test_causes_are_bounded(metrics: Metrics) -> None:
    for n in range(1_000):
        metrics.reconnected(f"cause {n}")
    found = scrape(metrics)
    series = {n: v for n, v in found.items() if n.startswith("mmbot_reconnects_total")}
    assert len(series) == CAUSES_MAX
    assert sum(series.values()) == 1_000
    assert series["mmbot_reconnects_total{cause=other}"] == 1_000 - CAUSES_MAX + 1


def test_a_long_run_needs_no_more_memory(metrics: Metrics) -> None:
    decisions = [Place("a", Side.BUY, 1, 1, 0), Cancel("a"), Trip("PAUSED", "depth", {})]

    def day() -> None:
        for n in range(500):
            metrics.decided(n, decisions)
            metrics.learned(Filled(n, "a", "t", Side.BUY, 1, 1, True))
            metrics.sample(VIEW, inbox_length=n)

    day()
    tracemalloc.start()
    try:
        day()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        day()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000
