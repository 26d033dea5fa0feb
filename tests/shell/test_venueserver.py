import asyncio
import json
import time
from decimal import Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from bot.domain.instrument import Fees, Instrument
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.shell.venueserver import BEHIND_NS_MAX, Client, VenueServer
from bot.sim.account import Account
from bot.sim.exchange import FLOW, Exchange
from bot.venues.binance.failures import anything
from bot.venues.binance.signing import signature_of
from tests.shell.fakemarket import MIDDLE, SPOT, USDM, FakeMarket
from tests.shell.wire import Clock, client, descriptors, eventually, frame, get, heard, silent

S = "btcusdt"


class Stage:
    """A server whose clock and steps the test moves; entered, it listens."""

    def __init__(self, instrument: Instrument = SPOT, **options: Any) -> None:
        self.clock = Clock()
        self.market = FakeMarket()
        self.market.flow.running = False
        self.server = VenueServer(self.market, instrument, self.clock, **options)

    async def __aenter__(self) -> "Stage":
        await self.server.sockets.start()  # without its driver
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()

    @property
    def port(self) -> int:
        return self.server.port

    def step(self, ms: float) -> None:
        self.clock.now += round(ms * NS_PER_MS)
        self.server.step(self.clock.now)

    def put(self, tick: int, lots: int) -> None:
        side = Side.BUY if tick <= MIDDLE else Side.SELL
        self.market.exchange.put(side, tick, lots)

    async def subscribed(self, count: int = 1) -> None:
        await eventually(lambda: self.server.stats().sockets.subscriptions == count)
        self.step(0)


# --- What is said --------------------------------------------------------------------------


