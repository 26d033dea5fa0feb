"""The life of an own order: one table, state x input, and the order that walks it.

The table holds every race that a venue can really produce (RISK 5); a cell without a target is a
broken invariant of ours and raises. Not knowing is a state. While an amend is under way an
order has two prices and two sizes, and the worse of both counts.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from bot.domain.units import Side

# Former prices and sizes of an order that a late report may still speak of.
PAST_MAX: Final = 8


class OrderState(IntEnum):
    """Where an order stands, as far as the venue's words have reached us."""

    PENDING_NEW = 0
    LIVE = 1
    PARTIALLY_FILLED = 2
    PENDING_AMEND = 3
    PENDING_CANCEL = 4
    UNKNOWN = 5
    FILLED = 6
    CANCELLED = 7
    REJECTED = 8
    EXPIRED = 9


class OrderInput(IntEnum):
    """What can happen to an order; a fill is PARTIAL or FULL by its cumulative quantity."""

    OPENED = 0
    PARTIAL_FILL = 1
    FULL_FILL = 2
    AMEND_SENT = 3
    AMENDED = 4
    AMEND_REJECTED = 5
    CANCEL_SENT = 6
    CANCELLED = 7
    EXPIRED = 8
    CANCEL_REJECTED = 9
    REJECTED = 10
    OUTCOME_LOST = 11


class OrderFault(Exception):
    """What we believe about an own order is broken: cancel all and stop."""


class IllegalTransition(OrderFault):
    """The table has no cell for this state and input."""


NEW, LIVE, PART, PAMD, PCXL, UNKN, FULL, CXLD, REJD, EXPD = OrderState
____: Final = None  # illegal

