"""What happens in the simulated exchange: what everybody learns, and what an owner learns.

Prices are ticks, quantities lots, times ns of the market.
"""

import msgspec

from bot.domain.units import Side


class Printed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One trade between two orders, at the resting one's price."""

    at: int
    trade_id: int
    tick: int
    lots: int
    aggressor: Side
    maker_order: int
    taker_order: int


class LevelSet(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A level now holds `lots` in all; 0 removes it. `update_id` grows by one each time."""

    update_id: int
    side: Side
    tick: int
    lots: int


class Opened(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client's order was accepted; it may trade or end in the events behind this one.

    `tick` is 0 for a market order.
    """

    at: int
    owner: int
    order_id: int
    client_id: str
    side: Side
    tick: int
    lots: int


class Executed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client's order traded `lots`; `cumulative` counts all that it ever traded."""

    at: int
    owner: int
    order_id: int
    client_id: str
    side: Side
    trade_id: int
    tick: int
    lots: int
    maker: bool
    cumulative: int
    left: int


class Reduced(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client's order rests with fewer lots, its place in the queue unchanged."""

    at: int
    owner: int
    order_id: int
    client_id: str
    left: int


class Moved(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client's order goes to the end of the line at `tick` with `left` lots; it may trade."""

    at: int
    owner: int
    order_id: int
    client_id: str
    tick: int
    left: int


class Cancelled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client's order left with `left` lots untraded.

    `expired` when nobody asked for it: the rest of a market or immediate-or-cancel order, or
    `prevented` from trading with another order of its owner.
    """

    at: int
    owner: int
    order_id: int
    client_id: str
    left: int
    cumulative: int
    expired: bool
    prevented: bool = False


Public = Printed | LevelSet
Private = Opened | Executed | Reduced | Moved | Cancelled
