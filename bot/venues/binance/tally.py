"""What a venue remembers of its trades: the last ones, candles, and a day's statistics.

Prices are ticks, quantities lots, values sums of tick x lots, times ms since the epoch.
"""

from collections import deque
from typing import Final

import msgspec

from bot.domain.units import Side

TRADES_MAX: Final = 1_000  # the most that GET trades and aggTrades may ask for
CANDLES_MAX: Final = 1_500
MINUTE_MS: Final = 60_000
INTERVALS: Final = {
    "1m": 1,
    "3m": 3,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "4h": 240,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "1d": 1_440,
}  # in minutes


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One execution."""

    at: int
    trade_id: int
    tick: int
    lots: int
    aggressor: Side


class Aggregate(msgspec.Struct, gc=False):
    """What one taker order traded at one price."""

    aggregate_id: int
    at: int
    tick: int
    lots: int
    first_id: int
    last_id: int
    aggressor: Side
    taker_order: int


class Candle(msgspec.Struct, gc=False):
    """Trades of a span of time that opened at `opened`."""

    opened: int
    open: int = 0
    high: int = 0
    low: int = 0
    close: int = 0
    lots: int = 0
    value: int = 0
    bought_lots: int = 0
    bought_value: int = 0
    first_id: int = -1
    last_id: int = -1
    count: int = 0

    def add(self, other: "Candle") -> None:
        """Append a later span."""
        if other.count == 0:
            return
        if self.count == 0:
            self.open, self.high, self.low = other.open, other.high, other.low
            self.first_id = other.first_id
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.close, self.last_id = other.close, other.last_id
        self.lots += other.lots
        self.value += other.value
        self.bought_lots += other.bought_lots
        self.bought_value += other.bought_value
        self.count += other.count


class Tally:
    """One symbol's trades. `day` covers the time since `since`, however long."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.day = Candle(since)
        self.last_lots = 0
        self.trades: deque[Trade] = deque(maxlen=TRADES_MAX)
        self.aggregates: deque[Aggregate] = deque(maxlen=TRADES_MAX)
        self._minutes: deque[Candle] = deque(maxlen=CANDLES_MAX)
        self._growing: Aggregate | None = None  # may take in more trades
        self._aggregate_id = 0  # of the last one that began

    def add(self, trade: Trade, taker_order: int) -> Aggregate | None:
        """Learn a trade; returns the aggregate that it ended, if any."""
        bought = trade.lots if trade.aggressor == Side.BUY else 0
        candle = Candle(
            opened=trade.at - trade.at % MINUTE_MS,
            open=trade.tick,
            high=trade.tick,
            low=trade.tick,
            close=trade.tick,
            lots=trade.lots,
            value=trade.tick * trade.lots,
            bought_lots=bought,
            bought_value=trade.tick * bought,
            first_id=trade.trade_id,
            last_id=trade.trade_id,
            count=1,
        )
        self.day.add(candle)
        if self._minutes and self._minutes[-1].opened >= candle.opened:
            self._minutes[-1].add(candle)
        else:
            self._minutes.append(candle)
        self.last_lots = trade.lots
        self.trades.append(trade)
        return self._aggregate(trade, taker_order)

    def _aggregate(self, trade: Trade, taker_order: int) -> Aggregate | None:
        last = self._growing
        if last is not None and (last.taker_order, last.tick) == (taker_order, trade.tick):
            last.lots += trade.lots
            last.last_id = trade.trade_id
            return None
        ended = self.end_aggregate()
        self._aggregate_id += 1
        self._growing = Aggregate(
            self._aggregate_id,
            trade.at,
            trade.tick,
            trade.lots,
            trade.trade_id,
            trade.trade_id,
            trade.aggressor,
            taker_order,
        )
        return ended

    def end_aggregate(self) -> Aggregate | None:
        """No more of the last taker order will come: its aggregate."""
        ended, self._growing = self._growing, None
        if ended is not None:
            self.aggregates.append(ended)
        return ended

    def candles(self, interval: str) -> list[tuple[int, Candle]]:
        """(first ms behind it, candle), oldest first; spans without a trade are absent.

        Raises KeyError for an unknown interval.
        """
        span = INTERVALS[interval] * MINUTE_MS
        found: list[Candle] = []
        for minute in self._minutes:
            opened = minute.opened - minute.opened % span
            if not found or found[-1].opened != opened:
                found.append(Candle(opened))
            found[-1].add(minute)
        return [(candle.opened + span, candle) for candle in found]

    def last_candle(self, interval: str) -> tuple[int, Candle] | None:
        """The newest of `candles`."""
        found = self.candles(interval)
        return found[-1] if found else None

    def __repr__(self) -> str:
        return f"<Tally trades={self.day.count} last={self.day.close}>"
