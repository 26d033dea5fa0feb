"""What we ask of Binance: intents and questions as calls of ccxt's methods. Pure.

Sources: "Trading endpoints" and "Account endpoints" of the spot REST documents; "Trade",
"Account" and "Market Data" of the USD-M documents; ccxt 4.5.90, whose `sign()` adds timestamp
and signature and writes a batch as JSON. Weights are the documents': a USD-M placement or
amend costs nothing of the address's weight, but one of the account's order limits; a batch
costs five of both, whatever its length.

ccxt writes into the parameters that it is given: pass it a copy of `Call.params`.
"""

from collections.abc import Sequence
from typing import Any, Final

from bot.domain.decisions import Amend, Place
from bot.domain.instrument import Instrument
from bot.venues.binance.amounts import plain
from bot.venues.orderentry import Call, Capabilities, Priority

# A placement or amend that is under way longer than this is refused by the venue (-1021): after
# a kill nothing can arrive later. A late cancel or question does no harm, only a lost one does.
ENTRY_WINDOW_MS: Final = 2_000  # at most; a configuration may ask for less
WINDOW_MS: Final = 5_000

PAGE_MAX: Final = 1_000  # rows of one answer, orders and executions alike
BATCH_MAX: Final = 5

# Of an own order at the touch and a new one of ours that would take it, the resting one goes;
# a post-only order takes nothing, so this only says who gives way to orders of other programs.
SELF_TRADE: Final = "EXPIRE_MAKER"

# What is asked -> (ccxt's method, request weight).
METHODS: Final[dict[str, dict[str, tuple[str, int]]]] = {
    "binance-spot": {
        "place": ("privatePostOrder", 1),
        "amend": ("privatePutOrderAmendKeepPriority", 4),
        "cancel": ("privateDeleteOrder", 1),
        "cancel_all": ("privateDeleteOpenOrders", 1),
        "order": ("privateGetOrder", 4),
        "open_orders": ("privateGetOpenOrders", 6),
        "holdings": ("privateGetAccount", 20),
        "executions": ("privateGetMyTrades", 20),
        "executions_of": ("privateGetMyTrades", 5),
        "orders_since": ("privateGetAllOrders", 20),
        "server_time": ("publicGetTime", 1),
        "filters": ("publicGetExchangeInfo", 20),
        "fees": ("privateGetAccountCommission", 20),
        "touch": ("publicGetTickerBookTicker", 2),
        "permissions": ("sapiGetAccountApiRestrictions", 1),
    },
    "binance-usdm": {
        "place": ("fapiPrivatePostOrder", 0),
        "place_many": ("fapiPrivatePostBatchOrders", 5),
        "amend": ("fapiPrivatePutOrder", 0),
        "cancel": ("fapiPrivateDeleteOrder", 1),
        "cancel_all": ("fapiPrivateDeleteAllOpenOrders", 1),
        "order": ("fapiPrivateGetOrder", 1),
        "open_orders": ("fapiPrivateGetOpenOrders", 1),
        "holdings": ("fapiPrivateV3GetAccount", 5),
        "executions": ("fapiPrivateGetUserTrades", 5),
        "executions_of": ("fapiPrivateGetUserTrades", 5),
        "orders_since": ("fapiPrivateGetAllOrders", 5),
        "server_time": ("fapiPublicGetTime", 1),
        "filters": ("fapiPublicGetExchangeInfo", 1),
        "fees": ("fapiPrivateGetCommissionRate", 20),
        "touch": ("fapiPublicGetTickerBookTicker", 2),
        "position_mode": ("fapiPrivateGetPositionSideDual", 30),
        "leverage": ("fapiPrivateGetSymbolConfig", 5),
        "permissions": ("sapiGetAccountApiRestrictions", 1),
        "countdown": ("fapiPrivatePostCountdownCancelAll", 10),
    },
}

# Methods that ccxt 4.5.90 lacks -> (path, kind of address, verb), for whoever makes its object.
UNKNOWN_TO_CCXT: Final = {
    "privatePutOrderAmendKeepPriority": ("order/amend/keepPriority", "private", "PUT"),
}


