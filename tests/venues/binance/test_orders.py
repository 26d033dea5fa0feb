"""Intents and questions as calls, and what ccxt makes of them."""

import asyncio
from copy import deepcopy
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import ccxt.pro
import msgspec
import pytest
from ccxt.base.types import Entry

from bot.domain.decisions import Amend, Place
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.orders import METHODS, UNKNOWN_TO_CCXT, OrderCalls, capabilities
from bot.venues.orderentry import Call, Priority

# Trailing zeros of a listing must not reach the venue, which counts them against its precision.
SPOT = Instrument(
    "binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01000000"), Decimal("0.00001000")
)
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))

PLACE = Place("mm1a2b3c-1", Side.BUY, 618_001, 25, 0)
OTHER = Place("mm1a2b3c-2", Side.SELL, 618_010, 3, 1)
AMEND = Amend("mm1a2b3c-1", Side.SELL, 618_002, 20, 0)

spot, usdm = OrderCalls(SPOT), OrderCalls(USDM)


def every(calls: OrderCalls) -> dict[str, Call]:
    """One call of each kind."""
    found = {
        "place": calls.place(PLACE),
        "amend": calls.amend(AMEND),
        "cancel": calls.cancel("mm1a2b3c-1"),
        "cancel_all": calls.cancel_all(),
        "order": calls.order("mm1a2b3c-1"),
        "open_orders": calls.open_orders(),
        "holdings": calls.holdings(),
        "executions": calls.executions(1_700_000_000_000),
        "executions_after": calls.executions_after("77"),
        "executions_of": calls.executions_of("123"),
        "orders_since": calls.orders_since(1_700_000_000_000),
        "orders_after": calls.orders_after("123"),
        "server_time": calls.server_time(),
        "filters": calls.filters(),
        "fees": calls.fees(),
        "permissions": calls.permissions(),
        "touch": calls.touch(),
    }
    if calls is usdm:
        found["place_many"] = calls.place_many([PLACE, OTHER])
        found["countdown"] = calls.countdown(15_000)
        found["position_mode"] = calls.position_mode()
        found["leverage"] = calls.leverage()
    return found


def test_a_spot_order_is_post_only() -> None:
    assert spot.place(PLACE) == Call(
        "privatePostOrder",
        {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT_MAKER",
            "quantity": "0.00025",
            "price": "6180.01",
            "newClientOrderId": "mm1a2b3c-1",
            "newOrderRespType": "FULL",
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "recvWindow": 2_000,
        },
        Priority.PLACE,
        weight=1,
        orders=1,
    )


def test_a_futures_order_is_post_only() -> None:
    assert usdm.place(PLACE) == Call(
        "fapiPrivatePostOrder",
        {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTX",
            "quantity": "0.025",
            "price": "61800.1",
            "newClientOrderId": "mm1a2b3c-1",
            "newOrderRespType": "RESULT",
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "recvWindow": 2_000,
        },
        Priority.PLACE,
        weight=0,
        orders=1,
    )


def test_a_batch_carries_whole_orders() -> None:
    call = usdm.place_many([PLACE, OTHER])
    assert call.method == "fapiPrivatePostBatchOrders"
    assert (call.weight, call.orders, call.priority) == (5, 5, Priority.PLACE)
    assert call.params["recvWindow"] == 2_000
    singles = [usdm.place(place).params for place in (PLACE, OTHER)]
    assert [order | {"recvWindow": 2_000} for order in call.params["batchOrders"]] == singles


def test_the_size_of_a_batch_is_limited() -> None:
    assert usdm.place_many([PLACE]) == usdm.place(PLACE)
    assert spot.place_many([PLACE]) == spot.place(PLACE)
    assert len(usdm.place_many([PLACE] * 5).params["batchOrders"]) == 5
    for calls, count in ((usdm, 6), (usdm, 0), (spot, 2), (spot, 0)):
        with pytest.raises(ValueError, match=f"takes no {count} orders at once"):
            calls.place_many([PLACE] * count)


