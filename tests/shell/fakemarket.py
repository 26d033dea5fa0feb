"""A tiny deterministic market with the shape of the simulated exchange."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bot.domain.instrument import Instrument
from bot.domain.units import NS_PER_MS, Side
from bot.sim.exchange import Executed, LevelSet, Printed

SPOT = Instrument(
    "binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"), 1, Decimal(5)
)
USDM = Instrument(
    "binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"), 1, Decimal(100)
)
MIDDLE = 600_000


@dataclass
class FakeExchange:
    update_id: int = 1_000
    trade_id: int = 0
    sides: dict[Side, dict[int, int]] = field(
        default_factory=lambda: {
            Side.BUY: {MIDDLE - 1 - i: 100 + i for i in range(50)},
            Side.SELL: {MIDDLE + 1 + i: 200 + i for i in range(50)},
        }
    )
    happened: list[Any] = field(default_factory=list)
    printed: dict[int, Printed] = field(default_factory=dict)  # every trade by its id

    def levels(self, side: Side, limit: int) -> list[tuple[int, int]]:
        found = sorted(self.sides[side].items(), reverse=side == Side.BUY)
        return found[:limit]

    def drain(self) -> list[Any]:
        happened, self.happened = self.happened, []
        return happened

    def put(self, side: Side, tick: int, lots: int) -> None:
        self.update_id += 1
        if lots:
            self.sides[side][tick] = lots
        else:
            self.sides[side].pop(tick, None)
        self.happened.append(LevelSet(self.update_id, side, tick, lots))

    def trade(self, at: int, tick: int, lots: int, aggressor: Side, taker_order: int = 0) -> None:
        self.trade_id += 1
        taker = taker_order or self.trade_id
        # What the owner of an order learns; the public does not.
        self.happened.append(
            Executed(at, 3, 7, "owned", Side(-aggressor), self.trade_id, tick, lots, True, lots, 0)
        )
        self.printed[self.trade_id] = Printed(at, self.trade_id, tick, lots, aggressor, 7, taker)
        self.happened.append(self.printed[self.trade_id])


@dataclass
class FakeFlow:
    """Every `every` ns one level changes, and every fifth time a trade is printed."""

    exchange: FakeExchange
    every: int = 10 * NS_PER_MS
    turn: int = 0
    next_at: int | None = None
    stalled: bool = False
    running: bool = True

    def deadline(self) -> int:
        return self.next_at or 0

    def advance(self, now: int) -> None:
        if self.next_at is None or not self.running:
            self.next_at = now
        while self.running and self.next_at <= now:
            self._turn(self.next_at)
            self.next_at += self.every

    def _turn(self, at: int) -> None:
        self.turn += 1
        side = Side.BUY if self.turn % 2 else Side.SELL
        tick = MIDDLE - side * (1 + self.turn * 7 % 60)
        self.exchange.put(side, tick, self.turn * 13 % 90)
        if self.turn % 5 == 0:
            self.exchange.trade(at, tick, self.turn % 9 + 1, Side(-side))

    def feed_stalled(self, now: int) -> bool:
        return self.stalled


@dataclass
class FakeMarket:
    exchange: FakeExchange = field(default_factory=FakeExchange)
    flow: FakeFlow = field(init=False)

    def __post_init__(self) -> None:
        self.flow = FakeFlow(self.exchange)