def capabilities(venue: str, window_ms: int = ENTRY_WINDOW_MS) -> Capabilities:
    """What a product can do.

    USD-M "Modify Order" puts the order at the end of the queue; spot "Order Amend Keep
    Priority" only takes quantity away.
    """
    if venue == "binance-spot":
        return Capabilities("reduce", 1, False, window_ms, PAGE_MAX)
    return Capabilities("requeue", BATCH_MAX, True, window_ms, PAGE_MAX, margin=True)


class OrderCalls:
    """The calls of one symbol; see `OrderCodec`. Raises ValueError for another product.

    `window_ms` is how long a placement or an amend may be under way before it is refused.
    """

    def __init__(self, instrument: Instrument, window_ms: int = ENTRY_WINDOW_MS) -> None:
        if instrument.venue not in METHODS:
            raise ValueError(f"orders cannot be sent to {instrument.venue}")
        assert 0 < window_ms <= ENTRY_WINDOW_MS, f"a validity of {window_ms} ms"
        self.instrument = instrument
        self._window_ms = window_ms
        self._methods = METHODS[instrument.venue]
        self._spot = instrument.venue == "binance-spot"

    # --- intents

    def place(self, place: Place) -> Call:
        """One post-only order: LIMIT_MAKER on spot, good-till-crossing on USD-M."""
        params = self._order(place) | {"recvWindow": self._window_ms}
        return self._call("place", params, Priority.PLACE, orders=1)

    def place_many(self, places: Sequence[Place]) -> Call:
        """Several orders in one call: 1 to `Capabilities.batch_max`, else ValueError.

        The venue answers in the same order, and each order has its own outcome.
        """
        if not 1 <= len(places) <= capabilities(self.instrument.venue).batch_max:
            raise ValueError(f"{self.instrument.venue} takes no {len(places)} orders at once")
        if len(places) == 1:
            return self.place(places[0])
        orders = [self._order(place) for place in places]
        params = {"batchOrders": orders, "recvWindow": self._window_ms}
        return self._call("place_many", params, Priority.PLACE, orders=BATCH_MAX)

    def amend(self, amend: Amend) -> Call:
        """Change an order in place; on spot `amend.tick` must be the order's own.

        Spot gives an amended order a new random client id unless it is told to keep it. USD-M
        wants the side and both numbers, changed or not, and keeps its self-trade prevention.
        """
        _check(amend)
        quantity = plain(self.instrument.quantity(amend.lots))
        params = self._of(amend.order_id)
        if self._spot:
            params |= {"newClientOrderId": amend.order_id, "newQty": quantity}
        else:
            price = plain(self.instrument.price(amend.tick))
            params |= {"side": amend.side.name, "quantity": quantity, "price": price}
        params["recvWindow"] = self._window_ms
        # Spot counts an amend against no limit of orders.
        return self._call("amend", params, Priority.AMEND, orders=0 if self._spot else 1)

    def cancel(self, order_id: str) -> Call:
        return self._call("cancel", self._of(order_id), Priority.CANCEL)

    def cancel_all(self) -> Call:
        """Every open order of the symbol, foreign ones too.

        The answer of USD-M names no order: whether none is left, `open_orders` tells.
        """
        return self._call("cancel_all", self._symbol(), Priority.CANCEL)

    # --- questions

    def order(self, order_id: str) -> Call:
        """One order by our id.

        USD-M forgets a cancelled or expired order without fills after three days.
        """
        return self._call("order", self._of(order_id), Priority.RECONCILE)

    def open_orders(self) -> Call:
        return self._call("open_orders", self._symbol(), Priority.RECONCILE)

    def holdings(self) -> Call:
        """Balances and, on USD-M, positions: one answer, so that the two belong together."""
        return self._call("holdings", {}, Priority.RECONCILE)

    def executions(self, since_ms: int) -> Call:
        """The oldest executions from `since_ms` on, up to PAGE_MAX.

        A full page is not the end: ask `executions_after` its last trade until a page is not
        full. USD-M covers seven days from `since_ms`: behind an older start ask by trade id.
        """
        params = self._symbol() | {"startTime": since_ms, "limit": PAGE_MAX}
        return self._call("executions", params, Priority.RECONCILE)

    def executions_after(self, trade_id: str) -> Call:
        """The oldest executions behind `trade_id`, which is known, up to PAGE_MAX."""
        params = self._symbol() | {"fromId": int(trade_id) + 1, "limit": PAGE_MAX}
        return self._call("executions", params, Priority.RECONCILE)

    def executions_of(self, venue_id: str) -> Call:
        """What one order has traded; on USD-M within the last seven days."""
        params = self._symbol() | {"orderId": int(venue_id), "limit": PAGE_MAX}
        return self._call("executions_of", params, Priority.RECONCILE)

    def orders_since(self, since_ms: int) -> Call:
        """The oldest orders from `since_ms` on, in any state, up to PAGE_MAX.

        A full page is not the end (`orders_after`); USD-M covers seven days from `since_ms`.
        """
        params = self._symbol() | {"startTime": since_ms, "limit": PAGE_MAX}
        return self._call("orders_since", params, Priority.RECONCILE)

    def orders_after(self, venue_id: str) -> Call:
        """The oldest orders behind the one with the venue's id `venue_id`, up to PAGE_MAX."""
        params = self._symbol() | {"orderId": int(venue_id) + 1, "limit": PAGE_MAX}
        return self._call("orders_since", params, Priority.RECONCILE)

    def server_time(self) -> Call:
        return self._call("server_time", {}, Priority.DATA)

    def filters(self) -> Call:
        """The symbol's rules; USD-M always answers with every symbol."""
        return self._call("filters", self._symbol() if self._spot else {}, Priority.DATA)

    def fees(self) -> Call:
        return self._call("fees", self._symbol(), Priority.DATA)

    def permissions(self) -> Call:
        """What the key may do. Only production has this endpoint, for both products."""
        return self._call("permissions", {}, Priority.DATA)

    def touch(self) -> Call:
        """The best bid and ask."""
        return self._call("touch", self._symbol(), Priority.DATA)

    def position_mode(self) -> Call:
        """Whether a symbol has one position or two. Raises ValueError on spot."""
        self._check_margin()
        return self._call("position_mode", {}, Priority.DATA)

    def leverage(self) -> Call:
        """The symbol's leverage. Raises ValueError on spot."""
        self._check_margin()
        return self._call("leverage", self._symbol(), Priority.DATA)

    def countdown(self, ms: int) -> Call:
        """Cancel the symbol's orders in `ms` unless asked again; 0 disarms.

        Raises ValueError on spot, which has no such switch.
        """
        if self._spot:
            raise ValueError("binance-spot has no dead-man's switch")
        params = self._symbol() | {"countdownTime": ms}
        return self._call("countdown", params, Priority.RECONCILE)

    def _order(self, place: Place) -> dict[str, Any]:
        _check(place)
        params = self._symbol() | {
            "side": place.side.name,
            "quantity": plain(self.instrument.quantity(place.lots)),
            "price": plain(self.instrument.price(place.tick)),
            "newClientOrderId": place.order_id,
            "selfTradePreventionMode": SELF_TRADE,
        }
        if self._spot:
            return params | {"type": "LIMIT_MAKER", "newOrderRespType": "FULL"}
        # ACK, the default, does not wait for the matching engine's word.
        return params | {"type": "LIMIT", "timeInForce": "GTX", "newOrderRespType": "RESULT"}

    def _check_margin(self) -> None:
        if self._spot:
            raise ValueError("binance-spot has no margin")

    def _symbol(self) -> dict[str, Any]:
        return {"symbol": self.instrument.symbol}

    def _of(self, order_id: str) -> dict[str, Any]:
        return self._symbol() | {"origClientOrderId": order_id}

    def _call(self, what: str, params: dict[str, Any], priority: Priority, orders: int = 0) -> Call:
        method, weight = self._methods[what]
        signed = "public" not in method.lower()
        if signed:
            params = {"recvWindow": WINDOW_MS} | params
        return Call(method, params, priority, weight, orders)


def _check(order: Place | Amend) -> None:
    """The core sends nothing without price or quantity."""
    assert order.tick > 0, f"no price: {order}"
    assert order.lots > 0, f"no quantity: {order}"
