"""Binance market-data frames, bytes to rows, in one compiled pass.

Reads the combined-stream envelope `{"stream":…,"data":{…}}` and the bare form of
depthUpdate, bookTicker and trade events and of REST depth snapshots, of spot, USD-M and
COIN-M (web socket streams and market data endpoints of each product's API documents).
Compact JSON only, as the venue sends it; unknown keys are skipped; anything that is not
read to its last byte is NOTHING with a reason and never an exception.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from bot.domain.tape import BOOK_CHANGED, BOOK_RESET, NOTHING, TOUCH_CHANGED, TRADED
from bot.venues.binance.text import (
    BRACE_CLOSE,
    BRACE_OPEN,
    BRACKET_OPEN,
    COLON,
    COMMA,
    NEWLINE,
    QUOTE,
    nanoseconds,
    read_flag,
    read_integer,
    read_levels,
    read_price,
    read_quantity,
    read_word,
    skip_value,
    spells,
)

# Why a frame carried nothing (in `side` of its row) and how the codec counts it.
OTHER_EVENT: Final = 0  # a stream or an order type that is not flow
FOREIGN: Final = 1  # another symbol
UNREADABLE: Final = 2
UNREADABLE_DEPTH: Final = 3  # unreadable, and it was a depth frame: the chain is broken
OLD_DELTA: Final = 4
OTHER_DIALECT: Final = 5  # depth of a market with the other chain rule
OLD_TRADE: Final = 6
REASONS: Final = 7
FIRST_REASON: Final = 8  # counts[:8] are frames by kind, counts[8:] by reason

# Keys and words as their first eight bytes, big endian.
STREAM: Final = int.from_bytes(b"stream", "big")
DATA: Final = int.from_bytes(b"data", "big")
DEPTH: Final = np.frombuffer(b"depth", np.uint8)
K_EVENT: Final = ord("e")
K_TIME: Final = ord("E")
K_MATCHED: Final = ord("T")
K_SYMBOL: Final = ord("s")
K_FIRST: Final = ord("U")
K_LAST: Final = ord("u")
K_PREV: Final = int.from_bytes(b"pu", "big")
K_BIDS: Final = ord("b")
K_ASKS: Final = ord("a")
K_BID_QTY: Final = ord("B")
K_ASK_QTY: Final = ord("A")
K_PRICE: Final = ord("p")
K_QTY: Final = ord("q")
K_MAKER: Final = ord("m")
K_TRADE: Final = ord("t")
K_TYPE: Final = ord("X")
K_SNAP_BIDS: Final = int.from_bytes(b"bids", "big")
K_SNAP_ASKS: Final = int.from_bytes(b"asks", "big")
K_SNAP_ID: Final = int.from_bytes(b"lastUpda", "big")
W_DEPTH: Final = int.from_bytes(b"depthUpd", "big")
W_TICKER: Final = int.from_bytes(b"bookTick", "big")
W_TRADE: Final = ord("t") << 32 | int.from_bytes(b"rade", "big")
W_MARKET: Final = int.from_bytes(b"MARKET", "big")


# Bits of what a frame had.
H_TIME: Final = 1
H_SYMBOL: Final = 2
H_FIRST: Final = 4
H_LAST: Final = 8
H_BID: Final = 16
H_ASK: Final = 32
H_BID_QTY: Final = 64
H_ASK_QTY: Final = 128
H_BIDS: Final = 256
H_ASKS: Final = 512
H_PRICE: Final = 1024
H_QTY: Final = 2048
H_SIDE: Final = 4096
H_SNAP: Final = 8192
H_PREV: Final = 16384
H_TRADE: Final = 1 << 15
H_MATCHED: Final = 1 << 16
H_TYPE: Final = 1 << 17
H_EVENT: Final = 1 << 18
H_SOLD: Final = 1 << 19  # beside H_SIDE: the aggressor sold
H_NOT_FLOW: Final = 1 << 20  # beside H_TYPE: insurance fund or auto-deleveraging

IS_DEPTH: Final = H_SYMBOL | H_TIME | H_FIRST | H_LAST | H_BIDS | H_ASKS
IS_TICKER: Final = H_SYMBOL | H_LAST | H_BID | H_ASK | H_BID_QTY | H_ASK_QTY
IS_TRADE: Final = H_SYMBOL | H_TIME | H_PRICE | H_QTY | H_SIDE | H_TRADE
IS_SNAPSHOT: Final = H_SNAP | H_BIDS | H_ASKS

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def is_depth_text(buf: bytes, at: int, end: int) -> bool:
    """Whether an unreadable frame calls itself a depth frame near its start."""
    stop = at + 115
    while at < stop and not spells(buf, at, end, DEPTH):
        at += 1
    return at < stop


@njit(cache=True, nogil=True)
def read_number(buf: bytes, at: int, end: int, row: Array, key: int, event: int) -> tuple[int, int]:
    """An id or a time into the row: (its bit or 0 for another key, offset or -1)."""
    r = row[0]
    if key in (K_TIME, K_MATCHED):
        stamp, at = read_integer(buf, at, end)
        stamp = nanoseconds(stamp)
        if stamp < 0:
            at = -1
        if key == K_TIME:
            r["exch"] = stamp
            return H_TIME, at
        r["matched"] = stamp
        return H_MATCHED, at
    if key == K_LAST and event != W_TRADE:
        r["last_id"], at = read_integer(buf, at, end)
        return H_LAST, at
    if key == K_FIRST:
        r["first_id"], at = read_integer(buf, at, end)
        return H_FIRST, at
    if key == K_PREV:
        r["prev_id"], at = read_integer(buf, at, end)
        return H_PREV, at
    if key == K_SNAP_ID and event == 0:
        r["last_id"], at = read_integer(buf, at, end)
        return H_SNAP, at
    if key == K_TRADE and event == W_TRADE:
        r["last_id"], at = read_integer(buf, at, end)
        return H_TRADE, at
    return 0, at


@njit(cache=True, nogil=True)
def read_value(
    buf: bytes, at: int, end: int, row: Array, key: int, event: int, tick_units: int
) -> tuple[int, int]:
    """A ticker's or a trade's value into the row: (its bit or 0 for another key, offset or -1)."""
    if event == W_TRADE:
        return read_trade_value(buf, at, end, row, key, tick_units)
    if event not in (0, W_TICKER):
        return 0, at
    r = row[0]
    if key == K_BIDS:
        r["bid"], at = read_price(buf, at, end, tick_units)
        return H_BID, at
    if key == K_ASKS:
        r["ask"], at = read_price(buf, at, end, tick_units)
        return H_ASK, at
    if key == K_BID_QTY:
        r["bid_qty"], at = read_quantity(buf, at, end)
        return H_BID_QTY, at
    if key == K_ASK_QTY:
        r["ask_qty"], at = read_quantity(buf, at, end)
        return H_ASK_QTY, at
    return 0, at


@njit(cache=True, nogil=True)
def read_trade_value(
    buf: bytes, at: int, end: int, row: Array, key: int, tick_units: int
) -> tuple[int, int]:
    """A trade's value into the row or its bits: (the bits or 0 for another key, offset or -1)."""
    r = row[0]
    if key == K_PRICE:
        r["bid"], at = read_price(buf, at, end, tick_units)
        return H_PRICE, at
    if key == K_QTY:
        r["bid_qty"], at = read_quantity(buf, at, end)
        return H_QTY, at
    if key == K_MAKER:
        # m = the buyer is the maker, so the aggressor sold (VENUES 3).
        sold, at = read_flag(buf, at, end)
        return H_SIDE | H_SOLD if sold else H_SIDE, at
    if key == K_TYPE:
        word, at = read_word(buf, at, end)
        return H_TYPE if word == W_MARKET else H_TYPE | H_NOT_FLOW, at
    return 0, at


