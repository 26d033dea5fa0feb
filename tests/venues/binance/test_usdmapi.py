import json

import pytest

from bot.domain.units import Side
from bot.venues.binance.userstream import LIFE_MS
from tests.shell.fakemarket import MIDDLE, USDM
from tests.venues.binance.venuestage import Stage

SYMBOL = {"symbol": "BTCUSDT"}


@pytest.fixture
def stage() -> Stage:
    return Stage(USDM)


def test_an_order_is_placed_asked_for_listed_and_cancelled(stage: Stage) -> None:
    placed = stage.place(newClientOrderId="mine")
    order_id = placed["orderId"]
    assert (placed["status"], placed["timeInForce"], placed["price"]) == ("NEW", "GTX", "59999.90")
    assert [seen.order_id for seen in stage.exchange.orders_of(1)] == [order_id]
    by_id = stage.ask("GET", "order", **SYMBOL, orderId=order_id)
    assert by_id == stage.ask("GET", "order", **SYMBOL, origClientOrderId="mine") == placed
    assert stage.ask("GET", "openOrder", **SYMBOL, orderId=order_id) == placed
    assert stage.ask("GET", "openOrders", **SYMBOL) == stage.ask("GET", "openOrders") == [placed]
    ended = stage.ask("DELETE", "order", **SYMBOL, origClientOrderId="mine")
    assert (ended["status"], ended["clientOrderId"]) == ("CANCELED", "mine")
    assert stage.exchange.orders_of(1) == []
    assert stage.ask("GET", "allOrders", **SYMBOL) == [ended]
    assert stage.refused("GET", "openOrder", **SYMBOL, orderId=order_id)[1] == -2013


def test_refusals(stage: Stage) -> None:
    kept = stage.place(newClientOrderId="taken")
    new = stage.limit_order
    assert stage.refused("POST", "order", **new, newClientOrderId="taken")[1] == -4116
    assert stage.refused("POST", "order", **new | {"price": stage.price(MIDDLE + 1)})[1] == -5022
    assert stage.refused("POST", "order", **new | {"quantity": "10"})[1] == -2019
    fok = new | {"timeInForce": "FOK"}
    assert stage.refused("POST", "order", **fok)[1] == -5021
    assert stage.refused("POST", "order", **new, reduceOnly="true")[1] == -2022
    assert stage.refused("DELETE", "order", **SYMBOL, orderId=999)[1] == -2011
    assert stage.refused("GET", "order", **SYMBOL, orderId=999)[1] == -2013
    assert stage.refused("GET", "order", **SYMBOL)[1] == -1102
    assert stage.refused("GET", "order", **SYMBOL, orderId="x")[1] == -1100
    assert [one.order_id for one in stage.account.open_orders()] == [kept["orderId"]]


def test_a_modification_needs_both_and_leaves_the_order_when_refused(stage: Stage) -> None:
    order_id = stage.place()["orderId"]
    change = {**SYMBOL, "orderId": order_id, "side": "BUY"}
    price = stage.price(MIDDLE - 2)
    assert stage.refused("PUT", "order", **change, price=price)[1] == -1102
    assert stage.refused("PUT", "order", **change, quantity="0.02")[1] == -1102
    both = change | {"price": price, "quantity": "0.020"}
    assert stage.refused("PUT", "order", **both | {"price": "59999.85"})[1] == -4014
    assert stage.refused("PUT", "order", **both | {"quantity": "0.001"})[1] == -4164
    assert stage.refused("PUT", "order", **both | {"quantity": "9"})[1] == -2019
    assert stage.refused("PUT", "order", **both | {"side": "SELL"})[1] == -1117
    same = {"price": stage.price(MIDDLE - 1), "quantity": "0.010"}
    assert stage.refused("PUT", "order", **both | same)[1] == -5027
    assert stage.refused("PUT", "order", **both | {"orderId": 999})[1] == -2013
    assert stage.account.open_orders()[0].tick == MIDDLE - 1
    done = stage.ask("PUT", "order", **both)
    assert (done["orderId"], done["price"], done["origQty"]) == (order_id, price, "0.020")
    (queued,) = [seen for seen in stage.exchange.queue(Side.BUY, MIDDLE - 2) if seen.owner]
    assert queued.order_id == order_id
    gone = stage.ask("PUT", "order", **both | {"price": stage.price(MIDDLE + 1)})
    assert (gone["status"], gone["executedQty"]) == ("CANCELED", "0.000")
    assert stage.refused("PUT", "order", **both)[1] == -2013


def test_batches_have_an_outcome_for_each(stage: Stage) -> None:
    orders = [
        stage.limit_order | {"newClientOrderId": "a"},
        stage.limit_order | {"newClientOrderId": "b", "price": stage.price(MIDDLE + 1)},
        stage.limit_order | {"newClientOrderId": "c", "reduceOnly": False},
    ]
    placed = stage.ask("POST", "batchOrders", batchOrders=json.dumps(orders))
    assert [one.get("clientOrderId", one.get("code")) for one in placed] == ["a", -5022, "c"]
    ids = [placed[0]["orderId"], placed[2]["orderId"]]
    changes = [
        {**SYMBOL, "side": "BUY", "orderId": i, "price": stage.price(MIDDLE - 3), "quantity": 0.02}
        for i in (*ids, 999)
    ]
    changed = stage.ask("PUT", "batchOrders", batchOrders=json.dumps(changes))
    assert [one.get("price", one.get("code")) for one in changed] == ["59999.70"] * 2 + [-2013]
    ended = stage.ask("DELETE", "batchOrders", **SYMBOL, orderIdList=json.dumps([ids[0], 999]))
    assert [one.get("status", one.get("code")) for one in ended] == ["CANCELED", -2011]
    ended = stage.ask("DELETE", "batchOrders", **SYMBOL, origClientOrderIdList='["c"]')
    assert [one["status"] for one in ended] == ["CANCELED"]
    assert stage.refused("POST", "batchOrders", batchOrders="[]")[1] == -4082
    assert stage.refused("POST", "batchOrders", batchOrders="{")[1] == -1130
    assert stage.refused("DELETE", "batchOrders", **SYMBOL)[1] == -1102
    many = json.dumps(list(range(11)))
    assert stage.refused("DELETE", "batchOrders", **SYMBOL, orderIdList=many)[1] == -4083


