"""What is traded: the filters of one symbol on one venue."""

from decimal import Decimal

import msgspec


class Fees(msgspec.Struct, frozen=True):
    """Fee rates as fractions of notional; a negative maker rate is a rebate."""

    maker: Decimal
    taker: Decimal


class Instrument(msgspec.Struct, frozen=True):
    """One symbol's filters.

    `tick` and `lot` are the exact price and quantity steps; `min_qty_lots` and
    `min_notional` bound an order from below; `linear` is false for contracts whose
    PnL is paid in the base currency.
    """

    venue: str
    symbol: str
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    min_qty_lots: int = 1
    min_notional: Decimal = Decimal(0)
    linear: bool = True

    def price(self, ticks: int) -> Decimal:
        """Exact price of a whole number of ticks, in quote currency."""
        return self.tick * ticks

    def quantity(self, lots: int) -> Decimal:
        """Exact quantity of a whole number of lots, in base currency."""
        return self.lot * lots
