"""The simulated market: it repeats, it resembles the real one, and it reacts."""

import sys
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from time import process_time

import pytest
from msgspec.structs import replace

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_S, Side
from bot.sim.exchange import FLOW, Cancelled, Exchange, Executed, LevelSet, Printed
from bot.sim.flow import Flow
from bot.sim.habits import SPOT, USDM, FlowParams
from bot.sim.scenarios import SCENARIOS, Phase, Scenario
from tests.sim.measure import Measured, captured, simulated

BUY, SELL = Side.BUY, Side.SELL
US = 7

# `captured` of Binance USD-M BTCUSDT, 344 s of 2024-08-08 (tick 0.1, lot 0.001).
RECORDED = Measured(
    trades_s=61.93,
    trade_median=16,
    trade_mean=114.0,
    sign_lag1=0.794,
    touches_s=189.4,
    spread_median=1,
    spread_p99=28,
    sigma_bp=1.299,
    variance_ratio=0.86,
    depth_0=3_679,
    depth_1=944,
    depth_10=3_728,
    depth_50=39_760,
    depth_200=366_800,
)

# Nobody trades on a whim and nothing becomes known: what moves is somebody else's doing.
QUIET = replace(USDM, noise_rate=0.0, news_rate=0.0, diffusion=0.0)

CLIFF_SOON = Scenario("soon", (Phase(1.0), Phase(1.0, depth=0.03)))


def started(params: FlowParams, seed: int = 1) -> tuple[Exchange, Flow]:
    exchange = Exchange()
    flow = Flow(exchange, params, seed)
    exchange.drain()
    return exchange, flow


def until(flow: Flow, seconds: float) -> int:
    now = round(seconds * NS_PER_S)
    flow.advance(now)
    return now


def shown(exchange: Exchange, side: Side, within: float = 1e12) -> int:
    """Lots of a side at less than `within` ticks from its touch."""
    levels = exchange.levels(side)
    return sum(lots for tick, lots in levels if side * (levels[0][0] - tick) < within)


def mid(exchange: Exchange) -> float:
    bid, _, ask, _ = exchange.touch()
    return (bid + ask) / 2


# --- It repeats ----------------------------------------------------------------------------


def digest(params: FlowParams, seed: int, step: int) -> str:
    """What was told in four seconds that were played in steps of `step` ns."""
    exchange = Exchange()
    flow = Flow(exchange, params, seed)
    told = blake2b()
    for now in range(0, 4 * NS_PER_S + 1, step):
        flow.advance(now)
        for event in exchange.drain():
            told.update(repr(event).encode())
    return told.hexdigest()


