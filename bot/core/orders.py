"""All own orders, as far as the venue's words have reached us.

An UNKNOWN order counts at its worst case, blocks its side and is resolved only by the venue's
word. So do lots that have traded by the venue's word though no fill has told of them: they are
*owed*, and count until the fills come. `orderlife` holds the table that each order walks.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from bot.core.orderlife import (
    IllegalTransition,
    Order,
    OrderFault,
    OrderInput,
    OrderState,
    next_state,
)
from bot.domain.decisions import Amend, Place
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
)
from bot.domain.units import Side

__all__ = [
    "IllegalTransition",
    "Order",
    "OrderFault",
    "OrderInput",
    "OrderState",
    "OrderTable",
    "Overfill",
    "ReusedId",
    "UnknownOrder",
    "WrongSide",
]

# Ended orders (and with them their trade ids) that late reports can still find. At ten
# orders a second this is 109 minutes; a venue was seen to repeat a fill after 40.
ENDED_ORDERS_MAX: Final = 8_192  # 5 MB


class Overfill(OrderFault):
    """Fills, or the venue's cumulative quantity, add up to more than the order's quantity."""


class WrongSide(OrderFault):
    """A fill names the other side than its order."""


class UnknownOrder(OrderFault):
    """No order of this id is working or remembered."""


class ReusedId(OrderFault):
    """A new order carries the id of an order that is working or remembered."""


class OrderTable:
    """All own orders: those that work, and a bounded memory of those that ended."""

    __slots__ = (
        "_asks",
        "_bids",
        "_ended",
        "_ended_max",
        "_orders",
        "_owing",
        "n_cancelled",
        "n_expired",
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
        self._owing: dict[str, Order] = {}  # with `owed_lots`, working or ended
        # Orders, by their end: n_placed is n_working and the sum of the others.
        self.n_placed = 0
        self.n_filled = 0
        self.n_cancelled = 0
        self.n_rejected = 0
        self.n_expired = 0

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

    def amend_sent(self, amend: Amend, now: int) -> Order:
        """An amend was decided at `now`; from here on the worse of both counts.

        Raises UnknownOrder, and IllegalTransition unless the order rests with nothing pending.
        """
        order = self.find(amend.order_id)
        assert amend.side == order.side, f"{amend} of {order}"
        assert amend.lots > order.filled_lots, f"nothing would be left: {amend} of {order}"
        self._move(order, next_state(order, OrderInput.AMEND_SENT), now)
        order.amend_tick, order.amend_lots = amend.tick, amend.lots
        order.amend_kept = order.filled_lots
        order.level = amend.level
        return order

    def cancel_sent(self, order_id: str, now: int) -> Order:
        """A cancel was decided at `now`; the order stays exposure until the venue's word.

        Raises UnknownOrder, and IllegalTransition if the order has ended.
        """
        order = self.find(order_id)
        self._move(order, next_state(order, OrderInput.CANCEL_SENT), now)
        order.cancel_sent_at = now
        return order

    def apply(self, event: OwnEvent) -> tuple[Order, int]:
        """Learn one report; returns its order and the lots newly filled.

        The lots are 0 for everything but a fill seen for the first time. Raises
        UnknownOrder, IllegalTransition, Overfill or WrongSide, and then has changed nothing.
        """
        order = self.find(event.order_id)
        lots = 0
        match event:
            case Filled():
                lots = self._fill(order, event)
            case Amended():
                self._amended(order, event)
            case AmendRejected():
                self._told(order, OrderInput.AMEND_REJECTED, event.at)
                order.amend_tick = order.amend_lots = 0
                self._finish(order, event.at)
            case OrderOpened():
                self._told(order, OrderInput.OPENED, event.at, event.cumulative_lots)
            case OrderRejected():
                self._told(order, OrderInput.REJECTED, event.at)
            case OrderCancelled():
                self._told(order, OrderInput.CANCELLED, event.at, event.cumulative_lots)
            case OrderExpired():
                self._told(order, OrderInput.EXPIRED, event.at, event.cumulative_lots)
            case CancelRejected():
                self._told(order, OrderInput.CANCEL_REJECTED, event.at)
            case OutcomeLost():
                self._told(order, OrderInput.OUTCOME_LOST, event.at)
        return order, lots

    def find(self, order_id: str) -> Order:
        """The working or remembered order of this id; raises UnknownOrder."""
        order = self._orders.get(order_id)
        if order is None:
            raise UnknownOrder(f"{order_id} is not among {self}")
        return order

    def knows(self, order_id: str) -> bool:
        """The order is working or remembered."""
        return order_id in self._orders

    def working(self, side: Side) -> Sequence[Order]:
        """All orders of `side` that may still trade, in placement order: a snapshot."""
        return tuple(self._working(side))

    def exposure_lots(self, side: Side) -> int:
        """Worst case: the lots of `side` that may still trade, pending and unknown included.

        So do the lots that an ended order owes: they have traded and are not in the position.
        """
        lots = sum(order.remaining_lots for order in self._working(side))
        if self._owing:
            owing = self._owing.values()
            lots += sum(o.owed_lots for o in owing if o.side is side and not o.working)
        return lots

    def owed(self) -> tuple[str, ...]:
        """Orders that have traded more, by the venue's word, than their fills have told."""
        return tuple(self._owing)

    def settle_owed(self) -> None:
        """What ended orders owe is part of a position that was taken over from the venue."""
        for order in tuple(self._owing.values()):
            if not order.working:
                order.told_lots = order.filled_lots
                del self._owing[order.order_id]

    def blocked(self, side: Side) -> bool:
        """No new order may go to `side`: one of its orders is UNKNOWN (RISK 5)."""
        return any(order.state is OrderState.UNKNOWN for order in self._working(side))

    def oldest_unknown_at(self) -> int | None:
        """When the order that is UNKNOWN for the longest became so; None without one."""
        times = [
            order.unknown_at
            for orders in (self._bids, self._asks)
            for order in orders
            if order.state is OrderState.UNKNOWN
        ]
        return min(times, default=None)

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
        self._check(order, max(cumulative, fill.cumulative_lots), order.most_lots, fill)
        full = cumulative == order.most_lots
        state = next_state(order, OrderInput.FULL_FILL if full else OrderInput.PARTIAL_FILL)
        order.trade_ids.add(fill.trade_id)
        order.filled_lots = cumulative
        self._move(order, state, fill.at)
        self._owe(order, fill.cumulative_lots)
        return fill.lots

    def _amended(self, order: Order, event: Amended) -> None:
        state = next_state(order, OrderInput.AMENDED)
        self._check(order, event.cumulative_lots, max(order.most_lots, event.lots), event)
        word = (event.tick, event.lots)
        expected = order.amending and word == (order.amend_tick, order.amend_lots)
        if not expected and word in order.past and word != (order.tick, order.lots):
            self._owe(order, event.cumulative_lots)
            return  # a report that a later amend has overtaken
        if order.state is not OrderState.FILLED:
            traded = max(order.filled_lots, order.told_lots, event.cumulative_lots)
            order.rests_at(event.tick, max(event.lots, traded))
        if expected or order.state is OrderState.UNKNOWN:
            order.kept_lots = order.amend_kept if expected else order.kept_lots
            order.amend_tick = order.amend_lots = 0
        elif order.amending:
            state = order.state  # the end of an earlier amend; the one under way is still open
        self._move(order, state, event.at)
        self._owe(order, event.cumulative_lots)
        self._finish(order, event.at)

    def _told(self, order: Order, what: OrderInput, at: int, cumulative: int = 0) -> None:
        self._check(order, cumulative, order.most_lots, what)
        self._move(order, next_state(order, what), at)
        self._owe(order, cumulative)

    @staticmethod
    def _check(order: Order, cumulative: int, most: int, what: object) -> None:
        if cumulative > most:
            raise Overfill(f"{order} got {what} with {cumulative} lots traded")

    def _owe(self, order: Order, cumulative: int) -> None:
        """Take the venue's cumulative quantity; a lower one than known is an older report."""
        order.told_lots = max(order.told_lots, cumulative)
        if order.owed_lots:
            self._owing[order.order_id] = order
        else:
            self._owing.pop(order.order_id, None)

    def _finish(self, order: Order, now: int) -> None:
        """An amend may leave nothing to trade."""
        if order.filled_lots >= order.most_lots:
            self._move(order, OrderState.FILLED, now)

    def _move(self, order: Order, state: OrderState, now: int) -> None:
        if state is order.state:
            return
        was_working = order.working
        self._count(order.state, -1)
        self._count(state, +1)
        order.state = state
        if state is OrderState.UNKNOWN:
            order.unknown_at = now
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
        elif state is OrderState.EXPIRED:
            self.n_expired += step

    def _remember(self, order: Order) -> None:
        self._ended.append(order.order_id)
        # Orders that owe lots are kept beyond the bound: their fills are still to come.
        while len(self._ended) > self._ended_max + len(self._owing):
            oldest = self._ended.popleft()
            if oldest in self._owing:
                self._ended.append(oldest)
            else:
                del self._orders[oldest]

    def __repr__(self) -> str:
        return (
            f"OrderTable(bids={self._bids}, asks={self._asks}, remembered={len(self._ended)},"
            f" placed={self.n_placed}, filled={self.n_filled}, cancelled={self.n_cancelled},"
            f" rejected={self.n_rejected}, expired={self.n_expired})"
        )
