"""Where Binance is: public sockets, the book's snapshot, hosts that may see a key. Pure.

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

* spot, "Testnet General Info" and "Demo Mode: General Info"; "WebSocket API General Info" of each
  product: where accounts are.

Raw trades of futures (`@trade`) are delivered on `/public` and are what ccxt 4.5 watches, but
no document lists them; documented is `@aggTrade`. The codec reads `trade` events, which also
say whether a print was flow (`X`), so that is the default.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal, NamedTuple
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

# (venue, world) -> where requests with a key may go: REST, streams, websocket API. What a key may
# do is asked of api.binance.com, also for futures. The documents do not name the futures' test
# streams; ccxt 4.5.90 connects to fstream.binancefuture.com, other clients to demo-fstream.
# Within a venue the first world that is not "live" is the one that testnet means.
ACCOUNT_HOSTS: Final = {
    ("binance-spot", "live"): ("api.binance.com", "stream.binance.com", "ws-api.binance.com"),
    ("binance-spot", "testnet"): (
        "testnet.binance.vision",
        "stream.testnet.binance.vision",
        "ws-api.testnet.binance.vision",
    ),
    ("binance-spot", "demo"): (
        "demo-api.binance.com",
        "demo-stream.binance.com",
        "demo-ws-api.binance.com",
    ),
    ("binance-usdm", "live"): (
        "fapi.binance.com",
        "fstream.binance.com",
        "ws-fapi.binance.com",
        "api.binance.com",
    ),
    ("binance-usdm", "demo"): (
        "demo-fapi.binance.com",
        "fstream.binancefuture.com",
        "demo-fstream.binance.com",
        "testnet.binancefuture.com",
    ),
}

DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
TLS_PORTS: Final = (443, 9443)  # the documents name no others


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


class Place(NamedTuple):
    """Where a URL leads; the port is the scheme's own where none is written."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place(url: str) -> Place | None:
    """Where a URL leads; None where readers of URLs might disagree about that."""
    if not url.isascii() or not url.isprintable() or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port out of range, a bracket left open
        return None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or port == 0:
        return None
    return Place(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme])


def is_loopback(url: str) -> bool:
    """Whether a URL cannot leave this machine."""
    where = place(url)
    if where is None:
        return False
    if where.host == "localhost":
        return True
    try:
        address = ip_address(where.host)
    except ValueError:
        return False
    # An IPv4 address in IPv6 clothes is loopback or not by the version of Python: refused.
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    return address.is_loopback and not mapped


def account_worlds(venue: str) -> tuple[str, ...]:
    """The worlds of a venue that take orders; empty where none does."""
    return tuple(world for at, world in ACCOUNT_HOSTS if at == venue)


def account_hosts(venue: str, world: str, *, base: str = "") -> tuple[str, ...]:
    """What order entry may talk to: names of hosts, or with `base` that one `host:port`.

    Raises ValueError for a world that takes no orders, and for a `base` that is not loopback or
    stands in for production.
    """
    allowed = ACCOUNT_HOSTS.get((venue, world))
    if allowed is None:
        known = ", ".join(account_worlds(venue)) or "none"
        raise ValueError(f"{venue} takes no orders in {world}; worlds that do: {known}")
    if not base:
        return allowed
    where = place(base)
    if where is None or not is_loopback(base):
        raise ValueError(f"{base!r} is not on this machine")
    if world == "live":
        raise ValueError(f"{base!r} cannot stand in for {venue} live")
    return (where.netloc,)


def foreign_hosts(urls: Iterable[str], allowed: Sequence[str]) -> list[str]:
    """Where `urls` lead that is not `allowed`, as `scheme://host:port`, each once, in order.

    A name in `allowed` is that host with TLS on the venue's ports; a `host:port` is that address,
    with or without TLS. Must be empty before anything is sent that is signed or carries a key.
    """
    found: dict[str, None] = {}
    for url in urls:
        where = place(url)
        if where is None:
            found["an address that cannot be read"] = None
            continue
        secure = where.scheme in ("https", "wss") and where.port in TLS_PORTS
        if where.netloc not in allowed and not (secure and where.host in allowed):
            found[f"{where.scheme}://{where.netloc}"] = None
    return list(found)


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
