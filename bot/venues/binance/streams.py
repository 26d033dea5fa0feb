"""Binance's web socket streams, server side, without I/O: names, paths, control messages.

Sources: "web socket streams" of the spot documents, "live subscribing" and "Important
WebSocket Change Notice" of the USD-M documents, and the paths that ccxt opens.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from bot.domain.instrument import Instrument
from bot.venues.binance.reply import Refused
from bot.venues.binance.tally import INTERVALS

STREAMS_MAX: Final = {"binance-spot": 1_024, "binance-usdm": 200}
PARTIAL_LEVELS: Final = (5, 10, 20)
NAME_LENGTH_MAX: Final = 256
REQUEST_ID_LENGTH_MAX: Final = 36

# The first part of a USD-M path says which streams the connection carries; a stream of another
# category may be subscribed to and stays silent. Paths of before the split carry everything.
PUBLIC: Final = "public"
MARKET: Final = "market"

_WS_PATH: Final = re.compile(r"(?:/(public|market|private))?/(ws|stream)(?:/(.*))?")
_METHODS: Final = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


class Stream(NamedTuple):
    """What a stream name asks for; `every` is ms between messages, 0 for as it happens."""

    name: str
    kind: str  # depth, partial, bookTicker, trade, aggTrade, ticker, miniTicker or kline
    every: int = 0
    levels: int = 0
    interval: str = ""


def stream_of(instrument: Instrument, name: str) -> Stream | None:
    """Read a stream name; None for another symbol or a stream that is not served."""
    symbol, _, rest = name.partition("@")
    futures = instrument.venue != "binance-spot"
    if symbol != instrument.symbol.lower() or not rest:
        return None
    kind, _, speed = rest.partition("@")
    if kind.startswith("depth"):
        # 0 is no documented speed; old captures were made with it.
        speeds = {"": 250 if futures else 1_000, "0ms": 0, "100ms": 100}
        speeds |= {"250ms": 250, "500ms": 500} if futures else {"1000ms": 1_000}
        if speed not in speeds:
            return None
        if kind == "depth":
            return Stream(name, "depth", speeds[speed])
        wanted = kind.removeprefix("depth")
        if wanted in map(str, PARTIAL_LEVELS):
            return Stream(name, "partial", speeds[speed], int(wanted))
        return None
    if speed:
        return None
    if kind in ("bookTicker", "trade", "aggTrade"):
        return Stream(name, kind)
    if kind in ("ticker", "miniTicker"):
        return Stream(name, kind, 1_000)
    interval = kind.removeprefix("kline_")
    if kind != interval and interval in INTERVALS:
        return Stream(name, "kline", 250 if futures else 2_000, interval=interval)
    return None


def category_of(name: str) -> str:
    """The part of the split that carries a USD-M stream, as ccxt and the notice sort them."""
    kind = name.partition("@")[2]
    return PUBLIC if kind.startswith(("depth", "bookTicker", "trade")) else MARKET


class Session:
    """One web socket connection: what it is subscribed to, and its control messages.

    `user` is the listen key of a connection that was opened for a client's own events.
    """

    def __init__(self, venue: str, category: str, combined: bool, user: str = "") -> None:
        self.venue = venue
        self.category = category
        self.combined = combined
        self.streams: dict[str, None] = {user: None} if user else {}
        self._user = user

    def carries(self, name: str) -> bool:
        """Whether messages of a subscribed stream reach this connection."""
        return name == self._user or not self.category or category_of(name) == self.category

    def receive(self, text: str | bytes) -> bytes:
        """Obey one control message; returns the reply."""
        try:
            message = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _control_error(3, "Invalid JSON: expected value at line 1 column 1")
        if not isinstance(message, dict) or "method" not in message:
            return _control_error(2, "Invalid request: missing field `method`")
        request_id = message.get("id")
        if not _is_request_id(request_id):
            return _control_error(2, "Invalid request: request ID must be an unsigned integer")
        try:
            result = self._obey(message["method"], message.get("params", []))
        except Refused as refused:
            return _control_error(refused.code, str(refused), request_id)
        return msgspec.json.encode({"result": result, "id": request_id})

    def _obey(self, method: Any, params: Any) -> Any:
        if not isinstance(params, list):
            raise Refused(2, "Invalid request: params must be an array")
        match method:
            case "SUBSCRIBE" | "UNSUBSCRIBE":
                if not params or not all(isinstance(name, str) for name in params):
                    raise Refused(2, "Invalid request: invalid stream")
                self.change(params, method == "SUBSCRIBE")
                return None
            case "LIST_SUBSCRIPTIONS":
                return list(self.streams)
            case "SET_PROPERTY" | "GET_PROPERTY" if not params or params[0] != "combined":
                raise Refused(0, "Unknown property")
            case "SET_PROPERTY":
                if len(params) != 2 or not isinstance(params[1], bool):
                    raise Refused(1, "Invalid value type: expected Boolean")
                self.combined = params[1]
                return None
            case "GET_PROPERTY":
                return self.combined
            case _:
                raise Refused(2, f"Invalid request: unknown variant, expected one of {_METHODS}")

    def change(self, names: list[str], subscribe: bool) -> None:
        """Add or remove streams; names that are not served stay silent, as on the venue.

        Raises Refused for names too long or too many.
        """
        if subscribe:
            if any(len(name) > NAME_LENGTH_MAX for name in names):
                raise Refused(2, "Invalid request: invalid stream")
            wanted = self.streams | dict.fromkeys(names)
            if len(wanted) > STREAMS_MAX[self.venue]:
                raise Refused(2, "Invalid request: too many subscriptions")
            self.streams = wanted
        else:
            gone = dict.fromkeys(names)
            self.streams = {name: None for name in self.streams if name not in gone}

    def __repr__(self) -> str:
        return f"<Session {self.category or 'any'} combined={self.combined} {list(self.streams)}>"


def _is_request_id(value: object) -> bool:
    """An integer, a text of 1 to 36 characters, or nothing; JSON's booleans are no integers."""
    if isinstance(value, str):
        return 0 < len(value) <= REQUEST_ID_LENGTH_MAX
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _control_error(code: int, text: str, request_id: Any = None) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "msg": text}, "id": request_id})


def session_of(venue: str, path: str, query: Mapping[str, str]) -> Session | None:
    """The session that a web socket path opens; None when it is no such path.

    Raises Refused for names too long or too many.
    """
    found = _WS_PATH.fullmatch(path)
    if found is None:
        return None
    category, form, rest = found.groups()
    session = Session(venue, category or "", form == "stream")
    listed = query.get("streams", "") if form == "stream" else rest or ""
    # ccxt numbers its connections behind the path; such a part names no stream.
    names = [name for name in listed.split("/") if "@" in name]
    if names:
        session.change(names, True)
    return session