async def test_one_step_writes_trades_then_best_prices_then_depth() -> None:
    names = "/".join(f"{S}@{kind}" for kind in ("depth@0ms", "bookTicker", "trade", "aggTrade"))
    async with Stage(USDM) as stage, client(stage.port, f"/stream?streams={names}") as ws:
        await stage.subscribed(4)
        first = await heard(ws)
        assert first["stream"] == f"{S}@bookTicker"
        now = stage.clock.now
        stage.put(MIDDLE + 1, 0)
        stage.market.exchange.trade(now + NS_PER_MS, MIDDLE + 1, 200, Side.BUY, taker_order=5)
        stage.put(MIDDLE - 1, 7)
        stage.market.exchange.trade(now + NS_PER_MS, MIDDLE + 1, 3, Side.BUY, taker_order=5)
        stage.step(5)
        found = [await heard(ws) for _ in range(5)]
        kinds = [message["stream"].partition("@")[2] for message in found]
        assert kinds == ["trade", "trade", "aggTrade", "bookTicker", "depth@0ms"]
        trade, _, aggregate, ticker, depth = (message["data"] for message in found)
        assert (trade["T"], trade["E"]) == (now // NS_PER_MS + 1, now // NS_PER_MS + 5)
        assert (aggregate["q"], aggregate["f"], aggregate["l"]) == ("0.203", 1, 2)
        assert ticker["u"] == depth["u"] == stage.market.exchange.update_id
        assert (ticker["B"], ticker["a"]) == ("0.007", "60000.20")
        assert depth["b"] == [["59999.90", "0.007"]]
        assert depth["a"] == [["60000.10", "0.000"]]


async def test_virtual_time_runs_at_its_speed_and_written_times_are_the_walls() -> None:
    stage = Stage(SPOT, speed=5.0, start=1_000)
    async with stage, client(stage.port, f"/ws/{S}@trade/{S}@depth@100ms") as ws:
        await stage.subscribed(2)
        began = stage.clock.now
        assert stage.server.virtual(began) == 1_000
        stage.put(MIDDLE, 1)
        stage.market.exchange.trade(1_000 + 50 * NS_PER_MS, MIDDLE, 1, Side.SELL)
        stage.step(19)
        trade = await heard(ws)
        assert trade["T"] == began // NS_PER_MS + 10  # 50 ms later for the market
        assert trade["m"] is True
        assert await silent(ws)
        stage.step(1)
        assert (await heard(ws))["e"] == "depthUpdate"  # 100 ms of the market, 20 of the wall


async def test_a_pause_of_the_machine_is_no_time_of_the_market() -> None:
    stage = Stage(SPOT, speed=2.0, start=0)
    stage.step(5)
    stage.step(60_000)
    behind = 60 * NS_PER_S - BEHIND_NS_MAX
    assert stage.server.stats().behind_ns == behind
    assert stage.server.virtual(stage.clock.now) == 2 * (5 * NS_PER_MS + BEHIND_NS_MAX)
    stage.step(-1_000)  # a clock that was set back does not turn the market back
    stage.step(0)


@pytest.mark.parametrize("instrument", [SPOT, USDM])
async def test_split_paths_carry_their_category(instrument: Instrument) -> None:
    async with (
        Stage(instrument) as stage,
        client(stage.port, "/public/ws/0") as public,
        client(stage.port, f"/market/stream?streams={S}@aggTrade/{S}@trade") as market,
    ):
        params = [f"{S}@trade", f"{S}@aggTrade"]
        await public.send_json({"method": "SUBSCRIBE", "params": params, "id": 1})
        assert (await heard(public))["result"] is None
        await stage.subscribed(2)
        stage.market.exchange.trade(stage.clock.now, MIDDLE, 1, Side.BUY)
        stage.step(5)
        assert (await heard(public))["e"] == "trade"
        assert (await heard(market))["stream"] == f"{S}@aggTrade"
        assert await silent(public)


async def test_streams_of_other_symbols_are_silent() -> None:
    async with Stage() as stage, client(stage.port, "/ws/ethusdt@trade") as ws:
        await stage.subscribed()
        stage.market.exchange.trade(stage.clock.now, MIDDLE, 1, Side.BUY)
        stage.step(5)
        assert await silent(ws)


async def test_rest_shows_the_same_market() -> None:
    async with Stage(USDM) as stage:
        stage.put(MIDDLE, 9)
        stage.market.exchange.trade(stage.clock.now, MIDDLE, 4, Side.SELL)
        stage.step(5)
        status, book, headers = await get(stage.port, "/fapi/v1/depth?symbol=BTCUSDT&limit=5")
        assert (status, book["lastUpdateId"]) == (200, stage.market.exchange.update_id)
        assert book["bids"][0] == ["60000.00", "0.009"]
        assert len(book["asks"]) == 5
        assert headers["X-MBX-USED-WEIGHT-1M"] == "2"
        _, trades, headers = await get(stage.port, "/fapi/v1/trades?symbol=BTCUSDT")
        assert [trade["qty"] for trade in trades] == ["0.004"]
        assert headers["X-MBX-USED-WEIGHT-1M"] == "7"


async def test_rest_errors_and_unknown_paths() -> None:
    async with Stage() as stage:
        status, error, _ = await get(stage.port, "/api/v3/depth?symbol=ETHUSDT")
        assert (status, error["code"]) == (400, -1121)
        for path, method in [("/api/v3/nothing", "GET"), ("/api/v3/depth", "POST")]:
            status, error, _ = await get(stage.port, path, method)
            assert (status, error["error"]) == (404, "Not Found")
        for _ in range(24):
            await get(stage.port, "/api/v3/depth?symbol=BTCUSDT&limit=5000")
        status, error, _ = await get(stage.port, "/api/v3/ping")
        assert (status, error["code"]) == (429, -1003)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            async with client(stage.port, "/ws/" + "x" * 300 + "@trade"):
                pass


# --- What goes wrong -----------------------------------------------------------------------


async def depth_ids(ws: Any, count: int) -> list[tuple[int, int]]:
    found = [await heard(ws) for _ in range(count)]
    return [(message["U"], message["u"]) for message in found]


async def test_a_stalled_feed_loses_what_it_held_back() -> None:
    async with Stage() as stage, client(stage.port, f"/ws/{S}@depth@0ms/{S}@trade") as ws:
        await stage.subscribed(2)
        first = stage.market.exchange.update_id + 1
        for stalled in (False, True, True, False):
            stage.market.flow.stalled = stalled
            stage.put(MIDDLE, 5)
            if stalled:
                stage.market.exchange.trade(stage.clock.now, MIDDLE, 1, Side.BUY)
            stage.step(5)
        assert await depth_ids(ws, 2) == [(first, first), (first + 3, first + 3)]
        assert await silent(ws)
        assert stage.server.stats().held_back == 4
        _, trades, _ = await get(stage.port, "/api/v3/trades?symbol=BTCUSDT")
        assert len(trades) == 2  # the exchange went on


async def test_swallowed_depth_updates_leave_a_gap() -> None:
    async with Stage() as stage, client(stage.port, f"/ws/{S}@depth@0ms") as ws:
        await stage.subscribed()
        first = stage.market.exchange.update_id + 1
        stage.server.swallow(2)
        for _ in range(4):
            stage.put(MIDDLE, 5)
            stage.step(5)
        assert await depth_ids(ws, 2) == [(first + 2, first + 2), (first + 3, first + 3)]
        assert stage.server.stats().swallowed == 2


async def test_a_restart_drops_clients_and_begins_ids_anew() -> None:
    path = f"/ws/{S}@depth@0ms"
    async with Stage() as stage:
        async with client(stage.port, path) as ws:
            await stage.subscribed()
            stage.put(MIDDLE, 5)
            stage.server.restart(first_id=10)
            assert (await ws.receive(10)).type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            )
        await eventually(lambda: stage.server.stats().sockets.clients == 0)
        _, book, _ = await get(stage.port, "/api/v3/depth?symbol=BTCUSDT")
        assert book["lastUpdateId"] == 10
        async with client(stage.port, path) as ws:
            await stage.subscribed()
            stage.put(MIDDLE, 6)
            stage.step(5)
            assert await depth_ids(ws, 1) == [(11, 11)]


