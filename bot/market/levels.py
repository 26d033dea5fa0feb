"""Where the levels of a book live: a dense window of ticks and a far table, in one record.

Prices are ticks, displayed quantities float64 and absolute. Levels near the market live in
`qty[side, tick - base]`, side 0 for bids and 1 for asks; `count` says per block of ticks how
many of its levels are occupied, so that scans skip empty stretches. Levels outside the
window live in a hash table (`far_key`, `far_qty`) until the window moves over them.

Everything is plain Python that numba compiles: NUMBA_DISABLE_JIT=1 runs the same code.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

WINDOW: Final = 1 << 18
BLOCK: Final = 64
FAR_SLOTS: Final = 1 << 16
FAR_LIVE_MAX: Final = FAR_SLOTS // 2
FAR_TICK_MAX: Final = 1 << 60

HEAD: Final = np.dtype(
    [
        ("base", np.int64),  # tick of the window's first level
        ("best_bid", np.int64),  # ticks, 0 = no bid; from depth alone
        ("best_ask", np.int64),  # ticks, 0 = no ask; from depth alone
        ("book_id", np.int64),  # last update id applied
        ("synced", np.int64),  # 1 between BOOK_RESET and BOOK_LOST
        ("distrust", np.int64),  # TRUSTED or why not
        ("since", np.int64),  # receive time of the last change of `distrust`, ns
        ("far_n", np.int64),  # used slots of the far table
        ("far_full", np.int64),
        ("ticker_id", np.int64),  # update id of the ticker's touch
        ("ticker_bid", np.int64),
        ("ticker_ask", np.int64),
        ("ticker_bid_qty", np.float64),
        ("ticker_ask_qty", np.float64),
        ("overlay", np.int64),  # 1 while the ticker is newer than the depth
        ("bid", np.int64),  # fused touch
        ("ask", np.int64),
        ("bid_qty", np.float64),
        ("ask_qty", np.float64),
        ("recv", np.int64),  # receive time of the last row of any stream
        ("depth_recv", np.int64),  # of the last row that changed the book
        ("depth_matched", np.int64),  # matching time of that row
        ("envelope", np.int64),  # lower envelope of recv - exch, ns
        ("envelope_recv", np.int64),
        ("age", np.int64),  # (recv - exch) - envelope of the last stamped row, ns
        ("fair", np.float64),  # ticks
        ("fair_weight", np.float64),  # 0 = mid, 1 = quantity-weighted mid
        ("wake_low", np.float64),  # MOVED when fair leaves [wake_low, wake_high]
        ("wake_high", np.float64),
    ]
)

# One record is the whole book: the scalars of HEAD, then the arrays that the module explains.
BOOK: Final = np.dtype(
    [
        *((name, HEAD[name]) for name in HEAD.names or ()),
        ("qty", np.float64, (2, WINDOW)),
        ("count", np.int32, (2, WINDOW // BLOCK)),
        ("far_key", np.int64, (FAR_SLOTS,)),
        ("far_qty", np.float64, (FAR_SLOTS,)),
    ]
)

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def near_put(book: Array, side: int, index: int, q: float) -> None:
    """Store an absolute quantity in the window and keep its block's count of levels."""
    h = book[0]
    old = h["qty"][side, index]
    h["qty"][side, index] = q
    if old == 0.0 and q != 0.0:
        h["count"][side, index // BLOCK] += 1
    elif old != 0.0 and q == 0.0:
        h["count"][side, index // BLOCK] -= 1


@njit(cache=True, nogil=True)
def far_put(book: Array, side: int, tick: int, q: float) -> None:
    """Store an absolute quantity outside the window; 0 keeps the slot until the next rebuild.

    A full table stores nothing more: the book is distrusted until it is reset.
    """
    h = book[0]
    if h["far_full"] == 1:
        return
    far_key = h["far_key"]
    key = tick * 2 + side + 1
    slot = key & (FAR_SLOTS - 1)
    while far_key[slot] != 0 and far_key[slot] != key:
        slot = (slot + 1) & (FAR_SLOTS - 1)
    if far_key[slot] == 0:
        if q == 0.0:
            return
        if h["far_n"] >= FAR_SLOTS - 1:
            h["far_full"] = 1  # a free slot must stay, or a search would not end
            return
        far_key[slot] = key
        h["far_n"] += 1
    h["far_qty"][slot] = q


@njit(cache=True, nogil=True)
def far_rebuild(book: Array) -> None:
    """Drop the far table's dead slots and move the levels that the window covers into it."""
    h = book[0]
    keys = h["far_key"].copy()
    qtys = h["far_qty"].copy()
    h["far_key"][:] = 0
    h["far_n"] = 0
    live = 0
    for slot in range(FAR_SLOTS):
        if keys[slot] == 0 or qtys[slot] == 0.0:
            continue
        side = (keys[slot] - 1) & 1
        tick = (keys[slot] - 1) >> 1
        index = tick - h["base"]
        if 0 <= index < WINDOW:
            near_put(book, side, index, qtys[slot])
        else:
            live += 1
            far_put(book, side, tick, qtys[slot])
    if live > FAR_LIVE_MAX:
        h["far_full"] = 1


@njit(cache=True, nogil=True)
def recentre(book: Array, tick: int) -> None:
    """Move the window so that `tick` is in its middle; no level is lost."""
    h = book[0]
    qty = h["qty"]
    count = h["count"]
    for side in range(2):
        for block in range(WINDOW // BLOCK):
            if count[side, block] == 0:
                continue
            for index in range(block * BLOCK, (block + 1) * BLOCK):
                if qty[side, index] != 0.0:
                    far_put(book, side, h["base"] + index, qty[side, index])
                    qty[side, index] = 0.0
            count[side, block] = 0
    base = tick - WINDOW // 2
    h["base"] = base if base > 0 else 0
    far_rebuild(book)


@njit(cache=True, nogil=True)
def far_best(book: Array, side: int, low: int, high: int) -> int:
    """The far table's highest bid or lowest ask within [low, high]; 0 when there is none."""
    far_key = book[0]["far_key"]
    far_qty = book[0]["far_qty"]
    best = 0
    for slot in range(FAR_SLOTS):
        if far_key[slot] == 0 or (far_key[slot] - 1) & 1 != side or far_qty[slot] == 0.0:
            continue
        tick = (far_key[slot] - 1) >> 1
        if low <= tick <= high and (best == 0 or (tick > best) == (side == 0)):
            best = tick
    return int(best)


@njit(cache=True, nogil=True)
def best_below(book: Array, tick: int) -> int:
    """Highest bid at or below `tick`; 0 when there is none."""
    base = book[0]["base"]
    qty = book[0]["qty"]
    count = book[0]["count"]
    index = tick - base
    if index >= WINDOW:
        above = far_best(book, 0, base + WINDOW, tick)
        if above != 0:
            return int(above)
        index = WINDOW - 1
    while index >= 0:
        if count[0, index // BLOCK] == 0:
            index = index // BLOCK * BLOCK - 1
            continue
        if qty[0, index] != 0.0:
            return int(base + index)
        index -= 1
    return int(far_best(book, 0, 0, tick))


@njit(cache=True, nogil=True)
def best_above(book: Array, tick: int) -> int:
    """Lowest ask at or above `tick`; 0 when there is none."""
    base = book[0]["base"]
    qty = book[0]["qty"]
    count = book[0]["count"]
    index = tick - base
    if index < 0:
        below = far_best(book, 1, tick, base - 1)
        if below != 0:
            return int(below)
        index = 0
    while index < WINDOW:
        if count[1, index // BLOCK] == 0:
            index = (index // BLOCK + 1) * BLOCK
            continue
        if qty[1, index] != 0.0:
            return int(base + index)
        index += 1
    return int(far_best(book, 1, tick, FAR_TICK_MAX))


@njit(cache=True, nogil=True)
def put_level(book: Array, side: int, tick: int, q: float) -> None:
    """Set one level to an absolute quantity and keep the best prices; 0 removes."""
    h = book[0]
    best = h["best_bid"] if side == 0 else h["best_ask"]
    improves = best == 0 or (tick > best if side == 0 else tick < best)
    index = tick - h["base"]
    inside = 0 <= index < WINDOW
    if not inside and q != 0.0 and improves and (best != 0 or side == 0):
        # The touch itself left the window: scans start from it, so the window follows.
        recentre(book, tick)
        index = tick - h["base"]
        inside = True
    if inside:
        near_put(book, side, index, q)
    else:
        if h["far_n"] > FAR_SLOTS * 3 // 4 and h["far_full"] == 0:
            far_rebuild(book)
        far_put(book, side, tick, q)
    if q != 0.0 and improves:
        best = tick
    elif q == 0.0 and tick == best:
        best = best_below(book, tick) if side == 0 else best_above(book, tick)
    if side == 0:
        h["best_bid"] = best
    else:
        h["best_ask"] = best


@njit(cache=True, nogil=True)
def put_side(book: Array, side: int, level_tick: Array, level_qty: Array, lo: int, hi: int) -> None:
    """Set the levels lo to hi of one side.

    Most of them lie behind the touch and inside the window: they change neither, and take
    the short way.
    """
    h = book[0]
    qty = h["qty"]
    count = h["count"]
    base = h["base"]
    best = h["best_bid"] if side == 0 else h["best_ask"]
    for j in range(lo, hi):
        tick = level_tick[j]
        index = tick - base
        behind = tick < best if side == 0 else tick > best
        if behind and best != 0 and 0 <= index < WINDOW:
            q = level_qty[j]
            was = qty[side, index] != 0.0
            qty[side, index] = q
            if was != (q != 0.0):
                count[side, index // BLOCK] += -1 if was else 1
            continue
        put_level(book, side, tick, level_qty[j])
        base = h["base"]
        best = h["best_bid"] if side == 0 else h["best_ask"]


@njit(cache=True, nogil=True)
def clear(book: Array) -> None:
    """Forget every level; the window stays where it is."""
    h = book[0]
    h["qty"][:] = 0.0
    h["count"][:] = 0
    h["far_key"][:] = 0
    h["far_qty"][:] = 0.0
    h["far_n"] = 0
    h["far_full"] = 0
    h["best_bid"] = 0
    h["best_ask"] = 0


@njit(cache=True, nogil=True)
def level_qty_at(book: Array, side: int, tick: int) -> float:
    """Displayed quantity of one level from depth alone; 0.0 where there is none."""
    h = book[0]
    index = tick - h["base"]
    if 0 <= index < WINDOW:
        return float(h["qty"][side, index])
    far_key = h["far_key"]
    key = tick * 2 + side + 1
    slot = key & (FAR_SLOTS - 1)
    while far_key[slot] != 0:
        if far_key[slot] == key:
            return float(h["far_qty"][slot])
        slot = (slot + 1) & (FAR_SLOTS - 1)
    return 0.0
