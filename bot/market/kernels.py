"""What the book learns from a row: levels, the touch of the ticker over them, trust, fair price.

Kernels that Python calls at message rate take the book's memory as bytes and view it as the
record: numba needs four times as long to recognise a record's type.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bot.domain.tape import BOOK_CHANGED, BOOK_LOST, BOOK_RESET, NOTHING, TOUCH_CHANGED, TRADED
from bot.market.levels import BLOCK, BOOK, WINDOW, clear, level_qty_at, put_side, recentre

TICKER_APART_PARTS: Final = 20  # a ticker one part in so many from the book is not believed
ENVELOPE_NS_PER_NS: Final = 20_000  # the lag envelope rises 1 ns in so many: 50 ppm of drift
ENVELOPE_NONE: Final = 1 << 62

# Flags that `learn_row` returns: what a decision may depend on.
MOVED: Final = 1  # fair price left the band that the engine set
TRUST: Final = 2  # the book became trusted or stopped being so

# Values of `distrust`: TRUSTED, or why the book must not be quoted from.
TRUSTED: Final = 0
UNSYNCED: Final = 1
CROSSED: Final = 2
ONE_SIDED: Final = 3
TICKER_DISAGREES: Final = 4
OVERFLOW: Final = 5
LOST: Final = 100  # + LOST_* of the tape

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def set_touch(book: Array) -> None:
    """Set the fused touch: the ticker overrides the depth while it is newer (VENUES 2)."""
    h = book[0]
    if h["overlay"] == 1:
        h["bid"] = h["ticker_bid"]
        h["ask"] = h["ticker_ask"]
        h["bid_qty"] = h["ticker_bid_qty"]
        h["ask_qty"] = h["ticker_ask_qty"]
    else:
        h["bid"] = h["best_bid"]
        h["ask"] = h["best_ask"]
        if h["bid"] != 0 and h["ask"] != 0:
            h["bid_qty"] = level_qty_at(book, 0, h["best_bid"])
            h["ask_qty"] = level_qty_at(book, 1, h["best_ask"])


@njit(cache=True, nogil=True)
def set_fair(book: Array) -> None:
    """Set the fair price from the fused touch; a touch that lacks a side leaves it."""
    h = book[0]
    if h["bid"] != 0 and h["ask"] != 0 and h["bid_qty"] + h["ask_qty"] > 0.0:
        mid = 0.5 * (h["bid"] + h["ask"])
        weighted = (h["bid"] * h["ask_qty"] + h["ask"] * h["bid_qty"]) / (
            h["bid_qty"] + h["ask_qty"]
        )
        h["fair"] = mid + h["fair_weight"] * (weighted - mid)


@njit(cache=True, nogil=True)
def judge(book: Array, ticker_disagrees: bool) -> int:
    """Why the synced book must not be quoted from; TRUSTED when nothing speaks against it."""
    h = book[0]
    if ticker_disagrees:
        return TICKER_DISAGREES
    if h["far_full"] == 1:
        return OVERFLOW
    if h["best_bid"] == 0 or h["best_ask"] == 0:
        return ONE_SIDED
    if h["best_bid"] >= h["best_ask"]:
        return CROSSED
    return TRUSTED


@njit(cache=True, nogil=True)
def stamp(book: Array, recv: int, exch: int) -> None:
    """Track feed lag against a lower envelope that may rise by at most 50 ppm."""
    h = book[0]
    if recv > h["recv"]:
        h["recv"] = recv
    if exch == 0:
        return
    lag = recv - exch
    if h["envelope"] == ENVELOPE_NONE:
        h["envelope"] = lag
        h["envelope_recv"] = recv
    else:
        rise = (recv - h["envelope_recv"]) // ENVELOPE_NS_PER_NS
        if rise > 0:
            # Only whole nanoseconds are used up, or a busy feed would round every rise away.
            h["envelope"] += rise
            h["envelope_recv"] += rise * ENVELOPE_NS_PER_NS
        if lag < h["envelope"]:
            h["envelope"] = lag
            h["envelope_recv"] = recv
    h["age"] = lag - h["envelope"]


@njit(cache=True, nogil=True)
def ticker_differs(book: Array) -> bool:
    """Whether the ticker states another touch than the depth book at the same update id."""
    h = book[0]
    if h["ticker_id"] != h["book_id"] or h["ticker_bid"] == 0:
        return False
    return bool(
        h["ticker_bid"] != h["best_bid"]
        or h["ticker_ask"] != h["best_ask"]
        or h["ticker_bid_qty"] != level_qty_at(book, 0, h["best_bid"])
        or h["ticker_ask_qty"] != level_qty_at(book, 1, h["best_ask"])
    )


@njit(cache=True, nogil=True)
def ticker_is_far(book: Array) -> bool:
    """Whether a ticker newer than the depth is a twentieth away from it: that is no market."""
    h = book[0]
    if h["overlay"] != 1 or h["ticker_bid"] == 0 or h["best_bid"] == 0 or h["best_ask"] == 0:
        return False
    doubled = h["best_bid"] + h["best_ask"]
    apart = h["ticker_bid"] + h["ticker_ask"] - doubled
    return bool(abs(apart) * TICKER_APART_PARTS > doubled)


@njit(cache=True, nogil=True)
def apply_levels(book: Array, rows: Array, i: int, level_tick: Array, level_qty: Array) -> None:
    """Write a row's levels into the book."""
    lo = rows[i]["lo"]
    middle = lo + rows[i]["n_bid"]
    put_side(book, 0, level_tick, level_qty, lo, middle)
    put_side(book, 1, level_tick, level_qty, middle, middle + rows[i]["n_ask"])
    h = book[0]
    h["book_id"] = rows[i]["last_id"]
    h["depth_recv"] = rows[i]["recv"]
    h["depth_matched"] = rows[i]["matched"]
    if h["ticker_id"] <= h["book_id"]:
        h["overlay"] = 0
    edge = h["best_bid"] - h["base"]
    low = edge < WINDOW // 4 and h["base"] > 0
    if h["best_bid"] != 0 and (low or edge > WINDOW * 3 // 4):
        recentre(book, h["best_bid"])


@njit(cache=True, nogil=True)
def reset_book(book: Array, rows: Array, i: int, level_tick: Array, level_qty: Array) -> None:
    """Replace the whole book by a row's levels."""
    clear(book)
    if rows[i]["n_bid"] > 0:
        recentre(book, level_tick[rows[i]["lo"]])
    book[0]["synced"] = 1
    apply_levels(book, rows, i, level_tick, level_qty)


@njit(cache=True, nogil=True)
def put_ticker(book: Array, rows: Array, i: int) -> bool:
    """Take a ticker's touch if it is news; whether the book has to look at it."""
    h = book[0]
    if rows[i]["last_id"] <= h["ticker_id"] or rows[i]["bid"] >= rows[i]["ask"]:
        return False
    h["ticker_id"] = rows[i]["last_id"]
    h["ticker_bid"] = rows[i]["bid"]
    h["ticker_ask"] = rows[i]["ask"]
    h["ticker_bid_qty"] = rows[i]["bid_qty"]
    h["ticker_ask_qty"] = rows[i]["ask_qty"]
    if h["synced"] == 0 or h["ticker_id"] < h["book_id"]:
        return False
    if h["ticker_id"] > h["book_id"]:
        h["overlay"] = 1
    return True


@njit(cache=True, nogil=True)
def learn_row(book: Array, rows: Array, i: int, level_tick: Array, level_qty: Array) -> int:
    """Learn one row of the tape; returns MOVED and TRUST flags, 0 when nobody need decide."""
    kind = rows[i]["kind"]
    h = book[0]
    was = h["distrust"]
    if kind == NOTHING:
        return 0
    stamp(book, rows[i]["recv"], rows[i]["exch"])
    if kind == TRADED:
        return 0
    if kind == TOUCH_CHANGED:
        if not put_ticker(book, rows, i):
            return 0
    elif kind == BOOK_RESET:
        reset_book(book, rows, i, level_tick, level_qty)
    elif kind == BOOK_CHANGED and h["synced"] == 1:
        apply_levels(book, rows, i, level_tick, level_qty)
    elif kind == BOOK_LOST:
        h["synced"] = 0
        h["overlay"] = 0
        h["ticker_id"] = 0
    else:
        return 0
    if h["synced"] == 1:
        set_touch(book)
        set_fair(book)
        # A disagreement stays until a reset: later agreement does not prove the levels between.
        stays = was == TICKER_DISAGREES and kind != BOOK_RESET
        now = judge(book, stays or ticker_differs(book) or ticker_is_far(book))
    else:
        now = LOST + rows[i]["side"]
    if now != was:
        h["distrust"] = now
        h["since"] = rows[i]["recv"]
        return TRUST
    if now == TRUSTED and (h["fair"] < h["wake_low"] or h["fair"] > h["wake_high"]):
        return MOVED
    return 0


@njit(cache=True, nogil=True)
def depth_within(memory: Array, bps: float, out: Array) -> None:
    """out[0], out[1] = sum of tick x quantity of bids and asks within `bps` of the mid.

    Levels that the newer ticker says are gone are masked, and its own quantities stand at
    its touch. Levels outside the window (more than WINDOW/4 ticks away) are not counted.
    """
    h = memory.view(BOOK)[0]
    qty = h["qty"]
    count = h["count"]
    base = h["base"]
    mid = 0.5 * (h["bid"] + h["ask"])
    low = max(np.int64(np.ceil(mid * (1.0 - bps * 1e-4))) - base, 0)
    high = min(np.int64(np.floor(mid * (1.0 + bps * 1e-4))) - base, WINDOW - 1)
    total = 0.0
    index = h["bid"] - base
    if h["overlay"] == 1:
        if index >= low:
            total = h["bid"] * h["bid_qty"]
        index -= 1
    while index >= low:
        if count[0, index // BLOCK] == 0:
            index = index // BLOCK * BLOCK - 1
            continue
        total += (base + index) * qty[0, index]
        index -= 1
    out[0] = total
    total = 0.0
    index = h["ask"] - base
    if h["overlay"] == 1:
        if index <= high:
            total = h["ask"] * h["ask_qty"]
        index += 1
    while index <= high:
        if count[1, index // BLOCK] == 0:
            index = (index // BLOCK + 1) * BLOCK
            continue
        total += (base + index) * qty[1, index]
        index += 1
    out[1] = total


@njit(cache=True, nogil=True)
def quantity_at(memory: Array, side: int, tick: int) -> float:
    """`level_qty_at` for Python."""
    return float(level_qty_at(memory.view(BOOK), side, tick))
