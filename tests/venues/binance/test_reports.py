"""Answers about orders and executions."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.reports import STATUS, Answers
from bot.venues.orderentry import Execution, OrderReport, Refusal, Status, Verdict
from tests.conftest import DATA, present

SPOT = Instrument("binance-spot", "LTCBTC", "LTC", "BTC", Decimal("0.0001"), Decimal("0.01"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))

spot, usdm = Answers(SPOT), Answers(USDM)

MS = 1_000_000

FUTURES_ORDER = {
    "orderId": 8886774,
    "symbol": "BTCUSDT",
    "status": "NEW",
    "clientOrderId": "mm1a2b3c-7",
    "price": "61800.10",
    "avgPrice": "0.00",
    "origQty": "0.025",
    "executedQty": "0.000",
    "cumQuote": "0.00",
    "timeInForce": "GTX",
    "type": "LIMIT",
    "side": "SELL",
    "positionSide": "BOTH",
    "selfTradePreventionMode": "EXPIRE_MAKER",
    "updateTime": 1_700_000_000_123,
}
REPORT = OrderReport(
    "mm1a2b3c-7",
    "8886774",
    Status.OPEN,
    Side.SELL,
    618_001,
    25,
    0,
    1_700_000_000_123 * MS,
)


def futures(**changes: Any) -> dict[str, Any]:
    return FUTURES_ORDER | changes


def golden(product: str, name: str) -> Any:
    path: Path = present(DATA / "wire" / "binance" / product / "http_json" / name)
    return msgspec.json.decode(path.read_bytes())


def test_a_futures_order() -> None:
    assert usdm.read_order(FUTURES_ORDER) == REPORT


@pytest.mark.parametrize(("word", "status"), STATUS.items())
def test_every_status_comes_out_as_such(word: str, status: Status) -> None:
    [placed] = usdm.read_placed(futures(status=word))
    assert isinstance(placed, OrderReport)
    assert placed.status is status


def test_a_body_with_status_200_may_refuse_the_order() -> None:
    words = {"REJECTED": Status.REJECTED, "EXPIRED": Status.EXPIRED}
    for word, status in words.items():
        [placed] = usdm.read_placed(futures(status=word))
        assert placed == msgspec.structs.replace(REPORT, status=status)
    [placed] = usdm.read_placed({"code": -5022, "msg": "Post Only order will be rejected."})
    assert placed == Refusal(Verdict.REJECTED, "post_only", post_only=True)


def test_each_order_of_a_batch_has_its_own_outcome() -> None:
    body = [
        FUTURES_ORDER,
        {"code": -2019, "msg": "Margin is insufficient."},
        futures(clientOrderId="mm1a2b3c-8", orderId=9, executedQty="0.010"),
        {"code": -1007, "msg": "Timeout waiting for response from backend server."},
    ]
    first, second, third, fourth = usdm.read_placed(body)
    assert first == REPORT
    assert second == Refusal(Verdict.REJECTED, "balance")
    assert isinstance(third, OrderReport)
    assert (third.order_id, third.cumulative_lots) == ("mm1a2b3c-8", 10)
    assert fourth == Refusal(Verdict.UNKNOWN, "no_answer")


@pytest.mark.parametrize(
    "body",
    [
        None,
        "",
        "<html></html>",
        {},
        [],
        [[]],
        [None],
        42,
        {"code": "x"},
        {"msg": "no code"},
        {name: value for name, value in FUTURES_ORDER.items() if name != "executedQty"},
        futures(symbol="ETHUSDT"),
        futures(price="61800.15"),
        futures(price=61800.1),
        futures(price="-1"),
        futures(origQty="0.0005"),
        futures(executedQty="NaN"),
        futures(status="NEWISH"),
        futures(side="BOTH"),
        futures(orderId="x"),
        futures(origQty=""),
    ],
)
def test_what_is_no_answer_to_a_placement_is_refused(body: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each says something else
        usdm.read_placed(body)


@pytest.mark.parametrize("body", [None, {}, {"code": -1000, "msg": ""}, [1], "[]", [None]])
def test_what_is_no_list_of_orders_is_refused_and_never_empty(body: Any) -> None:
    for read in (usdm.read_orders, usdm.read_executions):
        with pytest.raises(ValueError):  # noqa: PT011
            read(body)
    assert usdm.read_orders([]) == []
    assert usdm.read_executions([]) == []


def test_an_order_of_a_stranger_need_not_be_of_the_grid() -> None:
    [report] = usdm.read_orders([futures(clientOrderId="web_1", price="61800.15", type="STOP")])
    assert (report.order_id, report.tick) == ("web_1", 618_002)
    with pytest.raises(ValueError, match="no whole number"):
        usdm.read_orders([futures(price="61800.15")])


def test_a_spot_cancel_is_about_the_order_and_not_about_itself() -> None:
    report = spot.read_order(golden("spot", "cancel_order_response.json"))
    assert report == OrderReport(
        "myOrder1", "4", Status.CANCELLED, Side.BUY, 20_000, 100, 0, 1_684_804_350_068 * MS
    )


def test_a_spot_order_and_a_list_of_them() -> None:
    report = spot.read_order(golden("spot", "order_response.json"))
    assert report == OrderReport(
        "myOrder1", "1", Status.OPEN, Side.BUY, 1_000, 100, 0, 1_499_827_319_559 * MS
    )
    assert spot.read_orders(golden("spot", "open_orders_response.json")) == [report]
    assert spot.read_orders(golden("spot", "all_orders_response.json")) == [report]


def test_a_filled_spot_order() -> None:
    instrument = msgspec.structs.replace(SPOT, symbol="BTCUSDT")
    [report] = Answers(instrument).read_placed(golden("spot", "new_order_full_response.json"))
    assert isinstance(report, OrderReport)
    assert (report.status, report.lots, report.cumulative_lots) == (Status.FILLED, 1_000, 1_000)


def test_the_usdm_order_of_the_library() -> None:
    report = usdm.read_order(golden("usdm", "order_response.json"))
    assert (report.venue_id, report.tick, report.lots) == ("12345678", 500_000, 1)


AMENDED = {
    "transactTime": 1_741_926_410_255,
    "executionId": 75,
    "amendedOrder": {
        "symbol": "LTCBTC",
        "orderId": 33,
        "orderListId": -1,
        "origClientOrderId": "mm1a2b3c-1",
        "clientOrderId": "mm1a2b3c-1",
        "price": "6.00000000",
        "qty": "5.00000000",
        "executedQty": "1.00000000",
        "preventedQty": "0.50000000",
        "status": "PARTIALLY_FILLED",
        "side": "SELL",
    },
}


def test_an_amended_spot_order_has_its_new_quantity() -> None:
    assert spot.read_order(AMENDED) == OrderReport(
        "mm1a2b3c-1", "33", Status.OPEN, Side.SELL, 60_000, 450, 100, 1_741_926_410_255 * MS
    )


def test_what_self_trade_prevention_took_will_not_trade() -> None:
    body = {
        "symbol": "LTCBTC",
        "orderId": 1,
        "clientOrderId": "mm1a2b3c-1",
        "price": "0.1",
        "origQty": "3.0",
        "executedQty": "1.0",
        "preventedQuantity": "0.5",
        "status": "PARTIALLY_FILLED",
        "side": "BUY",
        "updateTime": 5,
    }
    assert spot.read_order(body).lots == 250
    # Of an order that ended, its quantity is what it always was.
    assert spot.read_order(body | {"status": "EXPIRED_IN_MATCH"}).lots == 300


def test_spot_executions() -> None:
    instrument = Instrument(
        "binance-spot", "BNBBTC", "BNB", "BTC", Decimal("0.00000100"), Decimal("0.01")
    )
    body = golden("spot", "account_trades_response.json")
    assert Answers(instrument).read_executions(body) == [
        Execution(
            at=1_499_865_549_590 * MS,
            order_id="",
            venue_id="100234",
            trade_id="28457",
            side=Side.BUY,
            tick=4_000_001,
            lots=1_200,
            maker=False,
            fee=Decimal("10.1"),
            fee_currency="BNB",
        )
    ]


def test_futures_executions_by_rising_id() -> None:
    row = {
        "buyer": False,
        "commission": "-0.00780000",
        "commissionAsset": "USDT",
        "id": 698759,
        "maker": True,
        "orderId": 25851813,
        "price": "7819.0",
        "qty": "0.002",
        "side": "SELL",
        "positionSide": "BOTH",
        "symbol": "BTCUSDT",
        "time": 1_569_514_978_020,
    }
    first, second = usdm.read_executions([row, row | {"id": 698758}])
    assert (first.trade_id, second.trade_id) == ("698758", "698759")
    assert (second.side, second.tick, second.lots) == (Side.SELL, 78_190, 2)
    assert second.maker
    assert second.fee == Decimal("-0.0078")  # a rebate

    for broken in ({"maker": None}, {"price": "7819.05"}, {"qty": "0.0001"}, {"symbol": "X"}):
        with pytest.raises(ValueError):  # noqa: PT011
            usdm.read_executions([row | broken])
