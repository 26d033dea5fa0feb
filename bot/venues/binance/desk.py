"""All that Binance's side does for clients, without I/O: requests, sessions, user events.

One object for the server: it answers a request, opens a session for a web socket path, and
hands out what the accounts' owners are to hear. Times are ms unless they say otherwise.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

from bot.venues.binance import spotapi, usdmapi
from bot.venues.binance.failures import LISTS
from bot.venues.binance.privateapi import PrivateApi, Route
from bot.venues.binance.privatetext import PrivateText
from bot.venues.binance.publicapi import PublicApi, unknown_path
from bot.venues.binance.reply import Refused, Reply, Request
from bot.venues.binance.seat import Seat
from bot.venues.binance.streams import Session, session_of
from bot.venues.binance.usertext import UserText
from bot.venues.binance.wsapi import PATH, WsApiSession

_USER_PATH: Final = re.compile(r"(?:/private)?/(ws|stream)(?:/([0-9a-zA-Z]{60,70}))?")


class Desk:
    """The public API with the clients' own; without seats there is only the public one.

    `now` is the wall clock, for what comes over a web socket.
    """

    def __init__(self, public: PublicApi, seats: Sequence[Seat], now: Callable[[], int]) -> None:
        self.public = public
        self.seats = list(seats)
        self._now = now
        text = PrivateText(public.text)
        api = spotapi.SpotApi(text) if text.spot else usdmapi.UsdmApi(text)
        routes = dict(api.routes()) if seats else {}
        if seats:
            routes["GET", "sapi", "account/apiRestrictions"] = Route(spotapi.restrictions, 1)
        self._private = PrivateApi(routes, seats, public.weights)
        self._user_text = UserText(text)

    def answer(self, request: Request, arrived: int, at: int) -> Reply:
        """Answer a request that arrived at `arrived`; `at` is the market's time in ns."""
        reply = self._private.answer(request, arrived, at)
        return self._answer_public(request, arrived) if reply is None else reply

    def _answer_public(self, request: Request, now: int) -> Reply:
        if request.method == "GET":
            query = dict(parse_qsl(request.query, keep_blank_values=True))
            reply = self.public.answer(request.path, query, now)
        else:
            reply = unknown_path(request.path, now)
        _, refusal = self.public.spend(reply.weight, now)
        reply = refusal or reply
        return reply._replace(headers=(self.public.weights.header(), *reply.headers))

    def session(self, path: str, query: Mapping[str, str]) -> Session | WsApiSession | None:
        """The session of a web socket path; None where the venue would not open one."""
        venue = self.public.text.instrument.venue
        if self.seats and not self.public.text.futures and path == PATH:
            return WsApiSession(self._private.seat_of, self._now)
        found = _USER_PATH.fullmatch(path)
        key = query.get("listenKey") or (found and found[2])
        if found is not None and (key or path.startswith("/private")):
            now = self._now()
            if not any(s.stream.name == key and s.stream.lives(now) for s in self.seats):
                return None
            return Session(venue, "private", found[1] == "stream", user=key or "")
        try:
            return session_of(venue, path, query)
        except Refused:
            return None

    def lists(self) -> list[tuple[str, str]]:
        """(key, path) of each list that `show` shows."""
        paths = LISTS[self.public.text.instrument.venue]
        return [(seat.key, path) for seat in self.seats for path in paths]

    def show(self, key: str, path: str, now: int, at: int) -> bytes:
        """A list as it is; `at` is the market's time in ns."""
        return self._private.show(key, path, now, at)

    def tend(self, at: int, now: int) -> None:
        """Let happen what accounts do by themselves; `at` is the market's time in ns."""
        for seat in self.seats:
            seat.account.tend(at, now)

    def events(self, now: int) -> Iterator[tuple[str, bytes]]:
        """What clients are to hear since the last call: (stream name, message) in order."""
        for seat in self.seats:
            lives = seat.stream.lives(now)
            for news in seat.account.drain():
                if lives:
                    yield seat.stream.name, seat.stream.frame(self._user_text.event(news, now))
            if seat.stream.overdue(now):
                yield seat.stream.end(now)

    def __repr__(self) -> str:
        return f"<Desk {self.public!r} seats={len(self.seats)}>"
