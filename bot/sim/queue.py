"""Where a resting order stands in somebody else's L2 book (MODEL 10).

A slot per resting order: `front` is the displayed quantity ahead of it, `traded` what
traded at its level since the last depth update, `shown` the level's displayed quantity at
that update. Quantities are floats in base currency; sides are 0 for bids and 1 for asks.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bot.domain.tape import BOOK_CHANGED, BOOK_RESET, TOUCH_CHANGED, TRADED
from bot.market.kernels import TRUSTED
from bot.market.levels import level_qty_at

RISK_AVERSE: Final = 0
POWER1: Final = 1
POWER2: Final = 2
POWER3: Final = 3
LOG1: Final = 4
LOG2: Final = 5

FILLED: Final = 4  # flag beside the book's MOVED and TRUST
SLOTS: Final = 64

SLOT: Final = np.dtype(
    [
        ("active", np.int64),
        ("side", np.int64),
        ("tick", np.int64),
        ("front", np.float64),
        ("traded", np.float64),
        ("shown", np.float64),
        ("remaining", np.float64),
        ("filled", np.float64),  # executed and not yet reported
        ("late", np.float64),  # depth decrease that a late trade may still explain
        ("late_moved", np.float64),  # how much of it has moved `front` already
        ("since", np.int64),  # matching time of the book that the order joined
    ]
)

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def chance_behind(front: float, back: float, model: int, n: float) -> float:
    """Probability that a decrease happened behind us, for `back` displayed behind `front`."""
    if back <= 0.0:
        return 0.0
    if model == POWER1:
        return float(back**n / (back**n + front**n))
    if model == POWER2:
        return float(back**n / (back + front) ** n)
    if model == POWER3:
        return float(1.0 - (front / (front + back)) ** n)
    if model == LOG1:
        return float(np.log1p(back) / (np.log1p(back) + np.log1p(front)))
    return float(np.log1p(back) / np.log1p(back + front))


@njit(cache=True, nogil=True)
def front_after_depth(
    front: float, traded: float, shown: float, now_shown: float, model: int, n: float
) -> float:
    """Quantity ahead after the level went from `shown` to `now_shown` (MODEL 10)."""
    change = shown - now_shown - traded
    if model == RISK_AVERSE or change < 0.0:
        return min(front, now_shown)
    back = shown - front
    behind = chance_behind(front, back, model, n)
    moved = front - (1.0 - behind) * change + min(back - behind * change, 0.0)
    return min(moved, now_shown)


@njit(cache=True, nogil=True)
def trade_at_level(slot: Array, quantity: float, is_late: bool) -> float:
    """A trade at our price by the opposite aggressor; returns what it executes of us.

    A late trade's quantity left the displayed level with an earlier depth update: as much
    of it as has moved us then does not move us twice.
    """
    s = slot[0]
    known = min(quantity, s["late"]) if is_late else 0.0
    moved = min(known, s["late_moved"])
    s["late"] -= known
    s["late_moved"] -= moved
    s["front"] -= quantity - moved
    s["traded"] += quantity - known
    if s["front"] >= 0.0:
        return 0.0
    fill = min(-s["front"], s["remaining"])
    s["front"] = 0.0
    return float(fill)


@njit(cache=True, nogil=True)
def fill_slot(slot: Array, quantity: float) -> None:
    """Execute `quantity` of the slot's order."""
    slot[0]["filled"] += quantity
    slot[0]["remaining"] -= quantity


@njit(cache=True, nogil=True)
def observe_trade(book: Array, row: Array, slots: Array, n: int) -> int:
    """Let a trade reach the slots: through a level it fills, at a level it moves the queue."""
    flags = 0
    price = row[0]["bid"]
    quantity = row[0]["bid_qty"]
    is_late = row[0]["matched"] <= book[0]["depth_matched"]
    # A print strictly inside the displayed spread met hidden or improving orders only: it
    # is not flow that the displayed book, and we in it, could have met.
    inside = book[0]["bid"] < price < book[0]["ask"]
    passive = 0 if row[0]["side"] < 0 else 1
    for j in range(n):
        slot = slots[j : j + 1]
        s = slot[0]
        if s["active"] == 0 or s["remaining"] <= 0.0:
            continue
        if not is_late:
            s["late"] = 0.0
            s["late_moved"] = 0.0
        # A trade that the joined book shows already happened before our order was there.
        if s["side"] != passive or row[0]["matched"] <= s["since"]:
            continue
        through = price < s["tick"] if passive == 0 else price > s["tick"]
        if through:
            fill_slot(slot, s["remaining"])
            flags = FILLED
        elif price == s["tick"] and not inside:
            fill = trade_at_level(slot, quantity, is_late)
            if fill > 0.0:
                quantity -= fill
                fill_slot(slot, fill)
                flags = FILLED
            if quantity <= 0.0:
                break
    return flags


@njit(cache=True, nogil=True)
def observe_depth(
    book: Array,
    kind: int,
    slots: Array,
    n: int,
    model: int,
    power: float,
) -> int:
    """Let a depth update or a new touch reach the slots; a crossed slot fills at its price."""
    flags = 0
    for j in range(n):
        s = slots[j]
        if s["active"] == 0 or s["remaining"] <= 0.0:
            continue
        if kind != TOUCH_CHANGED:
            shown = level_qty_at(book, s["side"], s["tick"])
            before = s["front"]
            unexplained = s["shown"] - shown - s["traded"]
            s["front"] = max(
                front_after_depth(before, s["traded"], s["shown"], shown, model, power), 0.0
            )
            if unexplained > 0.0:
                s["late"] += unexplained
                s["late_moved"] += before - s["front"]
            s["shown"] = shown
            s["traded"] = 0.0
        if book[0]["distrust"] == TRUSTED:
            crossed = book[0]["ask"] <= s["tick"] if s["side"] == 0 else book[0]["bid"] >= s["tick"]
            if crossed:
                fill_slot(slots[j : j + 1], s["remaining"])
                flags = FILLED
    return flags


@njit(cache=True, nogil=True)
def observe_row(
    book: Array,
    rows: Array,
    i: int,
    slots: Array,
    n: int,
    model: int,
    power: float,
) -> int:
    """Let row `i`, which the book has learned already, reach the first `n` slots."""
    if n == 0:
        return 0
    kind = rows[i]["kind"]
    if kind == TRADED:
        return int(observe_trade(book, rows[i : i + 1], slots, n))
    if kind in (BOOK_CHANGED, BOOK_RESET, TOUCH_CHANGED) and book[0]["synced"] == 1:
        return int(observe_depth(book, kind, slots, n, model, power))
    return 0
