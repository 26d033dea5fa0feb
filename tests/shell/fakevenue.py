"""A venue in a few lines, behind the gateway's `Line`: USD-M's answers, and faults on demand."""

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from bot.domain.instrument import Instrument
from bot.shell.wire import CallFailed, Gate, NotSent, StreamLost
from bot.venues.orderentry import Call, Refusal, Verdict
from tests.shell.virtual import VirtualClock

INSTRUMENT = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
WAY_S = 0.005  # one way between us and the venue

Fault = Callable[[Call], Refusal | None]

LOST = Refusal(Verdict.UNKNOWN, "RequestTimeout")
ABSENT = Refusal(Verdict.ABSENT, "no_such_order")
POST_ONLY = Refusal(Verdict.REJECTED, "post_only", post_only=True)
BUSY = Refusal(Verdict.REJECTED, "too_many", limited_s=1.0)


def kind(call: Call) -> str:
    """`place`, `cancel`, `amend`, `order`, … of a call."""
    return {
        "fapiPrivatePostOrder": "place",
        "fapiPrivatePostBatchOrders": "batch",
        "fapiPrivatePutOrder": "amend",
        "fapiPrivateDeleteOrder": "cancel",
        "fapiPrivateDeleteAllOpenOrders": "cancel_all",
        "fapiPrivateGetOrder": "order",
        "fapiPrivateGetOpenOrders": "open_orders",
        "fapiPrivateGetUserTrades": "trades",
        "fapiPrivatePostCountdownCancelAll": "countdown",
    }[call.method]


