"""Exact numbers of Binance's JSON: decimal text to ticks and lots and back. Pure.

Every number that matters comes as a string. Fifteen digits before the point and ten behind
it are exact in the 28 digits that decimal arithmetic carries.
"""

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from bot.domain.units import Side

_DECIMAL: Final = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,10})?")


def decimal_of(text: str) -> Decimal:
    """A finite number written plainly; raises ValueError for anything else."""
    if _DECIMAL.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no number")
    return Decimal(text)


def steps(text: str, step: Decimal) -> int:
    """How many whole `step`s a price or quantity is.

    Raises ValueError for a negative one and for one between two steps.
    """
    value = decimal_of(text)
    count = int(value / step)
    if value < 0 or step * count != value:
        raise ValueError(f"{text} is no whole number of {step}")
    return count


def nearest_step(text: str, step: Decimal) -> int:
    """The nearest whole number of steps, for a price that the venue did not take from its grid."""
    value = decimal_of(text)
    if value < 0:
        raise ValueError(f"{text} is negative")
    return int((value / step).quantize(Decimal(1), ROUND_HALF_UP))


def plain(value: Decimal) -> str:
    """Decimal text without exponent and without needless zeros.

    The venue counts decimals, zeros included, against a symbol's precision (-1111).
    """
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def side_of(text: str) -> Side:
    """BUY or SELL; raises ValueError."""
    try:
        return Side[text]
    except KeyError:
        raise ValueError(f"{text!r} is no side") from None
