import json
from decimal import Decimal
from typing import Any

from bot.domain.instrument import Instrument
from bot.venues.binance.listing import LISTS, exchange_info, nothing_listed

SPOT = Instrument(
    "binance-spot", "ETHUSDC", "ETH", "USDC", Decimal("0.01"), Decimal("0.0001"), 2, Decimal(5)
)
USDM = Instrument(
    "binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"), 1, Decimal(100)
)


def listed(instrument: Instrument) -> tuple[dict[str, Any], dict[str, Any]]:
    info = json.loads(exchange_info(5, 6_000, instrument))
    assert info["serverTime"] == 5
    assert info["rateLimits"][0]["limit"] == 6_000
    (symbol,) = info["symbols"]
    return symbol, {f["filterType"]: f for f in symbol["filters"]}


def test_a_pair_states_its_filters() -> None:
    symbol, filters = listed(SPOT)
    assert (symbol["symbol"], symbol["baseAsset"], symbol["quoteAsset"]) == (
        "ETHUSDC",
        "ETH",
        "USDC",
    )
    assert "contractType" not in symbol
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00010000"
    assert filters["LOT_SIZE"]["minQty"] == "0.00020000"
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"
    assert "LIMIT_MAKER" in symbol["orderTypes"]


def test_a_perpetual_states_its_filters() -> None:
    symbol, filters = listed(USDM)
    assert (symbol["contractType"], symbol["marginAsset"], symbol["pricePrecision"]) == (
        "PERPETUAL",
        "USDT",
        2,
    )
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10"
    assert filters["LOT_SIZE"]["stepSize"] == "0.001"
    assert filters["MIN_NOTIONAL"]["notional"] == "100"
    assert "GTX" in symbol["timeInForce"]


def test_products_without_the_symbol_answer_emptily() -> None:
    assert nothing_listed("ping", 5, 1) == b"{}"
    assert nothing_listed("time", 5, 1) == b'{"serverTime":5}'
    info = nothing_listed("exchangeInfo", 5, 1)
    assert info is not None
    assert json.loads(info)["symbols"] == []
    assert [nothing_listed(name, 5, 1) for name in LISTS] == [b"[]"] * len(LISTS)
    assert nothing_listed("order", 5, 1) is None


def test_a_symbol_may_rest() -> None:
    for instrument in (SPOT, USDM):
        info = json.loads(exchange_info(5, 6_000, instrument, "BREAK"))
        assert info["symbols"][0]["status"] == "BREAK"
