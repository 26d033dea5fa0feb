"""Pre-trade checks: the last word on an order before it leaves the core (RISK 6)."""

from collections.abc import Sequence
from enum import Enum

from bot.core.orders import Order, OrderTable
from bot.domain.decisions import Place
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
        refusal = self._refusal(place, orders, position_lots, fair, best_bid, best_ask)
        if refusal is not None:
            self.refused[refusal] += 1
        return refusal

    def _refusal(
        self,
        place: Place,
        orders: OrderTable,
        position_lots: int,
        fair: float,
        best_bid: int,
        best_ask: int,
    ) -> Refusal | None:
        risk = self._risk
        side, tick = place.side, place.tick
        if not 0 < place.lots <= risk.max_order_lots:
            return Refusal.ORDER_SIZE
        if abs(tick - fair) > risk.collar_bps * BPS * fair:
            return Refusal.COLLAR
        if tick >= best_ask if side is Side.BUY else tick <= best_bid:
            return Refusal.WOULD_TAKE
        if orders.blocked(side):
            return Refusal.UNKNOWN_ORDER
        if len(orders.working(side)) >= risk.max_open_orders_per_side:
            return Refusal.OPEN_ORDERS
        exposure = orders.exposure_lots(side) + place.lots
        if side * position_lots + exposure > risk.max_position_lots:
            return Refusal.POSITION
        if self._crosses(place, orders.working(Side(-side))):
            return Refusal.SELF_CROSS
        return None

    @staticmethod
    def _crosses(place: Place, others: Sequence[Order]) -> bool:
        if place.side is Side.BUY:
            return any(order.tick <= place.tick for order in others)
        return any(order.tick >= place.tick for order in others)

    def __repr__(self) -> str:
        counts = {refusal.value: n for refusal, n in self.refused.items() if n}
        return f"<Gate refused={counts}>"
