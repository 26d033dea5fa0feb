"""Unmodified ccxt trades on the served market: what it is told is what the exchange has."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

import ccxt.pro
import pytest

from bot.domain.account import AccountOrder, AccountTrade, Status
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.modes.serve import API_KEY, API_SECRET, new_server
from bot.shell.clock import Clock
from bot.shell.venueserver import VenueServer
from bot.sim.account import Account
from tests.shell.fakemarket import SPOT, USDM
from tests.shell.test_venueserver import pointed
from tests.shell.wire import eventually

SPEED = 4.0
PATIENCE_S = 60.0
AMOUNT = 0.01
STATUS = {
    Status.NEW: "open",
    Status.PARTIALLY_FILLED: "open",
    Status.FILLED: "closed",
    Status.CANCELED: "canceled",
    Status.EXPIRED: "expired",
    Status.EXPIRED_IN_MATCH: "expired",
}
NAMES = {SPOT: ("binance", "BTC/USDT"), USDM: ("binanceusdm", "BTC/USDT:USDT")}
# ccxt looks USD-M's own codes up by the venue's host: on loopback those stay plain errors,
# which tell what they are by their numbers only.
REFUSALS = {
    SPOT: [
        (ccxt.InvalidOrder, "Duplicate"),
        (ccxt.OrderImmediatelyFillable, "immediately match"),
        (ccxt.InsufficientFunds, "insufficient"),
        (ccxt.BadRequest, "NOTIONAL"),
        (ccxt.InvalidOrder, "PERCENT_PRICE"),
        (ccxt.OrderNotFound, "-2011"),
        (ccxt.OrderNotFound, "-2013"),
    ],
    USDM: [
        (ccxt.ExchangeError, "-4116"),
        (ccxt.InvalidOrder, "-5022"),
        (ccxt.ExchangeError, "-2019"),
        (ccxt.ExchangeError, "-4164"),
        (ccxt.BadRequest, "-4016"),
        (ccxt.OrderNotFound, "-2011"),
        (ccxt.OrderNotFound, "-2013"),
    ],
}
BOTH = pytest.mark.parametrize("instrument", [SPOT, USDM], ids=["spot", "usdm"])


class Peer:
    """ccxt on one side, the exchange's own books on the other."""

    def __init__(self, server: VenueServer, client: Any, symbol: str) -> None:
        self.server = server
        self.ccxt = client
        self.symbol = symbol
        self.instrument = server.instrument
        account = server.desk.seats[0].account
        assert isinstance(account, Account)
        self.account = account
        self.watched: dict[str, list[Any]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def place(self, side: str, price: float, **params: Any) -> Any:
        """A post-only order."""
        return await self.ccxt.create_order(
            self.symbol, "limit", side, AMOUNT, price, {"postOnly": True} | params
        )

    def price(self, side: Side, behind: int = 0) -> float:
        """A price so many ticks behind the touch."""
        found = self.account.exchange.best(side)
        assert found is not None
        return float(self.instrument.price(found[0] - side * behind))

    def watch(self, group: asyncio.TaskGroup, name: str, ask: Callable[[], Awaitable[Any]]) -> None:
        """Keep what a `watch_…` of ccxt's says."""
        self.watched[name] = []

        async def listen() -> None:
            while True:
                found = await ask()
                self.watched[name] += found if isinstance(found, list) else [found]

        self.tasks.append(group.create_task(listen()))

    def own(self, order_id: str) -> AccountOrder:
        found = self.account.find(int(order_id), None)
        assert found is not None
        return found

    def check_order(self, told: Any) -> None:
        """An order as ccxt tells it is the one in the books."""
        own, instrument = self.own(told["id"]), self.instrument
        assert told["clientOrderId"] == own.client_id
        assert (told["status"], told["side"]) == (STATUS[own.status], own.wanted.side.name.lower())
        assert Decimal(str(told["price"])) == instrument.price(own.tick)
        assert Decimal(str(told["amount"])) == instrument.quantity(own.lots)
        assert Decimal(str(told["filled"])) == instrument.quantity(own.filled)

    def check_trade(self, told: Any) -> None:
        """A trade as ccxt tells it is the one in the books."""
        trades = {trade.trade_id: trade for trade in self.account.trades}
        own: AccountTrade = trades[int(told["id"])]
        instrument = self.instrument
        assert (int(told["order"]), told["side"]) == (own.order_id, own.side.name.lower())
        assert told["takerOrMaker"] == ("maker" if own.maker else "taker")
        assert Decimal(str(told["price"])) == instrument.price(own.tick)
        assert Decimal(str(told["amount"])) == instrument.quantity(own.lots)
        assert Decimal(str(told["fee"]["cost"])) == own.commission
        assert (told["fee"]["currency"], told["timestamp"]) == (own.asset, own.at)

    async def check_balance(self) -> None:
        """A fetched balance is the account's; call it when nothing moves."""
        told = await self.ccxt.fetch_balance()
        for balance in self.account.wallet.balances():
            if self.instrument is USDM:  # ccxt adds what is not realized to its total
                assert Decimal(told["info"]["totalWalletBalance"]) == balance.free
                continue
            part = told[balance.asset]
            assert Decimal(str(part["free"])) == balance.free
            assert Decimal(str(part["used"])) == balance.locked


@asynccontextmanager
async def trading(instrument: Instrument, **options: Any) -> AsyncIterator[Peer]:
    """A served market, and ccxt with its markets loaded."""
    name, symbol = NAMES[instrument]
    server = new_server(instrument, Clock(), speed=SPEED, **options)
    async with asyncio.timeout(PATIENCE_S), server:
        keys = {"apiKey": API_KEY, "secret": API_SECRET, "enableRateLimit": False}
        peer = pointed(getattr(ccxt.pro, name)(keys), server.port)
        try:
            await peer.load_markets()
            yield Peer(server, peer, symbol)
        finally:
            await peer.close()
        await eventually(lambda: server.stats().sockets.clients == 0)


@BOTH
async def test_orders_rest_in_the_exchanges_own_book(instrument: Instrument) -> None:
    async with trading(instrument) as peer:
        placed = await peer.place("buy", peer.price(Side.BUY, 5_000), clientOrderId="mine-1")
        (resting,) = peer.account.exchange.orders_of(1)
        assert (str(resting.order_id), resting.client_id) == (placed["id"], "mine-1")
        assert float(instrument.price(resting.tick)) == placed["price"]
        peer.check_order(await peer.ccxt.fetch_order(placed["id"], peer.symbol))
        by_name = {"origClientOrderId": "mine-1"}
        peer.check_order(await peer.ccxt.fetch_order("", peer.symbol, by_name))
        (listed,) = await peer.ccxt.fetch_open_orders(peer.symbol)
        peer.check_order(listed)
        ended = await peer.ccxt.cancel_order(placed["id"], peer.symbol)
        assert ended["status"] == "canceled"
        assert peer.account.exchange.orders_of(1) == []
        for _ in range(3):
            await peer.place("sell", peer.price(Side.SELL, 5_000))
        await peer.ccxt.cancel_all_orders(peer.symbol)
        assert peer.account.exchange.orders_of(1) == []
        told = await peer.ccxt.fetch_orders(peer.symbol)
        assert len(told) == 4
        for order in told:
            peer.check_order(order)


async def test_usdm_orders_are_modified_and_sent_in_batches() -> None:
    async with trading(USDM) as peer:
        placed = await peer.place("buy", peer.price(Side.BUY, 500), clientOrderId="mine-1")
        price = peer.price(Side.BUY, 600)
        changed = await peer.ccxt.edit_order(
            placed["id"], peer.symbol, "limit", "buy", 2 * AMOUNT, price
        )
        assert changed["id"] == placed["id"]
        peer.check_order(changed)
        (resting,) = peer.account.exchange.orders_of(1)
        assert (resting.left, float(USDM.price(resting.tick))) == (20, price)
        orders = [
            {"symbol": peer.symbol, "type": "limit", "side": side, "amount": AMOUNT,
             "price": price, "params": {"postOnly": True, "clientOrderId": side}}
            for side in ("buy", "sell")
        ]  # fmt: skip
        made = {one["status"]: one for one in await peer.ccxt.create_orders(orders)}
        assert list(sorted(made)) == ["open", "rejected"]
        assert "-5022" in str(made["rejected"]["info"])
        assert len(peer.account.open_orders()) == 2
        ids = [made["open"]["id"], placed["id"]]
        ended = await peer.ccxt.cancel_orders(ids, peer.symbol)
        assert [one["status"] for one in ended] == ["canceled"] * 2
        assert peer.account.open_orders() == []


async def test_spot_orders_are_amended_in_place_and_replaced() -> None:
    async with trading(SPOT) as peer:
        placed = await peer.place("buy", peer.price(Side.BUY, 5_000), clientOrderId="mine-1")
        amend = {"symbol": "BTCUSDT", "orderId": placed["id"], "newQty": "0.004"}
        amend |= {"newClientOrderId": "mine-1"}
        # ccxt names no method for this path; its request signs and sends any.
        await peer.ccxt.request("order/amend/keepPriority", ["private"], "PUT", amend)
        assert peer.own(placed["id"]).lots == 400
        price = peer.price(Side.BUY, 6_000)
        new = await peer.ccxt.edit_order(
            placed["id"], peer.symbol, "limit", "buy", AMOUNT, price, {"postOnly": True}
        )
        assert new["id"] != placed["id"]
        assert peer.own(placed["id"]).status is Status.CANCELED
        peer.check_order(new)


@BOTH
async def test_what_is_watched_is_what_happened(instrument: Instrument) -> None:
    async with trading(instrument) as peer, asyncio.TaskGroup() as group:
        client, symbol = peer.ccxt, peer.symbol
        peer.watch(group, "orders", lambda: client.watch_orders(symbol))
        peer.watch(group, "trades", lambda: client.watch_my_trades(symbol))
        peer.watch(group, "balance", lambda: client.watch_balance())
        if instrument is USDM:
            peer.watch(group, "positions", lambda: client.watch_positions([symbol]))
        await eventually(lambda: peer.server.stats().sockets.subscriptions > 0)
        await peer.place("buy", peer.price(Side.BUY, 5_000))  # this one is only cancelled
        while len(peer.account.trades) < 6:  # the flow fills what stands at the touch
            for side in Side:
                if len(peer.account.open_orders()) < 8:
                    await place_at_touch(peer, side)
            await asyncio.sleep(0.05)
        await client.cancel_all_orders(symbol)
        ended = [order.order_id for order in peer.account.orders()]
        expected = [str(trade.trade_id) for trade in peer.account.trades]
        watched = peer.watched
        await eventually(lambda: {o["id"] for o in watched["orders"]} >= set(map(str, ended)))
        await eventually(lambda: [t["id"] for t in watched["trades"]] == expected)
        await eventually(
            lambda: all(
                {o["id"]: o for o in watched["orders"]}[str(i)]["status"] != "open" for i in ended
            )
        )
        latest = {order["id"]: order for order in watched["orders"]}
        for order in latest.values():
            peer.check_order(order)
        for trade in watched["trades"] + await client.fetch_my_trades(symbol):
            peer.check_trade(trade)
        await peer.check_balance()
        await eventually(lambda: last_agrees(peer))
        if instrument is USDM:
            size = USDM.quantity(abs(peer.account.position().lots))
            fetched = await client.fetch_positions([symbol])
            assert sum(one["contracts"] for one in fetched) == float(size)
        for task in peer.tasks:
            task.cancel()


async def place_at_touch(peer: Peer, side: Side) -> None:
    """A post-only order at the touch; the market may be quicker."""
    with suppress(ccxt.InvalidOrder):
        await peer.place(side.name.lower(), peer.price(side))


def last_agrees(peer: Peer) -> bool:
    """Whether the last watched balance and position are those in the books."""
    for balance in peer.account.wallet.balances():
        told = peer.watched["balance"][-1][balance.asset]
        if peer.instrument is SPOT:
            if (told["free"], told["used"]) != (float(balance.free), float(balance.locked)):
                return False
        elif abs(told["total"] - float(balance.free)) > 1e-8:
            return False
    position = peer.account.position()
    if position is None:
        return True
    last = peer.watched["positions"][-1]
    side = {0: None, 1: "long", -1: "short"}[(position.lots > 0) - (position.lots < 0)]
    size = float(USDM.quantity(abs(position.lots)))
    return bool(last["contracts"] == size and (size == 0 or last["side"] == side))


@BOTH
async def test_refusals_have_their_classes(instrument: Instrument) -> None:
    spot = instrument is SPOT
    async with trading(instrument) as peer:
        far = peer.price(Side.BUY, 500)
        await peer.place("buy", far, clientOrderId="taken")

        def order(side: str, amount: float, price: float, **params: Any) -> Awaitable[Any]:
            call: Awaitable[Any] = peer.ccxt.create_order(
                peer.symbol, "limit", side, amount, price, params
            )
            return call

        def unknown(job: Callable[[str, str], Awaitable[Any]]) -> Awaitable[Any]:
            return job("1", peer.symbol)

        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: order("buy", AMOUNT, far, clientOrderId="taken"),
            lambda: order("buy", AMOUNT, far * 1.02, postOnly=True),
            lambda: order("buy", 500, far),
            lambda: order("buy", 0.00002 if spot else 0.001, far),
            lambda: order("buy", AMOUNT, far * 10),
            lambda: unknown(peer.ccxt.cancel_order),
            lambda: unknown(peer.ccxt.fetch_order),
        ]
        for (kind, words), call in zip(REFUSALS[instrument], calls, strict=True):
            with pytest.raises(kind, match=words):
                await call()
        assert len(peer.account.orders()) == 1
        peer.ccxt.apiKey = "nobody"
        with pytest.raises(ccxt.BaseError, match="-2015"):
            await peer.ccxt.fetch_open_orders(peer.symbol)


@BOTH
async def test_the_account_can_be_asked_about(instrument: Instrument) -> None:
    async with trading(instrument, deposits={"USDT": Decimal(5_000)}) as peer:
        await peer.check_balance()
        fee = await peer.ccxt.fetch_trading_fee(peer.symbol)
        fees = peer.account.fees
        assert (fee["maker"], fee["taker"]) == (float(fees.maker), float(fees.taker))
        assert (await peer.ccxt.sapiGetAccountApiRestrictions())["enableWithdrawals"] is False
        if instrument is SPOT:
            return
        assert (await peer.ccxt.fetch_position_mode(peer.symbol))["hedged"] is False
        assert await peer.ccxt.fetch_positions([peer.symbol]) == []
        await peer.ccxt.set_leverage(7, peer.symbol)
        assert peer.account.leverage == 7
        await peer.place("buy", peer.price(Side.BUY, 500))
        await peer.ccxt.fapiPrivatePostCountdownCancelAll(
            {"symbol": "BTCUSDT", "countdownTime": 50}
        )
        await eventually(lambda: peer.account.open_orders() == [])