class FakeVenue:
    """Orders by client id, in the fields of the venue; nothing fills unless `fill` is called.

    `before` and `after` hold faults by kind of call: a refusal from `before` reaches us without
    the venue having seen the call, one from `after` although it has carried it out. `hold`
    keeps requests of a kind on their way until it is set.
    """

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.trades: list[dict[str, Any]] = []
        self.before: dict[str, list[Refusal]] = {}
        self.after: dict[str, list[Refusal]] = {}
        self.garbage: dict[str, list[Any]] = {}
        self.hold: dict[str, asyncio.Event] = {}
        self.calls: list[str] = []
        self.hear: Callable[[Mapping[str, Any]], None] = lambda message: None
        self.silent = False  # the private stream says nothing
        self.most_open = 0
        self.countdown_ms: int | None = None  # as last set; None never
        self._ids = 0

    # --- the gateway's line -----------------------------------------------------------------

    async def call(self, call: Call, gate: Gate | None = None) -> Any:
        await asyncio.sleep(0)  # a connection is had
        if gate is not None and not gate():
            raise NotSent(Refusal(Verdict.REJECTED, "gate_shut"))
        what = kind(call)
        self.calls.append(what)
        await asyncio.sleep(WAY_S)
        if what in self.hold:
            await self.hold[what].wait()
        if refusals := self.before.get(what):
            raise CallFailed(refusals.pop(0))
        body = getattr(self, f"_{what}")(call.params)
        self.most_open = max(self.most_open, len(self.open()))
        if refusals := self.after.get(what):
            await asyncio.sleep(WAY_S)
            raise CallFailed(refusals.pop(0))
        await asyncio.sleep(WAY_S)
        if bodies := self.garbage.get(what):
            return bodies.pop(0)
        if isinstance(body, Refusal):
            raise CallFailed(body)
        return body

    # --- what the venue does ----------------------------------------------------------------

    def _place(self, params: Mapping[str, Any]) -> Any:
        order_id = params["newClientOrderId"]
        assert order_id not in self.orders, f"{order_id} was sent twice"
        self._ids += 1
        self.orders[order_id] = {
            "symbol": params["symbol"],
            "orderId": 1_000 + self._ids,
            "clientOrderId": order_id,
            "side": params["side"],
            "price": params["price"],
            "origQty": params["quantity"],
            "executedQty": "0",
            "status": "NEW",
            "updateTime": 1,
            "timeInForce": "GTX",
            "type": "LIMIT",
        }
        self._say(order_id, "NEW")
        return dict(self.orders[order_id])

    def _batch(self, params: Mapping[str, Any]) -> Any:
        return [self._place(params | one) for one in params["batchOrders"]]

    def _amend(self, params: Mapping[str, Any]) -> Any:
        order = self.orders.get(params["origClientOrderId"])
        if order is None or order["status"] not in ("NEW", "PARTIALLY_FILLED"):
            return ABSENT
        order["price"], order["origQty"] = params["price"], params["quantity"]
        self._say(order["clientOrderId"], "AMENDMENT")
        return dict(order)

    def _cancel(self, params: Mapping[str, Any]) -> Any:
        order = self.orders.get(params["origClientOrderId"])
        if order is None or order["status"] not in ("NEW", "PARTIALLY_FILLED"):
            return ABSENT
        self.end(order["clientOrderId"], "CANCELED")
        return dict(order)

    def _cancel_all(self, params: Mapping[str, Any]) -> Any:
        for order_id in self.open():
            self.end(order_id, "CANCELED")
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _order(self, params: Mapping[str, Any]) -> Any:
        order = self.orders.get(params["origClientOrderId"])
        return ABSENT if order is None else dict(order)

    def _open_orders(self, params: Mapping[str, Any]) -> Any:
        return [dict(self.orders[order_id]) for order_id in self.open()]

    def _trades(self, params: Mapping[str, Any]) -> Any:
        wanted = params.get("orderId")
        return [one for one in self.trades if wanted in (None, one["orderId"])]

    def _countdown(self, params: Mapping[str, Any]) -> Any:
        self.countdown_ms = params["countdownTime"]
        return {"symbol": params["symbol"], "countdownTime": str(self.countdown_ms)}

    def open(self) -> list[str]:
        """Ids of the orders that rest."""
        resting = ("NEW", "PARTIALLY_FILLED")
        return [i for i, order in self.orders.items() if order["status"] in resting]

    def end(self, order_id: str, status: str) -> None:
        """Take an order out of the book, and say so."""
        self.orders[order_id]["status"] = status
        self._say(order_id, status)

    def fill(self, order_id: str, quantity: str, *, told: bool = True) -> None:
        """Trade a part of an order at its price."""
        order = self.orders[order_id]
        done = Decimal(order["executedQty"]) + Decimal(quantity)
        order["executedQty"] = str(done)
        order["status"] = "FILLED" if done == Decimal(order["origQty"]) else "PARTIALLY_FILLED"
        trade = {
            "id": 5_000 + len(self.trades),
            "orderId": order["orderId"],
            "symbol": order["symbol"],
            "side": order["side"],
            "price": order["price"],
            "qty": quantity,
            "maker": True,
            "buyer": order["side"] == "BUY",
            "commission": "0.01",
            "commissionAsset": "USDT",
            "time": 1,
        }
        self.trades.append(trade)
        if told:
            self._say(order_id, "TRADE", trade)

    def _say(self, order_id: str, what: str, trade: Mapping[str, Any] | None = None) -> None:
        if self.silent:
            return
        order = self.orders[order_id]
        told = {
            "s": order["symbol"], "c": order_id, "S": order["side"], "o": "LIMIT", "f": "GTX",
            "q": order["origQty"], "p": order["price"], "x": what, "X": order["status"],
            "i": order["orderId"], "z": order["executedQty"], "T": 1, "l": "0", "L": "0", "t": 0,
            "m": True, "R": False, "rp": "0", "ap": "0", "sp": "0", "ot": "LIMIT", "ps": "BOTH",
        }  # fmt: skip
        if trade is not None:
            told |= {"l": trade["qty"], "L": trade["price"], "t": trade["id"]}
            told |= {"n": trade["commission"], "N": trade["commissionAsset"]}
        self.hear({"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": told})


class FakeStream:
    """A private stream that opens when told, ends when told."""

    def __init__(self) -> None:
        self.heard: Callable[[Mapping[str, Any]], None] | None = None
        self.openings = 0
        self.refusals = 0  # how many openings fail
        self._end = asyncio.Event()
        self._why = ""

    async def listen(
        self, heard: Callable[[Mapping[str, Any]], None], opened: Callable[[], None]
    ) -> None:
        await asyncio.sleep(WAY_S)
        if self.refusals:
            self.refusals -= 1
            raise StreamLost("refused")
        self._end.clear()
        self.heard = heard
        self.openings += 1
        opened()
        await self._end.wait()
        self.heard = None
        raise StreamLost(self._why)

    def end_stream(self, why: str) -> None:
        self._why = why
        self._end.set()


def virtual_clock() -> VirtualClock:
    """The clock of a virtual loop."""
    return VirtualClock()
