"""Where Binance's public market data is: sockets to open, and the book's snapshot. Pure.

Sources, section by section of each product's API documents:

* spot, "WebSocket Streams: General WSS information" and "WebSocket Limits": combined streams
  under `/stream?streams=a/b`, lower-case symbols, 24 h a connection, 300 connection attempts
  in 5 min and address, 5 messages a second (pings and pongs count), `serverShutdown`;
  `data-stream.binance.vision` and `data-api.binance.vision` carry market data only.
* USD-M, "Websocket Market Streams" and "Important WebSocket Change Notice" (2026-03): routed
  by category, `/public` (`depth`, `bookTicker`) and `/market` (`aggTrade`); a stream asked for
  on the wrong route is accepted and stays silent. 10 messages a second.
* COIN-M, "Websocket Market Streams": not routed.
* "Order Book" of each REST API: limit 1000 weighs 50 of 6,000 a minute on spot, 20 of 2,400
  on futures.

Raw trades of futures (`@trade`) are delivered on `/public` and are what ccxt 4.5 watches, but
no document lists them; documented is `@aggTrade`. The codec reads `trade` events, which also
say whether a print was flow (`X`), so that is the default.
"""

import re
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

Trades = Literal["trade", "aggTrade"]

SNAPSHOT_LEVELS: Final = 1_000
ENVELOPE: Final = b'{"stream":"'
STREAM_BYTES_MAX: Final = 80  # no name is as long: a symbol's 35 and `@depth@100ms`
SHUTDOWN: Final = b'"serverShutdown"'
SHUTDOWN_BYTES_MAX: Final = 512  # such a frame is an event name and a time

SYMBOL: Final = re.compile(r"[A-Z0-9]{2,24}(_[A-Z0-9]{1,10})?")


class Product(msgspec.Struct, frozen=True):
    """What all symbols of one product share."""

    depth_path: str
    snapshot_weight: int
    weight_per_min_max: int
    messages_per_s_max: int
    routed: bool


PRODUCTS: Final = {
    "binance-spot": Product("/api/v3/depth", 50, 6_000, 5, routed=False),
    "binance-usdm": Product("/fapi/v1/depth", 20, 2_400, 10, routed=True),
    "binance-coinm": Product("/dapi/v1/depth", 20, 2_400, 10, routed=False),
}

# (venue, world) -> (REST, sockets). "data" is production without accounts. The futures have
# one test world: their documents call it testnet, ccxt calls it demo.
HOSTS: Final = {
    ("binance-spot", "live"): ("https://api.binance.com", "wss://stream.binance.com:9443"),
    ("binance-spot", "data"): (
        "https://data-api.binance.vision",
        "wss://data-stream.binance.vision",
    ),
    ("binance-spot", "testnet"): (
        "https://testnet.binance.vision",
        "wss://stream.testnet.binance.vision",
    ),
    ("binance-spot", "demo"): ("https://demo-api.binance.com", "wss://demo-stream.binance.com"),
    ("binance-usdm", "live"): ("https://fapi.binance.com", "wss://fstream.binance.com"),
    ("binance-usdm", "demo"): ("https://demo-fapi.binance.com", "wss://fstream.binancefuture.com"),
    ("binance-coinm", "live"): ("https://dapi.binance.com", "wss://dstream.binance.com"),
    ("binance-coinm", "demo"): ("https://demo-dapi.binance.com", "wss://dstream.binancefuture.com"),
}


class Stream(msgspec.Struct, frozen=True):
    """One subscription: its name on the wire and what it carries."""

    name: str
    kind: Literal["depth", "ticker", "trade"]


class Connection(msgspec.Struct, frozen=True):
    """One socket and the streams that it delivers."""

    name: str
    url: str
    streams: tuple[Stream, ...]


class Endpoints(msgspec.Struct, frozen=True):
    """Everything that a feed of one symbol connects to."""

    venue: str
    symbol: str
    connections: tuple[Connection, ...]
    snapshot_url: str
    snapshot_weight: int
    weight_per_min_max: int  # of the address, all programs on it together
    messages_per_s_max: int  # from us, per connection; pings and pongs count
    connection_age_s_max: int = 24 * 3_600
    attempts_max: int = 300  # of the address, per `attempts_window_s`
    attempts_window_s: int = 300


