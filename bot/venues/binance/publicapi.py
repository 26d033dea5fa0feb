"""Binance's public REST API, server side, without I/O: routes, parameters, errors, weights.

Sources: "market data endpoints" and "error codes" of the spot and USD-M documents, and the
calls that ccxt makes. One symbol is listed; products without it answer with empty lists.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from bot.domain.units import Side
from bot.venues.binance.limits import WEIGHT_MAX, Weights
from bot.venues.binance.listing import TRADING, exchange_info, nothing_listed
from bot.venues.binance.publictext import PublicText, Shown
from bot.venues.binance.reply import DIGITS, DIGITS_LEGAL, Refused, Reply, illegal, missing
from bot.venues.binance.tally import INTERVALS, TRADES_MAX, Tally, Trade

DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1_000)  # the only ones that USD-M knows
DEPTH_MAX: Final = {"binance-spot": 5_000, "binance-usdm": 1_000}

_REST_PATH: Final = re.compile(r"/(api|fapi|dapi|eapi|sapi)/v\d/(\w[\w/-]*)")
_SYMBOL: Final = re.compile(r"[A-Z0-9\-_.]{1,20}")


class Funding(NamedTuple):
    """The next payment between longs and shorts; `at` in ms."""

    rate: Decimal
    at: int


class PublicApi:
    """The REST side of one listed symbol.

    `book(limit)` shows the best `limit` levels a side; `tally` holds the trades; `funding`
    says what comes next, None for a market without. `status` is the symbol's, as listed.
    """

    def __init__(
        self,
        text: PublicText,
        tally: Tally,
        book: Callable[[int], Shown],
        funding: Callable[[], Funding | None] = lambda: None,
    ) -> None:
        self.text = text
        self.tally = tally
        self._book = book
        self._funding = funding
        self.status = TRADING
        self._product = "fapi" if text.futures else "api"
        self.weights = Weights(text.instrument.venue)

    def answer(self, path: str, query: Mapping[str, str], now: int) -> Reply:
        """Answer a GET at `now` (ms). The reply's weight is not yet counted (`spend`)."""
        found = _REST_PATH.fullmatch(path)
        if found is None:
            return unknown_path(path, now)
        product, name = found.groups()
        if product != self._product:
            if name in _OF_A_SYMBOL:
                return Refused(-1121, "Invalid symbol.").reply
            body = nothing_listed(name, now, WEIGHT_MAX[self.text.instrument.venue])
            return unknown_path(path, now) if body is None else Reply(200, body)
        route = _ROUTES.get(name)
        if route is None or (name in _FUTURES_ONLY and not self.text.futures):
            return unknown_path(path, now)
        try:
            return route(self, query, now)
        except Refused as refused:
            return refused.reply

    def spend(self, weight: int, now: int) -> tuple[int, Reply | None]:
        """Count a request's weight: (used this minute, refusal when that is too much)."""
        refusal = self.weights.spend(weight, now)
        return self.weights.used, refusal

    def depth_limit(self, query: Mapping[str, str]) -> int:
        """Levels a side that a GET depth asks for.

        Raises Refused, also for a wrong symbol.
        """
        self._symbol(query)
        text = self.text
        most = DEPTH_MAX[text.instrument.venue]
        limit = number(query, "limit", 500 if text.futures else 100)
        if text.futures and limit not in DEPTH_LIMITS:
            raise Refused(-4021, f"{limit} is not valid depth limit.")
        if limit == 0:
            raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(limit, most)

    def _symbol(self, query: Mapping[str, str]) -> None:
        symbol = query.get("symbol", "")
        if not symbol:
            raise missing("symbol")
        if _SYMBOL.fullmatch(symbol) is None:
            raise illegal("symbol", "^[A-Z0-9-_.]{1,20}$")
        if symbol != self.text.symbol:
            raise Refused(-1121, "Invalid symbol.")

    def _one_or_all(self, query: Mapping[str, str], body: bytes) -> bytes:
        """A body for `symbol=`, a list of it for `symbols=[…]` or for neither."""
        if "symbol" in query:
            self._symbol(query)
            return body
        if "symbols" in query:
            try:
                names = msgspec.json.decode(query["symbols"], type=list[str])
            except msgspec.DecodeError:
                raise illegal("symbols", '^\\["[A-Z0-9-_.]{1,20}"(,…)*\\]$') from None
            for name in names:
                self._symbol({"symbol": name})
        return b"[%b]" % body

    def _ping(self, query: Mapping[str, str], now: int) -> Reply:
        return Reply(200, b"{}")

    def _time(self, query: Mapping[str, str], now: int) -> Reply:
        return Reply(200, b'{"serverTime":%d}' % now)

    def _info(self, query: Mapping[str, str], now: int) -> Reply:
        self._one_or_all(query, b"")
        instrument = self.text.instrument
        body = exchange_info(now, WEIGHT_MAX[instrument.venue], instrument, self.status)
        return Reply(200, body, 1 if self.text.futures else 20)

    def _depth(self, query: Mapping[str, str], now: int) -> Reply:
        limit = self.depth_limit(query)
        body = self.text.snapshot(now, now, self._book(limit))
        return Reply(200, body, depth_weight(limit, self.text.futures))

    def _trades(self, query: Mapping[str, str], now: int) -> Reply:
        self._symbol(query)
        limit = number(query, "limit", 500, most=TRADES_MAX)
        rows = [self._trade_row(trade) for trade in list(self.tally.trades)[-limit:]]
        return Reply(200, b"[%b]" % b",".join(rows), 5 if self.text.futures else 25)

    def _trade_row(self, trade: Trade) -> bytes:
        futures = self.text.futures
        return (
            b'{"id":%d,"price":"%b","qty":"%b","quoteQty":"%b","time":%d,"isBuyerMaker":%b%b}'
            % (
                trade.trade_id,
                self.text.price(trade.tick),
                self.text.lots(trade.lots),
                self.text.value(trade.tick * trade.lots),
                trade.at,
                b"true" if trade.aggressor == Side.SELL else b"false",
                b"" if futures else b',"isBestMatch":true',
            )
        )

    def _aggregates(self, query: Mapping[str, str], now: int) -> Reply:
        self._symbol(query)
        limit = number(query, "limit", 500, most=TRADES_MAX)
        low, high = number(query, "startTime", 0), number(query, "endTime", now)
        first = number(query, "fromId", 0)
        chosen = [
            trade
            for trade in self.tally.aggregates
            if low <= trade.at <= high and trade.aggregate_id >= first
        ]
        # A start asks for what follows it, no start for the newest.
        forward = "startTime" in query or "fromId" in query
        chosen = chosen[:limit] if forward else chosen[-limit:]
        rows = [b"{%b}" % self.text.aggregate_fields(trade) for trade in chosen]
        return Reply(200, b"[%b]" % b",".join(rows), 20 if self.text.futures else 4)

    def _klines(self, query: Mapping[str, str], now: int) -> Reply:
        self._symbol(query)
        interval = query.get("interval", "")
        if interval not in INTERVALS:
            raise Refused(-1120, "Invalid interval.")
        limit = number(query, "limit", 500, most=1_500 if self.text.futures else 1_000)
        low, high = number(query, "startTime", 0), number(query, "endTime", now)
        candles = [
            (ends, candle)
            for ends, candle in self.tally.candles(interval)
            if low <= candle.opened <= high
        ]
        candles = candles[:limit] if "startTime" in query else candles[-limit:]
        rows = [self.text.candle_row(ends, candle) for ends, candle in candles]
        return Reply(200, b"[%b]" % b",".join(rows), 5 if self.text.futures else 2)

    def _day(self, query: Mapping[str, str], now: int) -> Reply:
        tally, text = self.tally, self.text
        members = [
            b'"%b":"%b"' % (name.encode(), value)
            for name, value in text.day_numbers(now, tally).items()
        ]
        if not text.futures:
            members += _touch_members(text, self._book(1))
            members.append(b'"prevClosePrice":"%b"' % text.price(tally.day.open))
        body = (
            b'{"symbol":"%b",%b,"openTime":%d,"closeTime":%d,"firstId":%d,"lastId":%d,"count":%d}'
        )
        body %= (
            text.symbol.encode(),
            b",".join(members),
            tally.since,
            now,
            tally.day.first_id,
            tally.day.last_id,
            tally.day.count,
        )
        return Reply(200, self._one_or_all(query, body), 2 if "symbol" in query else 40)

    def _price(self, query: Mapping[str, str], now: int) -> Reply:
        last = self.text.price(self.tally.day.close)
        at = b',"time":%d' % now if self.text.futures else b""
        body = b'{"symbol":"%b","price":"%b"%b}' % (self.text.symbol.encode(), last, at)
        return Reply(200, self._one_or_all(query, body), 2)

    def _touch(self, query: Mapping[str, str], now: int) -> Reply:
        book = self._book(1)
        members = b",".join(_touch_members(self.text, book))
        at = b',"time":%d,"lastUpdateId":%d' % (now, book.last_id) if self.text.futures else b""
        body = b'{"symbol":"%b",%b%b}' % (self.text.symbol.encode(), members, at)
        return Reply(200, self._one_or_all(query, body), 2)

    def _premium(self, query: Mapping[str, str], now: int) -> Reply:
        """The mark price is the middle of the touch."""
        book = self._book(1)
        touch = [levels[0][0] for levels in (book.bids, book.asks) if levels]
        mark = self.text.price(sum(touch) // max(len(touch), 1))
        rate, at = self._funding() or Funding(Decimal(0), 0)
        body = (
            b'{"symbol":"%b","markPrice":"%b","indexPrice":"%b","estimatedSettlePrice":"%b",'
            b'"lastFundingRate":"%b","interestRate":"0.00000000","nextFundingTime":%d,'
            b'"time":%d}'
        ) % (self.text.symbol.encode(), mark, mark, mark, b"%.8f" % float(rate), at, now)
        return Reply(200, self._one_or_all(query, body), 1)

    def __repr__(self) -> str:
        return f"<PublicApi {self.text!r} {self.weights!r}>"


def _touch_members(text: PublicText, book: Shown) -> list[bytes]:
    bid, bid_qty = book.bids[0] if book.bids else (0, 0)
    ask, ask_qty = book.asks[0] if book.asks else (0, 0)
    return [
        b'"bidPrice":"%b","bidQty":"%b"' % (text.price(bid), text.quantity(bid_qty)),
        b'"askPrice":"%b","askQty":"%b"' % (text.price(ask), text.quantity(ask_qty)),
    ]


def depth_weight(limit: int, futures: bool) -> int:
    """What GET depth costs, by the documents' tables."""
    steps = ((50, 2), (100, 5), (500, 10)) if futures else ((100, 5), (500, 25), (1_000, 50))
    for most, weight in steps:
        if limit <= most:
            return weight
    return 20 if futures else 250


def number(query: Mapping[str, str], name: str, default: int, most: int | None = None) -> int:
    """An integer parameter; where there is a `most`, from 1 to it.

    Raises Refused for anything else than digits.
    """
    text = query.get(name)
    if text is None:
        return default
    if DIGITS.fullmatch(text) is None:
        raise illegal(name, DIGITS_LEGAL)
    return int(text) if most is None else max(1, min(int(text), most))


def unknown_path(path: str, now: int) -> Reply:
    """404, as the venue's web server says it."""
    body = {
        "timestamp": now,
        "status": 404,
        "error": "Not Found",
        "message": "No message available",
        "path": path,
    }
    return Reply(404, msgspec.json.encode(body))


_Route = Callable[[PublicApi, Mapping[str, str], int], Reply]
_ROUTES: Final[dict[str, _Route]] = {
    "ping": PublicApi._ping,
    "time": PublicApi._time,
    "exchangeInfo": PublicApi._info,
    "depth": PublicApi._depth,
    "trades": PublicApi._trades,
    "historicalTrades": PublicApi._trades,
    "aggTrades": PublicApi._aggregates,
    "klines": PublicApi._klines,
    "ticker": PublicApi._day,
    "ticker/24hr": PublicApi._day,
    "ticker/price": PublicApi._price,
    "ticker/bookTicker": PublicApi._touch,
    "premiumIndex": PublicApi._premium,
}
_FUTURES_ONLY: Final = ("premiumIndex",)
_OF_A_SYMBOL: Final = ("depth", "trades", "historicalTrades", "aggTrades", "klines")
