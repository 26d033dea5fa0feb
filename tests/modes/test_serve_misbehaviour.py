"""Unmodified ccxt on an exchange that misbehaves: what it is told, and what is true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt
import ccxt.pro
import pytest

from bot.domain.instrument import Instrument
from bot.modes.serve import API_KEY, API_SECRET, new_server
from bot.shell.clock import Clock
from bot.shell.venueserver import VenueServer
from bot.venues.binance.failures import OPEN_ORDERS, PLACEMENTS, POSITIONS
from tests.shell.fakemarket import SPOT, USDM
from tests.shell.test_venueserver import pointed
from tests.shell.wire import eventually

VENUES = [(SPOT, "binance", "BTC/USDT"), (USDM, "binanceusdm", "BTC/USDT:USDT")]
PATIENCE_S = 30.0


class Stage:
    """A served market with a client on it, who knows nothing of the other side."""

    def __init__(self, server: VenueServer, peer: Any, symbol: str) -> None:
        self.faults = server.misbehave
        self.peer = peer
        self.symbol = symbol
        self._account = server.desk.seats[0].account

    async def place(self, far: float = 0.98, **params: Any) -> Any:
        """A bid that rests far from the market."""
        bid = self.peer.price_to_precision(self.symbol, far * self._touch)
        return await self.peer.create_order(
            self.symbol, "limit", "buy", 0.01, float(bid), {"timeInForce": "GTC", **params}
        )

    async def look(self) -> None:
        self._touch = (await self.peer.fetch_order_book(self.symbol, 5))["bids"][0][0]

    def true(self) -> list[str]:
        """Client ids of the orders that are open in truth."""
        return [order.client_id for order in self._account.open_orders()]

    async def told(self) -> list[str]:
        """Client ids of the orders that a client is told of."""
        orders = await self.peer.fetch_open_orders(self.symbol)
        return [order["clientOrderId"] for order in orders]


@asynccontextmanager
async def staged(instrument: Instrument, name: str, symbol: str) -> AsyncIterator[Stage]:
    options = {"enableRateLimit": False, "apiKey": API_KEY, "secret": API_SECRET}
    server = new_server(instrument, Clock(), scenario="calm", seed=1)
    async with asyncio.timeout(PATIENCE_S), server:
        peer = pointed(getattr(ccxt.pro, name)(options), server.port)
        try:
            await peer.load_markets()
            stage = Stage(server, peer, symbol)
            await stage.look()
            yield stage
        finally:
            await peer.close()


@pytest.mark.parametrize(("instrument", "name", "symbol"), VENUES)
async def test_what_is_told_and_what_is_true(
    instrument: Instrument, name: str, symbol: str
) -> None:
    async with staged(instrument, name, symbol) as stage:
        faults = stage.faults
        faults.lose_reply(PLACEMENTS)
        with pytest.raises(ccxt.NetworkError):
            await stage.place(newClientOrderId="lost-reply")
        faults.fail_after(PLACEMENTS, "503")
        with pytest.raises(ccxt.BaseError):
            await stage.place(newClientOrderId="failed-after")
        faults.fail_before(PLACEMENTS, "503")
        with pytest.raises(ccxt.BaseError):
            await stage.place(newClientOrderId="failed-before")
        faults.lose_request(PLACEMENTS)
        with pytest.raises(ccxt.NetworkError):
            await stage.place(newClientOrderId="lost-request")
        faults.delay_request(PLACEMENTS, 150)
        with pytest.raises(ccxt.InvalidNonce):  # -1021: it came too late
            await stage.place(newClientOrderId="too-late", recvWindow=50)
        faults.delay_request(PLACEMENTS, 50)
        await stage.place(newClientOrderId="late")
        placed = ["lost-reply", "failed-after", "late"]
        assert sorted(stage.true()) == sorted(placed)
        assert sorted(await stage.told()) == sorted(placed)
        faults.forget_newest(times=1)
        assert sorted(await stage.told()) == sorted(placed[:2])
        faults.answer_empty(times=1)
        assert await stage.told() == []
        faults.maintenance()
        with pytest.raises(ccxt.BaseError, match="maintenance"):
            await stage.told()
        assert (await stage.peer.fetch_order_book(symbol, 5))["bids"]
        faults.heal()
        assert sorted(await stage.told()) == sorted(placed)


@pytest.mark.parametrize(("instrument", "name", "symbol"), VENUES)
async def test_lists_that_lag(instrument: Instrument, name: str, symbol: str) -> None:
    async with staged(instrument, name, symbol) as stage:
        stage.faults.lag(OPEN_ORDERS, 60_000)
        stage.faults.lag(POSITIONS, 60_000)
        before = await stage.peer.fetch_balance()
        await stage.place(newClientOrderId="unseen")
        assert stage.true() == ["unseen"]
        assert await stage.told() == []
        assert (await stage.peer.fetch_balance())["USDT"] == before["USDT"]
        stage.faults.heal()
        assert await stage.told() == ["unseen"]
        assert (await stage.peer.fetch_balance())["USDT"] != before["USDT"]


@pytest.mark.parametrize(("instrument", "name", "symbol"), VENUES)
async def test_a_users_events_are_faulty_and_come_back(
    instrument: Instrument, name: str, symbol: str
) -> None:
    async with staged(instrument, name, symbol) as stage:
        heard: list[str] = []

        async def listen() -> None:
            while True:
                orders = await stage.peer.watch_orders(symbol)
                heard.extend(order["clientOrderId"] for order in orders)

        listening = asyncio.create_task(listen())
        try:
            first = 0
            while not heard:  # until the stream is open
                first += 1
                await stage.place(newClientOrderId=f"first-{first}")
                await asyncio.sleep(0.05)
            stage.faults.events.silence()
            lost = stage.faults.events.counts().lost
            await stage.place(newClientOrderId="silent")
            await eventually(lambda: stage.faults.events.counts().lost > lost)
            stage.faults.heal()
            stage.faults.events.delay(100)
            await stage.place(newClientOrderId="late")
            assert "late" not in heard
            await eventually(lambda: "late" in heard)
            assert "silent" not in heard
            stage.faults.heal()
            stage.faults.events.cut()
            with pytest.raises(ccxt.NetworkError):
                await listening
        finally:
            listening.cancel()
            await asyncio.wait([listening])
