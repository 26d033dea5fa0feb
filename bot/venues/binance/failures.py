"""How Binance fails, as data: which request is which, and the wrong answers to give.

Sources: "HTTP return codes", "IP limits" and "error codes" of the spot and USD-M documents;
the words of a maintenance are those that ccxt knows the venue by. An outcome is unknown with
5XX, -1006 and -1007, and a 503 says the same whether the request was carried out or not.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

Matcher = Callable[[str, str], bool]  # (HTTP method, path)

_PRIVATE_SOCKET: Final = re.compile(r"^/(private|ws-api)/|[/=][0-9A-Za-z]{60,}\b")
_ENDPOINT: Final = re.compile(r"/f?api/v\d/(.+)")


def requests(*endpoints: str) -> Matcher:
    """A matcher of endpoints of any version and product, each like "POST order"."""

    def matches(method: str, path: str) -> bool:
        found = _ENDPOINT.fullmatch(path)
        return found is not None and f"{method} {found[1]}" in endpoints

    return matches


def anything(method: str, path: str) -> bool:
    """A matcher of every request, also of public ones."""
    return True


PLACEMENTS: Final = requests("POST order", "POST batchOrders")
CANCELS: Final = requests(
    "DELETE order", "DELETE openOrders", "DELETE allOpenOrders", "DELETE batchOrders"
)
AMENDS: Final = requests(
    "PUT order", "PUT batchOrders", "PUT order/amend/keepPriority", "POST order/cancelReplace"
)
QUERIES: Final = requests("GET order", "GET openOrder")
OPEN_ORDERS: Final = requests("GET openOrders")
POSITIONS: Final = requests("GET positionRisk", "GET account", "GET balance")  # spot: account
FILLS: Final = requests("GET userTrades", "GET myTrades")
COUNTDOWN: Final = requests("POST countdownCancelAll")
LISTING: Final = requests("GET exchangeInfo")
LISTEN_KEY: Final = requests(
    *(f"{method} {name}" for method in ("POST", "PUT", "DELETE")
      for name in ("listenKey", "userDataStream")),
)  # fmt: skip

# What may be told late: the state of an account, as a whole.
LISTS: Final = {
    "binance-spot": ("/api/v3/openOrders", "/api/v3/account"),
    "binance-usdm": (
        "/fapi/v1/openOrders",
        *(f"/fapi/v{n}/{name}" for n in (2, 3) for name in ("positionRisk", "account", "balance")),
    ),
}

MATCHERS: Final[dict[str, Matcher]] = {
    "anything": anything,
    "placements": PLACEMENTS,
    "cancels": CANCELS,
    "amends": AMENDS,
    "queries": QUERIES,
    "open_orders": OPEN_ORDERS,
    "positions": POSITIONS,
    "fills": FILLS,
    "countdown": COUNTDOWN,
    "listen_key": LISTEN_KEY,
}


def opens_private(target: str) -> bool:
    """Whether a web socket of this path and query is for a user's events.

    They come over the private category, a listen key in the URL, or spot's WebSocket API.
    """
    return _PRIVATE_SOCKET.search(target) is not None


def carries_private(streams: Iterable[str]) -> bool:
    """Whether a user's stream is among these: their names are keys, market data has an @."""
    return any("@" not in name for name in streams)


class Failure(NamedTuple):
    """A wrong answer; `retry_after` is in whole seconds."""

    status: int
    body: bytes
    kind: str = "application/json"
    retry_after: int | None = None


def _error(status: int, code: int, text: str, retry_after: int | None = None) -> Failure:
    body = msgspec.json.encode({"code": code, "msg": text})
    return Failure(status, body, retry_after=retry_after)


FAILURES: Final = {
    "503": _error(503, -1000, "Unknown error, please check your request or try again later."),
    "-1006": _error(
        500,
        -1006,
        "An unexpected response was received from the message bus. Execution status unknown.",
    ),
    "-1007": _error(
        408,
        -1007,
        "Timeout waiting for response from backend server. "
        "Send status unknown; execution status unknown.",
    ),
}
MAINTENANCE: Final = _error(503, 1, "System is under maintenance.")
OUTSIDE_WINDOW: Final = _error(
    400, -1021, "Timestamp for this request is outside of the recvWindow."
)

# What a symbol that does not trade answers to placements and amends, by the venue's paths.
CLOSED: Final = (
    ("/api/", _error(400, -2010, "Market is closed.")),
    ("/fapi/", _error(400, -4140, "Invalid symbol status for opening position.")),
)

_HTML: Final = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)
SPOILT: Final[dict[str, Callable[[bytes], Failure]]] = {
    "truncated": lambda body: Failure(200, body[: len(body) // 2]),
    "html": lambda body: Failure(200, _HTML, "text/html"),
    "empty": lambda body: Failure(200, b""),
}


def throttled(seconds: int) -> Failure:
    """429: to come back in so many seconds."""
    return _error(429, -1003, "Too many requests queued.", seconds)


def banned(until_ms: int, now_ms: int) -> Failure:
    """418: no request before `until_ms`."""
    text = (
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans."
    )
    return _error(418, -1003, text, max(0, -(-(until_ms - now_ms) // 1_000)))


def below(root: str, where: Matcher) -> Matcher:
    """A matcher of those requests whose paths begin with `root`."""
    return lambda method, path: path.startswith(root) and where(method, path)


def halted(body: bytes) -> bytes:
    """A listing in which no symbol trades."""
    return body.replace(b'"status":"TRADING"', b'"status":"HALT"')


class _Row(msgspec.Struct):
    order: int = msgspec.field(name="orderId")


def without_newest(body: bytes) -> bytes:
    """A list of orders without the one of the highest id; msgspec.DecodeError if it is none."""
    rows = msgspec.json.decode(body, type=list[msgspec.Raw])
    ids = [msgspec.json.decode(row, type=_Row).order for row in rows]
    if ids:
        del rows[ids.index(max(ids))]
    return msgspec.json.encode(rows)