@njit(cache=True, nogil=True)
def read_symbol(buf: bytes, at: int, end: int, symbol: Array) -> tuple[int, int]:
    """Whether the string is another symbol than ours: (0 or FOREIGN, offset or -1)."""
    start = at + 1
    _, at = read_word(buf, at, end)
    if at < 0:
        return FOREIGN, -1
    if at - 1 - start != len(symbol):
        return FOREIGN, at
    for i in range(len(symbol)):
        if buf[start + i] != symbol[i]:
            return FOREIGN, at
    return 0, at


@njit(cache=True, nogil=True)
def read_scalar(
    buf: bytes, at: int, end: int, row: Array, key: int, event: int, tick_units: int
) -> tuple[int, int]:
    """Any other value, into the row if it is of use: (its bit or 0, offset behind it or -1)."""
    bit, at = read_number(buf, at, end, row, key, event)
    if bit == 0:
        bit, at = read_value(buf, at, end, row, key, event, tick_units)
    if bit == 0:
        at = skip_value(buf, at, end)
    return bit, at


@njit(cache=True, nogil=True)
def read_fields(
    buf: bytes,
    at: int,
    end: int,
    row: Array,
    symbol: Array,
    tick_units: int,
    ticks: Array,
    qtys: Array,
    n: int,
) -> tuple[int, int, int, int]:
    """The flat event object at `{` into the row: (event word, bits, new n, offset or -1)."""
    r = row[0]
    has = 0
    event = 0
    at += 1
    while True:
        if at >= end or buf[at] != QUOTE:
            return event, has, n, -1
        key, at = read_word(buf, at, end)
        if at < 0 or at + 1 >= end or buf[at] != COLON:
            return event, has, n, -1
        at += 1
        listed = buf[at] == BRACKET_OPEN
        bit = 0
        if has & H_SYMBOL and r["side"] == FOREIGN:
            at = skip_value(buf, at, end)  # another symbol has another tick: nothing to read
        elif listed and key in (K_BIDS, K_SNAP_BIDS):
            if has & (H_BIDS | H_ASKS):
                return event, has, n, -1  # bids come first and once, or the slices lie
            before = n
            n, at = read_levels(buf, at, end, tick_units, ticks, qtys, n)
            r["n_bid"] = n - before
            bit = H_BIDS
        elif listed and key in (K_ASKS, K_SNAP_ASKS):
            if not has & H_BIDS or has & H_ASKS:
                return event, has, n, -1
            before = n
            n, at = read_levels(buf, at, end, tick_units, ticks, qtys, n)
            r["n_ask"] = n - before
            bit = H_ASKS
        elif key == K_EVENT and buf[at] == QUOTE:
            event, at = read_word(buf, at, end)
            bit = H_EVENT
        elif key == K_SYMBOL and buf[at] == QUOTE:
            r["side"], at = read_symbol(buf, at, end, symbol)
            bit = H_SYMBOL
        else:
            bit, at = read_scalar(buf, at, end, row, key, event, tick_units)
        if at < 0 or at >= end or has & bit:
            return event, has, n, -1  # cut short, malformed, or a key stands twice
        has |= bit
        if buf[at] == BRACE_CLOSE:
            return event, has, n, at + 1
        if buf[at] != COMMA:
            return event, has, n, -1
        at += 1