async def test_faults_of_connections_are_passed_on() -> None:
    async with Stage() as stage, client(stage.port, f"/ws/{S}@trade") as ws:
        await stage.subscribed()

        def trade() -> None:
            stage.market.exchange.trade(stage.clock.now, MIDDLE, 1, Side.BUY)
            stage.step(5)

        stage.server.mute(60)
        trade()
        stage.server.unmute()
        stage.server.hold(1)
        trade()
        assert await silent(ws)
        stage.step(1_000)
        assert (await heard(ws))["t"] == 2
        stage.server.age(100)
        trade()
        assert await silent(ws)
        stage.server.age(0)
        stage.step(0)
        assert (await heard(ws))["t"] == 3
        stage.server.refuse(True)
        assert (await get(stage.port, "/api/v3/ping"))[0] == 503
        stage.server.cut()
        await eventually(lambda: stage.server.stats().sockets.clients == 0)


async def test_a_market_that_breaks_is_not_swallowed() -> None:
    market = FakeMarket()

    def broken(now: int) -> None:
        raise RuntimeError("broken")

    market.flow.advance = broken  # type: ignore[method-assign]
    server = VenueServer(market, SPOT, time.time_ns)
    await server.start()
    with pytest.raises(RuntimeError, match="broken"):
        await server.wait()
    with pytest.raises(RuntimeError, match="broken"):
        await server.close()


async def test_waiting_ends_with_the_server() -> None:
    server = VenueServer(FakeMarket(), SPOT, time.time_ns)
    await server.wait()  # not started
    await server.start()
    waiting = asyncio.create_task(server.wait())
    await eventually(lambda: server.stats().steps > 1)
    assert not waiting.done()
    await server.close()
    await waiting


