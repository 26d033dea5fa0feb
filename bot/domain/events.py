"""What the bot can learn, besides the market rows of `tape`. All names are past tense.

`at` is the receive time in ns. Own orders are named by their client id.
"""

import msgspec

from bot.domain.params import RiskParams
from bot.domain.units import Side


class OrderOpened(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue accepted an order; it rests in its book."""

    at: int
    order_id: str


class OrderRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue proved that the order never rested."""

    at: int
    order_id: str
    reason: str


class OrderCancelled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The order left the venue's book without (further) trading."""

    at: int
    order_id: str


class CancelRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue does not know the order that was to be cancelled: it ended some other way."""

    at: int
    order_id: str


class OutcomeLost(msgspec.Struct, frozen=True, gc=False, tag=True):
    """No one can say what became of a request: the order is UNKNOWN until the venue says."""

    at: int
    order_id: str


class Filled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One execution of an own order. `trade_id` is unique per (order, trade, side)."""

    at: int
    order_id: str
    trade_id: str
    side: Side
    tick: int
    lots: int
    maker: bool


class Rearmed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An operator clears a latched halt; `reason` is typed by a person."""

    at: int
    reason: str


class QuotingStopped(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The run is to end: every order is cancelled and none is placed any more."""

    at: int
    reason: str


class LimitsTightened(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Some risk limits became tighter while running; `risk` holds all that are in force.

    Resting orders are cancelled: they were placed under the old ones.
    """

    at: int
    risk: RiskParams


class FeedOpened(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A market-data connection delivers from now on; what it said before `at` is unknown."""

    at: int
    connection: str


class FeedLost(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Market data is missing from `at` on: no book built before it can be trusted.

    `connection` is empty where the data was dropped by ourselves.
    """

    at: int
    cause: str
    connection: str = ""


OwnEvent = OrderOpened | OrderRejected | OrderCancelled | CancelRejected | OutcomeLost | Filled
Event = OwnEvent | Rearmed | QuotingStopped | LimitsTightened
FeedEvent = FeedOpened | FeedLost  # of the market's connections; the engine learns them as rows
