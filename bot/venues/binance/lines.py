"""Binance market-data frames in the order they came: counted, admitted, one or many.

`decode_one` is the live path, `decode_lines` reads capture lines in bulk; the rest of the
work is theirs in common.
"""

from typing import Any, Final

from numba import njit
from numpy.typing import NDArray

from bot.domain.tape import BOOK_CHANGED, BOOK_RESET, NOTHING, ROW, TRADED
from bot.venues.binance.frames import (
    FIRST_REASON,
    OLD_DELTA,
    OLD_TRADE,
    UNREADABLE,
    UNREADABLE_DEPTH,
    decode_frame,
    is_depth_text,
)
from bot.venues.binance.text import SPACE, line_end, nanoseconds, read_integer
from bot.venues.booksync import GAP, LAST_TRADE, OLD, OLD_RUN, SYNCED, admit

# Why `decode_lines` came back before the end of its input.
DONE: Final = 0
FULL: Final = 1  # the tape is full
NEEDS_PYTHON: Final = 2  # the last row needs the plain-Python side of the codec

JUMP_BACK_NS: Final = 1_000_000_000

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def settle(row: Array, chain: Array, counts: Array, recv: int) -> tuple[bool, int]:
    """Count a decoded row and admit it if it is a delta of a synced book.

    Whether it needs more than that (NEEDS_PYTHON), and the last receive time, without that of a row
    to look at.
    """
    r = row[0]
    kind = r["kind"]
    if kind == NOTHING:
        counts[FIRST_REASON + r["side"]] += 1
    else:
        counts[kind] += 1
    if r["recv"] < recv - JUMP_BACK_NS:
        return True, recv
    if kind == BOOK_CHANGED:
        if chain[SYNCED] == 0:
            return True, recv
        verdict = admit(chain, r["first_id"], r["last_id"], r["prev_id"])
        if verdict == OLD:
            r["kind"] = NOTHING
            r["side"] = OLD_DELTA
            counts[FIRST_REASON + OLD_DELTA] += 1
        if verdict == GAP or (verdict == OLD and chain[OLD_RUN] == 0):
            return True, recv
    elif kind == BOOK_RESET or (kind == NOTHING and r["side"] == UNREADABLE_DEPTH):
        return True, recv
    elif kind == TRADED:
        # Two connections overlap when one takes over from the other: each trade counts once.
        if r["last_id"] <= chain[LAST_TRADE]:
            r["kind"] = NOTHING
            r["side"] = OLD_TRADE
            counts[FIRST_REASON + OLD_TRADE] += 1
        else:
            chain[LAST_TRADE] = r["last_id"]
    return False, max(recv, r["recv"])


@njit(cache=True, nogil=True)
def decode_one(
    frame: bytes,
    received: int,
    row_memory: Array,
    ticks: Array,
    qtys: Array,
    symbol: Array,
    tick_units: int,
    chain: Array,
    counts: Array,
    recv: int,
) -> tuple[bool, int]:
    """One frame that ends with `}`, received at `received` ns, into the first row: `settle`.

    The brace at its end stops every loop that a line's newline stops.
    """
    row = row_memory.view(ROW)[:1]
    r = row[0]
    end = len(frame)
    r["recv"] = received
    room = len(ticks) // 2  # as much as on a tape of many
    _, last = decode_frame(frame, 0, end, row, symbol, tick_units, ticks[:room], qtys, 0)
    if last < 0:
        r["kind"] = NOTHING
        r["side"] = UNREADABLE_DEPTH if is_depth_text(frame, 0, end) else UNREADABLE
    r["text_end"] = len(frame)
    return settle(row, chain, counts, recv)


@njit(cache=True, nogil=True)
def decode_lines(
    buf: bytes,
    at: int,
    row_memory: Array,
    ticks: Array,
    qtys: Array,
    symbol: Array,
    tick_units: int,
    chain: Array,
    counts: Array,
    recv: int,
) -> tuple[int, int, int, int]:
    """Capture lines from `at` into rows: (rows written, new offset, DONE|FULL|NEEDS_PYTHON, recv).

    A line is `<receive time> <frame>` and ends with a newline, the last one too. Deltas of a
    synced book are admitted here; a row that needs more than that is the last one (NEEDS_PYTHON).
    `row_memory` is ROWs as bytes. `recv` is the last receive time so far, without that of a
    NEEDS_PYTHON row; `counts` is indexed by kind, then by reason.
    """
    rows = row_memory.view(ROW)
    end = len(buf) - 1
    room = len(ticks) // 2  # of one frame, wherever on the tape it lands
    n = 0
    used = 0
    while at <= end:
        if n == len(rows) or used > room:
            return n, at, FULL, recv
        stamp, behind = read_integer(buf, at, end)
        row = rows[n : n + 1]
        r = row[0]
        stamp = nanoseconds(stamp)
        if behind > 0 and buf[behind] == SPACE and stamp >= 0:
            r["recv"] = stamp
            behind += 1
        else:
            r["recv"] = recv
            behind = end  # an empty frame
        used, stop = decode_frame(
            buf, behind, end, row, symbol, tick_units, ticks[: used + room], qtys, used
        )
        if stop < 0:
            stop = line_end(buf, at, end)
            r["kind"] = NOTHING
            r["side"] = UNREADABLE_DEPTH if is_depth_text(buf, behind, stop) else UNREADABLE
        at = stop + 1
        r["text_end"] = at
        n += 1
        look, recv = settle(row, chain, counts, recv)
        if look:
            return n, at, NEEDS_PYTHON, recv
    return n, at, DONE, recv
