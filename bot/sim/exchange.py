"""A simulated exchange: one symbol, matched order by order in price-time priority.

Pure and synchronous: every call carries its time, everything that the public or an owner
may learn lies in order in `drain`. Prices are ticks, quantities lots, times ns. Owner 0 is
the anonymous flow, whose orders have no private events; every other owner is a client,
who may trade with himself unless an order forbids it.

Each side is a dict of FIFO levels beside a sorted list of its prices with the best one
last: reading the touch is free, and a level that opens or closes costs one bisection.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from itertools import islice
from typing import Final

import msgspec

from bot.domain.account import SelfTrade
from bot.domain.units import Side
from bot.sim.events import (
    Cancelled,
    Executed,
    LevelSet,
    Moved,
    Opened,
    Printed,
    Private,
    Public,
    Reduced,
)

FLOW: Final = 0  # the owner whose orders are nobody's

ORDERS_MAX: Final = 1 << 18  # resting at once
EVENTS_MAX: Final = 1 << 22  # between two drains

_ANY_PRICE: Final = -(1 << 62)
_NOBODY: Final = -1


class Refusal(StrEnum):
    """Why an order never existed."""

    WOULD_MATCH = "post_only would match"
    BOOK_FULL = "too many orders rest"


class Placed(msgspec.Struct, frozen=True, gc=False):
    """The answer to `place`: `filled` at once, and `rests` in the book; 0 and 0 if refused."""

    order_id: int
    filled: int = 0
    rests: int = 0
    refusal: Refusal | None = None

    @property
    def accepted(self) -> bool:
        """Whether the order ever existed."""
        return self.refusal is None


class Resting(msgspec.Struct, frozen=True, gc=False):
    """A resting order as it is now."""

    order_id: int
    owner: int
    client_id: str
    side: Side
    tick: int
    left: int
    cumulative: int


class _Order:
    __slots__ = ("client_id", "cumulative", "left", "order_id", "owner", "side", "tick")

    def __init__(
        self, order_id: int, owner: int, client_id: str, side: Side, tick: int, lots: int
    ) -> None:
        self.order_id = order_id
        self.owner = owner
        self.client_id = client_id
        self.side = side
        self.tick = tick
        self.left = lots
        self.cumulative = 0


class _Level:
    """Orders by id in time priority: a plain dict would be slow to lose its first key."""

    __slots__ = ("lots", "orders")

    def __init__(self) -> None:
        self.lots = 0
        self.orders: OrderedDict[int, _Order] = OrderedDict()


class _Half:
    """One side. `keys` are side x tick, ascending: the best price is always the last."""

    __slots__ = ("keys", "levels", "side")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.levels: dict[int, _Level] = {}
        self.keys: list[int] = []

    def level(self, tick: int) -> _Level:
        """The level at `tick`, opened if need be."""
        level = self.levels.get(tick)
        if level is None:
            level = self.levels[tick] = _Level()
            insort(self.keys, self.side * tick)
        return level

    def close(self, tick: int) -> None:
        """Remove an empty level."""
        del self.levels[tick]
        key = self.side * tick
        if self.keys[-1] == key:
            self.keys.pop()
        else:
            del self.keys[bisect_left(self.keys, key)]


class Exchange:
    """The book of one symbol; `first_id` is the first update, trade and order id.

    `net_taken` counts the lots that aggressors bought, less those that they sold.
    """

    __slots__ = (
        "_asks",
        "_bids",
        "_clients",
        "_events",
        "_listeners",
        "_orders",
        "net_taken",
        "order_id",
        "trade_id",
        "update_id",
    )

    def __init__(self, first_id: int = 1) -> None:
        self.update_id = first_id - 1  # of the last level change
        self.trade_id = first_id - 1
        self.order_id = first_id - 1
        self.net_taken = 0
        self._bids = _Half(Side.BUY)
        self._asks = _Half(Side.SELL)
        self._orders: dict[int, _Order] = {}
        self._clients: dict[int, dict[int, _Order]] = {}
        self._events: list[Public | Private] = []
        self._listeners: dict[int, Callable[[Private], None]] = {}

    def listen(self, owner: int, learn: Callable[[Private], None]) -> None:
        """Hand an owner's events to `learn` the moment they happen, and to nobody else.

        `learn` runs in the middle of a match: it may look at the exchange, not change it.
        """
        assert owner != FLOW
        self._listeners[owner] = learn

    # --- What an owner can do ----------------------------------------------------------

    def place(
        self,
        now: int,
        owner: int,
        side: Side,
        tick: int | None,
        lots: int,
        *,
        post_only: bool = False,
        ioc: bool = False,
        client_id: str = "",
        self_trade: SelfTrade = SelfTrade.NONE,
    ) -> Placed:
        """Match an order against the book and rest what remains; `tick` None is a market order.

        Market and immediate-or-cancel orders never rest. `self_trade` says what happens
        instead of a trade with another order of the same client. A refused order uses no id
        and leaves no event. Lots and ticks are positive: filters are the server's.
        """
        assert lots > 0
        assert tick is None or tick > 0
        assert not (post_only and (ioc or tick is None))
        other = self._asks if side > 0 else self._bids
        # The opposite side's key of our limit: its levels match down to that key.
        limit = _ANY_PRICE if tick is None else -side * tick
        crosses = bool(other.keys) and other.keys[-1] >= limit
        if crosses and post_only:
            return Placed(0, refusal=Refusal.WOULD_MATCH)
        may_rest = tick is not None and not ioc
        if may_rest and len(self._orders) >= ORDERS_MAX:
            return Placed(0, refusal=Refusal.BOOK_FULL)
        self.order_id += 1
        order = _Order(self.order_id, owner, client_id, side, tick or 0, lots)
        if owner != FLOW:
            self._tell(Opened(now, owner, order.order_id, client_id, side, order.tick, lots))
        return self._enter(now, order, other, limit, may_rest, self_trade)

    def move(
        self,
        now: int,
        order_id: int,
        tick: int,
        left: int,
        *,
        self_trade: SelfTrade = SelfTrade.NONE,
    ) -> Placed | None:
        """Put a client's resting order behind the others at `tick` with `left` lots to trade.

        It keeps its id and trades at once where it crosses. None if it does not rest.
        """
        assert left > 0
        assert tick > 0
        order = self._orders.get(order_id)
        if order is None:
            return None
        assert order.owner != FLOW
        self._take_out(order)
        order.tick, order.left = tick, left
        self._tell(Moved(now, order.owner, order_id, order.client_id, tick, left))
        other = self._asks if order.side > 0 else self._bids
        return self._enter(now, order, other, -order.side * tick, True, self_trade)

    def cancel(self, now: int, order_id: int) -> bool:
        """Take a resting order out; False if it does not rest."""
        order = self._orders.get(order_id)
        if order is None:
            return False
        self._take_out(order)
        self._say_cancelled(now, order, expired=False)
        return True

    def reduce(self, now: int, order_id: int, left: int) -> bool:
        """Lower a resting order to `left` lots in its place; False if it rests with no more."""
        assert left > 0
        order = self._orders.get(order_id)
        if order is None or left >= order.left:
            return False
        half = self._bids if order.side > 0 else self._asks
        self._shrink(half, half.levels[order.tick], order.tick, order.left - left)
        order.left = left
        if order.owner != FLOW:
            self._tell(Reduced(now, order.owner, order_id, order.client_id, left))
        return True

    # --- What can be seen --------------------------------------------------------------

    def drain(self) -> list[Public | Private]:
        """Everything that happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def best(self, side: Side) -> tuple[int, int] | None:
        """The best tick of a side and its lots; None if the side is empty."""
        half = self._bids if side > 0 else self._asks
        if not half.keys:
            return None
        tick = half.keys[-1] * side
        return tick, half.levels[tick].lots

    def touch(self) -> tuple[int, int, int, int]:
        """Bid tick, bid lots, ask tick, ask lots; zeros for an empty side."""
        return (*(self.best(Side.BUY) or (0, 0)), *(self.best(Side.SELL) or (0, 0)))

    def levels(self, side: Side, limit: int | None = None) -> list[tuple[int, int]]:
        """The `limit` best levels of a side as (tick, lots), best first; None means all."""
        half = self._bids if side > 0 else self._asks
        ticks = (key * side for key in islice(reversed(half.keys), limit))
        return [(tick, half.levels[tick].lots) for tick in ticks]

    def lots(self, side: Side, tick: int) -> int:
        """What rests at a tick."""
        level = (self._bids if side > 0 else self._asks).levels.get(tick)
        return 0 if level is None else level.lots

    def queue(self, side: Side, tick: int) -> list[Resting]:
        """The orders at a tick, first in line first."""
        level = (self._bids if side > 0 else self._asks).levels.get(tick)
        return [] if level is None else [_seen(order) for order in level.orders.values()]

    def newest(self, side: Side, tick: int, owner: int, limit: int) -> list[tuple[int, int]]:
        """(order id, lots) of an owner's orders among the last `limit` in line, last first."""
        level = (self._bids if side > 0 else self._asks).levels.get(tick)
        if level is None:
            return []
        last = islice(reversed(level.orders.values()), limit)
        return [(order.order_id, order.left) for order in last if order.owner == owner]

    def behind(self, side: Side, tick: int) -> int:
        """The best occupied tick of a side at `tick` or behind it; 0 if there is none."""
        keys = (self._bids if side > 0 else self._asks).keys
        i = bisect_right(keys, side * tick)
        return keys[i - 1] * side if i else 0

    def order(self, order_id: int) -> Resting | None:
        """A resting order; None if it does not rest."""
        order = self._orders.get(order_id)
        return None if order is None else _seen(order)

    def orders_of(self, owner: int) -> list[Resting]:
        """A client's resting orders, oldest first."""
        assert owner != FLOW
        return [_seen(order) for order in self._clients.get(owner, {}).values()]

    # --- Matching ----------------------------------------------------------------------

    def _enter(
        self,
        now: int,
        order: _Order,
        other: _Half,
        limit: int,
        may_rest: bool,
        self_trade: SelfTrade,
    ) -> Placed:
        """Match an order, then rest or expire what remains of it."""
        before = order.cumulative
        prevented = False
        if other.keys and other.keys[-1] >= limit:
            prevented = self._match(now, order, other, limit, self_trade)
        filled = order.cumulative - before
        if order.left == 0:
            return Placed(order.order_id, filled)
        if prevented or not may_rest:
            self._say_cancelled(now, order, expired=True, prevented=prevented)
            return Placed(order.order_id, filled)
        self._rest(order)
        return Placed(order.order_id, filled, order.left)

    def _match(
        self, now: int, taker: _Order, other: _Half, limit: int, self_trade: SelfTrade
    ) -> bool:
        """Trade down to a limit; True if the taker met its owner and expires."""
        avoided = _NOBODY if self_trade is SelfTrade.NONE else taker.owner
        stopped = False
        while taker.left and not stopped and other.keys and other.keys[-1] >= limit:
            tick = other.keys[-1] * other.side
            level = other.levels[tick]
            taken, stopped = self._take(now, taker, tick, level, avoided)
            gone = 0
            if stopped:
                gone = self._prevent(now, level, self_trade)
                stopped = self_trade is not SelfTrade.EXPIRE_MAKER
            if taken or gone:
                self.net_taken += taken if taker.side > 0 else -taken
                self._shrink(other, level, tick, taken + gone)
        return stopped

    def _take(
        self, now: int, taker: _Order, tick: int, level: _Level, avoided: int
    ) -> tuple[int, bool]:
        """Trade with one level, first in line first: the lots, and whether `avoided` is next."""
        before = taker.left
        while taker.left and level.orders:
            maker = next(iter(level.orders.values()))
            if maker.owner == avoided:
                return before - taker.left, True
            lots = min(maker.left, taker.left)
            for order in (maker, taker):
                order.left -= lots
                order.cumulative += lots
            self.trade_id += 1
            self._say(
                Printed(now, self.trade_id, tick, lots, taker.side, maker.order_id, taker.order_id)
            )
            if maker.left == 0:
                del level.orders[maker.order_id]
                self._forget(maker)
            self._say_executed(now, maker, tick, lots, is_maker=True)
            self._say_executed(now, taker, tick, lots, is_maker=False)
        return before - taker.left, False

    def _prevent(self, now: int, level: _Level, self_trade: SelfTrade) -> int:
        """Expire the first in line where that is asked for; the lots that left the level."""
        if self_trade is SelfTrade.EXPIRE_TAKER:
            return 0
        _, maker = level.orders.popitem(last=False)
        self._forget(maker)
        self._say_cancelled(now, maker, expired=True, prevented=True)
        return maker.left

    def _take_out(self, order: _Order) -> None:
        self._forget(order)
        half = self._bids if order.side > 0 else self._asks
        level = half.levels[order.tick]
        del level.orders[order.order_id]
        self._shrink(half, level, order.tick, order.left)

    def _rest(self, order: _Order) -> None:
        level = (self._bids if order.side > 0 else self._asks).level(order.tick)
        level.orders[order.order_id] = order
        level.lots += order.left
        self._orders[order.order_id] = order
        if order.owner != FLOW:
            self._clients.setdefault(order.owner, {})[order.order_id] = order
        self._say_level(order.side, order.tick, level.lots)

    def _shrink(self, half: _Half, level: _Level, tick: int, lots: int) -> None:
        """Take `lots` off a level; one whose last order has left is closed."""
        level.lots -= lots
        if not level.orders:
            half.close(tick)
        self._say_level(half.side, tick, level.lots)

    def _forget(self, order: _Order) -> None:
        del self._orders[order.order_id]
        if order.owner != FLOW:
            del self._clients[order.owner][order.order_id]

    # --- Telling -----------------------------------------------------------------------

    def _say(self, event: Public | Private) -> None:
        assert len(self._events) < EVENTS_MAX
        self._events.append(event)

    def _tell(self, event: Private) -> None:
        learn = self._listeners.get(event.owner)
        if learn is None:
            self._say(event)
        else:
            learn(event)

    def _say_level(self, side: Side, tick: int, lots: int) -> None:
        self.update_id += 1
        self._say(LevelSet(self.update_id, side, tick, lots))

    def _say_executed(
        self, now: int, order: _Order, tick: int, lots: int, *, is_maker: bool
    ) -> None:
        if order.owner != FLOW:
            self._tell(
                Executed(
                    now, order.owner, order.order_id, order.client_id, order.side, self.trade_id,
                    tick, lots, is_maker, order.cumulative, order.left,
                )
            )  # fmt: skip

    def _say_cancelled(
        self, now: int, order: _Order, *, expired: bool, prevented: bool = False
    ) -> None:
        if order.owner != FLOW:
            self._tell(
                Cancelled(
                    now, order.owner, order.order_id, order.client_id, order.left,
                    order.cumulative, expired, prevented,
                )
            )  # fmt: skip

    def __repr__(self) -> str:
        bid, bid_lots, ask, ask_lots = self.touch()
        return (
            f"<Exchange u={self.update_id} {bid}:{bid_lots} / {ask}:{ask_lots} "
            f"orders={len(self._orders)}>"
        )


def _seen(order: _Order) -> Resting:
    return Resting(
        order.order_id,
        order.owner,
        order.client_id,
        order.side,
        order.tick,
        order.left,
        order.cumulative,
    )
