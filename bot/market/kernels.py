"""The book's compiled kernels: a dense window of ticks, a far table, an overlay of the touch.

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

from bot.domain.tape import BOOK_CHANGED, BOOK_LOST, BOOK_RESET, NOTHING, TOUCH_CHANGED, TRADED

WINDOW: Final = 1 << 18
BLOCK: Final = 64
FAR_SLOTS: Final = 1 << 16
FAR_LIVE_MAX: Final = FAR_SLOTS // 2
ENVELOPE_NS_PER_NS: Final = 20_000  # the lag envelope rises 1 ns in so many: 50 ppm of drift
FAR_TICK_MAX: Final = 1 << 60
ENVELOPE_NONE: Final = 1 << 62

# Flags that `learn_row` returns: what a decision may depend on.
MOVED: Final = 1  # fair price left the band that the engine set
TRUST: Final = 2  # the book became trusted or stopped being so

# Why a book that was reset and not lost is still not to be quoted from.
TRUSTED: Final = 0
UNSYNCED: Final = 1
CROSSED: Final = 2
ONE_SIDED: Final = 3
TICKER_DISAGREES: Final = 4
OVERFLOW: Final = 5
LOST: Final = 100  # + LOST_* of the tape

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
        ("tick_id", np.int64),  # update id of the ticker's touch
        ("tick_bid", np.int64),
        ("tick_ask", np.int64),
        ("tick_bid_qty", np.float64),
        ("tick_ask_qty", np.float64),
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

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def far_put(head: Array, far_key: Array, far_qty: Array, side: int, tick: int, q: float) -> None:
    """Store an absolute quantity outside the window; 0 keeps the slot until the next rebuild.

    A full table stores nothing more: the book is distrusted until it is reset.
    """
    if head[0]["far_full"] == 1:
        return
    key = tick * 2 + side + 1
    slot = key & (FAR_SLOTS - 1)
    while far_key[slot] != 0 and far_key[slot] != key:
        slot = (slot + 1) & (FAR_SLOTS - 1)
    if far_key[slot] == 0:
        if q == 0.0:
            return
        if head[0]["far_n"] >= FAR_SLOTS - 1:
            head[0]["far_full"] = 1  # a free slot must stay, or a search would not end
            return
        far_key[slot] = key
        head[0]["far_n"] += 1
    far_qty[slot] = q


@njit(cache=True, nogil=True)
def far_rebuild(head: Array, qty: Array, count: Array, far_key: Array, far_qty: Array) -> None:
    """Drop the far table's dead slots and move the levels that the window covers into it."""
    keys = far_key.copy()
    qtys = far_qty.copy()
    far_key[:] = 0
    head[0]["far_n"] = 0
    live = 0
    for slot in range(FAR_SLOTS):
        if keys[slot] == 0 or qtys[slot] == 0.0:
            continue
        side = (keys[slot] - 1) & 1
        tick = (keys[slot] - 1) >> 1
        index = tick - head[0]["base"]
        if 0 <= index < WINDOW:
            if qty[side, index] == 0.0:
                count[side, index // BLOCK] += 1
            qty[side, index] = qtys[slot]
        else:
            live += 1
            far_put(head, far_key, far_qty, side, tick, qtys[slot])
    if live > FAR_LIVE_MAX:
        head[0]["far_full"] = 1


@njit(cache=True, nogil=True)
def recentre(
    head: Array, qty: Array, count: Array, far_key: Array, far_qty: Array, tick: int
) -> None:
    """Move the window so that `tick` is in its middle; no level is lost."""
    for side in range(2):
        for block in range(WINDOW // BLOCK):
            if count[side, block] == 0:
                continue
            for index in range(block * BLOCK, (block + 1) * BLOCK):
                if qty[side, index] != 0.0:
                    far_put(head, far_key, far_qty, side, head[0]["base"] + index, qty[side, index])
                    qty[side, index] = 0.0
            count[side, block] = 0
    base = tick - WINDOW // 2
    head[0]["base"] = base if base > 0 else 0
    far_rebuild(head, qty, count, far_key, far_qty)


@njit(cache=True, nogil=True)
def far_best(far_key: Array, far_qty: Array, side: int, low: int, high: int) -> int:
    """The far table's highest bid or lowest ask within [low, high]; 0 when there is none."""
    best = 0
    for slot in range(FAR_SLOTS):
        if far_key[slot] == 0 or (far_key[slot] - 1) & 1 != side or far_qty[slot] == 0.0:
            continue
        tick = (far_key[slot] - 1) >> 1
        if low <= tick <= high and (best == 0 or (tick > best) == (side == 0)):
            best = tick
    return int(best)


@njit(cache=True, nogil=True)
def best_below(
    head: Array, qty: Array, count: Array, far_key: Array, tick: int, far_qty: Array
) -> int:
    """Highest bid at or below `tick`; 0 when there is none."""
    index = tick - head[0]["base"]
    if index >= WINDOW:
        above = far_best(far_key, far_qty, 0, head[0]["base"] + WINDOW, tick)
        if above != 0:
            return int(above)
        index = WINDOW - 1
    while index >= 0:
        if count[0, index // BLOCK] == 0:
            index = index // BLOCK * BLOCK - 1
            continue
        if qty[0, index] != 0.0:
            return int(head[0]["base"] + index)
        index -= 1
    return int(far_best(far_key, far_qty, 0, 0, tick))


@njit(cache=True, nogil=True)
def best_above(
    head: Array, qty: Array, count: Array, far_key: Array, tick: int, far_qty: Array
) -> int:
    """Lowest ask at or above `tick`; 0 when there is none."""
    index = tick - head[0]["base"]
    if index < 0:
        below = far_best(far_key, far_qty, 1, tick, head[0]["base"] - 1)
        if below != 0:
            return int(below)
        index = 0
    while index < WINDOW:
        if count[1, index // BLOCK] == 0:
            index = (index // BLOCK + 1) * BLOCK
            continue
        if qty[1, index] != 0.0:
            return int(head[0]["base"] + index)
        index += 1
    return int(far_best(far_key, far_qty, 1, tick, FAR_TICK_MAX))


@njit(cache=True, nogil=True)
def put_level(
    head: Array,
    qty: Array,
    count: Array,
    far_key: Array,
    far_qty: Array,
    side: int,
    tick: int,
    q: float,
) -> None:
    """Set one level to an absolute quantity and keep the best prices; 0 removes."""
    index = tick - head[0]["base"]
    if index < 0 or index >= WINDOW:
        inner = (side == 0 and tick > head[0]["best_bid"]) or (
            side == 1 and head[0]["best_ask"] != 0 and tick < head[0]["best_ask"]
        )
        if q != 0.0 and inner:
            # The touch itself left the window: scans start from it, so the window follows.
            recentre(head, qty, count, far_key, far_qty, tick)
            index = tick - head[0]["base"]
        else:
            if head[0]["far_n"] > FAR_SLOTS * 3 // 4 and head[0]["far_full"] == 0:
                far_rebuild(head, qty, count, far_key, far_qty)
            far_put(head, far_key, far_qty, side, tick, q)
            if head[0]["best_ask"] == 0 and side == 1 and q != 0.0:
                head[0]["best_ask"] = tick
            elif q == 0.0 and side == 0 and tick == head[0]["best_bid"]:
                head[0]["best_bid"] = best_below(head, qty, count, far_key, tick, far_qty)
            elif q == 0.0 and side == 1 and tick == head[0]["best_ask"]:
                head[0]["best_ask"] = best_above(head, qty, count, far_key, tick, far_qty)
            return
    old = qty[side, index]
    qty[side, index] = q
    if q != 0.0:
        if old == 0.0:
            count[side, index // BLOCK] += 1
        if side == 0:
            if tick > head[0]["best_bid"]:
                head[0]["best_bid"] = tick
        elif head[0]["best_ask"] == 0 or tick < head[0]["best_ask"]:
            head[0]["best_ask"] = tick
    elif old != 0.0:
        count[side, index // BLOCK] -= 1
        if side == 0 and tick == head[0]["best_bid"]:
            head[0]["best_bid"] = best_below(head, qty, count, far_key, tick, far_qty)
        elif side == 1 and tick == head[0]["best_ask"]:
            head[0]["best_ask"] = best_above(head, qty, count, far_key, tick, far_qty)


@njit(cache=True, nogil=True)
def clear(head: Array, qty: Array, count: Array, far_key: Array, far_qty: Array) -> None:
    """Forget every level; the window stays where it is."""
    qty[:] = 0.0
    count[:] = 0
    far_key[:] = 0
    far_qty[:] = 0.0
    head[0]["far_n"] = 0
    head[0]["far_full"] = 0
    head[0]["best_bid"] = 0
    head[0]["best_ask"] = 0


@njit(cache=True, nogil=True)
def level_qty_at(
    head: Array, qty: Array, far_key: Array, far_qty: Array, side: int, tick: int
) -> float:
    """Displayed quantity of one level from depth alone; 0.0 where there is none."""
    index = tick - head[0]["base"]
    if 0 <= index < WINDOW:
        return float(qty[side, index])
    key = tick * 2 + side + 1
    slot = key & (FAR_SLOTS - 1)
    while far_key[slot] != 0:
        if far_key[slot] == key:
            return float(far_qty[slot])
        slot = (slot + 1) & (FAR_SLOTS - 1)
    return 0.0


@njit(cache=True, nogil=True)
def fuse(head: Array, qty: Array, far_key: Array, far_qty: Array) -> None:
    """Set the fused touch, the fair price and the reason for distrust from the book's state.

    The ticker overrides the touch while it is newer than the depth (VENUES, bookTicker).
    """
    h = head[0]
    if h["overlay"] == 1:
        h["bid"] = h["tick_bid"]
        h["ask"] = h["tick_ask"]
        h["bid_qty"] = h["tick_bid_qty"]
        h["ask_qty"] = h["tick_ask_qty"]
    else:
        h["bid"] = h["best_bid"]
        h["ask"] = h["best_ask"]
        if h["bid"] != 0 and h["ask"] != 0:
            h["bid_qty"] = level_qty_at(head, qty, far_key, far_qty, 0, h["best_bid"])
            h["ask_qty"] = level_qty_at(head, qty, far_key, far_qty, 1, h["best_ask"])
    if h["bid"] != 0 and h["ask"] != 0 and h["bid_qty"] + h["ask_qty"] > 0.0:
        mid = 0.5 * (h["bid"] + h["ask"])
        weighted = (h["bid"] * h["ask_qty"] + h["ask"] * h["bid_qty"]) / (
            h["bid_qty"] + h["ask_qty"]
        )
        h["fair"] = mid + h["fair_weight"] * (weighted - mid)


@njit(cache=True, nogil=True)
def judge(head: Array, mismatch: bool) -> int:
    """Why the synced book must not be quoted from; TRUSTED when nothing speaks against it."""
    h = head[0]
    if mismatch:
        return TICKER_DISAGREES
    if h["far_full"] == 1:
        return OVERFLOW
    if h["best_bid"] == 0 or h["best_ask"] == 0:
        return ONE_SIDED
    if h["best_bid"] >= h["best_ask"]:
        return CROSSED
    return TRUSTED


@njit(cache=True, nogil=True)
def stamp(head: Array, recv: int, exch: int) -> None:
    """Track feed lag against a lower envelope that may rise by at most 50 ppm."""
    h = head[0]
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
def ticker_differs(head: Array, qty: Array, far_key: Array, far_qty: Array) -> bool:
    """At equal update ids the ticker must state the depth book's own touch."""
    h = head[0]
    if h["tick_id"] != h["book_id"] or h["tick_bid"] == 0:
        return False
    return bool(
        h["tick_bid"] != h["best_bid"]
        or h["tick_ask"] != h["best_ask"]
        or h["tick_bid_qty"] != level_qty_at(head, qty, far_key, far_qty, 0, h["best_bid"])
        or h["tick_ask_qty"] != level_qty_at(head, qty, far_key, far_qty, 1, h["best_ask"])
    )


@njit(cache=True, nogil=True)
def apply_levels(
    head: Array,
    qty: Array,
    count: Array,
    far_key: Array,
    far_qty: Array,
    rows: Array,
    i: int,
    level_tick: Array,
    level_qty: Array,
) -> None:
    """Write a row's levels into the book."""
    lo = rows[i]["lo"]
    middle = lo + rows[i]["n_bid"]
    for j in range(lo, middle):
        put_level(head, qty, count, far_key, far_qty, 0, level_tick[j], level_qty[j])
    for j in range(middle, middle + rows[i]["n_ask"]):
        put_level(head, qty, count, far_key, far_qty, 1, level_tick[j], level_qty[j])
    h = head[0]
    h["book_id"] = rows[i]["last_id"]
    h["depth_recv"] = rows[i]["recv"]
    h["depth_matched"] = rows[i]["matched"]
    if h["tick_id"] <= h["book_id"]:
        h["overlay"] = 0
    edge = h["best_bid"] - h["base"]
    low = edge < WINDOW // 4 and h["base"] > 0
    if h["best_bid"] != 0 and (low or edge > WINDOW * 3 // 4):
        recentre(head, qty, count, far_key, far_qty, h["best_bid"])


@njit(cache=True, nogil=True)
def put_ticker(head: Array, rows: Array, i: int) -> bool:
    """Take a ticker's touch if it is news; whether the book has to look at it."""
    h = head[0]
    if rows[i]["last_id"] <= h["tick_id"] or rows[i]["bid"] >= rows[i]["ask"]:
        return False
    h["tick_id"] = rows[i]["last_id"]
    h["tick_bid"] = rows[i]["bid"]
    h["tick_ask"] = rows[i]["ask"]
    h["tick_bid_qty"] = rows[i]["bid_qty"]
    h["tick_ask_qty"] = rows[i]["ask_qty"]
    if h["synced"] == 0 or h["tick_id"] < h["book_id"]:
        return False
    if h["tick_id"] > h["book_id"]:
        h["overlay"] = 1
    return True


@njit(cache=True, nogil=True)
def learn_row(
    head: Array,
    qty: Array,
    count: Array,
    far_key: Array,
    far_qty: Array,
    rows: Array,
    i: int,
    level_tick: Array,
    level_qty: Array,
) -> int:
    """Learn one row of the tape; returns MOVED and TRUST flags, 0 when nobody need decide."""
    kind = rows[i]["kind"]
    h = head[0]
    was = h["distrust"]
    if kind == NOTHING:
        return 0
    stamp(head, rows[i]["recv"], rows[i]["exch"])
    if kind == TRADED:
        return 0
    mismatch = was == TICKER_DISAGREES
    if kind == TOUCH_CHANGED:
        if not put_ticker(head, rows, i):
            return 0
        mismatch = mismatch or ticker_differs(head, qty, far_key, far_qty)
    elif kind == BOOK_RESET or (kind == BOOK_CHANGED and h["synced"] == 1):
        if kind == BOOK_RESET:
            clear(head, qty, count, far_key, far_qty)
            if rows[i]["n_bid"] > 0:
                recentre(head, qty, count, far_key, far_qty, level_tick[rows[i]["lo"]])
            h["synced"] = 1
            mismatch = False
        apply_levels(head, qty, count, far_key, far_qty, rows, i, level_tick, level_qty)
        if ticker_differs(head, qty, far_key, far_qty):
            mismatch = True
    elif kind == BOOK_LOST:
        h["synced"] = 0
        h["overlay"] = 0
        h["tick_id"] = 0
    else:
        return 0
    if h["synced"] == 1:
        fuse(head, qty, far_key, far_qty)
        now = judge(head, mismatch)
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
def depth_within(head: Array, qty: Array, count: Array, bps: float, out: Array) -> None:
    """out[0], out[1] = sum of tick x quantity of bids and asks within `bps` of the mid.

    Levels that the newer ticker says are gone are masked, and its own quantities stand at
    its touch. Levels outside the window (more than WINDOW/4 ticks away) are not counted.
    """
    h = head[0]
    out[0] = 0.0
    out[1] = 0.0
    mid = 0.5 * (h["bid"] + h["ask"])
    base = h["base"]
    low = max(np.int64(np.ceil(mid * (1.0 - bps * 1e-4))) - base, 0)
    high = min(np.int64(np.floor(mid * (1.0 + bps * 1e-4))) - base, WINDOW - 1)
    index = h["bid"] - base
    if h["overlay"] == 1:
        if index >= low:
            out[0] += h["bid"] * h["bid_qty"]
        index -= 1
    while index >= low:
        if count[0, index // BLOCK] == 0:
            index = index // BLOCK * BLOCK - 1
            continue
        out[0] += (base + index) * qty[0, index]
        index -= 1
    index = h["ask"] - base
    if h["overlay"] == 1:
        if index <= high:
            out[1] += h["ask"] * h["ask_qty"]
        index += 1
    while index <= high:
        if count[1, index // BLOCK] == 0:
            index = (index // BLOCK + 1) * BLOCK
            continue
        out[1] += (base + index) * qty[1, index]
        index += 1