async def test_misbehaviour_is_moved_by_the_steps_and_ends_with_the_server() -> None:
    path = "/fapi/v1/ping"
    async with Stage(USDM) as stage:
        stage.server.misbehave.delay_reply(anything, 100)
        late = asyncio.create_task(get(stage.port, path))
        await eventually(lambda: stage.server.misbehave.met("delay_reply"))
        await asyncio.sleep(0)
        stage.step(99)
        assert (await get(stage.port, path))[0] == 200
        assert not late.done()
        stage.step(1)
        assert (await late)[0] == 200
        stage.server.misbehave.partition()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{stage.port}") as session:
            hanging = [
                asyncio.create_task(session.get(path)),
                asyncio.create_task(session.ws_connect("/ws")),
            ]
            await eventually(lambda: "waiting=2" in repr(stage.server.misbehave))
            await stage.server.close()
            for lost in await asyncio.gather(*hanging, return_exceptions=True):
                assert isinstance(lost, aiohttp.ClientError)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_switches_are_reached_from_outside_only_if_asked_for() -> None:
    command = {"name": "events.cut", "arguments": {"stay_shut": True}}
    for switchable, status in ((False, 404), (True, 200)):
        async with (
            Stage(USDM, switchable=switchable) as stage,
            aiohttp.ClientSession(f"http://127.0.0.1:{stage.port}") as session,
        ):
            async with session.post("/_misbehave", json=command) as answer:
                assert answer.status == status
            async with session.get("/_misbehave") as answer:
                assert answer.status == 404
            assert stage.server.misbehave.events.shut is switchable


# --- Unmodified ccxt -----------------------------------------------------------------------


def pointed(exchange: Any, port: int) -> Any:
    """ccxt's object with every address rewritten to loopback, and nothing else."""

    def moved(url: str, scheme: str) -> str:
        path = url.partition("://")[2].partition("/")[2]
        return f"{scheme}://127.0.0.1:{port}/{path}"

    api = exchange.urls["api"]
    for name, url in api.items():
        if isinstance(url, str):
            api[name] = moved(url, "http")
    for part in (api["ws"], api["ws"]["ws-api"]):
        for name, url in part.items():
            if isinstance(url, str):
                part[name] = moved(url, "ws")
    # ccxt tells spot from linear by "/stream" in the address, which the host said before.
    api["ws"]["spot"] = f"ws://127.0.0.1:{port}/stream"
    return exchange


@pytest.mark.parametrize(
    ("instrument", "name", "symbol"),
    [(SPOT, "binance", "BTC/USDT"), (USDM, "binanceusdm", "BTC/USDT:USDT")],
)
async def test_ccxt_agrees_with_the_market(instrument: Instrument, name: str, symbol: str) -> None:
    import ccxt.pro

    market = FakeMarket()
    exchange = market.exchange
    before = descriptors()
    async with VenueServer(market, instrument, time.time_ns, speed=10.0) as server:
        peer = pointed(getattr(ccxt.pro, name)({"enableRateLimit": False}), server.port)
        try:
            async with asyncio.timeout(60):
                await _markets_and_rest(peer, instrument, symbol)
                watched = await _streams(peer, symbol)
                market.flow.running = False
                book = peer.orderbooks[symbol]
                await eventually(lambda: book["nonce"] == exchange.update_id)
        finally:
            await peer.close()
        await eventually(lambda: server.stats().sockets.clients == 0)
        tick, lot = float(instrument.tick), float(instrument.lot)
        for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
            expected = [
                (pytest.approx(t * tick), pytest.approx(q * lot))
                for t, q in exchange.levels(side, 1_000)
            ]
            assert [tuple(level) for level in book[name]] == expected
        assert watched
        for trade in watched:
            own = exchange.printed[int(trade["id"])]
            assert trade["price"] == pytest.approx(own.tick * tick)
            assert trade["amount"] == pytest.approx(own.lots * lot)
            assert trade["side"] == own.aggressor.name.lower()
    await eventually(lambda: descriptors() <= before + 1)


