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
from bot.venues.booksync import GAP, OLD, OLD_RUN, SYNCED, admit

# Why a frame carried nothing (in `side` of its row) and how the codec counts it.
OTHER_EVENT: Final = 0  # a stream or an order type that is not flow
FOREIGN: Final = 1  # another symbol
UNREADABLE: Final = 2
UNREADABLE_DEPTH: Final = 3  # unreadable, and it was a depth frame: the chain is broken
OLD_DELTA: Final = 4
BUFFERED: Final = 5
REASONS: Final = 6

# Why `decode_lines` came back before the end of its input.
DONE: Final = 0
FULL: Final = 1  # the tape is full
LOOK: Final = 2  # the last row needs the plain-Python side of the codec

PRICE_DECIMALS: Final = 10
DIGITS_MAX: Final = 18
INTEGER_MAX: Final = (2**63 - 10) // 10  # one more digit still fits an int64
JUMP_BACK_NS: Final = 1_000_000_000

QUOTE: Final = 34
COMMA: Final = 44
COLON: Final = 58
OPEN: Final = 91
CLOSE: Final = 93
LEFT: Final = 123
RIGHT: Final = 125
BACKSLASH: Final = 92

# Keys and words as their first eight bytes, big endian.
STREAM: Final = int.from_bytes(b"stream", "big")
DATA: Final = int.from_bytes(b"data", "big")
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
H_TRADE: Final = 32768

IS_DEPTH: Final = H_SYMBOL | H_TIME | H_FIRST | H_LAST | H_BIDS | H_ASKS
IS_TICKER: Final = H_SYMBOL | H_LAST | H_BID | H_ASK | H_BID_QTY | H_ASK_QTY
IS_TRADE: Final = H_SYMBOL | H_TIME | H_PRICE | H_QTY | H_SIDE | H_TRADE
IS_SNAPSHOT: Final = H_SNAP | H_BIDS | H_ASKS

POW10: Final = np.array([10**n for n in range(DIGITS_MAX + 1)], np.int64)
POW10_FLOAT: Final = np.array([10.0**n for n in range(DIGITS_MAX + 1)])

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def read_word(buf: Array, at: int, end: int) -> tuple[int, int]:
    """A string starting at its quote: (first eight bytes as an integer, offset behind it or -1)."""
    word = 0
    at += 1
    start = at
    while at < end and buf[at] != QUOTE:
        if buf[at] == BACKSLASH or buf[at] < 32:
            return 0, -1
        if at - start < 8:
            word = word << 8 | int(buf[at])
        at += 1
    if at >= end:
        return 0, -1
    return word, at + 1


@njit(cache=True, nogil=True)
def read_integer(buf: Array, at: int, end: int) -> tuple[int, int]:
    """An unsigned integer: (value, offset behind it or -1)."""
    value = 0
    start = at
    while at < end and 48 <= buf[at] <= 57:
        if value > INTEGER_MAX:
            return 0, -1
        value = value * 10 + int(buf[at]) - 48
        at += 1
    if at == start:
        return 0, -1
    return value, at


@njit(cache=True, nogil=True)
def read_decimal(buf: Array, at: int, end: int) -> tuple[int, int, int]:
    """A quoted unsigned decimal: (mantissa, decimals, offset behind its quote or -1)."""
    if at >= end or buf[at] != QUOTE:
        return 0, 0, -1
    at += 1
    mantissa = 0
    decimals = 0
    digits = 0
    point = False
    while at < end:
        c = buf[at]
        if 48 <= c <= 57:
            mantissa = mantissa * 10 + int(c) - 48
            digits += 1
            if point:
                decimals += 1
            if digits > DIGITS_MAX:
                return 0, 0, -1
        elif c == 46 and not point and digits > 0:
            point = True
        else:
            break
        at += 1
    if at >= end or buf[at] != QUOTE or digits == 0 or (point and decimals == 0):
        return 0, 0, -1
    return mantissa, decimals, at + 1


