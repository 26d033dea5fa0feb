"""Binance's limits, server side: request weight a minute, orders a window, and bans.

Sources: "Limits" of the spot and USD-M documents: 429 when a limit is broken, with the seconds
to wait in Retry-After; 418 for an address that goes on after it was told. Times are ms.
"""

from typing import Final

import msgspec

from bot.venues.binance.reply import Refused, Reply

WEIGHT_MAX: Final = {"binance-spot": 6_000, "binance-usdm": 2_400}  # a minute
ORDERS_IN_10_S: Final = {"binance-spot": 100, "binance-usdm": 300}
ORDERS_LONG: Final = {"binance-spot": 200_000, "binance-usdm": 1_200}  # a day; a minute
PATIENCE: Final = 20  # refusals in a minute before the address is banned
BAN_MS: Final = 120_000  # "scale in duration ... from 2 minutes to 3 days"
MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000


class Weights:
    """The request weight of one address."""

    def __init__(self, venue: str) -> None:
        self.most = WEIGHT_MAX[venue]
        self.used = 0
        self.banned_until = 0
        self._minute = 0
        self._refused = 0

    def spend(self, weight: int, now: int) -> Reply | None:
        """Count a request; the refusal when that is too much."""
        if now < self.banned_until:
            return self._banned(now)
        minute = now // MINUTE_MS
        if minute != self._minute:
            self._minute, self.used, self._refused = minute, 0, 0
        self.used += weight
        if self.used <= self.most:
            return None
        self._refused += 1
        if self._refused > PATIENCE:
            self.banned_until = now + BAN_MS
            return self._banned(now)
        words = (
            f"Too much request weight used; current limit is {self.most} request weight per "
            "1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."
        )
        return told_to_wait(-1003, words, 429, MINUTE_MS - now % MINUTE_MS)

    def _banned(self, now: int) -> Reply:
        words = (
            f"Way too much request weight used; IP banned until {self.banned_until}. "
            "Please use WebSocket Streams for live updates to avoid bans."
        )
        return told_to_wait(-1003, words, 418, self.banned_until - now)

    def header(self) -> tuple[str, str]:
        """What every answer carries."""
        return "X-MBX-USED-WEIGHT-1M", str(self.used)

    def __repr__(self) -> str:
        return f"<Weights {self.used}/{self.most} banned_until={self.banned_until}>"


class OrderCounts:
    """How many orders one account sent, in ten seconds and in a longer window."""

    def __init__(self, venue: str) -> None:
        short = Window("10S", 10_000, ORDERS_IN_10_S[venue], "10 SECOND")
        if venue == "binance-spot":
            long = Window("1D", DAY_MS, ORDERS_LONG[venue], "1 DAY")
        else:
            long = Window("1M", MINUTE_MS, ORDERS_LONG[venue], "1 MINUTE")
        self._windows = (short, long)

    def count(self, orders: int, now: int) -> Reply | None:
        """Count orders that were sent; the refusal when that is too much."""
        for window in self._windows:
            window.roll(now)
            if window.used + orders > window.most:
                words = (
                    f"Too many new orders; current limit is {window.most} orders "
                    f"per {window.words}."
                )
                return told_to_wait(-1015, words, 429, window.length - now % window.length)
        for window in self._windows:
            window.used += orders
        return None

    def headers(self, now: int) -> list[tuple[str, str]]:
        """What an answer to an order carries."""
        for window in self._windows:
            window.roll(now)
        return [(f"X-MBX-ORDER-COUNT-{one.name}", str(one.used)) for one in self._windows]

    def __repr__(self) -> str:
        return f"<OrderCounts {[(one.name, one.used) for one in self._windows]}>"


class Window(msgspec.Struct):
    """A fixed window of `length` ms: at most `most` in it, called `words` in a refusal."""

    name: str
    length: int
    most: int
    words: str
    used: int = 0
    turn: int = 0

    def roll(self, now: int) -> None:
        """Begin anew when the time of the window is over."""
        if self.turn != now // self.length:
            self.turn, self.used = now // self.length, 0


def told_to_wait(code: int, words: str, status: int, ms: int) -> Reply:
    """A refusal that asks for so long a silence, in whole seconds and at least one."""
    reply = Refused(code, words, status).reply
    return reply._replace(headers=(("Retry-After", str(max(1, -(-ms // 1_000)))),))
