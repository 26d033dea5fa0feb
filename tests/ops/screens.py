"""Screens of the states that a run goes through, for the tests of the terminal."""

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from rich.console import Console

from bot.domain.decisions import Rearm, Resync, Trip
from bot.domain.events import FeedLost, FeedOpened, Filled, OrderRejected
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.domain.view import OrderView, PnlView, View
from bot.ops.terminal import EventTicker, Screen, Vitals, render

NOW = 1_760_130_780_123_456_789  # 2025-10-10 21:13:00.123 UTC
BTC = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
SHIB = Instrument(
    "binance-spot", "SHIBUSDT", "SHIB", "USDT", Decimal("0.00000001"), Decimal("1.00")
)
ZERO = Decimal(0)
NO_PNL = PnlView(ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)
PNL = PnlView(
    total=Decimal("11.8423"),
    spread=Decimal("14.2050"),
    inventory=Decimal("-1234.5600") + Decimal("1232.0"),
    maker_fees=ZERO,
    rebates=Decimal("0.5973"),
    taker_fees=Decimal("0.4000"),
    funding=ZERO,
    unexplained=ZERO,
)
BTC_ASKS = tuple(
    (1_156_231 + i * (1 + i // 4), q)
    for i, q in enumerate((1.254, 0.02, 3.011, 0.115, 0.9, 12.5, 0.34, 0.001, 2.2, 7.77, 0.05, 4.1))
)
BTC_BIDS = tuple(
    (1_156_230 - i * (1 + i // 5), q)
    for i, q in enumerate((8.402, 0.5, 0.018, 0.25, 1.75, 0.003, 6.6, 2.0, 0.42, 0.09, 11.25, 3.0))
)


def order(
    n: int, side: Side, tick: int, lots: int, filled: int = 0, state: str = "LIVE"
) -> OrderView:
    return OrderView(f"mm-{n}", side, tick, lots, filled, state)


def waiting() -> Screen:
    """Connected, and no book yet."""
    view = View(
        now=NOW,
        trusted=False,
        distrust="unsynced",
        level="PAUSED",
        causes=("not_ready",),
        bid_tick=0,
        ask_tick=0,
        fair_ticks=0.0,
        sigma_bp=1.4,
        sigma_fast_bp=1.4,
        sigma_slow_bp=1.4,
        base_gamma=0.0,
        gamma=0.0,
        gamma_multiplier=1.0,
        age_ns=0,
        reservation_ticks=0.0,
        half_spread_ticks=0.0,
        position_lots=0,
        bids=(),
        asks=(),
        orders=(),
        pnl=NO_PNL,
    )
    vitals = Vitals(venue="simulated exchange", simulated=True, scenario="calm", run_s=1.2)
    return Screen(view, BTC, vitals, 400)


def quoting(**changes: Any) -> Screen:
    """Two levels a side, one of them beyond what is shown of the book."""
    view = View(
        now=NOW,
        trusted=True,
        distrust="",
        level="ACTIVE",
        causes=(),
        bid_tick=1_156_230,
        ask_tick=1_156_231,
        fair_ticks=1_156_230.87,
        sigma_bp=1.312,
        sigma_fast_bp=1.312,
        sigma_slow_bp=1.198,
        base_gamma=1.234e-05,
        gamma=1.3821e-05,
        gamma_multiplier=1.12,
        age_ns=3 * NS_PER_MS,
        reservation_ticks=1_156_230.31,
        half_spread_ticks=28.4,
        position_lots=12,
        bids=BTC_BIDS,
        asks=BTC_ASKS,
        orders=(
            order(1, Side.BUY, 1_156_227, 10, 4, "PARTIALLY_FILLED"),
            order(2, Side.BUY, 1_156_190, 20),
            order(3, Side.SELL, 1_156_233, 10),
            order(4, Side.SELL, 1_156_280, 20, 0, "PENDING_NEW"),
        ),
        pnl=PNL,
    )
    vitals = Vitals(
        venue="simulated exchange",
        simulated=True,
        scenario="calm",
        run_s=754.0,
        feed_lag_ms=12.4,
        decide_p50_us=46.0,
        decide_p99_us=183.0,
        loop_lag_p99_ms=1.3,
        frames_per_s=842.0,
        placed=1_204,
        cancelled=1_166,
        fills=34,
        two_sided=0.982,
        connections=2,
        reconnects=1,
        gaps=0,
        resyncs=1,
        halts=1,
    )
    return Screen(replace(view, **changes), BTC, vitals, 400, events())


def events() -> tuple[Any, ...]:
    ticker = EventTicker(BTC)
    at = NOW - 60 * NS_PER_S
    ticker.fed(FeedOpened(at, "depth"))
    ticker.trust(at + 310 * NS_PER_MS, True)
    ticker.learned(Filled(at + NS_PER_S, "mm-7", "1", Side.BUY, 1_156_221, 10, True), None)
    ticker.learned(Filled(at + 2 * NS_PER_S, "mm-8", "2", Side.SELL, 1_156_240, 4, False), None)
    ticker.fed(FeedLost(at + 9 * NS_PER_S, "no frame for 3 s", "depth"))
    ticker.trust(at + 9 * NS_PER_S, False)
    trip = Trip("PAUSED", "book_untrusted:disconnect", {"silence_ms": 3021.4})
    ticker.decided(at + 9 * NS_PER_S, [trip, Resync("disconnect")], None)
    ticker.trust(at + 11 * NS_PER_S, True)
    ticker.decided(at + 13 * NS_PER_S, [Rearm("book_untrusted:disconnect", 0.5)], None)
    for i in range(3):
        rejected = OrderRejected(at + 20 * NS_PER_S + i, f"mm-{i}", "would take (-2010)")
        ticker.learned(rejected, None)
    return ticker.events


def long_near_max() -> Screen:
    """The increasing side is off, and the reservation price lies among the bids."""
    screen = quoting(
        level="ONE_SIDED",
        causes=("inventory", "ramp"),
        position_lots=332,
        reservation_ticks=1_156_221.6,
        orders=(order(3, Side.SELL, 1_156_231, 100, 37, "PENDING_CANCEL"),),
    )
    vitals = replace(screen.vitals, simulated=False, venue="binance usdm")
    return replace(screen, vitals=vitals)


def halted() -> Screen:
    """Two causes, the money gone, nothing resting."""
    pnl = replace(
        PNL,
        total=Decimal("-1250.3310"),
        inventory=Decimal("-1264.7334"),
        unexplained=Decimal("0.0001"),
    )
    return quoting(
        level="HALTED",
        causes=("loss_1h", "gamma_withdraw"),
        position_lots=-410,
        gamma_multiplier=63.2,
        gamma=7.8e-4,
        sigma_fast_bp=9.31,
        orders=(),
        pnl=pnl,
    )


def lost() -> Screen:
    """The book went away with an order whose cancel is on its way and one in doubt."""
    return quoting(
        trusted=False,
        distrust="disconnect",
        level="PAUSED",
        causes=("book_untrusted:disconnect",),
        age_ns=3_200 * NS_PER_MS,
        orders=(
            order(1, Side.BUY, 1_156_227, 10, 4, "PENDING_CANCEL"),
            order(3, Side.SELL, 1_156_280, 10, 0, "UNKNOWN"),
        ),
    )


def crossed() -> Screen:
    return quoting(
        trusted=False,
        distrust="crossed",
        level="PAUSED",
        causes=("book_untrusted:crossed",),
        bid_tick=1_156_233,
        bids=((1_156_233, 1.0), *BTC_BIDS[:11]),
        orders=(),
    )


def one_sided() -> Screen:
    return quoting(
        trusted=False,
        distrust="one_sided",
        level="PAUSED",
        causes=("book_untrusted:one_sided", "depth"),
        bid_tick=0,
        bids=(),
        orders=(),
    )


def small_prices() -> Screen:
    """Eight decimals and quantities in billions."""
    screen = quoting(
        bid_tick=1_241,
        ask_tick=1_242,
        fair_ticks=1_241.5,
        reservation_ticks=1_241.62,
        half_spread_ticks=1.1,
        position_lots=-123_456_789,
        bids=tuple((1_241 - i, 987_654_321.0 * (i + 1)) for i in range(12)),
        asks=tuple((1_242 + i, 12_345_678.0 * (i + 1)) for i in range(12)),
        orders=(
            order(1, Side.BUY, 1_240, 40_000_000),
            order(2, Side.SELL, 1_243, 40_000_000, 1_234_567),
        ),
    )
    return replace(screen, instrument=SHIB, max_position_lots=400_000_000)


def ticker_ahead() -> Screen:
    """The price has run through three levels which the depth stream still shows."""
    return quoting(
        bid_tick=1_156_226,
        ask_tick=1_156_229,
        fair_ticks=1_156_227.4,
        reservation_ticks=1_156_226.8,
    )


STATES = {
    "waiting": waiting,
    "quoting": quoting,
    "long_near_max": long_near_max,
    "halted": halted,
    "lost": lost,
    "crossed": crossed,
    "one_sided": one_sided,
    "small_prices": small_prices,
    "ticker_ahead": ticker_ahead,
}

SIZES = ((120, 36), (80, 24))
GOLDEN = Path(__file__).parent / "golden"


def text(screen: Screen, width: int, height: int, encoding: str = "utf-8") -> str:
    """What a terminal without colours shows, without the blanks at the ends of lines."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(
        file=file, width=width, height=height, color_system=None, legacy_windows=False, _environ={}
    )
    console.print(render(screen), end="")
    file.seek(0)
    return "\n".join(line.rstrip() for line in file.read().split("\n")) + "\n"


if __name__ == "__main__":  # python -m tests.ops.screens: write the golden files anew
    for name, state in STATES.items():
        for width, height in SIZES:
            path = GOLDEN / f"{name}_{width}x{height}.txt"
            path.write_text(text(state(), width, height), encoding="utf-8")