@pytest.mark.parametrize("params", [USDM, replace(SPOT, scenario=CLIFF_SOON)])
def test_how_time_is_sliced_changes_nothing(params: FlowParams) -> None:
    steps = (4 * NS_PER_S, NS_PER_S, NS_PER_S // 1_000)
    assert len({digest(params, 1, step) for step in steps}) == 1


def test_a_seed_decides_everything() -> None:
    one, again, other = (digest(USDM, seed, NS_PER_S) for seed in (1, 1, 2))
    assert one == again != other


def test_the_start_only_shifts_time() -> None:
    (early, flow), late = started(USDM), Exchange()
    start = 1_700_000_000 * NS_PER_S
    later = Flow(late, USDM, 1, start)
    assert later.deadline() == flow.deadline() + start
    flow.advance(NS_PER_S)
    later.advance(start + NS_PER_S)
    assert late.levels(BUY) == early.levels(BUY)


def test_advances_to_its_deadline_only() -> None:
    exchange, flow = started(USDM)
    flow.advance(flow.deadline() - 1)
    assert exchange.drain() == []
    before = flow.deadline()
    flow.advance(before)
    assert flow.deadline() > before
    assert repr(flow).startswith("<Flow calm now=")


# --- It resembles the real one -------------------------------------------------------------


def test_recorded_figures_are_the_captures(usdm_capture: Path) -> None:
    btcusdt = Instrument(
        venue="binance-usdm",
        symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=Decimal("0.1"),
        lot=Decimal("0.001"),
    )
    assert captured(usdm_capture, btcusdt) == pytest.approx(RECORDED, rel=0.01)


@pytest.mark.parametrize("seed", range(1, 6))
def test_statistics_are_within_a_factor_of_two_of_the_recorded(seed: int) -> None:
    found = simulated(USDM, seed, 120)
    sys.stdout.write(f"\nrecorded  {RECORDED}\nseed {seed}    {found}\n")
    for name, want in RECORDED._asdict().items():
        assert want / 2 <= getattr(found, name) <= want * 2, name


def test_a_finer_tick_shows_the_same_market() -> None:
    found, want = simulated(SPOT, 1, 120), RECORDED
    assert want.trades_s / 2 <= found.trades_s <= want.trades_s * 2
    assert want.sigma_bp / 2 <= found.sigma_bp <= want.sigma_bp * 2
    assert want.depth_0 / 2 <= found.depth_0 <= want.depth_0 * 2
    assert want.depth_200 / 2 <= found.depth_200 <= want.depth_200 * 2
    assert found.spread_median == 1


@pytest.mark.parametrize("params", [USDM, SPOT])
def test_the_book_is_full_from_the_start(params: FlowParams) -> None:
    exchange, _ = started(params)
    bid, bid_lots, ask, ask_lots = exchange.touch()
    assert (bid, ask) == (params.start_tick, params.start_tick + 1)
    for side, best_lots in ((BUY, bid_lots), (SELL, ask_lots)):
        assert len(exchange.levels(side, 1_000)) == 1_000
        assert best_lots > 1_000 * params.lot_scale
        zone = (RECORDED.depth_0, RECORDED.depth_1, RECORDED.depth_10, RECORDED.depth_50)
        near = shown(exchange, side, 200 * params.tick_scale) / params.lot_scale
        assert sum(zone) / 2 < near < sum(zone) * 4


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("params", [USDM, SPOT])
def test_the_public_stream_builds_the_book(params: FlowParams, name: str) -> None:
    exchange = Exchange()
    flow = Flow(exchange, replace(params, scenario=SCENARIOS[name]), 1)
    book: dict[Side, dict[int, int]] = {BUY: {}, SELL: {}}
    update_id = 0
    for second in range(32):
        until(flow, second)
        for event in exchange.drain():
            if isinstance(event, LevelSet):
                update_id += 1
                assert event.update_id == update_id
                book[event.side].pop(event.tick, None)
                if event.lots:
                    book[event.side][event.tick] = event.lots
        assert max(book[BUY]) < min(book[SELL])
        for side in Side:
            assert dict(exchange.levels(side)) == book[side]
            assert len(book[side]) > 40


def test_levels_that_the_touch_left_are_given_up() -> None:
    exchange, flow = started(replace(QUIET, scenario=SCENARIOS["trend"]))
    until(flow, 69)
    left = [tick for tick, _ in exchange.levels(BUY) if tick < USDM.start_tick - 5_000 + 1_200]
    assert left == []


def test_makers_give_up_prices_between_the_models_ticks() -> None:
    still = {"noise_rate": 0.0, "news_rate": 0.0, "diffusion": 0.0}
    exchange, flow = started(replace(SPOT, **still))
    bid, _, ask, _ = exchange.touch()
    between = [
        (side, best - side * distance)
        for side, best in ((BUY, bid), (SELL, ask))
        for distance in range(105, 505, 40)
    ]
    assert all(tick % SPOT.tick_scale for _, tick in between)
    ids = [exchange.place(0, FLOW, side, tick, 500).order_id for side, tick in between]
    until(flow, 30)
    assert [i for i in ids if exchange.order(i)] == []


def test_runs_ten_times_as_fast_as_the_clock() -> None:
    exchange, flow = started(USDM)
    seconds, before = 20, process_time()
    for second in range(seconds):
        until(flow, second)
        exchange.drain()
    assert process_time() - before < seconds / 10


# --- It reacts -----------------------------------------------------------------------------


def test_a_large_trade_moves_the_book_and_part_of_it_stays() -> None:
    exchange, flow = started(QUIET)
    now = until(flow, 1)
    before, fair = mid(exchange), flow.fair
    exchange.place(now, US, BUY, None, 20_000)
    assert mid(exchange) > before + 2
    flow.advance(flow.deadline())
    impact = 20_000 * QUIET.impact
    assert flow.fair - fair == pytest.approx(impact, rel=0.01)
    until(flow, 1.5)
    assert mid(exchange) - before == pytest.approx(impact, abs=QUIET.band + 5)
    until(flow, 15)
    stays = impact * (1 - QUIET.transient)
    assert flow.fair - fair == pytest.approx(stays, rel=0.01)
    assert mid(exchange) - before == pytest.approx(stays, abs=QUIET.band + 1)
    bid, _, ask, _ = exchange.touch()
    assert ask - bid == 1


def test_a_taken_touch_refills_at_finite_speed() -> None:
    shows = [0, 0, 0]
    for seed in range(1, 6):
        exchange, flow = started(QUIET, seed)
        now = until(flow, 1)
        _, _, ask, lots = exchange.touch()
        exchange.place(now, US, BUY, ask, lots, ioc=True)
        assert exchange.lots(SELL, ask) == 0
        for i, ms in enumerate((20, 200, 3_000)):
            flow.advance(now + ms * NS_PER_S // 1_000)
            shows[i] += shown(exchange, SELL, 1)
    assert 0 < shows[0] < shows[1] < shows[2]
    assert shows[0] < shows[2] / 2 > 1_000


def test_the_book_comes_back_after_a_side_is_gone() -> None:
    exchange, flow = started(QUIET)
    now = until(flow, 1)
    exchange.place(now, US, SELL, None, shown(exchange, BUY))
    assert exchange.best(BUY) is None
    until(flow, 3)
    bid, _, ask, _ = exchange.touch()
    assert 0 < bid < ask < USDM.start_tick
    assert len(exchange.levels(BUY)) > 100


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_clients_order_is_filled_by_others_and_never_cancelled(name: str) -> None:
    exchange, flow = started(replace(USDM, scenario=SCENARIOS[name]))
    now = until(flow, 1)
    for side in Side:
        for distance in (0, 5, 4_000, 60_000):
            best = exchange.best(side)
            assert best is not None
            exchange.place(now, US, side, best[0] - side * distance, 50, post_only=True)
    until(flow, 40)
    events = exchange.drain()
    fills = [event for event in events if isinstance(event, Executed)]
    assert all(fill.maker for fill in fills)
    assert sum(fill.lots for fill in fills) + sum(o.left for o in exchange.orders_of(US)) == 400
    assert sum(fill.lots for fill in fills) >= 100
    assert not [event for event in events if isinstance(event, Cancelled)]


# --- Scenarios -----------------------------------------------------------------------------


def test_trend_carries_the_book_along() -> None:
    exchange, flow = started(replace(QUIET, scenario=SCENARIOS["trend"]))
    until(flow, 70)
    gone = 60 * 0.5e-4 * USDM.start_tick
    assert flow.fair - USDM.start_tick == pytest.approx(gone, abs=2)
    assert mid(exchange) - USDM.start_tick == pytest.approx(gone, abs=USDM.band + 5)


def test_whipsaw_swings_and_returns() -> None:
    exchange, flow = started(replace(QUIET, scenario=SCENARIOS["whipsaw"]))
    swing = 1.5 * 6e-4 * USDM.start_tick
    for turn in range(4):
        until(flow, 6.5 + 3 * turn)
        assert mid(exchange) - USDM.start_tick == pytest.approx(swing, abs=USDM.band + 5)
        until(flow, 8 + 3 * turn)
        assert mid(exchange) - USDM.start_tick == pytest.approx(0, abs=USDM.band + 5)


@pytest.mark.parametrize("params", [USDM, SPOT])
@pytest.mark.parametrize("seed", [1, 2])
def test_depth_falls_off_a_cliff_and_comes_back(params: FlowParams, seed: int) -> None:
    exchange, flow = started(replace(params, scenario=SCENARIOS["cliff"]), seed)
    until(flow, 20)
    before = [shown(exchange, side) for side in Side]
    for seconds in (21, 22, 23, 24, 25):
        until(flow, seconds)
        for side, full in zip(Side, before, strict=True):
            assert 0 < shown(exchange, side) < 0.1 * full
    until(flow, 45)
    for side, full in zip(Side, before, strict=True):
        assert shown(exchange, side) > 0.4 * full
    until(flow, 46)
    assert shown(exchange, BUY) < 0.1 * before[0]


def test_stall_silences_the_feed_and_not_the_market() -> None:
    exchange, flow = started(replace(USDM, scenario=SCENARIOS["stall"]))
    seconds = [second for second in range(52) if flow.feed_stalled(second * NS_PER_S)]
    assert seconds == [*range(20, 26), *range(46, 52)]
    until(flow, 20)
    exchange.drain()
    until(flow, 26)
    assert [event for event in exchange.drain() if isinstance(event, Printed)]