def test_a_futures_amend_names_side_price_and_whole_quantity() -> None:
    assert usdm.amend(AMEND) == Call(
        "fapiPrivatePutOrder",
        {
            "symbol": "BTCUSDT",
            "origClientOrderId": "mm1a2b3c-1",
            "side": "SELL",
            "quantity": "0.02",
            "price": "61800.2",
            "recvWindow": 2_000,
        },
        Priority.AMEND,
        weight=0,
        orders=1,
    )


def test_a_spot_amend_only_takes_quantity_away_and_keeps_the_id() -> None:
    call = spot.amend(AMEND)
    assert call.method == "privatePutOrderAmendKeepPriority"
    assert call.params == {
        "symbol": "BTCUSDT",
        "origClientOrderId": "mm1a2b3c-1",
        "newClientOrderId": "mm1a2b3c-1",
        "newQty": "0.0002",
        "recvWindow": 2_000,
    }
    assert (call.weight, call.orders, call.priority) == (4, 0, Priority.AMEND)


@pytest.mark.parametrize("calls", [spot, usdm])
def test_cancels_go_first_and_outlive_a_slow_network(calls: OrderCalls) -> None:
    for call in (calls.cancel("mm1a2b3c-1"), calls.cancel_all()):
        assert call.priority is Priority.CANCEL
        assert (call.weight, call.orders) == (1, 0)
        assert call.params["recvWindow"] == 5_000
    assert calls.cancel("mm1a2b3c-1").params["origClientOrderId"] == "mm1a2b3c-1"


@pytest.mark.parametrize("calls", [spot, usdm])
def test_pages_follow_each_other(calls: OrderCalls) -> None:
    first, then = calls.executions(1_700), calls.executions_after("77")
    assert first.params["startTime"] == 1_700
    assert then.params["fromId"] == 78
    # The venue refuses a start and an id together.
    assert "startTime" not in then.params
    assert "fromId" not in first.params
    assert calls.orders_after("123").params["orderId"] == 124
    most = capabilities(calls.instrument.venue).page_max
    assert first.params["limit"] == then.params["limit"] == most == 1_000


def test_the_countdown_is_only_where_there_is_one() -> None:
    call = usdm.countdown(15_000)
    assert call.params["countdownTime"] == 15_000
    assert call.weight == 10
    assert capabilities("binance-usdm").dead_man
    assert not capabilities("binance-spot").dead_man
    with pytest.raises(ValueError, match="no dead-man's switch"):
        spot.countdown(15_000)


def test_margin_is_asked_about_only_where_there_is_some() -> None:
    assert capabilities("binance-usdm").margin
    assert not capabilities("binance-spot").margin
    for ask in (spot.position_mode, spot.leverage):
        with pytest.raises(ValueError, match="no margin"):
            ask()


def test_what_each_product_can_do() -> None:
    assert capabilities("binance-usdm").amend == "requeue"
    assert capabilities("binance-spot").amend == "reduce"
    assert capabilities("binance-usdm").batch_max == 5
    assert capabilities("binance-spot").batch_max == 1
    assert capabilities("binance-usdm").recv_window_ms == 2_000
    assert capabilities("binance-usdm", 700).recv_window_ms == 700


@pytest.mark.parametrize("order", [Place("i", Side.BUY, 0, 1, 0), Place("i", Side.BUY, 1, 0, 0)])
def test_an_order_of_nothing_is_our_fault(order: Place) -> None:
    with pytest.raises(AssertionError):
        usdm.place(order)


def test_another_product_has_no_orders() -> None:
    with pytest.raises(ValueError, match="binance-coinm"):
        OrderCalls(msgspec.structs.replace(USDM, venue="binance-coinm"))