async def _markets_and_rest(peer: Any, instrument: Instrument, symbol: str) -> None:
    await peer.load_markets()
    assert list(peer.markets) == [symbol]
    listed = peer.market(symbol)
    assert listed["precision"] == {
        **listed["precision"],
        "price": float(instrument.tick),
        "amount": float(instrument.lot),
    }
    assert listed["limits"]["cost"]["min"] == float(instrument.min_notional)
    assert abs(await peer.fetch_time() - time.time() * 1_000) < 10_000
    book = await peer.fetch_order_book(symbol, 5)
    assert (len(book["bids"]), len(book["asks"])) == (5, 5)
    assert book["bids"][0][0] < book["asks"][0][0]


async def _streams(peer: Any, symbol: str) -> list[Any]:
    """Use every stream and request once; returns the trades that were watched."""
    for _ in range(5):
        await peer.watch_order_book(symbol)
    watched = list(await peer.watch_trades(symbol))
    touch = (await peer.watch_bids_asks([symbol]))[symbol]
    assert touch["bid"] < touch["ask"]
    ticker = await peer.watch_ticker(symbol)
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    fetched = await peer.fetch_ticker(symbol)
    assert fetched["last"] > 0
    assert list(await peer.fetch_tickers([symbol])) == [symbol]
    assert (await peer.fetch_bids_asks([symbol]))[symbol]["bid"] > 0
    assert (await peer.fetch_trades(symbol))[-1]["price"] > 0
    assert (await peer.fetch_ohlcv(symbol))[-1][5] > 0
    assert (await peer.watch_ohlcv(symbol))[-1][5] > 0
    return watched


async def test_the_driver_keeps_chains_whole() -> None:
    market = FakeMarket()
    server = VenueServer(market, USDM, time.time_ns, speed=20.0)
    async with server, client(server.port, f"/public/ws/{S}@depth@100ms") as ws:
        chain = [json.loads(await frame(ws)) for _ in range(20)]
        for one, two in pairwise(chain):
            assert two["pu"] == one["u"]
            assert two["U"] == one["u"] + 1
    assert server.stats().depth_updates >= 20
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- Trading ------------------------------------------------------------------------------

KEY, SECRET = "a-key", "a-secret"


