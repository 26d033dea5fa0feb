"""Addresses are what the venue's documents say, and overridable as a whole."""

import gzip
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bot.shell.peer import Access, Credentials, new_peer
from bot.venues.binance.endpoints import (
    ACCOUNT_HOSTS,
    HOSTS,
    PRODUCTS,
    Endpoints,
    account_hosts,
    account_worlds,
    announces_shutdown,
    endpoints,
    foreign_hosts,
    is_loopback,
    is_snapshot,
    place,
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


# --- hosts that may see a key


def test_no_host_of_production_is_a_host_of_a_test_world():
    live = [
        name for (_, world), names in ACCOUNT_HOSTS.items() if world == "live" for name in names
    ]
    test = [
        name for (_, world), names in ACCOUNT_HOSTS.items() if world != "live" for name in names
    ]
    assert set(live).isdisjoint(test)
    public = {
        place(url).host: world in ("live", "data")  # type: ignore[union-attr]
        for (_, world), pair in HOSTS.items()
        for url in pair
    }
    assert {name for name in live if public.get(name) is False} == set()
    assert {name for name in test if public.get(name) is True} == set()


@pytest.mark.parametrize(("venue", "world"), ACCOUNT_HOSTS)
def test_the_book_comes_from_the_world_that_the_orders_go_to(venue, world):
    assert foreign_hosts(HOSTS[venue, world], account_hosts(venue, world)) == []
    for other in {"live", "testnet", "demo"} - {world}:
        if (venue, other) in HOSTS:
            assert len(foreign_hosts(HOSTS[venue, other], account_hosts(venue, world))) == 2


def flat(urls: dict[str, Any]) -> list[str]:
    inner = [flat(url) if isinstance(url, dict) else [url] for url in urls.values()]
    return [url for found in inner for url in found]


@pytest.mark.parametrize(("venue", "world"), ACCOUNT_HOSTS)
def test_ccxt_in_a_world_leads_to_its_hosts_and_to_no_other_worlds(venue, world):
    access = Access(venue, world, account_hosts(venue, world), Credentials("key", "secret"))
    urls = flat(new_peer(access, 1_000, {}).urls["api"])
    assert len(urls) >= 4
    assert foreign_hosts(urls, account_hosts(venue, world)) == []
    for other in account_worlds(venue):
        if other != world:
            assert len(foreign_hosts(urls, account_hosts(venue, other))) >= 3


def test_ccxt_that_was_not_switched_is_noticed():
    """`set_sandbox_mode` may fail and leave the production addresses where they were."""
    urls = flat(import_module("ccxt.pro").binance().urls["api"])
    found = foreign_hosts(urls, account_hosts("binance-spot", "testnet"))
    assert "https://api.binance.com:443" in found
    assert "wss://stream.binance.com:9443" in found
    assert "wss://ws-api.binance.com:443" in found


def test_worlds_that_take_orders():
    assert account_worlds("binance-spot") == ("live", "testnet", "demo")
    assert account_worlds("binance-usdm") == ("live", "demo")
    assert account_worlds("binance-coinm") == ()
    for venue, world in [("binance-spot", "data"), ("binance-usdm", "testnet"), ("kraken", "live")]:
        with pytest.raises(ValueError, match=f"{venue} takes no orders in {world}; worlds that do"):
            account_hosts(venue, world)


@pytest.mark.parametrize(
    ("base", "only"),
    [
        ("http://127.0.0.1:9000", "127.0.0.1:9000"),
        ("http://localhost:9000/", "localhost:9000"),
        ("http://127.1.2.3", "127.1.2.3:80"),
        ("https://[::1]:8443", "[::1]:8443"),
    ],
)
def test_a_simulated_exchange_is_the_only_place_to_talk_to(base, only):
    allowed = account_hosts("binance-usdm", "demo", base=base)
    assert allowed == (only,)
    assert foreign_hosts([f"{base.rstrip('/')}/fapi/v1/order"], allowed) == []
    assert foreign_hosts(["https://demo-fapi.binance.com/x"], allowed) == [
        "https://demo-fapi.binance.com:443"
    ]
    assert len(foreign_hosts(["http://127.0.0.1:9001", "https://fapi.binance.com"], allowed)) == 2
    with pytest.raises(ValueError, match="cannot stand in for binance-usdm live"):
        account_hosts("binance-usdm", "live", base=base)


@pytest.mark.parametrize(
    "base",
    [
        "http://10.0.0.1:9000",
        "http://0.0.0.0:9000",
        "http://example.com",
        "http://localhost.example.com:1",
        "http://127.0.0.1.example.com",
        "http://[::ffff:127.0.0.1]:1",
        "http://me@127.0.0.1:1",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://[::1",
        "127.0.0.1:9000",
        "ftp://127.0.0.1",
    ],
)
def test_what_is_not_on_this_machine(base):
    assert not is_loopback(base)
    with pytest.raises(ValueError, match="is not on this machine"):
        account_hosts("binance-usdm", "demo", base=base)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://API.binance.com/api/v3", None),
        ("wss://stream.binance.com:9443/ws", None),
        ("https://api.binance.com:443", None),
        ("http://api.binance.com", "http://api.binance.com:80"),
        ("ws://api.binance.com:443", "ws://api.binance.com:443"),
        ("https://api.binance.com:8443", "https://api.binance.com:8443"),
        ("https://api.binance.com.evil.example", "https://api.binance.com.evil.example:443"),
        ("https://api.binance.com.", "https://api.binance.com.:443"),
        ("https://evil.example/?api.binance.com", "https://evil.example:443"),
        ("https://api.binance.com@evil.example", "an address that cannot be read"),
        ("https://evil.example\\@api.binance.com", "an address that cannot be read"),
        ("https://api.binance.c\u043em", "an address that cannot be read"),
        ("https://api.binance.com\t", "an address that cannot be read"),
        ("api.binance.com", "an address that cannot be read"),
        ("", "an address that cannot be read"),
    ],
)
def test_where_a_url_leads(url, said):
    allowed = account_hosts("binance-spot", "live")
    assert foreign_hosts([url, url], allowed) == ([] if said is None else [said])
