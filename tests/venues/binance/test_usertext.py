"""User events against the venue's own examples, and in the order in which things happened."""

from decimal import Decimal
from typing import Any

import pytest

from bot.domain.units import Side
from tests.shell.fakemarket import MIDDLE, SPOT, USDM
from tests.venues.binance.test_privatetext import example, kinds
from tests.venues.binance.venuestage import AT, Stage

# Members that only conditional, trailing or liquidation orders have.
OTHERS_ONLY = {"AP", "cr"}


def usdm() -> Stage:
    stage = Stage(USDM)
    stage.seats[0].stream.open(stage.now)
    return stage


def spot_events(stage: Stage) -> list[Any]:
    events = stage.events()
    assert all(one["subscriptionId"] == 0 for one in events)
    return [one["event"] for one in events]


def check(ours: Any, theirs: Any) -> None:
    mine = kinds(ours)
    wanted = {name: kind for name, kind in kinds(theirs).items() if name not in OTHERS_ONLY}
    assert {name: mine.get(name) for name in wanted} == wanted


def test_usdm_members_are_those_of_the_venue() -> None:
    stage = usdm()
    stage.place(MIDDLE)
    stage.flow(Side.SELL, MIDDLE, 4)
    new, trade, account = stage.events()
    check(trade["o"], example("usdm/user_data_json/order_update_trade.json")["o"])
    theirs = example("usdm/user_data_json/account_update.json")
    check(account, theirs)
    for part in "BP":
        check(account["a"][part][0], theirs["a"][part][0])
    assert new["o"]["x"] == new["o"]["X"] == "NEW"
    assert "n" not in new["o"]


def test_usdm_life_of_an_order() -> None:
    stage = usdm()
    placed = stage.place(MIDDLE, newClientOrderId="mine")
    stage.flow(Side.SELL, MIDDLE, 4)
    change = {"symbol": "BTCUSDT", "side": "BUY", "orderId": placed["orderId"]}
    price = stage.price(MIDDLE - 1)
    stage.ask("PUT", "order", **change, price=price, quantity="0.009")
    stage.ask("DELETE", "allOpenOrders", symbol="BTCUSDT")
    updates = [one["o"] for one in stage.events() if one["e"] == "ORDER_TRADE_UPDATE"]
    told = [(u["x"], u["X"], u["q"], u["z"], u["p"], u["c"]) for u in updates]
    assert told == [
        ("NEW", "NEW", "0.010", "0.000", "60000.00", "mine"),
        ("TRADE", "PARTIALLY_FILLED", "0.010", "0.004", "60000.00", "mine"),
        ("AMENDMENT", "PARTIALLY_FILLED", "0.009", "0.004", "59999.90", "mine"),
        ("CANCELED", "CANCELED", "0.009", "0.004", "59999.90", "mine"),
    ]
    assert (updates[1]["l"], updates[1]["L"], updates[1]["n"]) == (
        "0.004",
        "60000.00",
        "0.04800000",
    )
    assert (updates[1]["N"], updates[1]["m"], updates[1]["ap"]) == ("USDT", True, "60000.00000")


def test_funding_names_no_position() -> None:
    stage = usdm()
    stage.place(MIDDLE)
    stage.flow(Side.SELL, MIDDLE, 4)
    stage.events()
    stage.account.settle_funding(AT, Decimal("0.0001"), MIDDLE)
    (told,) = stage.events()
    assert (told["a"]["m"], told["a"]["P"]) == ("FUNDING_FEE", [])
    assert told["a"]["B"][0]["bc"] == "-0.02400000"


@pytest.mark.parametrize(
    ("name", "index"), [("execution_report_new", 0), ("execution_report_trade", 2)]
)
def test_spot_members_are_those_of_the_venue(name: str, index: int) -> None:
    theirs = example(f"spot/user_data_json/{name}.json")
    stage = Stage(SPOT)
    stage.place(MIDDLE)
    stage.flow(Side.SELL, MIDDLE, 1_000)
    events = spot_events(stage)
    check(events[index], theirs)
    assert list(events[1]) == list(example("spot/user_data_json/account_position.json"))


def test_spot_life_of_an_order() -> None:
    stage = Stage(SPOT)
    placed = stage.place(MIDDLE, newClientOrderId="mine")
    stage.flow(Side.SELL, MIDDLE, 400)
    amend = {"symbol": "BTCUSDT", "orderId": placed["orderId"], "newQty": "0.009"}
    stage.ask("PUT", "order/amend/keepPriority", **amend, newClientOrderId="less")
    cancel = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    stage.ask("DELETE", "order", **cancel, newClientOrderId="bye")
    events = spot_events(stage)
    assert [one["e"] for one in events] == ["executionReport", "outboundAccountPosition"] * 4
    told = [(u["x"], u["X"], u["q"], u["z"], u["c"], u["C"]) for u in events[::2]]
    assert told == [
        ("NEW", "NEW", "0.01000000", "0.00000000", "mine", ""),
        ("TRADE", "PARTIALLY_FILLED", "0.01000000", "0.00400000", "mine", ""),
        ("REPLACED", "PARTIALLY_FILLED", "0.00900000", "0.00400000", "less", "mine"),
        ("CANCELED", "CANCELED", "0.00900000", "0.00400000", "bye", "less"),
    ]
    assert (events[2]["n"], events[2]["N"]) == ("0.00000080", "BTC")
    locked = [{one["a"]: one["l"] for one in position["B"]}["USDT"] for position in events[1::2]]
    assert locked == ["60.00000000", "36.00000000", "30.00000000", "0.00000000"]


def test_a_deposit() -> None:
    stage = Stage(SPOT)
    stage.account.deposit(AT, "USDT", Decimal(5))
    (told,) = spot_events(stage)
    theirs = example("spot/user_data_json/balance_update.json")
    check(told, theirs)
    assert (told["a"], told["d"]) == ("USDT", "5.00000000")