@njit(cache=True, nogil=True)
def read_price(buf: Array, at: int, end: int, tick_units: int) -> tuple[int, int]:
    """A price as whole ticks: (ticks, offset or -1); `tick_units` is the tick in 1e-10."""
    mantissa, decimals, at = read_decimal(buf, at, end)
    if at < 0:
        return 0, -1
    while decimals > PRICE_DECIMALS:
        if mantissa % 10 != 0:
            return 0, -1
        mantissa //= 10
        decimals -= 1
    scale = int(POW10[PRICE_DECIMALS - decimals])
    if mantissa == 0 or mantissa > 9_000_000_000_000_000_000 // scale:
        return 0, -1
    units = mantissa * scale
    ticks = units // tick_units
    if ticks * tick_units != units:
        return 0, -1
    return ticks, at


@njit(cache=True, nogil=True)
def read_quantity(buf: Array, at: int, end: int) -> tuple[float, int]:
    """A displayed quantity: (value, offset or -1); mantissa / 10^n is correctly rounded."""
    mantissa, decimals, at = read_decimal(buf, at, end)
    if at < 0:
        return 0.0, -1
    return mantissa / POW10_FLOAT[decimals], at


@njit(cache=True, nogil=True)
def read_levels(
    buf: Array, at: int, end: int, tick_units: int, ticks: Array, qtys: Array, n: int
) -> tuple[int, int]:
    """`[["price","qty"],…]` into ticks[n:], qtys[n:]: (new n, offset or -1)."""
    if at >= end or buf[at] != OPEN:
        return n, -1
    at += 1
    if at < end and buf[at] == CLOSE:
        return n, at + 1
    while True:
        if at >= end or buf[at] != OPEN or n >= len(ticks):
            return n, -1
        tick, at = read_price(buf, at + 1, end, tick_units)
        if at < 0 or at >= end or buf[at] != COMMA:
            return n, -1
        qty, at = read_quantity(buf, at + 1, end)
        if at < 0 or at + 1 >= end or buf[at] != CLOSE:
            return n, -1
        ticks[n] = tick
        qtys[n] = qty
        n += 1
        at += 1
        if buf[at] == CLOSE:
            return n, at + 1
        if buf[at] != COMMA:
            return n, -1
        at += 1


@njit(cache=True, nogil=True)
def skip_value(buf: Array, at: int, end: int) -> int:
    """Offset behind a value that nobody needs, -1 when it does not end."""
    depth = 0
    while at < end:
        c = buf[at]
        if c == QUOTE:
            at += 1
            while at < end and buf[at] != QUOTE:
                at += 2 if buf[at] == BACKSLASH else 1
            if at >= end:
                return -1
        elif c in (OPEN, LEFT):
            depth += 1
        elif c in (CLOSE, RIGHT):
            if depth == 0:
                return at
            depth -= 1
        elif c == COMMA and depth == 0:
            return at
        at += 1
    return -1


@njit(cache=True, nogil=True)
def nanoseconds(stamp: int) -> int:
    """A time since the epoch in ms, µs or ns, told apart by magnitude, as ns."""
    if stamp < 100_000_000_000_000:
        return stamp * 1_000_000
    if stamp < 100_000_000_000_000_000:
        return stamp * 1_000
    return stamp


@njit(cache=True, nogil=True)
def is_depth_text(buf: Array, at: int, end: int) -> bool:
    """Whether an unreadable frame calls itself a depth frame near its start."""
    stop = min(end, at + 120) - 5
    for i in range(at, stop):
        if (
            buf[i] == 100
            and buf[i + 1] == 101
            and buf[i + 2] == 112
            and buf[i + 3] == 116
            and buf[i + 4] == 104
        ):
            return True
    return False


