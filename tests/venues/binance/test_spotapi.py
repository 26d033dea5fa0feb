import json

import pytest

from bot.domain.units import Side
from tests.shell.fakemarket import MIDDLE, SPOT
from tests.venues.binance.venuestage import Stage

SYMBOL = {"symbol": "BTCUSDT"}


@pytest.fixture
def stage() -> Stage:
    return Stage(SPOT)


def test_an_order_is_placed_asked_for_listed_and_cancelled(stage: Stage) -> None:
    placed = stage.place(newClientOrderId="mine")
    order_id = placed["orderId"]
    assert (placed["status"], placed["type"], placed["fills"]) == ("NEW", "LIMIT_MAKER", [])
    assert [seen.order_id for seen in stage.exchange.orders_of(1)] == [order_id]
    order = stage.ask("GET", "order", **SYMBOL, origClientOrderId="mine")
    assert order == stage.ask("GET", "order", **SYMBOL, orderId=order_id)
    assert (order["price"], order["origQty"]) == ("5999.99000000", "0.01000000")
    assert stage.ask("GET", "openOrders", **SYMBOL) == stage.ask("GET", "openOrders") == [order]
    ended = stage.ask("DELETE", "order", **SYMBOL, orderId=order_id, newClientOrderId="bye")
    assert (ended["status"], ended["origClientOrderId"], ended["clientOrderId"]) == (
        "CANCELED", "mine", "bye",
    )  # fmt: skip
    assert stage.ask("GET", "openOrders", **SYMBOL) == []
    assert [one["status"] for one in stage.ask("GET", "allOrders", **SYMBOL)] == ["CANCELED"]


def test_refusals(stage: Stage) -> None:
    stage.place(newClientOrderId="taken")
    new = stage.limit_order
    assert stage.refused("POST", "order", **new, newClientOrderId="taken")[1:] == (
        -2010, "Duplicate order sent.",
    )  # fmt: skip
    assert stage.refused("POST", "order", **new | {"price": stage.price(MIDDLE + 1)})[1:] == (
        -2010, "Order would immediately match and take.",
    )  # fmt: skip
    assert stage.refused("POST", "order", **new | {"quantity": "10"})[1:] == (
        -2010, "Account has insufficient balance for requested action.",
    )  # fmt: skip
    assert stage.refused("DELETE", "order", **SYMBOL, orderId=999)[1] == -2011
    assert stage.refused("GET", "order", **SYMBOL, orderId=999)[1] == -2013
    assert len(stage.account.open_orders()) == 1


def test_amending_keeps_the_place(stage: Stage) -> None:
    order_id = stage.place(newClientOrderId="mine")["orderId"]
    amend = {**SYMBOL, "orderId": order_id}
    path = "order/amend/keepPriority"
    done = stage.ask("PUT", path, **amend, newQty="0.005", newClientOrderId="mine")
    told = done["amendedOrder"]
    assert (told["qty"], told["clientOrderId"], told["orderId"]) == ("0.00500000", "mine", order_id)
    done = stage.ask("PUT", path, **amend, newQty="0.004")
    assert done["amendedOrder"]["clientOrderId"].startswith("amend_")
    assert done["amendedOrder"]["origClientOrderId"] == "mine"
    assert stage.exchange.order(order_id).left == 400
    for quantity in ("0.004", "0.02"):
        assert stage.refused("PUT", path, **amend, newQty=quantity)[1] == -2038
    assert stage.refused("PUT", path, **amend, newQty="0.0000001")[1] == -1013
    assert stage.refused("PUT", path, **SYMBOL, orderId=999, newQty="0.001")[1] == -2013
    assert stage.exchange.order(order_id).left == 400


def test_replacing_cancels_first(stage: Stage) -> None:
    order_id = stage.place()["orderId"]
    new = stage.limit_order | {"cancelReplaceMode": "STOP_ON_FAILURE"}
    path = "order/cancelReplace"
    done = stage.ask("POST", path, **new, cancelOrderId=order_id)
    assert (done["cancelResult"], done["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    assert done["newOrderResponse"]["orderId"] != order_id
    stopped = stage.refused("POST", path, **new, cancelOrderId=order_id)
    assert stopped[:2] == (400, -2022)
    assert len(stage.account.open_orders()) == 1
    going_on = new | {"cancelReplaceMode": "ALLOW_FAILURE", "cancelOrderId": order_id}
    assert stage.refused("POST", path, **going_on)[:2] == (409, -2021)
    assert len(stage.account.open_orders()) == 2
    crossing = new | {"price": stage.price(MIDDLE + 1)}
    kept = stage.account.open_orders()[0].order_id
    request = stage.request("POST", path, **crossing, cancelOrderId=kept)
    reply = stage.send(request)
    data = json.loads(reply.body)["data"]
    assert (data["cancelResult"], data["newOrderResult"]) == ("SUCCESS", "FAILURE")
    assert data["newOrderResponse"]["code"] == -2010
    assert len(stage.account.open_orders()) == 1


def test_all_orders_go_at_once(stage: Stage) -> None:
    ids = [stage.place()["orderId"] for _ in range(3)]
    assert [one["orderId"] for one in stage.ask("DELETE", "openOrders", **SYMBOL)] == ids
    assert stage.refused("DELETE", "openOrders", **SYMBOL)[1] == -2011


def test_the_account_after_trades(stage: Stage) -> None:
    stage.place(MIDDLE)
    stage.flow(Side.SELL, MIDDLE, 400)
    sell = SYMBOL | {"side": "SELL", "type": "LIMIT", "timeInForce": "IOC", "quantity": "0.002"}
    sell |= {"price": stage.price(MIDDLE - 1)}
    done = stage.ask("POST", "order", **sell, selfTradePreventionMode="EXPIRE_TAKER")
    assert (done["status"], done["fills"]) == ("EXPIRED_IN_MATCH", [])  # our bid is in front
    done = stage.ask("POST", "order", **sell, selfTradePreventionMode="NONE")
    assert [fill["commissionAsset"] for fill in done["fills"]] == ["USDT"]
    trades = stage.ask("GET", "myTrades", **SYMBOL)
    assert [(one["isBuyer"], one["isMaker"]) for one in trades] == [
        (True, True), (True, True), (False, False),
    ]  # fmt: skip
    assert (trades[0]["commission"], trades[0]["commissionAsset"]) == ("0.00000080", "BTC")
    assert stage.ask("GET", "myTrades", **SYMBOL, orderId=done["orderId"]) == trades[2:]
    account = stage.ask("GET", "account")
    held = {one["asset"]: (one["free"], one["locked"]) for one in account["balances"]}
    assert held["USDT"][1] == "24.00000000"  # 0.004 are left of the bid
    assert held["BTC"] == ("0.20399880", "0.00000000")


def test_what_trading_costs_and_a_key_may_do(stage: Stage) -> None:
    assert stage.ask("GET", "account/commission", **SYMBOL)["standardCommission"]["taker"] == (
        "0.00050000"
    )
    (fee,) = stage.ask("GET", "/sapi/v1/asset/tradeFee", **SYMBOL)
    assert (fee["makerCommission"], fee["takerCommission"]) == ("0.0002", "0.0005")
    assert stage.ask("GET", "/sapi/v1/account/apiRestrictions")["enableSpotAndMarginTrading"]
