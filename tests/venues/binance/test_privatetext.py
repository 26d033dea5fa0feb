"""What is written against the venue's own examples: the same members, of the same kinds."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.domain.account import Margin, Position, Refusal
from bot.domain.units import Side
from bot.sim import wallet
from bot.venues.binance.privatetext import MAINTENANCE, PrivateText, liquidation, money, refused
from bot.venues.binance.publictext import PublicText
from tests.conftest import DATA, present
from tests.shell.fakemarket import MIDDLE, SPOT, USDM
from tests.venues.binance.venuestage import Stage

SYMBOL = {"symbol": "BTCUSDT"}


def example(path: str) -> Any:
    found: Path = present(DATA / "wire" / "binance" / path)
    told = json.loads(found.read_text())
    return told[0] if isinstance(told, list) else told


def kinds(told: Any) -> dict[str, str]:
    """The members of an object and what they are; numbers of either kind are alike."""
    alike = {"int": "number", "float": "number"}
    return {name: alike.get(type(v).__name__, type(v).__name__) for name, v in told.items()}


@pytest.mark.parametrize(
    ("method", "name", "path"),
    [
        ("GET", "order", "spot/http_json/order_response.json"),
        ("GET", "myTrades", "spot/http_json/account_trades_response.json"),
        ("GET", "account", "spot/http_json/account_response.json"),
        ("DELETE", "order", "spot/http_json/cancel_order_response.json"),
        ("POST", "order", "spot/http_json/new_order_full_response.json"),
        ("GET", "order", "usdm/http_json/order_response.json"),
        ("GET", "/fapi/v2/account", "usdm/http_json/account_info_v2.json"),
        ("GET", "/fapi/v2/balance", "usdm/http_json/balance.json"),
        ("GET", "/fapi/v2/positionRisk", "usdm/http_json/position_risk.json"),
    ],
)
def test_members_are_those_of_the_venue(method: str, name: str, path: str) -> None:
    expected = example(path)
    stage = Stage(SPOT if path.startswith("spot") else USDM)
    order_id = stage.place(MIDDLE)["orderId"]
    stage.flow(Side.SELL, MIDDLE, 4)
    params = SYMBOL | ({"orderId": order_id} if name in ("order", "myTrades") else {})
    if method == "POST":
        params = stage.limit_order
    told = stage.ask(method, name, **params)
    told = told[0] if isinstance(told, list) else told
    ours = kinds(told)
    assert {member: ours.get(member) for member in expected} == kinds(expected)
    for part in ("balances", "assets"):
        if part in expected:
            theirs = kinds(expected[part][0])
            mine = kinds(told[part][0])
            assert {member: mine.get(member) for member in theirs} == theirs


def test_the_bracket_is_what_accounts_are_margined_by() -> None:
    assert MAINTENANCE == wallet.MAINTENANCE


def test_every_refusal_has_an_error_on_both() -> None:
    for refusal in Refusal:
        for spot in (True, False):
            assert refused(refusal, spot=spot).code < 0


def test_numbers_are_written_as_the_venue_writes_them() -> None:
    spot, usdm = PrivateText(PublicText(SPOT)), PrivateText(PublicText(USDM))
    assert (spot.price(1), spot.lots(1)) == ("0.01000000", "0.00001000")
    assert (usdm.price(1), usdm.lots(1)) == ("0.10", "0.001")
    assert usdm.value(600_000 * 7) == "420.00000000"
    assert money(Decimal("-1.5")) == "-1.50000000"
    flat = Position(-5, Decimal(1), Decimal(1), Decimal(0), Decimal(0))
    assert usdm.amount(flat) == "-0.005"


def test_the_liquidation_price_leaves_the_maintenance_margin() -> None:
    owned = Decimal(100)
    margin = Margin(owned, *[Decimal(0)] * 5)
    for quantity in (Decimal("0.1"), Decimal("-0.1")):
        position = Position(0, Decimal(60_000), Decimal(60_000), Decimal(0), Decimal(0))
        price = liquidation(position, margin, quantity)
        left = owned + quantity * (price - 60_000)
        assert abs(left - abs(quantity) * price * Decimal("0.004")) < Decimal("1e-15")
    assert liquidation(position, margin, Decimal(0)) == 0
