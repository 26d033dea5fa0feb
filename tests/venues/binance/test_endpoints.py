"""Addresses are what the venue's documents say, and overridable as a whole."""

import gzip
from pathlib import Path

import pytest

from bot.venues.binance.endpoints import (
    HOSTS,
    PRODUCTS,
    Endpoints,
    announces_shutdown,
    endpoints,
    is_snapshot,
    stream_of,
)
from bot.venues.binance.marketdata import RULES


def urls(found: Endpoints) -> list[str]:
    return [connection.url for connection in found.connections]


def test_spot():
    found = endpoints("binance-spot", "BTCUSDT")
    assert urls(found) == [
        "wss://stream.binance.com:9443/stream"
        "?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
    ]
    assert found.snapshot_url == "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
    assert found.snapshot_weight == 50


def test_usdm_is_routed_by_category():
    found = endpoints("binance-usdm", "BTCUSDT")
    assert urls(found) == [
        "wss://fstream.binance.com/public/stream"
        "?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
    ]
    assert found.snapshot_url == "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    assert found.snapshot_weight == 20


def test_usdm_aggregated_trades_need_a_second_connection():
    found = endpoints("binance-usdm", "BTCUSDT", trades="aggTrade")
    assert urls(found) == [
        "wss://fstream.binance.com/public/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker",
        "wss://fstream.binance.com/market/stream?streams=btcusdt@aggTrade",
    ]
    assert [connection.name for connection in found.connections] == ["public", "market"]


def test_coinm_is_not_routed():
    found = endpoints("binance-coinm", "BTCUSD_PERP", trades="aggTrade")
    assert urls(found) == [
        "wss://dstream.binance.com/stream"
        "?streams=btcusd_perp@depth@100ms/btcusd_perp@bookTicker/btcusd_perp@aggTrade"
    ]
    assert found.snapshot_url.startswith("https://dapi.binance.com/dapi/v1/depth?symbol=BTCUSD_P")


def test_data_only_hosts():
    found = endpoints("binance-spot", "BTCUSDT", "data")
    assert urls(found)[0].startswith("wss://data-stream.binance.vision/stream?")
    assert found.snapshot_url.startswith("https://data-api.binance.vision/api/v3/depth?")


@pytest.mark.parametrize("venue", PRODUCTS)
def test_one_base_replaces_every_host(venue):
    found = endpoints(venue, "BTCUSDT", base="http://127.0.0.1:8080/", trades="aggTrade")
    assert found.snapshot_url.startswith("http://127.0.0.1:8080/")
    assert all(url.startswith("ws://127.0.0.1:8080/") for url in urls(found))
    secure = endpoints(venue, "BTCUSDT", base="https://sim:1")
    assert urls(secure)[0].startswith("wss://sim:1/")


def test_worlds_share_no_host():
    owner: dict[str, str] = {}
    for (_, world), pair in HOSTS.items():
        for host in pair:
            assert owner.setdefault(host, world) == world
    for (_, world), (rest, sockets) in HOSTS.items():
        production = world in ("live", "data")
        marked = any(word in rest for word in ("demo", "testnet"))
        assert marked is not production
        assert rest.startswith("https://")
        assert sockets.startswith("wss://")


def test_every_venue_that_the_codec_reads_has_endpoints():
    assert set(PRODUCTS) == set(RULES)
    assert {venue for venue, world in HOSTS if world == "live"} == set(PRODUCTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"venue": "kraken"}, "no endpoints for kraken"),
        ({"world": "moon"}, "has no moon; there are live, demo"),
        ({"symbol": "btcusdt"}, "is no symbol"),
        ({"symbol": "BTC/USDT"}, "is no symbol"),
        ({"symbol": "BTCUSDT&limit=5"}, "is no symbol"),
        ({"symbol": "BTCUSDT\n"}, "is no symbol"),
        ({"base": "ws://127.0.0.1:1"}, "is not http"),
        ({"base": "http://127.0.0.1:1/api"}, "is not http"),
        ({"base": "http://me@127.0.0.1"}, "is not http"),
        ({"base": "127.0.0.1:1"}, "is not http"),
        ({"base": "http://127.0.0.1:99999"}, "is not http"),
        ({"base": "http://127.0.0.1:0"}, "is not http"),
    ],
)
def test_what_cannot_be_connected_to_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        endpoints(**{"venue": "binance-usdm", "symbol": "BTCUSDT", **arguments})


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"stream":"btcusdt@trade","data":{"e":"trade"}}', b"btcusdt@trade"),
        (b'{"stream":"","data":{}}', b""),
        (b'{"e":"trade"}', b""),
        (b'{"stream":"btcusdt', b""),
        (b"", b""),
    ],
)
def test_stream_of(raw, name):
    assert stream_of(raw) == name


def test_streams_of_real_frames(usdm_capture: Path):
    with gzip.open(usdm_capture) as lines:
        names = {stream_of(next(lines).split(b" ", 1)[1]) for _ in range(2_000)}
    assert {name.split(b"@")[1] for name in names if name} >= {b"depth", b"bookTicker", b"trade"}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"e":"serverShutdown","E":1770123456789}', True),
        (b'{"event":{"e":"serverShutdown","E":1770123456789}}', True),
        (b'{"stream":"btcusdt@trade","data":{"e":"trade"}}', False),
        (b'{"e":"x","p":"' + b"serverShutdown" * 100 + b'","q":"serverShutdown"}', False),
    ],
)
def test_announces_shutdown(raw, said):
    assert announces_shutdown(raw) is said


@pytest.mark.parametrize(
    ("body", "good"),
    [
        (b'{"lastUpdateId":7,"bids":[["1.0","2"]],"asks":[]}', True),
        (b'{"lastUpdateId":7,"E":1,"T":1,"bids":[],"asks":[["1.0","2"]]}\n', True),
        (b'{"lastUpdateId":0,"bids":[],"asks":[]}', False),
        (b'{"code":-1003,"msg":"Too many requests"}', False),
        (b'{"lastUpdateId":7,"bids":[["1.0","2"]],"asks":[', False),
        (b"<html>busy</html>", False),
        (b"\xff\xfe", False),
        (b"", False),
    ],
)
def test_is_snapshot(body, good):
    assert is_snapshot(body) is good