def endpoints(
    venue: str, symbol: str, world: str = "live", *, base: str = "", trades: Trades = "trade"
) -> Endpoints:
    """The endpoints of a symbol; `base` (`http://host:port`) replaces both hosts of the world.

    Raises ValueError for a venue, world, symbol or base that cannot be connected to.
    """
    product = PRODUCTS.get(venue)
    if product is None:
        raise ValueError(f"no endpoints for {venue}; known are {', '.join(PRODUCTS)}")
    if not SYMBOL.fullmatch(symbol):
        raise ValueError(f"{symbol!r} is no symbol of {venue}")
    rest, sockets = both_hosts(base) if base else hosts(venue, world)
    lower = symbol.lower()
    depth = Stream(f"{lower}@depth@100ms", "depth")
    ticker = Stream(f"{lower}@bookTicker", "ticker")
    trade = Stream(f"{lower}@{trades}", "trade")
    connections: tuple[Connection, ...]
    if not product.routed:
        connections = (connection("streams", sockets, "", (depth, ticker, trade)),)
    elif trades == "trade":
        connections = (connection("public", sockets, "/public", (depth, ticker, trade)),)
    else:
        connections = (
            connection("public", sockets, "/public", (depth, ticker)),
            connection("market", sockets, "/market", (trade,)),
        )
    return Endpoints(
        venue=venue,
        symbol=symbol,
        connections=connections,
        snapshot_url=f"{rest}{product.depth_path}?symbol={symbol}&limit={SNAPSHOT_LEVELS}",
        snapshot_weight=product.snapshot_weight,
        weight_per_min_max=product.weight_per_min_max,
        messages_per_s_max=product.messages_per_s_max,
    )


def connection(name: str, sockets: str, route: str, streams: tuple[Stream, ...]) -> Connection:
    """One combined-streams socket; the subscription is the URL, so nothing is ever sent."""
    names = "/".join(stream.name for stream in streams)
    return Connection(name, f"{sockets}{route}/stream?streams={names}", streams)


def hosts(venue: str, world: str) -> tuple[str, str]:
    """(REST, sockets) of a product's world. Raises ValueError where there is no such world."""
    found = HOSTS.get((venue, world))
    if found is None:
        known = ", ".join(name for at, name in HOSTS if at == venue)
        raise ValueError(f"{venue} has no {world}; there are {known}")
    return found


def both_hosts(base: str) -> tuple[str, str]:
    """(REST, sockets) behind one `http(s)://host[:port]`. Raises ValueError for another form."""
    parts = urlsplit(base.rstrip("/"))
    plain = not (parts.path or parts.query or parts.fragment or parts.username)
    try:
        plain = plain and parts.port != 0
    except ValueError:  # out of range
        plain = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError(f"{base!r} is not http(s)://host:port")
    return f"{parts.scheme}://{parts.netloc}", f"ws{parts.scheme[4:]}://{parts.netloc}"


def stream_of(raw: bytes) -> bytes:
    """The stream's name in a combined-stream frame; empty where there is none to be found."""
    if not raw.startswith(ENVELOPE):
        return b""
    start = len(ENVELOPE)
    stop = raw.find(b'"', start, start + STREAM_BYTES_MAX)
    return raw[start:stop] if stop >= 0 else b""


def announces_shutdown(raw: bytes) -> bool:
    """Whether a frame says that the server will close the connection soon ("Server Shutdown")."""
    return len(raw) <= SHUTDOWN_BYTES_MAX and SHUTDOWN in raw


class _Snapshot(msgspec.Struct):
    lastUpdateId: int
    bids: list[msgspec.Raw]
    asks: list[msgspec.Raw]


_SNAPSHOT: Final = msgspec.json.Decoder(_Snapshot)


def is_snapshot(body: bytes) -> bool:
    """Whether a REST body is an order book; the codec reads it, this only refuses the rest."""
    try:
        return _SNAPSHOT.decode(body).lastUpdateId > 0
    except msgspec.DecodeError:
        return False
