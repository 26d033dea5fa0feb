from typing import Any

import pytest

from bot.domain.account import InForce, Kind, NewOrder, SelfTrade
from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.orderform import OrderForm
from bot.venues.binance.reply import Refused
from tests.shell.fakemarket import SPOT, USDM

MARK = {SPOT: 6_000_000, USDM: 600_000}
LIMIT = {
    "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
    "quantity": "0.01", "price": "60000",
}  # fmt: skip


def read(instrument: Instrument, **changes: Any) -> NewOrder:
    params = {name: value for name, value in (LIMIT | changes).items() if value is not None}
    return OrderForm(instrument).read(params, MARK[instrument], "made-up")


def test_a_limit_order() -> None:
    assert read(USDM, newClientOrderId="mine", reduceOnly="true", side="SELL") == NewOrder(
        Side.SELL, 600_000, 10, "mine", Kind.LIMIT, InForce.GTC, SelfTrade.EXPIRE_MAKER, True
    )
    spot = read(SPOT, selfTradePreventionMode="NONE")
    assert (spot.tick, spot.lots, spot.client_id) == (6_000_000, 1_000, "made-up")
    assert spot.self_trade is SelfTrade.NONE


def test_post_only_is_a_type_on_spot_and_a_time_in_force_on_usdm() -> None:
    assert read(SPOT, type="LIMIT_MAKER", timeInForce=None).post_only
    assert read(USDM, timeInForce="GTX").post_only
    assert not read(USDM, timeInForce="IOC").post_only


def test_a_market_order_has_no_price() -> None:
    for instrument in (SPOT, USDM):
        found = read(instrument, type="MARKET", timeInForce=None, price=None)
        assert (found.kind, found.tick) == (Kind.MARKET, 0)


def test_numbers_may_have_zeros_behind() -> None:
    assert read(USDM, price="60000.1000", quantity="0.0100").tick == 600_001


BOTH = [
    ({"symbol": None}, -1102),
    ({"symbol": "ETHUSDT"}, -1121),
    ({"side": None}, -1102),
    ({"side": "LONG"}, -1117),
    ({"type": None}, -1102),
    ({"type": "STOP"}, -1116),
    ({"timeInForce": None}, -1102),
    ({"timeInForce": "GTD"}, -1115),
    ({"type": "MARKET", "timeInForce": None}, -1106),
    ({"quantity": None}, -1102),
    ({"quantity": "-1"}, -1100),
    ({"quantity": "1e3"}, -1100),
    ({"price": "NaN"}, -1100),
    ({"newClientOrderId": "with space"}, -1100),
    ({"newClientOrderId": ""}, -1100),
    ({"selfTradePreventionMode": "LOVE"}, -1130),
]
ONE = [
    (SPOT, {"type": "LIMIT_MAKER"}, -1106),
    (SPOT, {"timeInForce": "GTX"}, -1115),
    (SPOT, {"newClientOrderId": "x" * 37}, -1100),
    (SPOT, {"price": "60000.001"}, -1013),
    (SPOT, {"price": "0"}, -1013),
    (SPOT, {"price": "300000.01"}, -1013),
    (SPOT, {"price": "11999.99"}, -1013),
    (SPOT, {"quantity": "0.000015"}, -1013),
    (SPOT, {"quantity": "0"}, -1013),
    (SPOT, {"quantity": "0.00001"}, -1013),
    (USDM, {"type": "LIMIT_MAKER", "timeInForce": None}, -1116),
    (USDM, {"newClientOrderId": "x" * 37}, -4015),
    (USDM, {"price": "60000.05"}, -4014),
    (USDM, {"price": "60000.055"}, -1111),
    (USDM, {"price": "0"}, -4001),
    (USDM, {"price": "63000.10"}, -4016),
    (USDM, {"price": "56999.90", "side": "SELL"}, -4024),
    (USDM, {"quantity": "0.0015"}, -1111),
    (USDM, {"quantity": "0"}, -4003),
    (USDM, {"quantity": "1000000"}, -4005),
    (USDM, {"quantity": "0.001"}, -4164),
    (USDM, {"reduceOnly": "maybe"}, -1130),
    (USDM, {"positionSide": "LONG"}, -4061),
]


@pytest.mark.parametrize(
    ("instrument", "changes", "code"),
    [(instrument, *case) for case in BOTH for instrument in (SPOT, USDM)] + ONE,
)
def test_what_is_refused(instrument: Instrument, changes: dict[str, Any], code: int) -> None:
    with pytest.raises(Refused) as refused:
        read(instrument, **changes)
    assert refused.value.code == code


def test_what_is_close_to_refused() -> None:
    assert read(USDM, price="63000").tick == 630_000
    assert read(USDM, price="57000", side="SELL").tick == 570_000
    assert read(USDM, quantity="0.001", reduceOnly="true").lots == 1
    assert read(SPOT, price="300000").tick == 30_000_000
    assert OrderForm(USDM).read(LIMIT, 0, "x").tick == 600_000  # without a mark nothing is far
