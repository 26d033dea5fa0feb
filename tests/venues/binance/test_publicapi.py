import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from bot.domain.instrument import Instrument
from bot.domain.units import Side
from bot.venues.binance.limits import WEIGHT_MAX
from bot.venues.binance.publicapi import (
    PublicApi,
    Reply,
    depth_weight,
    unknown_path,
)
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.tally import Tally, Trade

SPOT = Instrument("binance-spot", "BTCUSDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.00001"))
USDM = Instrument("binance-usdm", "BTCUSDT", "BTC", "USDT", Decimal("0.10"), Decimal("0.001"))
NOW = 10 * 60_000
SYMBOL = {"symbol": "BTCUSDT"}
ROOT = {SPOT.venue: "/api/v3/", USDM.venue: "/fapi/v1/"}


def api_of(instrument: Instrument) -> PublicApi:
    tally = Tally(0)
    for i in range(20):
        side = Side.BUY if i % 2 else Side.SELL
        tally.add(Trade(i * 30_000, i, 1_000 + i, i + 1, side), i // 2)
    tally.end_aggregate()
    bids = [(9_999 - i, 10 + i) for i in range(2_000)]
    asks = [(10_001 + i, 20 + i) for i in range(2_000)]
    return PublicApi(
        PublicText(instrument), tally, lambda limit: Shown(77, bids[:limit], asks[:limit])
    )


def ask(instrument: Instrument, name: str, query: Mapping[str, str] = SYMBOL) -> Any:
    reply = api_of(instrument).answer(ROOT[instrument.venue] + name, query, NOW)
    assert reply.status == 200, reply
    return json.loads(reply.body)


def test_depth() -> None:
    spot = ask(SPOT, "depth")
    assert (list(spot), len(spot["bids"])) == (["lastUpdateId", "bids", "asks"], 100)
    assert spot["bids"][0] == ["99.99000000", "0.00000010"]
    usdm = ask(USDM, "depth", {**SYMBOL, "limit": "5"})
    assert (list(usdm), len(usdm["asks"])) == (["lastUpdateId", "E", "T", "bids", "asks"], 5)
    assert usdm["asks"][0] == ["1000.10", "0.020"]
    assert len(ask(SPOT, "depth", {**SYMBOL, "limit": "7000"})["bids"]) == 2_000


def test_trades_and_aggregates() -> None:
    trades = ask(SPOT, "trades", {**SYMBOL, "limit": "2"})
    assert [t["id"] for t in trades] == [18, 19]
    assert trades[-1] == {
        "id": 19,
        "price": "10.19000000",
        "qty": "0.00020000",
        "quoteQty": "0.00203800",
        "time": 570_000,
        "isBuyerMaker": False,
        "isBestMatch": True,
    }
    assert "isBestMatch" not in ask(USDM, "trades")[0]
    assert len(ask(SPOT, "aggTrades")) == 20  # two takers' trades, each at its own price
    since = {"startTime": "300000", "endTime": "330000"}
    assert [a["T"] for a in ask(USDM, "aggTrades", SYMBOL | since)] == [300_000, 330_000]
    assert [a["a"] for a in ask(USDM, "aggTrades", {**SYMBOL, "fromId": "5", "limit": "2"})] == [
        5,
        6,
    ]


def test_klines() -> None:
    rows = ask(SPOT, "klines", {**SYMBOL, "interval": "1m", "limit": "3"})
    assert [row[0] for row in rows] == [420_000, 480_000, 540_000]
    assert len(rows[0]) == 12
    since = {"interval": "5m", "startTime": "0", "limit": "1"}
    assert [row[0] for row in ask(USDM, "klines", SYMBOL | since)] == [0]


@pytest.mark.parametrize("name", ["ticker/24hr", "ticker/price", "ticker/bookTicker"])
def test_tickers_for_one_symbol_and_for_all(name: str) -> None:
    for instrument in (SPOT, USDM):
        one = ask(instrument, name)
        assert one["symbol"] == "BTCUSDT"
        assert ask(instrument, name, {}) == [one]
        assert ask(instrument, name, {"symbols": '["BTCUSDT"]'}) == [one]


def test_spot_tickers_have_the_members_of_the_document() -> None:
    assert set(ask(SPOT, "ticker/24hr")) == {
        *("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice", "prevClosePrice"),
        *("lastPrice", "lastQty", "bidPrice", "bidQty", "askPrice", "askQty", "openPrice"),
        *("highPrice", "lowPrice", "volume", "quoteVolume", "openTime", "closeTime"),
        *("firstId", "lastId", "count"),
    }
    assert set(ask(SPOT, "ticker/bookTicker")) == {
        *("symbol", "bidPrice", "bidQty", "askPrice", "askQty")
    }


def test_the_rest_of_usdm() -> None:
    assert ask(USDM, "premiumIndex")["markPrice"] == "1000.00"
    assert api_of(SPOT).answer("/api/v3/premiumIndex", SYMBOL, NOW).status == 404
    assert ask(USDM, "time", {}) == {"serverTime": NOW}
    assert ask(SPOT, "ping", {}) == {}
    assert ask(SPOT, "exchangeInfo", {})["symbols"][0]["symbol"] == "BTCUSDT"


@pytest.mark.parametrize(
    ("instrument", "name", "query", "code"),
    [
        (SPOT, "depth", {}, -1102),
        (SPOT, "depth", {"symbol": ""}, -1102),
        (SPOT, "depth", {"symbol": "btcusdt"}, -1100),
        (SPOT, "depth", {"symbol": "ETHUSDT"}, -1121),
        (SPOT, "depth", {**SYMBOL, "limit": "-5"}, -1100),
        (SPOT, "depth", {**SYMBOL, "limit": "0"}, -1130),
        (USDM, "depth", {**SYMBOL, "limit": "7"}, -4021),
        (SPOT, "trades", {"symbol": "ETHUSDT"}, -1121),
        (SPOT, "trades", {**SYMBOL, "limit": "x"}, -1100),
        (SPOT, "klines", SYMBOL, -1120),
        (SPOT, "klines", {**SYMBOL, "interval": "7m"}, -1120),
        (SPOT, "exchangeInfo", {"symbol": "ETHUSDT"}, -1121),
        (SPOT, "ticker/price", {"symbols": "BTCUSDT"}, -1100),
        (SPOT, "ticker/price", {"symbols": '["ETHUSDT"]'}, -1121),
    ],
)
def test_errors(instrument: Instrument, name: str, query: dict[str, str], code: int) -> None:
    reply = api_of(instrument).answer(ROOT[instrument.venue] + name, query, NOW)
    error = json.loads(reply.body)
    assert (reply.status, error["code"]) == (400, code)
    assert error["msg"].endswith(".")


def test_other_products_list_nothing() -> None:
    api = api_of(SPOT)
    for path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo", "/eapi/v1/exchangeInfo"):
        assert json.loads(api.answer(path, {}, NOW).body)["symbols"] == []
    for path in ("/fapi/v1/ticker/24hr", "/sapi/v1/margin/allPairs", "/fapi/v1/premiumIndex"):
        assert api.answer(path, {}, NOW) == Reply(200, b"[]")
    assert json.loads(api.answer("/fapi/v1/depth", SYMBOL, NOW).body)["code"] == -1121


@pytest.mark.parametrize("path", ["/", "/api/v3/nothing", "/dapi/v1/nothing", "/api/depth"])
def test_unknown_paths(path: str) -> None:
    reply = api_of(SPOT).answer(path, SYMBOL, NOW)
    assert reply == unknown_path(path, NOW)
    assert (reply.status, json.loads(reply.body)["path"]) == (404, path)


def test_weight_is_counted_by_the_minute_and_limited() -> None:
    api = api_of(USDM)
    most = WEIGHT_MAX[USDM.venue]
    assert api.spend(most, NOW) == (most, None)
    used, refusal = api.spend(1, NOW + 59_999)
    assert used == most + 1
    assert refusal is not None
    assert (refusal.status, json.loads(refusal.body)["code"]) == (429, -1003)
    assert api.spend(5, NOW + 60_000) == (5, None)


def test_depth_costs_by_its_size() -> None:
    assert [depth_weight(limit, False) for limit in (100, 101, 501, 5_000)] == [5, 25, 50, 250]
    assert [depth_weight(limit, True) for limit in (50, 100, 500, 1_000)] == [2, 5, 10, 20]
    reply = api_of(SPOT).answer("/api/v3/depth", {**SYMBOL, "limit": "5000"}, NOW)
    assert reply.weight == 250
