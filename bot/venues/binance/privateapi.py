"""Binance's private REST API, server side, without I/O: who asks, what it costs, who answers.

A request is checked in the order of the documents' "Request security": the address's weight,
the key, the signature, the time; then the account's order count. What is asked is in
`spotapi` and `usdmapi`. One API serves several keys, each with its account.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from bot.venues.binance.limits import Weights
from bot.venues.binance.reply import DIGITS, DIGITS_LEGAL, Refused, Reply, Request, illegal
from bot.venues.binance.seat import Seat
from bot.venues.binance.signing import check_signature, check_time, parameters

_PATH: Final = re.compile(r"/(api|fapi|sapi)/v[1-3]/(\w[\w/-]*)")
_ROWS_MAX: Final = 1_000  # rows of one answer

Row = TypeVar("Row")


class Call(NamedTuple):
    """What a route gets: `now` is the wall clock in ms, `at` the market's time in ns."""

    seat: Seat
    params: Mapping[str, str]
    now: int
    at: int


class Route(NamedTuple):
    """How an endpoint answers, its weight (`weight_all` without a symbol) and order counts.

    A route that is not `signed` wants a key only (USER_STREAM).
    """

    answer: Callable[[Call], Any]
    weight: int
    orders: int = 0
    weight_all: int = 0
    signed: bool = True


Routes = Mapping[tuple[str, str, str], Route]  # by method, product, and the path behind it


class PrivateApi:
    """The signed endpoints of a venue; `weights` is shared with the public ones."""

    def __init__(self, routes: Routes, seats: Sequence[Seat], weights: Weights) -> None:
        self._routes = routes
        self._seats = {seat.key: seat for seat in seats}
        assert len(self._seats) == len(seats)
        self.weights = weights

    def answer(self, request: Request, arrived: int, at: int) -> Reply | None:
        """Answer a request that arrived at `arrived` (ms); None where it is no private one."""
        found = _PATH.fullmatch(request.path)
        route = None
        if found is not None:
            route = self._routes.get((request.method, found[1], found[2]))
        if route is None:
            return None
        params = parameters(request)
        of_all = route.weight_all and "symbol" not in params
        weight = route.weight_all if of_all else route.weight
        refusal = self.weights.spend(weight, arrived)
        if refusal is not None:
            return self._headed(refusal)
        try:
            seat = self.seat_of(request.key)
        except Refused as refused:
            return self._headed(refused.reply)
        reply = self._answer(route, Call(seat, params, arrived, at), request)
        more = seat.counts.headers(arrived) if route.orders else []
        return self._headed(reply, more)

    def _answer(self, route: Route, call: Call, request: Request) -> Reply:
        try:
            if route.signed:
                check_signature(request, call.seat.secret)
                check_time(call.params, call.now)
            if route.orders:
                refusal = call.seat.counts.count(route.orders, call.now)
                if refusal is not None:
                    return refusal
            return Reply(200, msgspec.json.encode(route.answer(call)))
        except Refused as refused:
            return refused.reply

    def show(self, key: str, path: str, now: int, at: int) -> bytes:
        """What a GET without parameters would tell a key's owner; it costs him nothing."""
        found = _PATH.fullmatch(path)
        assert found is not None
        route = self._routes["GET", found[1], found[2]]
        return msgspec.json.encode(route.answer(Call(self._seats[key], {}, now, at)))

    def seat_of(self, key: str | None) -> Seat:
        """Whose key it is. Raises Refused for nobody's."""
        if not key:
            raise Refused(-2014, "API-key format invalid.", 401)
        seat = self._seats.get(key)
        if seat is None:
            raise Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return seat

    def _headed(self, reply: Reply, more: Sequence[tuple[str, str]] = ()) -> Reply:
        return reply._replace(headers=(self.weights.header(), *more, *reply.headers))

    def __repr__(self) -> str:
        return f"<PrivateApi {list(self._seats.values())}>"


def integer(params: Mapping[str, str], name: str, default: int, most: int | None = None) -> int:
    """An integer parameter, capped at `most`. Raises Refused for anything else than digits."""
    text = params.get(name)
    if text is None:
        return default
    if DIGITS.fullmatch(text) is None:
        raise illegal(name, DIGITS_LEGAL)
    return int(text) if most is None else max(1, min(int(text), most))


def within(
    rows: Sequence[Row],
    params: Mapping[str, str],
    at: Callable[[Row], int],
    number: Callable[[Row], int],
    first: str,
) -> list[Row]:
    """Rows between startTime and endTime, or from an id on; the newest where neither is said."""
    limit = integer(params, "limit", 500, _ROWS_MAX)
    low, high = integer(params, "startTime", 0), integer(params, "endTime", 1 << 62)
    lowest = integer(params, first, 0)
    chosen = [row for row in rows if low <= at(row) <= high and number(row) >= lowest]
    forward = "startTime" in params or first in params
    return chosen[:limit] if forward else chosen[-limit:]
