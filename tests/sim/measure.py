"""The same figures of a real market and of the simulated one.

Distances are ticks from a side's own touch, quantities lots; depth is the mean of both
sides at samples `SAMPLE_NS` apart: `depth_10` lies at 10 ticks and more, but less than 50.
The spread's percentiles are over changes of the touch.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bot.domain.instrument import Instrument
from bot.domain.tape import TRADED
from bot.domain.units import BPS, NS_PER_S, Side
from bot.journal.capture import chunks
from bot.market.book import Book
from bot.sim.exchange import Exchange, Printed
from bot.sim.flow import Flow
from bot.sim.habits import FlowParams
from bot.venues.binance.marketdata import MarketData

SAMPLE_NS: Final = NS_PER_S
EDGES: Final = (0, 1, 10, 50, 200, 1_000)

Levels = list[tuple[int, float]]


class Measured(NamedTuple):
    trades_s: float
    trade_median: float
    trade_mean: float
    sign_lag1: float
    touches_s: float  # changes of best prices or of what rests there
    spread_median: float
    spread_p99: float
    sigma_bp: float  # of the mid over one second
    variance_ratio: float  # of moves over five seconds to five times that over one
    depth_0: float
    depth_1: float
    depth_10: float
    depth_50: float
    depth_200: float

    def __str__(self) -> str:
        return " ".join(f"{name}={value:.4g}" for name, value in self._asdict().items())


class Recorder:
    """Collects what `Measured` needs; distances are `tick_scale` ticks of the caller."""

    def __init__(self, tick_scale: int = 1) -> None:
        self._scale = tick_scale
        self._trades: list[tuple[float, int]] = []
        self._touches: list[tuple[int, int, int]] = []
        self._last: tuple[float, ...] = ()
        self._depths: list[np.ndarray] = []
        self._sampled = -SAMPLE_NS

    def trade(self, lots: float, side: int) -> None:
        self._trades.append((lots, side))

    def touch(self, at: int, bid: int, bid_lots: float, ask: int, ask_lots: float) -> None:
        now = (bid, bid_lots, ask, ask_lots)
        if now != self._last:
            self._last = now
            self._touches.append((at, bid, ask))

    def wants_depth(self, at: int) -> bool:
        if at < self._sampled + SAMPLE_NS:
            return False
        self._sampled = at
        return True

    def depth(self, sides: tuple[tuple[Side, Levels], ...]) -> None:
        edges = np.array(EDGES) * self._scale
        edges[1] = 1  # the touch is one level at any scale
        total = np.zeros(len(EDGES))
        for side, levels in sides:
            ticks, lots = np.array(levels).T
            best = ticks.max() if side is Side.BUY else ticks.min()
            zone = np.searchsorted(edges, side * (best - ticks), side="right") - 1
            total += np.bincount(zone, lots, len(EDGES))
        self._depths.append(total[:-1] / 2)

    def measured(self) -> Measured:
        lots, signs = np.array(self._trades).T
        at, bid, ask = np.array(self._touches).T
        seconds = (at[-1] - at[0]) / NS_PER_S
        grid = np.arange(at[0], at[-1], NS_PER_S)
        log_mid = np.log((bid + ask)[np.searchsorted(at, grid, side="right") - 1] / 2)
        one, five = np.diff(log_mid), log_mid[5:] - log_mid[:-5]
        return Measured(
            len(lots) / seconds,
            float(np.median(lots)),
            float(lots.mean()),
            float(np.corrcoef(signs[:-1], signs[1:])[0, 1]),
            len(at) / seconds,
            float(np.median(ask - bid)),
            float(np.percentile(ask - bid, 99)),
            float(one.std() / BPS),
            float(five.var() / one.var() / 5),
            *np.mean(self._depths, axis=0).tolist(),
        )


def captured(path: Path, instrument: Instrument) -> Measured:
    """Measure a capture; the touch is the fused one, depth what the depth stream shows."""
    codec, book, recorder = MarketData(instrument), Book(), Recorder()
    lot = float(instrument.lot)
    for chunk in chunks([path]):
        for tape in codec.read(chunk):
            for i in range(tape.n):
                row = tape.rows[i]
                book.learn(tape.rows, i, tape.ticks, tape.qtys)
                if row["kind"] == TRADED:
                    recorder.trade(float(row["bid_qty"]) / lot, int(row["side"]))
                if not book.trusted:
                    continue
                h = book.read()
                recorder.touch(h.recv, h.bid, h.bid_qty, h.ask, h.ask_qty)
                if recorder.wants_depth(h.recv):
                    bids, asks = (
                        [(tick, qty / lot) for tick, qty in book.levels(side).items()]
                        for side in (Side.BUY, Side.SELL)
                    )
                    recorder.depth(((Side.BUY, bids), (Side.SELL, asks)))
    return recorder.measured()


def simulated(params: FlowParams, seed: int, seconds: int) -> Measured:
    """Measure the flow alone at its own exchange, event by event."""
    exchange = Exchange()
    flow = Flow(exchange, params, seed)
    exchange.drain()
    recorder = Recorder(params.tick_scale)
    while (now := flow.deadline()) <= seconds * NS_PER_S:
        flow.advance(now)
        for event in exchange.drain():
            if isinstance(event, Printed):
                recorder.trade(event.lots / params.lot_scale, event.aggressor)
        bid, bid_lots, ask, ask_lots = exchange.touch()
        if bid and ask:
            recorder.touch(now, bid, bid_lots, ask, ask_lots)
            if recorder.wants_depth(now):
                sides = tuple(
                    (
                        side,
                        [(tick, lots / params.lot_scale) for tick, lots in exchange.levels(side)],
                    )
                    for side in Side
                )
                recorder.depth(sides)
    return recorder.measured()
