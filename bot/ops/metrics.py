"""The numbers of a run for Prometheus, in a registry of their own.

Facts are counted as they happen; the state of the engine is copied by `sample`, as often as
its caller likes. Money is in quote currency, positions in base currency, times in seconds.
"""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Resync, Trip
from bot.domain.events import (
    AmendRejected,
    Event,
    FeedEvent,
    FeedLost,
    Filled,
    FillRecovered,
    Obstructed,
    OrderExpired,
    OrderRejected,
    OutcomeLost,
    PositionAdopted,
)
from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_S, Side
from bot.domain.view import View

CAUSES_MAX: Final = 64  # series of one metric; further causes are counted as OTHER
OTHER: Final = "other"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"  # what any Prometheus reads

LEVELS: Final = ("ACTIVE", "WIDEN", "ONE_SIDED", "REDUCE_ONLY", "PAUSED", "HALTED", "LOCKED")

# From a busy loop's usual lag to a stall that costs money; and from one cheap decision
# to one that a frame should never wait for.
LAG_BUCKETS_S: Final = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
DECIDE_BUCKETS_S: Final = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.1)


class Metrics:
    """All metrics of one run; one of the eyes of the pump.

    Every call is cheap, allocates no series once its labels are known, and never waits.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._registry = CollectorRegistry()
        # Memory, descriptors and processor time, read from the system at each scrape.
        ProcessCollector(namespace="mmbot", registry=self._registry)
        self._tick = float(instrument.tick)
        self._lot = float(instrument.lot)
        self._make_counters()
        self._make_gauges()
        self._level = LEVELS[0]
        info = self._gauge("instrument_info", "What is traded; always 1.", "venue", "symbol")
        info.labels(instrument.venue, instrument.symbol).set(1)

    def _make_counters(self) -> None:
        count = self._counter
        placed = count("orders_placed_total", "Orders sent to the venue.", "side")
        fills = count("fills_total", "Executions of own orders.", "side", "liquidity")
        volume = count("filled_base_total", "Traded quantity, base currency.", "side")
        self._placed = {side: placed.labels(side.name) for side in Side}
        self._fills = {
            (side, maker): fills.labels(side.name, "maker" if maker else "taker")
            for side in Side
            for maker in (True, False)
        }
        self._volume = {side: volume.labels(side.name) for side in Side}
        self._cancelled = count("orders_cancelled_total", "Cancels sent to the venue.")
        self._amended = count("orders_amended_total", "Amends sent to the venue.")
        self._amends_rejected = count("amends_rejected_total", "Amends that the venue refused.")
        self._expired = count("orders_expired_total", "Orders that the venue itself took out.")
        self._adopted = count("positions_adopted_total", "Positions taken over from the venue.")
        self._rejected = count("orders_rejected_total", "Orders that the venue refused.")
        self._outcomes_lost = count(
            "outcomes_lost_total", "Requests whose outcome nobody could tell."
        )
        self._decisions = count("decisions_total", "Times that the engine decided.")
        self._distrusts = count("book_distrusted_total", "Times that the book lost its trust.")
        self._halts = ByCause(count("halts_total", "Breakers that tripped.", "cause"))
        self._rearms = ByCause(count("rearms_total", "Breakers that let go.", "cause"))
        self._obstacles = ByCause(
            count("obstructions_total", "Times that orders could not be relied on.", "cause")
        )
        self._resyncs = ByCause(count("resyncs_total", "Books thrown away.", "cause"))
        self._losses = ByCause(count("feed_losses_total", "Interruptions of the feed.", "cause"))
        self._reconnects = ByCause(count("reconnects_total", "Connections made anew.", "cause"))
        self._dropped = Total(count("dropped_frames_total", "Market frames without room."))
        self._journal = Total(count("journal_bytes_total", "Bytes written to the journal."))
        self._loop_lag = Histogram(
            "mmbot_loop_lag_seconds",
            "How late the event loop calls.",
            buckets=LAG_BUCKETS_S,
            registry=self._registry,
        )
        self._decide = Histogram(
            "mmbot_decide_duration_seconds",
            "Time of one decision.",
            buckets=DECIDE_BUCKETS_S,
            registry=self._registry,
        )

    def _make_gauges(self) -> None:
        gauge = self._gauge
        self._position = gauge("position_base", "Position, base currency; negative is short.")
        self._equity = gauge("equity_quote", "Cash and position at the mid since the start.")
        pnl = gauge("pnl_quote", "Parts of the profit; fees are costs and positive.", "part")
        parts = ("spread", "inventory", "maker_fees", "rebates", "taker_fees", "funding")
        self._pnl = {part: pnl.labels(part) for part in (*parts, "unexplained")}
        self._fair = gauge("fair_price_quote", "What the bot holds to be the fair price.")
        self._reservation = gauge("reservation_price_quote", "The middle of the own quotes.")
        self._half_spread = gauge("half_spread_quote", "Distance of the innermost own quotes.")
        self._market_spread = gauge("market_spread_quote", "Best ask less best bid.")
        sigma = gauge("sigma_bp_per_sqrt_second", "Volatility, basis points per √s.", "window")
        self._sigma = {window: sigma.labels(window) for window in ("used", "fast", "slow")}
        self._gamma = gauge("gamma_multiplier_ratio", "Risk aversion over that of calm markets.")
        level = gauge("level", "1 for the level of the breakers that holds.", "level")
        self._levels = {name: level.labels(name) for name in LEVELS}
        self._levels[LEVELS[0]].set(1)
        self._trusted = gauge("book_trusted", "1 while the book may be quoted on.")
        self._feed_lag = gauge("feed_lag_seconds", "Lag of the feed above its usual one.")
        self._feed_age = gauge("feed_age_seconds", "Time since the feed last said anything.")
        self._working = gauge("orders_working", "Own orders that may still trade.")
        self._inbox = gauge("inbox_length", "Frames and events that wait for the engine.")
        self._tasks = gauge("tasks", "Tasks of the event loop.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mmbot_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"mmbot_{name}", text, labels, registry=self._registry)

    # --- facts --------------------------------------------------------------------------

    def trust(self, now: int, trusted: bool) -> None:
        """The book became trusted, or stopped being so."""
        self._trusted.set(trusted)
        if not trusted:
            self._distrusts.inc()

    def learned(self, event: Event | FeedEvent, engine: object = None) -> None:
        """An event was applied."""
        match event:
            case Filled() | FillRecovered():
                self._fills[event.side, event.maker].inc()
                self._volume[event.side].inc(event.lots * self._lot)
            case OrderRejected():
                self._rejected.inc()
            case OutcomeLost():
                self._outcomes_lost.inc()
            case AmendRejected():
                self._amends_rejected.inc()
            case OrderExpired():
                self._expired.inc()
            case PositionAdopted():
                self._adopted.inc()
            case Obstructed():
                self._obstacles.inc(event.what)
            case FeedLost():
                self._losses.inc(event.cause)
            case _:
                pass  # of no interest

    def decided(self, now: int, decisions: Sequence[Decision], engine: object = None) -> None:
        """A decision was made."""
        self._decisions.inc()
        for decision in decisions:
            match decision:
                case Place():
                    self._placed[decision.side].inc()
                case Amend():
                    self._amended.inc()
                case Cancel():
                    self._cancelled.inc()
                case Trip():
                    self._halts.inc(decision.cause)
                case Rearm():
                    self._rearms.inc(decision.cause)
                case Resync():
                    self._resyncs.inc(decision.reason)

    def reconnected(self, cause: str) -> None:
        """A connection was made anew, because of `cause`."""
        self._reconnects.inc(cause)

    def observe_loop_lag(self, lag_ns: int) -> None:
        """The event loop called so much later than it was asked to."""
        self._loop_lag.observe(lag_ns / NS_PER_S)

    def observe_decide(self, duration_ns: int) -> None:
        """One decision took so long."""
        self._decide.observe(duration_ns / NS_PER_S)

    # --- state --------------------------------------------------------------------------

    def sample(
        self,
        view: View,
        *,
        feed_age_ns: int | None = None,
        inbox_length: int | None = None,
        dropped_frames: int | None = None,
        journal_bytes: int | None = None,
        tasks: int | None = None,
    ) -> None:
        """Copy the state of the engine, and of what else the caller knows.

        `dropped_frames` and `journal_bytes` are totals since the start and never fall.
        """
        tick, pnl = self._tick, view.pnl
        self._position.set(view.position_lots * self._lot)
        self._equity.set(float(pnl.total))
        for part, series in self._pnl.items():
            series.set(float(getattr(pnl, part)))
        if view.trusted:  # else the last prices stand: those of a broken book mean nothing
            self._fair.set(view.fair_ticks * tick)
            self._market_spread.set((view.ask_tick - view.bid_tick) * tick)
        self._reservation.set(view.reservation_ticks * tick)
        self._half_spread.set(view.half_spread_ticks * tick)
        self._sigma["used"].set(view.sigma_bp)
        self._sigma["fast"].set(view.sigma_fast_bp)
        self._sigma["slow"].set(view.sigma_slow_bp)
        self._gamma.set(view.gamma_multiplier)
        self._trusted.set(view.trusted)
        self._feed_lag.set(view.age_ns / NS_PER_S)
        self._working.set(len(view.orders))
        if view.level != self._level:
            self._levels[self._level].set(0)
            self._level = view.level
            self._levels[view.level].set(1)
        if feed_age_ns is not None:
            self._feed_age.set(feed_age_ns / NS_PER_S)
        if inbox_length is not None:
            self._inbox.set(inbox_length)
        if tasks is not None:
            self._tasks.set(tasks)
        if dropped_frames is not None:
            self._dropped.set(dropped_frames)
        if journal_bytes is not None:
            self._journal.set(journal_bytes)

    def exposition(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text form, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE

    def __repr__(self) -> str:
        return f"<Metrics level={self._level}>"


class ByCause:
    """A counter by cause whose number of series is bounded whatever the causes are."""

    __slots__ = ("_counter", "_series")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._series: dict[str, Counter] = {}

    def inc(self, cause: str) -> None:
        """Count one of `cause`, or of OTHER when there are too many causes already."""
        series = self._series.get(cause)
        if series is None:
            if len(self._series) >= CAUSES_MAX - 1 and cause != OTHER:
                self.inc(OTHER)
                return
            series = self._series[cause] = self._counter.labels(cause)
        series.inc()

    def __repr__(self) -> str:
        return f"<ByCause {sorted(self._series)}>"


class Total:
    """A counter that follows a total counted elsewhere."""

    __slots__ = ("_counter", "_total")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._total = 0

    def set(self, total: int) -> None:
        """Follow to `total`, which never falls."""
        assert total >= self._total, f"a total fell from {self._total} to {total}"
        self._counter.inc(total - self._total)
        self._total = total

    def __repr__(self) -> str:
        return f"Total({self._total})"