@njit(cache=True, nogil=True)
def behind_envelope(buf: bytes, at: int, end: int) -> int:
    """Offset of the event in `{"stream":"…","data":{…}}`, -1 where there is no envelope."""
    if at + 10 >= end or buf[at] != BRACE_OPEN or buf[at + 1] != QUOTE:
        return -1
    word, at = read_word(buf, at + 1, end)
    if at < 0 or word != STREAM or at + 1 >= end or buf[at] != COLON or buf[at + 1] != QUOTE:
        return -1
    _, at = read_word(buf, at + 1, end)
    if at < 0 or at + 8 >= end or buf[at] != COMMA or buf[at + 1] != QUOTE:
        return -1
    word, at = read_word(buf, at + 1, end)
    if at < 0 or word != DATA or at >= end or buf[at] != COLON:
        return -1
    return at + 1


@njit(cache=True, nogil=True)
def classify(row: Array, event: int, has: int) -> None:
    """Set the row's kind from what its frame had; NOTHING keeps a reason in `side`."""
    r = row[0]
    if has & H_SYMBOL and r["side"] == FOREIGN:
        return
    if event == W_DEPTH:
        r["side"] = UNREADABLE_DEPTH
        if has & IS_DEPTH == IS_DEPTH and r["first_id"] <= r["last_id"]:
            r["kind"] = BOOK_CHANGED
            r["side"] = 0
    elif event == W_TRADE:
        r["side"] = UNREADABLE
        if has & IS_TRADE == IS_TRADE and r["bid_qty"] > 0.0:
            r["side"] = OTHER_EVENT
            if not has & H_NOT_FLOW:
                r["kind"] = TRADED
                r["side"] = -1 if has & H_SOLD else 1
    elif event == 0 and has & IS_SNAPSHOT == IS_SNAPSHOT:
        r["kind"] = BOOK_RESET
        r["side"] = 0
    elif event == W_TICKER or (event == 0 and has & IS_TICKER == IS_TICKER):
        r["side"] = UNREADABLE
        fits = r["bid"] < r["ask"] and r["bid_qty"] > 0.0 and r["ask_qty"] > 0.0
        if has & IS_TICKER == IS_TICKER and fits:
            r["kind"] = TOUCH_CHANGED
            r["side"] = 0
    else:
        r["side"] = OTHER_EVENT


@njit(cache=True, nogil=True)
def decode_frame(
    buf: bytes,
    at: int,
    end: int,
    row: Array,
    symbol: Array,
    tick_units: int,
    ticks: Array,
    qtys: Array,
    n: int,
) -> tuple[int, int]:
    """The frame from `at` to its newline into row[0]: (the new n, offset of the newline or -1).

    Its levels go behind `n`. A newline stands at `end`, the frame's own one there or before;
    or the text ends there with a brace. `recv` is the caller's. Depth is left as
    BOOK_CHANGED and a snapshot as BOOK_RESET, neither yet admitted.
    """
    r = row[0]
    r["kind"] = NOTHING
    r["exch"] = 0
    r["matched"] = 0
    r["first_id"] = 0
    r["last_id"] = 0
    r["prev_id"] = -1
    r["lo"] = n
    r["n_bid"] = 0
    r["n_ask"] = 0
    r["bid"] = 0
    r["ask"] = 0
    r["bid_qty"] = 0.0
    r["ask_qty"] = 0.0
    r["side"] = UNREADABLE
    r["frame_end"] = 1
    inner = behind_envelope(buf, at, end)
    last = at if inner < 0 else inner
    if last >= end or buf[last] != BRACE_OPEN:
        return n, -1
    event, has, behind, last = read_fields(buf, last, end, row, symbol, tick_units, ticks, qtys, n)
    if last >= 0 and inner >= 0:
        last = last + 1 if last < end and buf[last] == BRACE_CLOSE else -1
    if last < 0 or (last < len(buf) and buf[last] != NEWLINE):
        return n, -1
    if r["matched"] == 0:
        r["matched"] = r["exch"]
    classify(row, event, has)
    return behind if r["kind"] in (BOOK_CHANGED, BOOK_RESET) else n, last
