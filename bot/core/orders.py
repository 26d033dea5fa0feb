"""What becomes of an own order: one table, state x input, and the orders that walk it.

The table holds every race that a venue can really produce (RISK 5); a cell without a target
is a broken invariant of ours and raises. Not knowing is a state: an UNKNOWN order counts at
its worst case, blocks its side and is resolved only by the venue's word.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from bot.domain.decisions import Place
from bot.domain.events import (
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
)
from bot.domain.units import Side

# Ended orders (and with them their trade ids) that late reports can still find. At ten
# orders a second this is 109 minutes; a venue was seen to repeat a fill after 40.
ENDED_ORDERS_MAX: Final = 8_192  # 5 MB


class OrderState(IntEnum):
    """Where an order stands, as far as the venue's words have reached us."""

    PENDING_NEW = 0
    LIVE = 1
    PARTIALLY_FILLED = 2
    PENDING_CANCEL = 3
    UNKNOWN = 4
    FILLED = 5
    CANCELLED = 6
    REJECTED = 7


class OrderInput(IntEnum):
    """What can happen to an order; a fill is PARTIAL or FULL by its cumulative quantity."""

    OPENED = 0
    PARTIAL_FILL = 1
    FULL_FILL = 2
    CANCEL_SENT = 3
    CANCELLED = 4
    CANCEL_REJECTED = 5
    REJECTED = 6
    OUTCOME_LOST = 7


class OrderFault(Exception):
    """What we believe about an own order is broken: cancel all and stop."""


class IllegalTransition(OrderFault):
    """The table has no cell for this state and input."""


class Overfill(OrderFault):
    """Fills add up to more than the order's quantity."""


class WrongSide(OrderFault):
    """A fill names the other side than its order."""


class UnknownOrder(OrderFault):
    """No order of this id is working or remembered."""


class ReusedId(OrderFault):
    """A new order carries the id of an order that is working or remembered."""


NEW, LIVE, PART, PCXL, UNKN, FULL, CXLD, REJD = OrderState
____: Final = None  # illegal

# Rows are states, columns inputs, both in the order of their enums.
#
# PENDING_NEW       A fill or a cancellation may overtake the ack. A cancel may be sent before
#                   the ack (kill sequence); it leaves this state for good, so that a
#                   CANCEL_REJECTED here answers a cancel that was never sent.
# LIVE, PART        OPENED again: stream and REST reply both tell. CANCELLED unasked:
#                   self-trade prevention, dead-man's switch, operator. CANCEL_REJECTED: the
#                   answer to a cancel whose outcome was given up and then resolved as open.
#                   OUTCOME_LOST: the stream was faster than the timeout of the request,
#                   the venue's word stands. REJECTED contradicts the venue's own ack.
# PENDING_CANCEL    Counts as live until proof, also through a late ack or a fill. CANCEL_SENT
#                   again: sweeps repeat. REJECTED: the order was refused while its cancel
#                   travelled. CANCEL_REJECTED: it ended otherwise and the report of how is
#                   still under way, hence UNKNOWN.
# UNKNOWN           Any word of the venue about the order itself resolves it. A cancel sent,
#                   refused or lost says nothing new: the side stays blocked.
# FILLED            Ack after fill. CANCELLED, CANCEL_REJECTED: a cancel crossed the last fill.
#                   OUTCOME_LOST: the reply to the placement or to that cancel is lost. A
#                   further fill is an overfill.
# CANCELLED         OPENED: the ack of an order cancelled before it. CANCELLED again: stream and
#                   REST reply both tell. A late fill is booked: the order stays CANCELLED, or
#                   becomes FILLED once its whole quantity has traded, which is the same end
#                   whatever the order of reports. CANCEL_REJECTED: the second of two
#                   cancels. OUTCOME_LOST: as for FILLED.
# REJECTED          REJECTED again: stream and REST reply both tell. CANCEL_REJECTED,
#                   OUTCOME_LOST: the end of a cancel sent before the refusal. An ack or a fill
#                   means that an order lives which was believed never to have rested.
# fmt: off
TRANSITIONS: Final[tuple[tuple[OrderState | None, ...], ...]] = (
    #OPENED PARTIAL FULL  C_SENT CANCELD C_REJ REJECTED LOST
    (LIVE,  PART,   FULL, PCXL,  CXLD,   ____, REJD,    UNKN),  # PENDING_NEW
    (LIVE,  PART,   FULL, PCXL,  CXLD,   UNKN, ____,    LIVE),  # LIVE
    (PART,  PART,   FULL, PCXL,  CXLD,   UNKN, ____,    PART),  # PARTIALLY_FILLED
    (PCXL,  PCXL,   FULL, PCXL,  CXLD,   UNKN, REJD,    UNKN),  # PENDING_CANCEL
    (LIVE,  PART,   FULL, UNKN,  CXLD,   UNKN, REJD,    UNKN),  # UNKNOWN
    (FULL,  ____,   ____, ____,  FULL,   FULL, ____,    FULL),  # FILLED
    (CXLD,  CXLD,   FULL, ____,  CXLD,   CXLD, ____,    CXLD),  # CANCELLED
    (____,  ____,   ____, ____,  ____,   REJD, REJD,    REJD),  # REJECTED
)
# fmt: on


