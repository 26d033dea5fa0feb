"""What the bot can learn, besides the market rows of `tape`. All names are past tense.

`at` is the receive time in ns. Own orders are named by their client id. `cumulative_lots` is
all that an order has traded by the venue's word; 0 where the venue did not say.
"""

from decimal import Decimal
from typing import Final, Literal

import msgspec

from bot.domain.params import RiskParams
from bot.domain.units import Side

# Reasons of rejections that the venue has nothing against: we ourselves did not let the request
# out, or the order had ended, or never arrived, when it was looked for.
UNSENT: Final = "gate_shut"
ABSENT: Final = "absent"
HARMLESS: Final = (UNSENT, ABSENT)


class OrderOpened(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue accepted an order; it rests in its book."""

    at: int
    order_id: str
    cumulative_lots: int = 0


class OrderRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue proved that the order never rested."""

    at: int
    order_id: str
    reason: str


class OrderCancelled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The order left the venue's book without (further) trading, because we asked for it."""

    at: int
    order_id: str
    cumulative_lots: int = 0


class OrderExpired(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue took the order out of its book by itself.

    Self-trade prevention, a dead-man's switch, an amend that would have crossed.
    """

    at: int
    order_id: str
    reason: str
    cumulative_lots: int = 0


class Amended(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The order now rests at `tick` with `lots` in all, those included that have traded."""

    at: int
    order_id: str
    tick: int
    lots: int
    cumulative_lots: int = 0


class AmendRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue refused an amend: the order is what it was."""

    at: int
    order_id: str
    reason: str


class CancelRejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue does not know the order that was to be cancelled: it ended some other way."""

    at: int
    order_id: str


class OutcomeLost(msgspec.Struct, frozen=True, gc=False, tag=True):
    """No one can say what became of a request: the order is UNKNOWN until the venue says."""

    at: int
    order_id: str
    reason: str = ""


class Filled(msgspec.Struct, frozen=True, gc=False, tag=True):
    """One execution of an own order. `trade_id` is unique per (order, trade, side).

    `fee` is what the venue charged, in `fee_currency`, negative for a rebate; None where it did
    not say, and the rate of the fee tier stands in.
    """

    at: int
    order_id: str
    trade_id: str
    side: Side
    tick: int
    lots: int
    maker: bool
    cumulative_lots: int = 0
    fee: Decimal | None = None
    fee_currency: str = ""


class FillRecovered(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An execution of an own order that is no longer at hand: of a run before, or long ended.

    It moves the position and the money; there is no order left to advance.
    """

    at: int
    order_id: str
    trade_id: str
    side: Side
    tick: int
    lots: int
    maker: bool
    fee: Decimal | None = None
    fee_currency: str = ""


class PositionAdopted(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The venue's position is taken for ours, by its word: an explicit adjustment, no fill.

    `lots` is the whole position from now on; `tick2` is twice the price, in ticks, at which
    the difference is valued, so that the adjustment itself is neither profit nor loss.
    """

    at: int
    lots: int
    tick2: int
    reason: Literal["start", "reconcile"]


class Funded(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A funding payment in quote currency; positive is received."""

    at: int
    amount: Decimal


class Obstructed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Orders cannot be relied on: nothing may rest until `what` is cleared.

    `what` names the obstacle, one of many that may stand at a time: `private_stream`,
    `reconcile`, `dead_man`, `watchdog`, `clock`, `filters`, `venue`.
    """

    at: int
    what: str
    detail: str = ""


class Cleared(msgspec.Struct, frozen=True, gc=False, tag=True):
    """An obstacle is gone."""

    at: int
    what: str


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


OwnEvent = (
    OrderOpened
    | OrderRejected
    | OrderCancelled
    | OrderExpired
    | Amended
    | AmendRejected
    | CancelRejected
    | OutcomeLost
    | Filled
)
AccountEvent = FillRecovered | PositionAdopted | Funded | Obstructed | Cleared
Event = OwnEvent | AccountEvent | Rearmed | QuotingStopped | LimitsTightened
FeedEvent = FeedOpened | FeedLost  # of the market's connections; the engine learns them as rows