class Trading(Stage):
    """A stage whose exchange matches, with one client."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        self.exchange = self.market.exchange = Exchange()
        for i in range(1, 6):
            for side in Side:
                self.exchange.place(0, FLOW, side, MIDDLE - side * i, 100)
        self.exchange.drain()
        fees = Fees(Decimal("0.0002"), Decimal("0.0005"))
        deposits = {"USDT": Decimal(10_000), "BTC": Decimal(1)}
        account = Account(self.exchange, instrument, fees, deposits=deposits)
        self.server = VenueServer(
            self.market, instrument, self.clock, clients=[Client(KEY, SECRET, account)]
        )

    async def ask(self, method: str, path: str, **params: Any) -> Any:
        """A signed request."""
        payload = urlencode({"timestamp": self.clock.now // NS_PER_MS} | params)
        payload += "&signature=" + signature_of(SECRET, payload)
        url, body = f"http://127.0.0.1:{self.port}{path}", None
        if method == "POST":
            body = payload
        else:
            url += f"?{payload}"
        headers = {"X-MBX-APIKEY": KEY, "Content-Type": "application/x-www-form-urlencoded"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, URL(url, encoded=True), data=body, headers=headers) as response,
        ):
            return json.loads(await response.text())

    async def place(self, side: Side, tick: int) -> Any:
        order = {
            "symbol": "BTCUSDT", "side": side.name, "type": "LIMIT", "timeInForce": "GTC",
            "quantity": "0.010", "price": f"{self.server.instrument.price(tick):f}",
        }  # fmt: skip
        path = "/fapi/v1/order" if self.server.instrument is USDM else "/api/v3/order"
        return await self.ask("POST", path, **order)


async def test_an_order_is_in_the_market_and_told_before_it_is_answered() -> None:
    async with Trading(USDM) as stage:
        key = (await stage.ask("POST", "/fapi/v1/listenKey"))["listenKey"]
        async with (
            client(stage.port, f"/private/ws?listenKey={key}") as user,
            client(stage.port, f"/ws/{S}@trade") as public,
        ):
            await stage.subscribed(2)
            done = await stage.place(Side.BUY, MIDDLE + 1)
            assert (done["status"], done["executedQty"]) == ("FILLED", "0.010")
            trade = await heard(public)
            assert (trade["q"], trade["m"]) == ("0.010", False)
            told = [await heard(user) for _ in range(3)]
            assert [(one["e"], one.get("o", {}).get("X")) for one in told] == [
                ("ORDER_TRADE_UPDATE", "NEW"),
                ("ORDER_TRADE_UPDATE", "FILLED"),
                ("ACCOUNT_UPDATE", None),
            ]
            assert told[1]["T"] == stage.clock.now // NS_PER_MS == done["updateTime"]
            stage.exchange.place(0, FLOW, Side.SELL, MIDDLE - 1, 1, ioc=True)
            assert await silent(user)


async def test_fills_by_others_are_told_with_the_next_step() -> None:
    async with Trading(USDM) as stage:
        key = (await stage.ask("POST", "/fapi/v1/listenKey"))["listenKey"]
        async with client(stage.port, f"/private/ws?listenKey={key}") as user:
            await stage.subscribed()
            await stage.place(Side.BUY, MIDDLE)
            assert (await heard(user))["o"]["x"] == "NEW"
            at = stage.clock.now + 2 * NS_PER_MS

            def advance(now: int) -> None:
                stage.exchange.place(at, FLOW, Side.SELL, MIDDLE, 4, ioc=True)

            stage.market.flow.advance = advance  # type: ignore[method-assign]
            stage.step(5)
            trade = (await heard(user))["o"]
            assert (trade["x"], trade["l"], trade["T"]) == ("TRADE", "0.004", at // NS_PER_MS)


async def test_an_expired_key_is_the_streams_last_word() -> None:
    async with Trading(USDM) as stage:
        key = (await stage.ask("POST", "/fapi/v1/listenKey"))["listenKey"]
        async with client(stage.port, f"/private/ws?listenKey={key}") as user:
            await stage.subscribed()
            stage.server.expire_listen_key()
            assert (await heard(user))["e"] == "listenKeyExpired"
            other = (await stage.ask("POST", "/fapi/v1/listenKey"))["listenKey"]
            assert other != key
            await stage.place(Side.BUY, MIDDLE)
            assert await silent(user)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with client(stage.port, f"/private/ws?listenKey={key}"):
                pass


async def test_spot_events_come_over_the_web_socket_api() -> None:
    async with Trading(SPOT) as stage, client(stage.port, "/ws-api/v3") as user:
        now = stage.clock.now // NS_PER_MS
        signature = signature_of(SECRET, f"apiKey={KEY}&timestamp={now}")
        params = {"apiKey": KEY, "timestamp": now, "signature": signature}
        message = {"id": 1, "method": "userDataStream.subscribe.signature", "params": params}
        await user.send_json(message)
        assert (await heard(user))["result"] == {"subscriptionId": 0}
        placed = await stage.place(Side.BUY, MIDDLE)
        event = (await heard(user))["event"]
        assert (event["e"], event["i"]) == ("executionReport", placed["orderId"])
        assert (await heard(user))["event"]["e"] == "outboundAccountPosition"
        stage.server.expire_listen_key()
        assert (await heard(user))["event"]["e"] == "eventStreamTerminated"


async def test_funding_is_announced() -> None:
    async with Trading(USDM) as stage:
        status, told, _ = await get(stage.port, "/fapi/v1/premiumIndex?symbol=BTCUSDT")
        assert (status, told["lastFundingRate"]) == (200, "0.00010000")
        hours = told["nextFundingTime"] / 3_600_000
        assert hours == int(hours)
        assert hours % 8 == 0