def test_all_orders_go_at_once_or_when_nobody_counts_down_again(stage: Stage) -> None:
    for _ in range(3):
        stage.place()
    assert stage.ask("DELETE", "allOpenOrders", **SYMBOL)["code"] == 200
    assert stage.account.open_orders() == []
    assert stage.refused("POST", "countdownCancelAll", **SYMBOL)[1] == -1102
    stage.place()
    told = stage.ask("POST", "countdownCancelAll", **SYMBOL, countdownTime=1_000)
    assert told == {"symbol": "BTCUSDT", "countdownTime": "1000"}
    stage.desk.tend(0, stage.now + 999)
    assert len(stage.account.open_orders()) == 1
    stage.ask("POST", "countdownCancelAll", **SYMBOL, countdownTime=0)
    stage.desk.tend(0, stage.now + 5_000)
    assert len(stage.account.open_orders()) == 1
    stage.ask("POST", "countdownCancelAll", **SYMBOL, countdownTime=1_000)
    stage.desk.tend(0, stage.now + 1_000)
    assert stage.account.open_orders() == []


def test_the_account_after_trades(stage: Stage) -> None:
    assert stage.ask("GET", "positionRisk", **SYMBOL) == []
    stage.place(MIDDLE)
    stage.flow(Side.SELL, MIDDLE, 4)
    market = {**SYMBOL, "side": "BUY", "type": "MARKET", "quantity": "0.002"}
    done = stage.ask("POST", "order", **market)
    assert (done["status"], done["avgPrice"], done["type"]) == ("FILLED", "60000.10000", "MARKET")
    trades = stage.ask("GET", "userTrades", **SYMBOL)
    assert [(one["qty"], one["maker"]) for one in trades] == [("0.004", True), ("0.002", False)]
    assert trades[0]["commission"] == "0.04800000"
    assert stage.ask("GET", "userTrades", **SYMBOL, orderId=done["orderId"]) == trades[1:]
    (risk,) = stage.ask("GET", "positionRisk", **SYMBOL)
    assert risk["positionAmt"] == "0.006"
    assert (risk["entryPrice"], risk["leverage"]) == ("60000.03333333", "20")
    account = stage.ask("GET", "/fapi/v3/account")
    (balance,) = stage.ask("GET", "/fapi/v3/balance")
    assert account["totalWalletBalance"] == balance["balance"] == "9999.89199990"
    assert account["positions"][0]["positionAmt"] == "0.006"
    kinds = [one["incomeType"] for one in stage.ask("GET", "income")]
    assert kinds == ["TRANSFER", "TRANSFER", "COMMISSION", "COMMISSION"]
    fees = stage.ask("GET", "income", incomeType="COMMISSION", limit=1)
    assert fees[0]["income"] == "-0.06000010"


def test_settings_of_the_account(stage: Stage) -> None:
    assert stage.ask("GET", "positionSide/dual") == {"dualSidePosition": False}
    assert stage.ask("GET", "multiAssetsMargin") == {"multiAssetsMargin": False}
    assert stage.ask("GET", "commissionRate", **SYMBOL)["makerCommissionRate"] == "0.0002"
    assert stage.ask("GET", "accountConfig")["canTrade"] is True
    assert stage.ask("GET", "leverageBracket")[0]["brackets"][0]["initialLeverage"] == 125
    assert stage.ask("POST", "leverage", **SYMBOL, leverage=5)["leverage"] == 5
    assert stage.ask("GET", "symbolConfig", **SYMBOL)[0]["leverage"] == 5
    assert stage.refused("POST", "leverage", **SYMBOL, leverage=126)[1] == -4028
    rights = stage.ask("GET", "/sapi/v1/account/apiRestrictions")
    assert (rights["enableFutures"], rights["enableWithdrawals"]) == (True, False)
    stage.seats[0].may_withdraw = True
    assert stage.ask("GET", "/sapi/v1/account/apiRestrictions")["enableWithdrawals"] is True


def test_listen_keys(stage: Stage) -> None:
    assert stage.refused("PUT", "listenKey")[1] == -1125
    key = stage.ask("POST", "listenKey")["listenKey"]
    assert stage.ask("POST", "listenKey")["listenKey"] == key
    stage.now += LIFE_MS - 1
    assert stage.ask("PUT", "listenKey")["listenKey"] == key
    stage.now += LIFE_MS - 1
    assert stage.ask("POST", "listenKey")["listenKey"] == key
    assert stage.ask("DELETE", "listenKey") == {}
    assert stage.ask("POST", "listenKey")["listenKey"] != key
