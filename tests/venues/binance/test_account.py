"""Answers about the account and the symbol's rules."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from bot.domain.instrument import Fees, Instrument
from bot.venues.binance.account import AccountAnswers
from bot.venues.binance.listing import exchange_info
from bot.venues.orderentry import Holdings, NotTrading, Permissions
from tests.conftest import DATA, present

SPOT = Instrument(
    "binance-spot",
    "BTCUSDT",
    "BTC",
    "USDT",
    Decimal("0.01"),
    Decimal("0.00001"),
    min_qty_lots=2,
    min_notional=Decimal(5),
)
USDM = Instrument(
    "binance-usdm",
    "BTCUSDT",
    "BTC",
    "USDT",
    Decimal("0.1"),
    Decimal("0.001"),
    min_qty_lots=1,
    min_notional=Decimal(100),
)

spot, usdm = AccountAnswers(SPOT), AccountAnswers(USDM)


def listed(instrument: Instrument, **changes: Any) -> Any:
    body = msgspec.json.decode(exchange_info(1, 6_000, instrument))
    body["symbols"][0] |= changes
    return body


@pytest.mark.parametrize("instrument", [SPOT, USDM])
def test_filters_come_back_as_they_were_listed(instrument: Instrument) -> None:
    # Whatever we believed before: the answer's numbers count.
    stale = msgspec.structs.replace(instrument, tick=Decimal(7), min_qty_lots=9)
    assert AccountAnswers(stale).read_filters(listed(instrument)) == instrument


def test_steps_are_written_without_needless_zeros() -> None:
    found = spot.read_filters(listed(SPOT))
    assert (str(found.tick), str(found.lot), str(found.min_notional)) == ("0.01", "0.00001", "5")


def test_a_real_futures_symbol() -> None:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "556.80"},
        {"filterType": "LOT_SIZE", "stepSize": "0.002", "maxQty": "1000", "minQty": "0.003"},
        {"filterType": "MIN_NOTIONAL", "notional": "50"},
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
    body = listed(USDM, filters=filters)
    body["symbols"].insert(0, {"symbol": "BTCUSDT_260327", "of": "a kind that nobody knows"})
    found = usdm.read_filters(body)
    assert (found.min_qty_lots, found.min_notional) == (2, Decimal(50))


@pytest.mark.parametrize(
    ("answers", "body", "words"),
    [
        (usdm, {"symbols": []}, "does not list BTCUSDT"),
        (usdm, listed(USDM, status="SETTLING"), "its status is SETTLING"),
        (spot, listed(SPOT, status="HALT"), "its status is HALT"),
        (usdm, listed(USDM, timeInForce=["GTC"]), "no post-only orders"),
        (spot, listed(SPOT, orderTypes=["LIMIT"]), "no post-only orders"),
        (spot, listed(SPOT, allowedSelfTradePreventionModes=["NONE"]), "EXPIRE_MAKER"),
        (spot, listed(SPOT, filters=[]), "without 'PRICE_FILTER'"),
        (spot, {}, "symbols"),
        (spot, [], "Expected"),
    ],
)
def test_a_symbol_that_cannot_be_quoted_is_refused_in_words(
    answers: AccountAnswers, body: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        answers.read_filters(body)


@pytest.mark.parametrize("status", ["HALT", "BREAK", "SETTLING"])
def test_a_symbol_that_rests_is_told_apart(status: str) -> None:
    for answers, instrument in ((spot, SPOT), (usdm, USDM)):
        with pytest.raises(NotTrading, match=status):
            answers.read_filters(listed(instrument, status=status))


def test_a_step_of_nothing_is_refused() -> None:
    body = listed(USDM)
    body["symbols"][0]["filters"][0]["tickSize"] = "0.00"
    with pytest.raises(ValueError, match="no step"):
        usdm.read_filters(body)


def position(symbol: str, amount: str, side: str = "BOTH") -> dict[str, str]:
    return {"symbol": symbol, "positionSide": side, "positionAmt": amount}


def account(*positions: dict[str, str]) -> dict[str, Any]:
    asset = {"asset": "USDT", "walletBalance": "120.5", "availableBalance": "100.25"}
    other = {"asset": "BNB", "walletBalance": "1", "availableBalance": "1"}
    return {"assets": [other, asset], "positions": list(positions)}


def test_futures_holdings() -> None:
    found = usdm.read_holdings(account(position("ETHUSDT", "5"), position("BTCUSDT", "-0.025")))
    assert found == Holdings(Decimal("-0.025"), Decimal("100.25"))
    # Symbols without position and orders are not listed.
    assert usdm.read_holdings(account()) == Holdings(Decimal(0), Decimal("100.25"))


def test_hedge_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="hedge mode"):
        usdm.read_holdings(account(position("BTCUSDT", "1", "LONG")))


@pytest.mark.parametrize("body", [None, {}, [], {"assets": []}, {"positions": []}, {"code": -1}])
def test_what_is_no_account_is_never_an_empty_one(body: Any) -> None:
    for answers in (spot, usdm):
        with pytest.raises(ValueError):  # noqa: PT011
            answers.read_holdings(body)


def test_spot_holdings_count_what_orders_lock() -> None:
    body = {
        "balances": [
            {"asset": "BTC", "free": "1.00000001", "locked": "0.5"},
            {"asset": "USDT", "free": "100.1", "locked": "7"},
        ]
    }
    found = spot.read_holdings(body)
    assert found == Holdings(Decimal("1.50000001"), Decimal("100.1"), Decimal("1.00000001"))
    assert spot.read_holdings({"balances": []}) == Holdings(Decimal(0), Decimal(0), Decimal(0))


def test_the_accounts_of_the_library() -> None:
    folder = present(DATA / "wire" / "binance")
    body = msgspec.json.decode((folder / "spot/http_json/account_response.json").read_bytes())
    ltc = msgspec.structs.replace(SPOT, base="BTC", quote="LTC")
    amount = Decimal("4723846.89208129")
    assert AccountAnswers(ltc).read_holdings(body) == Holdings(
        amount, Decimal("4763368.68006011"), amount
    )
    body = msgspec.json.decode((folder / "usdm/http_json/account_info_v2.json").read_bytes())
    assert usdm.read_holdings(body) == Holdings(Decimal(0), Decimal("23.72469206"))


def test_futures_fees() -> None:
    body = {
        "symbol": "BTCUSDT",
        "makerCommissionRate": "-0.00005",
        "takerCommissionRate": "0.0004",
        "rpiCommissionRate": "0.00005",
    }
    assert usdm.read_fees(body) == Fees(Decimal("-0.00005"), Decimal("0.0004"))
    with pytest.raises(ValueError, match="about ETHUSDT"):
        usdm.read_fees(body | {"symbol": "ETHUSDT"})


def test_spot_fees_are_the_sum_of_all_commissions_of_the_dearer_side() -> None:
    body = {
        "symbol": "BTCUSDT",
        "standardCommission": {"maker": "0.1", "taker": "0.2", "buyer": "0.3", "seller": "0.4"},
        "specialCommission": {"maker": "0.01", "taker": "0.02", "buyer": "0.03", "seller": "0.04"},
        "taxCommission": {"maker": "0.001", "taker": "0.002", "buyer": "0.5", "seller": "0.004"},
        "discount": {"enabledForAccount": True, "discount": "0.75"},
    }
    dearer = Decimal("0.83")  # of the buyer, by the tax
    assert spot.read_fees(body) == Fees(Decimal("0.111") + dearer, Decimal("0.222") + dearer)
    with pytest.raises(ValueError, match="standardCommission"):
        spot.read_fees({"symbol": "BTCUSDT"})


KEY = {
    "ipRestrict": False,
    "createTime": 1_698_645_219_000,
    "enableReading": True,
    "enableInternalTransfer": False,
    "enableFutures": False,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enableSpotAndMarginTrading": False,
    "enableWithdrawals": False,
    "enableMargin": False,
}


def test_permissions_of_a_key() -> None:
    nothing = Permissions(False, False, False, False)
    assert spot.read_permissions(KEY) == usdm.read_permissions(KEY) == nothing

    assert spot.read_permissions(KEY | {"enableSpotAndMarginTrading": True}).can_trade
    assert not usdm.read_permissions(KEY | {"enableSpotAndMarginTrading": True}).can_trade
    assert usdm.read_permissions(KEY | {"enableFutures": True}).can_trade
    assert not spot.read_permissions(KEY | {"enableFutures": True}).can_trade
    assert spot.read_permissions(KEY | {"enableWithdrawals": True}).can_withdraw
    assert spot.read_permissions(KEY | {"enableInternalTransfer": True}).can_transfer
    assert spot.read_permissions(KEY | {"permitsUniversalTransfer": True}).can_transfer
    assert spot.read_permissions(KEY | {"ipRestrict": True}).ip_restricted


@pytest.mark.parametrize("name", ["enableWithdrawals", "permitsUniversalTransfer", "ipRestrict"])
def test_a_permission_that_is_not_named_is_not_taken_for_missing(name: str) -> None:
    body = {key: value for key, value in KEY.items() if key != name}
    with pytest.raises(ValueError, match=name):
        spot.read_permissions(body)


def test_the_clock_is_in_ns() -> None:
    assert usdm.read_server_time({"serverTime": 1_499_827_319_559}) == 1_499_827_319_559_000_000
    with pytest.raises(ValueError, match="serverTime"):
        usdm.read_server_time({})


def test_the_touch() -> None:
    body = {"symbol": "BTCUSDT", "bidPrice": "60000.10", "askPrice": "60000.20", "time": 1}
    assert usdm.read_touch(body) == (Decimal("60000.10"), Decimal("60000.20"))
    with pytest.raises(ValueError, match="a side of its book is empty"):
        spot.read_touch(body | {"askPrice": "0.00"})
    with pytest.raises(ValueError, match="an answer about ETHUSDT"):
        spot.read_touch(body | {"symbol": "ETHUSDT"})


def test_position_mode_and_leverage() -> None:
    assert usdm.read_one_way({"dualSidePosition": False})
    assert not usdm.read_one_way({"dualSidePosition": True})
    rows = [{"symbol": "ETHUSDT", "leverage": 5}, {"symbol": "BTCUSDT", "leverage": 20}]
    assert usdm.read_leverage(rows) == 20
    for wrong in ([], rows[:1], [{"symbol": "BTCUSDT", "leverage": 0}]):
        with pytest.raises(ValueError, match="no leverage is said of BTCUSDT"):
            usdm.read_leverage(wrong)