# Rows are states, columns inputs, both in the order of their enums.
#
# PENDING_NEW       A fill or an end may overtake the ack. A cancel may be sent before the ack
#                   (kill sequence); it leaves this state for good, so that a CANCEL_REJECTED
#                   here answers a cancel that was never sent. No amend is sent before the ack.
# LIVE, PART        OPENED, AMENDED again: stream and REST reply both tell. CANCELLED unasked:
#                   an operator. CANCEL_REJECTED, AMEND_REJECTED: the answer to a request whose
#                   outcome was given up and then resolved as open. OUTCOME_LOST: the stream
#                   was faster than the timeout of the request, the venue's word stands.
#                   REJECTED contradicts the venue's own ack.
# PENDING_AMEND     All four ends of an amend: AMENDED, AMEND_REJECTED (the original lives),
#                   EXPIRED or CANCELLED (it would have crossed, or asked for no more than has
#                   traded), OUTCOME_LOST. A late ack or a fill says nothing of the amend. A
#                   second amend has to wait for the end of the first.
# PENDING_CANCEL    Counts as live until proof, also through a late ack, a fill or the end of an
#                   amend sent before. CANCEL_SENT again: sweeps repeat. REJECTED: the order
#                   was refused while its cancel travelled. CANCEL_REJECTED: it ended otherwise
#                   and the report of how is still under way, hence UNKNOWN.
# UNKNOWN           Any word of the venue about the order itself resolves it; with an amend
#                   under way only one that says where it rests or that it ended (`next_state`).
#                   A cancel sent, refused or lost says nothing new: the side stays blocked.
# FILLED            Ack after fill. Ends, refusals: a cancel, an amend or the venue's own
#                   expiry crossed the last fill. OUTCOME_LOST: the reply to such a request,
#                   or to the placement, is lost. A further fill is an overfill.
# CANCELLED         OPENED, AMENDED: reports of before, overtaken by the end. CANCELLED again:
#                   stream and REST reply both tell. A late fill is booked: the order stays
#                   CANCELLED, or becomes FILLED once its whole quantity has traded, which is
#                   the same end whatever the order of reports. CANCEL_REJECTED: the second of
#                   two cancels. EXPIRED is the more exact word, whichever comes first.
# REJECTED          REJECTED again: stream and REST reply both tell. CANCEL_REJECTED,
#                   OUTCOME_LOST: the end of a cancel sent before the refusal. EXPIRED: how some
#                   streams put it that a post-only order was refused. An ack or a fill means
#                   that an order lives which was believed never to have rested.
# EXPIRED           As CANCELLED; REJECTED as under REJECTED.
# fmt: off
TRANSITIONS: Final[tuple[tuple[OrderState | None, ...], ...]] = (
    #OPENED PARTIAL FULL  A_SENT AMENDED A_REJ C_SENT CANCELD EXPIRED C_REJ REJECTED LOST
    (LIVE,  PART,   FULL, ____,  ____,   ____, PCXL,  CXLD,   EXPD,   ____, REJD,    UNKN),  # NEW
    (LIVE,  PART,   FULL, PAMD,  LIVE,   LIVE, PCXL,  CXLD,   EXPD,   UNKN, ____,    LIVE),  # LIVE
    (PART,  PART,   FULL, PAMD,  PART,   PART, PCXL,  CXLD,   EXPD,   UNKN, ____,    PART),  # PART
    (PAMD,  PAMD,   FULL, ____,  LIVE,   LIVE, PCXL,  CXLD,   EXPD,   UNKN, ____,    UNKN),  # PAMD
    (PCXL,  PCXL,   FULL, ____,  PCXL,   PCXL, PCXL,  CXLD,   EXPD,   UNKN, REJD,    UNKN),  # PCXL
    (LIVE,  PART,   FULL, ____,  LIVE,   LIVE, UNKN,  CXLD,   EXPD,   UNKN, REJD,    UNKN),  # UNKN
    (FULL,  ____,   ____, ____,  FULL,   FULL, ____,  FULL,   FULL,   FULL, ____,    FULL),  # FULL
    (CXLD,  CXLD,   FULL, ____,  CXLD,   CXLD, ____,  CXLD,   EXPD,   CXLD, ____,    CXLD),  # CXLD
    (____,  ____,   ____, ____,  ____,   ____, ____,  ____,   REJD,   REJD, REJD,    REJD),  # REJD
    (EXPD,  EXPD,   FULL, ____,  EXPD,   EXPD, ____,  EXPD,   EXPD,   EXPD, REJD,    EXPD),  # EXPD
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
    lots: int  # the whole order, traded lots included
    level: int
    sent_at: int
    state: OrderState = OrderState.PENDING_NEW
    filled_lots: int = 0
    told_lots: int = 0  # the largest cumulative quantity that the venue stated
    amend_tick: int = 0  # what an amend under way asks for
    amend_lots: int = 0  # 0: no amend is under way
    amend_kept: int = 0  # of `amend_lots`, what had traded when the amend was sent
    kept_lots: int = 0  # the same of `lots`, once the amend was done
    cancel_sent_at: int = 0  # of the latest cancel
    unknown_at: int = 0  # since when the order is UNKNOWN
    ahead: float = 0.0
    opened_at: int = 0
    past: tuple[tuple[int, int], ...] = ()  # former (tick, lots), the latest last
    # A fill is known by (order, trade, side), and the order fixes the side.
    trade_ids: set[str] = field(default_factory=set)

    @property
    def amending(self) -> bool:
        """An amend was sent and nobody has said yet what became of it."""
        return self.amend_lots > 0

    @property
    def most_lots(self) -> int:
        """The whole order in the worse case of an amend under way."""
        return max(self.lots, self.amend_lots)

    @property
    def asked_tick(self) -> int:
        """Where the order is meant to rest: the price asked for last."""
        return self.amend_tick if self.amending else self.tick

    @property
    def asked_lots(self) -> int:
        """The size asked for last, without what had traded before."""
        if self.amending:
            return self.amend_lots - self.amend_kept
        return self.lots - self.kept_lots

    @property
    def remaining_lots(self) -> int:
        """Quantity that may still trade, at worst; of an ended order, what never will."""
        return self.most_lots - self.filled_lots

    @property
    def owed_lots(self) -> int:
        """Quantity that has traded by the venue's word and that no fill has told of yet."""
        return max(0, self.told_lots - self.filled_lots)

    @property
    def highest_tick(self) -> int:
        """The higher of the prices at which the order may rest."""
        return max(self.tick, self.amend_tick) if self.amending else self.tick

    @property
    def lowest_tick(self) -> int:
        """The lower of the prices at which the order may rest."""
        return min(self.tick, self.amend_tick) if self.amending else self.tick

    @property
    def limit_tick(self) -> int:
        """The worst price at which a fill told of now may have happened.

        A report of an amend may overtake that of a fill before it.
        """
        if self.side is Side.BUY:
            return max(self.highest_tick, max((tick for tick, _ in self.past), default=0))
        return min(self.lowest_tick, min((tick for tick, _ in self.past), default=self.tick))

    @property
    def working(self) -> bool:
        """The order may still trade: live, pending or unknown."""
        return self.state < OrderState.FILLED

    @property
    def resting(self) -> bool:
        """The order stands in the venue's book and nobody has asked to take it out."""
        return OrderState.LIVE <= self.state <= OrderState.PENDING_AMEND

    def rests_at(self, tick: int, lots: int) -> None:
        """Price and whole size by the venue's word; the former ones stay known for a while."""
        if (tick, lots) != (self.tick, self.lots):
            self.past = (*self.past, (self.tick, self.lots))[-PAST_MAX:]
            self.tick, self.lots = tick, lots

    def __repr__(self) -> str:
        amend = f" -> {self.amend_lots}@{self.amend_tick}" if self.amending else ""
        return (
            f"Order({self.order_id} {self.side.name} {self.filled_lots}/{self.lots}"
            f" @{self.tick}{amend} level={self.level} {self.state.name})"
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
    says_not_where = what in (OrderInput.OPENED, OrderInput.PARTIAL_FILL)
    if order.state is OrderState.UNKNOWN and order.amending and says_not_where:
        return OrderState.UNKNOWN  # it rests, at one price or the other
    if state is OrderState.LIVE and order.filled_lots > 0:
        # Resolved as open after fills that an UNKNOWN spell or an amend has hidden from the table.
        return OrderState.PARTIALLY_FILLED
    return state