@njit(cache=True, nogil=True)
def read_fields(  # noqa: C901 - one branch a key; a table of functions does not compile
    buf: Array,
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
        if key == K_EVENT:
            if buf[at] != QUOTE:
                return event, has, n, -1
            event, at = read_word(buf, at, end)
        elif key == K_TIME:
            stamp, at = read_integer(buf, at, end)
            r["exch"] = nanoseconds(stamp)
            has |= H_TIME
        elif key == K_MATCHED:
            stamp, at = read_integer(buf, at, end)
            r["matched"] = nanoseconds(stamp)
        elif key == K_SYMBOL:
            start = at + 1
            _, at = read_word(buf, at, end)
            if at < 0:
                return event, has, n, -1
            same = at - 1 - start == len(symbol)
            if same:
                for i in range(len(symbol)):
                    if buf[start + i] != symbol[i]:
                        same = False
                        break
            has |= H_SYMBOL
            r["side"] = 0 if same else FOREIGN
        elif key == K_FIRST:
            r["first_id"], at = read_integer(buf, at, end)
            has |= H_FIRST
        elif key == K_LAST:
            r["last_id"], at = read_integer(buf, at, end)
            has |= H_LAST
        elif key == K_PREV:
            r["prev_id"], at = read_integer(buf, at, end)
            has |= H_PREV
        elif key == K_SNAP_ID:
            r["last_id"], at = read_integer(buf, at, end)
            has |= H_SNAP
        elif key == K_TRADE:
            r["last_id"], at = read_integer(buf, at, end)
            has |= H_TRADE
        elif (key == K_BIDS and buf[at] == OPEN) or key == K_SNAP_BIDS:
            if has & (H_BIDS | H_ASKS):
                return event, has, n, -1  # bids come first and once, or the slices lie
            before = n
            n, at = read_levels(buf, at, end, tick_units, ticks, qtys, n)
            r["n_bid"] = n - before
            has |= H_BIDS
        elif (key == K_ASKS and buf[at] == OPEN) or key == K_SNAP_ASKS:
            if not has & H_BIDS or has & H_ASKS:
                return event, has, n, -1
            before = n
            n, at = read_levels(buf, at, end, tick_units, ticks, qtys, n)
            r["n_ask"] = n - before
            has |= H_ASKS
        elif key == K_BIDS or (key == K_PRICE and event == W_TRADE):
            r["bid"], at = read_price(buf, at, end, tick_units)
            has |= H_BID if key == K_BIDS else H_PRICE
        elif key == K_ASKS:
            r["ask"], at = read_price(buf, at, end, tick_units)
            has |= H_ASK
        elif key == K_BID_QTY or (key == K_QTY and event == W_TRADE):
            r["bid_qty"], at = read_quantity(buf, at, end)
            has |= H_BID_QTY if key == K_BID_QTY else H_QTY
        elif key == K_ASK_QTY:
            r["ask_qty"], at = read_quantity(buf, at, end)
            has |= H_ASK_QTY
        elif key == K_MAKER and event == W_TRADE:
            # m = the buyer is the maker, so the aggressor sold (VENUES, Trades).
            r["n_bid"] = -1 if buf[at] == 116 else 1
            at = skip_value(buf, at, end)
            has |= H_SIDE
        elif key == K_TYPE and event == W_TRADE:
            word, at = read_word(buf, at, end)
            if word != W_MARKET:
                r["n_ask"] = 1  # insurance fund or ADL: not flow
        else:
            at = skip_value(buf, at, end)
        if at < 0 or at >= end:
            return event, has, n, -1
        if buf[at] == RIGHT:
            return event, has, n, at + 1
        if buf[at] != COMMA:
            return event, has, n, -1
        at += 1


@njit(cache=True, nogil=True)
def decode_frame(  # noqa: C901 - one branch a kind of event
    buf: Array,
    at: int,
    end: int,
    row: Array,
    symbol: Array,
    tick_units: int,
    ticks: Array,
    qtys: Array,
    n: int,
) -> int:
    """One frame buf[at:end] into row[0] and its levels behind `n`; returns the new n.

    `recv` is the caller's. Depth is left as BOOK_CHANGED and a snapshot as BOOK_RESET,
    neither yet admitted.
    """
    r = row[0]
    start = at
    first = n
    r["kind"] = NOTHING
    r["exch"] = 0
    r["matched"] = 0
    r["first_id"] = 0
    r["last_id"] = 0
    r["prev_id"] = -1
    r["lo"] = n
    r["n_bid"] = 0
    r["n_ask"] = 0
    r["side"] = UNREADABLE
    r["frame_end"] = 1
    wrapped = False
    if at + 10 < end and buf[at] == LEFT and buf[at + 1] == QUOTE:
        word, behind = read_word(buf, at + 1, end)
        if behind > 0 and word == STREAM and behind + 1 < end and buf[behind + 1] == QUOTE:
            _, behind = read_word(buf, behind + 1, end)
            if behind > 0 and behind + 8 < end and buf[behind] == COMMA:
                word, behind = read_word(buf, behind + 1, end)
                if behind > 0 and word == DATA and buf[behind] == COLON:
                    at = behind + 1
                    wrapped = True
    has = 0
    event = 0
    ok = at < end and buf[at] == LEFT
    if ok:
        event, has, n, at = read_fields(buf, at, end, row, symbol, tick_units, ticks, qtys, n)
        ok = at >= 0
    if ok and wrapped:
        ok = at < end and buf[at] == RIGHT
        at += 1
    if not ok or at != end:
        r["side"] = UNREADABLE_DEPTH if is_depth_text(buf, start, end) else UNREADABLE
        return first
    if r["matched"] == 0:
        r["matched"] = r["exch"]
    foreign = r["side"] == FOREIGN and has & H_SYMBOL
    r["side"] = FOREIGN if foreign else OTHER_EVENT
    if foreign:
        return first
    if event == W_DEPTH:
        if has & IS_DEPTH == IS_DEPTH and r["first_id"] <= r["last_id"]:
            r["kind"] = BOOK_CHANGED
            return n
        r["side"] = UNREADABLE_DEPTH
    elif event == W_TRADE:
        if has & IS_TRADE != IS_TRADE or r["bid_qty"] <= 0.0:
            r["side"] = UNREADABLE
        elif r["n_ask"] == 0:
            r["kind"] = TRADED
            r["side"] = r["n_bid"]
        r["n_bid"] = 0
        r["n_ask"] = 0
    elif event == W_TICKER or event == 0:
        if has & IS_SNAPSHOT == IS_SNAPSHOT:
            r["kind"] = BOOK_RESET
            return n
        if has & IS_TICKER == IS_TICKER:
            if r["bid"] < r["ask"] and r["bid_qty"] > 0.0 and r["ask_qty"] > 0.0:
                r["kind"] = TOUCH_CHANGED
            else:
                r["side"] = UNREADABLE
        elif event == W_TICKER:
            r["side"] = UNREADABLE
    return first


@njit(cache=True, nogil=True)
def decode_lines(
    buf: Array,
    at: int,
    rows: Array,
    ticks: Array,
    qtys: Array,
    symbol: Array,
    tick_units: int,
    chain: Array,
    counts: Array,
    recv: int,
) -> tuple[int, int, int]:
    """Capture lines from offset `at` into rows: (rows written, new offset, DONE|FULL|LOOK).

    A line is `<receive time> <frame>` and ends with a newline. Deltas of a synced book are
    admitted here; a row that needs more than that is the last one (LOOK). `recv` is the
    last receive time so far; `counts` is indexed by kind, then by reason.
    """
    end = len(buf)
    n = 0
    used = 0
    while at < end:
        if n == len(rows):
            return n, at, FULL
        stop = at
        while stop < end and buf[stop] != 10:
            stop += 1
        # A level takes at least ten bytes of text: what may not fit waits for an empty tape.
        if n > 0 and used + (stop - at) // 10 > len(ticks):
            return n, at, FULL
        stamp, behind = read_integer(buf, at, min(stop, at + 20))
        row = rows[n : n + 1]
        r = row[0]
        if behind > 0 and behind < stop and buf[behind] == 32:
            r["recv"] = nanoseconds(stamp)
            used = decode_frame(buf, behind + 1, stop, row, symbol, tick_units, ticks, qtys, used)
        else:
            used = decode_frame(buf, stop, stop, row, symbol, tick_units, ticks, qtys, used)
            r["recv"] = recv
        at = min(stop + 1, end)
        r["text_end"] = at
        n += 1
        kind = r["kind"]
        if kind == NOTHING:
            counts[8 + r["side"]] += 1
        else:
            counts[kind] += 1
        if r["recv"] < recv - JUMP_BACK_NS:
            return n, at, LOOK
        if r["recv"] > recv:
            recv = r["recv"]
        if kind == BOOK_CHANGED:
            if chain[SYNCED] == 0:
                return n, at, LOOK
            verdict = admit(chain, r["first_id"], r["last_id"], r["prev_id"])
            if verdict == OLD:
                r["kind"] = NOTHING
                r["side"] = OLD_DELTA
                counts[8 + OLD_DELTA] += 1
                if chain[OLD_RUN] == 0:
                    return n, at, LOOK
            elif verdict == GAP:
                return n, at, LOOK
        elif kind == BOOK_RESET or (kind == NOTHING and r["side"] == UNREADABLE_DEPTH):
            return n, at, LOOK
    return n, at, DONE