@dataclass(slots=True, eq=False, repr=False)
class Order:
    """One own order. Prices in ticks, quantities in lots, times in ns; 0 is "not yet".

    `ahead` and `opened_at` are kept by the engine and never touched here.
    """

    order_id: str
    side: Side
    tick: int
    lots: int
    level: int
    sent_at: int
    state: OrderState = OrderState.PENDING_NEW
    filled_lots: int = 0
    cancel_sent_at: int = 0  # of the latest cancel
    ahead: float = 0.0
    opened_at: int = 0
    # A fill is known by (order, trade, side), and the order fixes the side.
    trade_ids: set[str] = field(default_factory=set)

    @property
    def remaining_lots(self) -> int:
        """Quantity that has not traded; of an ended order, what never will."""
        return self.lots - self.filled_lots

    @property
    def working(self) -> bool:
        """The order may still trade: live, pending or unknown."""
        return self.state < OrderState.FILLED

    @property
    def resting(self) -> bool:
        """The order stands in the venue's book and nothing has been asked to change that."""
        return self.state in (OrderState.LIVE, OrderState.PARTIALLY_FILLED)

    def __repr__(self) -> str:
        return (
            f"Order({self.order_id} {self.side.name} {self.filled_lots}/{self.lots}"
            f" @{self.tick} level={self.level} {self.state.name})"
        )


def next_state(order: Order, what: OrderInput) -> OrderState:
    """State of `order` after `what`; the order itself is not changed.

    Raises IllegalTransition for an empty cell, and for the refusal of an order that traded.
    """
    state = TRANSITIONS[order.state][what]
    refused_after_fill = what is OrderInput.REJECTED and order.filled_lots > 0
    if state is None or refused_after_fill:
        raise IllegalTransition(
            f"order {order.order_id} in {order.state.name}"
            f" ({order.filled_lots}/{order.lots} filled) got {what.name}"
        )
    if state is OrderState.LIVE and order.filled_lots > 0:
        # Resolved as open after fills that an UNKNOWN spell has hidden from the table.
        return OrderState.PARTIALLY_FILLED
    return state


