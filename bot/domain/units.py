"""Units and their names.

Inside the bot a price is an integer number of ticks, an own quantity an integer
number of lots, a time an integer number of nanoseconds since the epoch. Displayed
quantities and signals are float64. Money in the ledger is `Decimal`.
"""

from enum import IntEnum
from typing import Final

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
MINUTE_NS: Final = 60 * NS_PER_S
DAY_NS: Final = 86_400 * NS_PER_S
BPS: Final = 1e-4


class Side(IntEnum):
    """Side of an order or of a trade's aggressor; the value is its sign."""

    BUY = 1
    SELL = -1
