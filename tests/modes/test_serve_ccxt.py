"""Unmodified ccxt on the served market: it must see what the exchange has, id by id."""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest

from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.modes.serve import Market, new_server
from bot.shell.clock import Clock
from bot.sim.exchange import Printed, Private, Public
from tests.shell.fakemarket import SPOT, USDM
from tests.shell.test_venueserver import pointed
from tests.shell.wire import eventually

SPEED = 4.0
LEVELS = 300  # ccxt begins with 1,000; what comes in from behind those it cannot know
BOOKS = 40
TRADES = 20
PATIENCE_S = 120.0

Book = dict[str, list[tuple[int, int]]]


class Witness:
    """A market that notes its best levels at every update id, and all that it printed."""

    def __init__(self, market: Market, instrument: Instrument) -> None:
        self.exchange = self
        self.flow = self
        self.printed: dict[int, Printed] = {}
        self.books: dict[int, Book] = {}
        self._market = market
        self._tick, self._lot = float(instrument.tick), float(instrument.lot)
        self._note()

    @property
    def update_id(self) -> int:
        return self._market.exchange.update_id

    def levels(self, side: Side, limit: int) -> Sequence[tuple[int, int]]:
        return self._market.exchange.levels(side, limit)

    def drain(self) -> Sequence[Public | Private]:
        events = self._market.exchange.drain()
        self.printed |= {e.trade_id: e for e in events if isinstance(e, Printed)}
        return events

    def advance(self, now: int) -> None:
        self._market.flow.advance(now)
        self._note()

    def feed_stalled(self, now: int) -> bool:
        return self._market.flow.feed_stalled(now)

    def _note(self) -> None:
        if self.update_id not in self.books:
            self.books[self.update_id] = {
                name: list(self.levels(side, LEVELS))
                for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks"))
            }

    def ticks(self, price: float) -> int:
        return round(price / self._tick)

    def lots(self, quantity: float) -> int:
        return round(quantity / self._lot)

    def read(self, levels: Iterable[Any]) -> list[tuple[int, int]]:
        """Levels of ccxt's as ours."""
        return [(self.ticks(price), self.lots(quantity)) for price, quantity, *_ in levels]

    def check_book(self, book: Any) -> None:
        """It is what the exchange had at its id."""
        own = self.books[book["nonce"]]
        assert min(len(own["bids"]), len(own["asks"])) == LEVELS
        for name in ("bids", "asks"):
            assert self.read(book[name])[:LEVELS] == own[name]

    def check_trades(self, trades: list[Any]) -> None:
        """None is missing, and each is the exchange's own, or all of a taker at one price."""
        spans = [
            (int(trade["info"].get("f", trade["id"])), int(trade["info"].get("l", trade["id"])))
            for trade in trades
        ]
        for (_, last), (first, _) in pairwise(spans):
            assert first == last + 1
        for trade, (first, last) in zip(trades, spans, strict=True):
            own = [self.printed[trade_id] for trade_id in range(first, last + 1)]
            assert {one.taker_order for one in own} == {own[0].taker_order}
            assert {one.tick for one in own} == {self.ticks(trade["price"])}
            assert {one.aggressor.name.lower() for one in own} == {trade["side"]}
            assert sum(one.lots for one in own) == self.lots(trade["amount"])

    def check_ticker(self, ticker: Any) -> None:
        """A day's numbers are those of all prints up to one of them."""
        prints = list(self.printed.values())
        volumes = list(accumulate(own.lots for own in prints))
        counted = volumes.index(self.lots(ticker["baseVolume"])) + 1
        ticks = [own.tick for own in prints[:counted]]
        told = [self.ticks(ticker[name]) for name in ("open", "low", "high", "last")]
        assert told == [ticks[0], min(ticks), max(ticks), ticks[-1]]
        assert ticker["info"].get("n", counted) == counted
        if ticker["bid"] is not None:
            touch = [(ticker["bid"], ticker["bidVolume"]), (ticker["ask"], ticker["askVolume"])]
            touches = [[own["bids"][0], own["asks"][0]] for own in self.books.values()]
            assert self.read(touch) in touches


async def watch_books(peer: Any, symbol: str, witness: Witness) -> None:
    """Follow the book while it moves."""
    seen: dict[int, None] = {}
    while len(seen) < BOOKS:
        book = await peer.watch_order_book(symbol)
        witness.check_book(book)
        seen[book["nonce"]] = None


async def watch_trades(peer: Any, symbol: str) -> list[Any]:
    """Some trades, oldest first."""
    found: dict[int, Any] = {}
    while len(found) < TRADES:
        found |= {int(trade["id"]): trade for trade in await peer.watch_trades(symbol)}
    return [trade for _, trade in sorted(found.items())]


@pytest.mark.parametrize(
    ("instrument", "name", "symbol"),
    [(SPOT, "binance", "BTC/USDT"), (USDM, "binanceusdm", "BTC/USDT:USDT")],
)
async def test_ccxt_sees_the_simulated_exchange(
    instrument: Instrument, name: str, symbol: str
) -> None:
    import ccxt.pro

    server = new_server(instrument, Clock(), scenario="calm", seed=1, speed=SPEED)
    assert isinstance(server.market, Market)
    server.market = witness = Witness(server.market, instrument)
    async with asyncio.timeout(PATIENCE_S), server:
        peer = pointed(getattr(ccxt.pro, name)({"enableRateLimit": False}), server.port)
        try:
            await peer.load_markets()
            assert list(peer.markets) == [symbol]
            precision = peer.market(symbol)["precision"]
            assert precision["price"] == float(instrument.tick)
            assert precision["amount"] == float(instrument.lot)
            witness.check_book(await peer.fetch_order_book(symbol, 1_000))
            async with asyncio.TaskGroup() as group:
                trades = group.create_task(watch_trades(peer, symbol))
                group.create_task(watch_books(peer, symbol, witness))
            witness.check_trades(trades.result())
            witness.check_trades(await peer.fetch_trades(symbol))
            for kind in ("miniTicker", "ticker"):  # ccxt's default, and the one that tells more
                witness.check_ticker(await peer.watch_ticker(symbol, {"name": kind}))
            witness.check_ticker(await peer.fetch_ticker(symbol))
        finally:
            await peer.close()
        await eventually(lambda: server.stats().sockets.clients == 0)
    assert server.stats().sockets.cut == 0
