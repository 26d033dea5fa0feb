"""What the engine holds to be true, for those who compare it with the venue's word."""

from collections.abc import Sequence
from decimal import Decimal

from bot.core.engine import Engine
from bot.core.fillkeys import FillKey
from bot.core.orders import Order
from bot.domain.units import Side


class Beliefs:
    """One engine, read only."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def position_lots(self) -> int:
        """The position."""
        return self._engine.ledger.position_lots

    @property
    def base_fees(self) -> Decimal:
        """Fees paid in base currency: they have left the balance without being a trade."""
        return self._engine.ledger.base_fees

    @property
    def filled_at(self) -> int:
        """Time of the latest fill, ns; 0 before the first."""
        return self._engine.ledger.last_fill_at

    @property
    def tick2(self) -> int:
        """Twice the mid in ticks, as last trusted; 0 before."""
        return self._engine.touch

    def working(self) -> Sequence[Order]:
        """Orders that may still trade."""
        orders = self._engine.orders
        return [*orders.working(Side.BUY), *orders.working(Side.SELL)]

    def owed(self) -> Sequence[str]:
        """Orders that have traded more than their fills have told."""
        return self._engine.orders.owed()

    def knows_order(self, order_id: str) -> bool:
        """Whether the order works or is remembered."""
        return self._engine.orders.knows(order_id)

    def knows_fill(self, key: FillKey) -> bool:
        """Whether an execution (order, trade, side) was learned."""
        return self._engine.fill_keys.knows(*key)

    def __repr__(self) -> str:
        return f"<Beliefs of {self._engine!r}>"
