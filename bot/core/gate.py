"""Pre-trade checks: the last word on an order before it leaves the core (RISK 6)."""

from collections.abc import Sequence
from enum import Enum

from bot.core.orders import Order, OrderTable
from bot.domain.decisions import Amend, Place
from bot.domain.params import RiskParams
from bot.domain.units import BPS, Side


class Refusal(Enum):
    """Why an order was refused; `Gate.refused` counts them."""

    ORDER_SIZE = "order_size"
    COLLAR = "collar"  # too far from the fair price
    POSITION = "position"  # in the worst case of all that may fill
    OPEN_ORDERS = "open_orders"
    UNKNOWN_ORDER = "unknown_order"  # the side is blocked until the venue's word
    SELF_CROSS = "self_cross"
    WOULD_TAKE = "would_take"


class Gate:
    """Approves or refuses one order at a time against the table as it is then."""

    __slots__ = ("_risk", "refused")

    def __init__(self, risk: RiskParams) -> None:
        self._risk = risk
        self.refused: dict[Refusal, int] = dict.fromkeys(Refusal, 0)

    def tighten(self, risk: RiskParams) -> None:
        """Judge by these limits from now on; which of them may change is the caller's."""
        self._risk = risk

    def check(
        self,
        place: Place,
        orders: OrderTable,
        position_lots: int,
        *,
        fair: float,
        best_bid: int,
        best_ask: int,
    ) -> Refusal | None:
        """None approves. Prices in ticks, the touch as the quote was computed from."""
        side = place.side
        refusal = self._price(place, place.lots, fair, best_bid, best_ask)
        if refusal is None and orders.blocked(side):
            refusal = Refusal.UNKNOWN_ORDER
        if refusal is None and len(orders.working(side)) >= self._risk.max_open_orders_per_side:
            refusal = Refusal.OPEN_ORDERS
        if refusal is None:
            exposure = orders.exposure_lots(side) + place.lots
            refusal = self._exposure(place, orders, position_lots, exposure)
        return self._counted(refusal)

    def check_amend(
        self,
        amend: Amend,
        order: Order,
        orders: OrderTable,
        position_lots: int,
        *,
        fair: float,
        best_bid: int,
        best_ask: int,
    ) -> Refusal | None:
        """None approves `amend` of `order`, which is in the table as it is now.

        The order counts with the worse of what it is and what it would be: until the venue's
        word nobody knows which. What it may trade from now on has to be an order's size.
        """
        assert order.order_id == amend.order_id, f"{amend} of {order}"
        rest = amend.lots - max(order.filled_lots, order.told_lots)
        refusal = self._price(amend, rest, fair, best_bid, best_ask)
        if refusal is None and orders.blocked(amend.side):
            refusal = Refusal.UNKNOWN_ORDER
        if refusal is None:
            others = orders.exposure_lots(amend.side) - order.remaining_lots
            exposure = others + max(order.remaining_lots, amend.lots - order.filled_lots)
            refusal = self._exposure(amend, orders, position_lots, exposure)
        return self._counted(refusal)

    def _counted(self, refusal: Refusal | None) -> Refusal | None:
        if refusal is not None:
            self.refused[refusal] += 1
        return refusal

    def _price(
        self, asked: Place | Amend, lots: int, fair: float, best_bid: int, best_ask: int
    ) -> Refusal | None:
        risk, side, tick = self._risk, asked.side, asked.tick
        if not 0 < lots <= risk.max_order_lots:
            return Refusal.ORDER_SIZE
        if abs(tick - fair) > risk.collar_bps * BPS * fair:
            return Refusal.COLLAR
        if tick >= best_ask if side is Side.BUY else tick <= best_bid:
            return Refusal.WOULD_TAKE
        return None

    def _exposure(
        self, asked: Place | Amend, orders: OrderTable, position_lots: int, exposure: int
    ) -> Refusal | None:
        if asked.side * position_lots + exposure > self._risk.max_position_lots:
            return Refusal.POSITION
        if self._crosses(asked, orders.working(Side(-asked.side))):
            return Refusal.SELF_CROSS
        return None

    @staticmethod
    def _crosses(asked: Place | Amend, others: Sequence[Order]) -> bool:
        """Whether an own order of the other side may rest at or beyond the price asked for."""
        if asked.side is Side.BUY:
            return any(order.lowest_tick <= asked.tick for order in others)
        return any(order.highest_tick >= asked.tick for order in others)

    def __repr__(self) -> str:
        counts = {refusal.value: n for refusal, n in self.refused.items() if n}
        return f"<Gate refused={counts}>"