def test_every_call_is_in_the_table() -> None:
    for calls in (spot, usdm):
        methods = [method for method, _ in METHODS[calls.instrument.venue].values()]
        assert {call.method for call in every(calls).values()} == set(methods)


# --- with the ccxt that is installed --------------------------------------------------------


@pytest.fixture(scope="module")
def exchanges() -> dict[str, Any]:
    keys = {"apiKey": "key", "secret": "secret"}
    return {"binance-spot": ccxt.pro.binance(keys), "binance-usdm": ccxt.pro.binanceusdm(keys)}


@pytest.mark.parametrize("venue", sorted(METHODS))
def test_ccxt_has_every_method(exchanges: dict[str, Any], venue: str) -> None:
    for method, _ in METHODS[venue].values():
        known = method not in UNKNOWN_TO_CCXT
        assert hasattr(exchanges[venue], method) is known, method


def test_a_method_that_ccxt_lacks_can_be_given_to_it() -> None:
    asked: list[tuple[str, str]] = []

    async def fetch(self: Any, url: str, method: str = "GET", *rest: Any) -> dict[str, Any]:
        asked.append((method, urlsplit(url).path))
        return {}

    members = {
        name: Entry(path, [api], verb, {}) for name, (path, api, verb) in UNKNOWN_TO_CCXT.items()
    }
    kind = type("binance", (ccxt.pro.binance,), members | {"fetch": fetch})

    async def amend() -> None:
        exchange = kind({"apiKey": "key", "secret": "secret", "enableRateLimit": False})
        call = spot.amend(AMEND)
        await getattr(exchange, call.method)(dict(call.params))
        await exchange.close()

    asyncio.run(amend())
    assert asked == [("PUT", "/api/v3/order/amend/keepPriority")]


def sent(exchange: Any, call: Call, path: str, api: str, verb: str) -> dict[str, str]:
    """The parameters that ccxt puts on the wire."""
    signed = exchange.sign(path, [api, "private"], verb, deepcopy(call.params))
    text = signed["body"] or urlsplit(signed["url"]).query
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}


@pytest.mark.parametrize(
    ("venue", "what", "path", "api", "verb"),
    [
        ("binance-spot", "place", "order", "private", "POST"),
        ("binance-spot", "amend", "order/amend/keepPriority", "private", "PUT"),
        ("binance-spot", "cancel", "order", "private", "DELETE"),
        ("binance-spot", "executions_after", "myTrades", "private", "GET"),
        ("binance-usdm", "place", "order", "fapiPrivate", "POST"),
        ("binance-usdm", "amend", "order", "fapiPrivate", "PUT"),
        ("binance-usdm", "cancel", "order", "fapiPrivate", "DELETE"),
        ("binance-usdm", "countdown", "countdownCancelAll", "fapiPrivate", "POST"),
        ("binance-usdm", "holdings", "account", "fapiPrivateV3", "GET"),
    ],
)
def test_ccxt_sends_what_is_meant(
    exchanges: dict[str, Any], venue: str, what: str, path: str, api: str, verb: str
) -> None:
    call = every(spot if venue == "binance-spot" else usdm)[what]
    wire = sent(exchanges[venue], call, path, api, verb)
    assert wire.keys() == call.params.keys() | {"timestamp", "signature"}
    assert {name: wire[name] for name in call.params} == {
        name: str(value) for name, value in call.params.items()
    }


def test_ccxt_sends_a_batch_as_json(exchanges: dict[str, Any]) -> None:
    call = usdm.place_many([PLACE, OTHER])
    params = deepcopy(call.params)
    signed = exchanges["binance-usdm"].sign("batchOrders", ["fapiPrivate"], "POST", params)
    body = dict(part.split("=", 1) for part in unquote_plus(signed["body"]).split("&"))
    assert msgspec.json.decode(body["batchOrders"]) == call.params["batchOrders"]
    assert body["recvWindow"] == "2000"
    # Why the gateway must pass a copy.
    assert params != call.params