class OrderTable:
    """All own orders: those that work, and a bounded memory of those that ended."""

    __slots__ = (
        "_asks",
        "_bids",
        "_ended",
        "_ended_max",
        "_orders",
        "n_cancelled",
        "n_filled",
        "n_placed",
        "n_rejected",
    )

    def __init__(self, ended_max: int = ENDED_ORDERS_MAX) -> None:
        """`ended_max` >= 1 ended orders are remembered, the oldest is forgotten first."""
        if ended_max < 1:
            raise ValueError(f"ended_max {ended_max} must be at least 1")
        self._orders: dict[str, Order] = {}
        self._bids: list[Order] = []
        self._asks: list[Order] = []
        self._ended: deque[str] = deque()
        self._ended_max = ended_max
        # Orders, by their end: n_placed == n_working + n_filled + n_cancelled + n_rejected.
        self.n_placed = 0
        self.n_filled = 0
        self.n_cancelled = 0
        self.n_rejected = 0

    def placed(self, place: Place, now: int) -> Order:
        """The placement was decided at `now`: from here on it is exposure.

        Raises ReusedId, as far back as ended orders are remembered.
        """
        assert place.lots > 0, f"an order of nothing: {place}"
        if place.order_id in self._orders:
            raise ReusedId(f"{place.order_id} is already {self._orders[place.order_id]}")
        order = Order(place.order_id, place.side, place.tick, place.lots, place.level, now)
        self._orders[order.order_id] = order
        self._working(order.side).append(order)
        self.n_placed += 1
        return order

    def cancel_sent(self, order_id: str, now: int) -> Order:
        """A cancel was decided at `now`; the order stays exposure until the venue's word.

        Raises UnknownOrder, and IllegalTransition if the order has ended.
        """
        order = self.find(order_id)
        self._advance(order, OrderInput.CANCEL_SENT)
        order.cancel_sent_at = now
        return order

    def apply(self, event: OwnEvent) -> tuple[Order, int]:
        """Learn one report; returns its order and the lots newly filled.

        The lots are 0 for everything but a fill seen for the first time. Raises
        UnknownOrder, IllegalTransition, Overfill or WrongSide, and then has changed nothing.
        """
        order = self.find(event.order_id)
        match event:
            case Filled():
                return order, self._fill(order, event)
            case OrderOpened():
                self._advance(order, OrderInput.OPENED)
            case OrderRejected():
                self._advance(order, OrderInput.REJECTED)
            case OrderCancelled():
                self._advance(order, OrderInput.CANCELLED)
            case CancelRejected():
                self._advance(order, OrderInput.CANCEL_REJECTED)
            case OutcomeLost():
                self._advance(order, OrderInput.OUTCOME_LOST)
        return order, 0

    def find(self, order_id: str) -> Order:
        """The working or remembered order of this id; raises UnknownOrder."""
        order = self._orders.get(order_id)
        if order is None:
            raise UnknownOrder(f"{order_id} is not among {self}")
        return order

    def working(self, side: Side) -> Sequence[Order]:
        """All orders of `side` that may still trade, in placement order: a snapshot."""
        return tuple(self._working(side))

    def exposure_lots(self, side: Side) -> int:
        """Worst case: the lots of `side` that may still trade, pending and unknown included."""
        return sum(order.remaining_lots for order in self._working(side))

    def blocked(self, side: Side) -> bool:
        """No new order may go to `side`: one of its orders is UNKNOWN (RISK 5)."""
        return any(order.state is OrderState.UNKNOWN for order in self._working(side))

    def two_sided(self) -> bool:
        """At least one order rests on each side."""
        return any(order.resting for order in self._bids) and any(
            order.resting for order in self._asks
        )

    @property
    def n_working(self) -> int:
        """Orders that may still trade, both sides."""
        return len(self._bids) + len(self._asks)

    def _working(self, side: Side) -> list[Order]:
        return self._bids if side == Side.BUY else self._asks

    def _fill(self, order: Order, fill: Filled) -> int:
        assert fill.lots > 0, f"a fill of nothing: {fill}"
        if fill.side != order.side:
            raise WrongSide(f"{order} got {fill}")
        if fill.trade_id in order.trade_ids:
            return 0
        cumulative = order.filled_lots + fill.lots
        if cumulative > order.lots:
            raise Overfill(f"{order} got {fill}")
        full = cumulative == order.lots
        state = next_state(order, OrderInput.FULL_FILL if full else OrderInput.PARTIAL_FILL)
        order.trade_ids.add(fill.trade_id)
        order.filled_lots = cumulative
        self._move(order, state)
        return fill.lots

    def _advance(self, order: Order, what: OrderInput) -> None:
        self._move(order, next_state(order, what))

    def _move(self, order: Order, state: OrderState) -> None:
        if state is order.state:
            return
        was_working = order.working
        self._count(order.state, -1)
        self._count(state, +1)
        order.state = state
        if was_working and not order.working:
            self._working(order.side).remove(order)
            self._remember(order)

    def _count(self, state: OrderState, step: int) -> None:
        if state is OrderState.FILLED:
            self.n_filled += step
        elif state is OrderState.CANCELLED:
            self.n_cancelled += step
        elif state is OrderState.REJECTED:
            self.n_rejected += step

    def _remember(self, order: Order) -> None:
        self._ended.append(order.order_id)
        if len(self._ended) > self._ended_max:
            del self._orders[self._ended.popleft()]

    def __repr__(self) -> str:
        return (
            f"OrderTable(bids={self._bids}, asks={self._asks}, remembered={len(self._ended)},"
            f" placed={self.n_placed}, filled={self.n_filled},"
            f" cancelled={self.n_cancelled}, rejected={self.n_rejected})"
        )
