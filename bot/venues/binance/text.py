"""Compiled readers of compact JSON text: words, integers, decimals, levels.

Each takes the buffer, an offset and the end of the frame, and returns what it read and the
offset behind it, or -1 where the text is anything else than expected. None of them raises,
and none reads at or behind `end`.
"""

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

PRICE_DECIMALS: Final = 10
DIGITS_MAX: Final = 18
INTEGER_MAX: Final = (2**63 - 10) // 10  # one more digit still fits an int64

NEWLINE: Final = 10
SPACE: Final = 32
QUOTE: Final = 34
COMMA: Final = 44
POINT: Final = 46
COLON: Final = 58
BRACKET_OPEN: Final = 91
BRACKET_CLOSE: Final = 93
BRACE_OPEN: Final = 123
BRACE_CLOSE: Final = 125
BACKSLASH: Final = 92

POW10: Final = np.array([10**n for n in range(DIGITS_MAX + 1)], np.int64)
POW10_FLOAT: Final = np.array([10.0**n for n in range(DIGITS_MAX + 1)])

TRUE: Final = np.frombuffer(b"true", np.uint8)
FALSE: Final = np.frombuffer(b"false", np.uint8)

ONE: Final = np.uint64(1)
SIXTEEN: Final = np.uint64(16)

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def read_word(buf: bytes, at: int, end: int) -> tuple[int, int]:
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
def read_integer(buf: bytes, at: int, end: int) -> tuple[int, int]:
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
def read_decimal(buf: bytes, at: int, end: int) -> tuple[int, int, int]:
    """A quoted unsigned decimal: (mantissa, decimals, offset behind its quote or -1).

    Of a number with too many digits the zeros at the end of its fraction do not count.
    """
    if at >= end or buf[at] != QUOTE:
        return 0, 0, -1
    at += 1
    start = at
    mantissa = 0
    while at < end and 48 <= buf[at] <= 57:
        mantissa = mantissa * 10 + (int(buf[at]) - 48)
        at += 1
    digits = at - start
    decimals = 0
    if digits > 0 and at < end and buf[at] == POINT:
        at += 1
        start = at
        while at < end and 48 <= buf[at] <= 57:
            mantissa = mantissa * 10 + (int(buf[at]) - 48)
            at += 1
        decimals = at - start
        digits = digits + decimals if decimals > 0 else 0
    if digits == 0 or at >= end or buf[at] != QUOTE:
        return 0, 0, -1
    if digits > DIGITS_MAX:
        return read_long_decimal(buf, at - digits - 1, at, decimals)
    return mantissa, decimals, at + 1


@njit(cache=True, nogil=True)
def read_long_decimal(buf: bytes, at: int, end: int, decimals: int) -> tuple[int, int, int]:
    """As `read_decimal` for digits that are known to be digits, from `at` to their quote."""
    last = end
    while decimals > 0 and buf[last - 1] == 48:
        last -= 1
        decimals -= 1
    mantissa = 0
    digits = 0
    for i in range(at, last):
        if 48 <= buf[i] <= 57:
            mantissa = mantissa * 10 + (int(buf[i]) - 48)
            digits += 1
            if digits > DIGITS_MAX:
                return 0, 0, -1
    return mantissa, decimals, end + 1


@njit(cache=True, nogil=True)
def read_price(buf: bytes, at: int, end: int, tick_units: int) -> tuple[int, int]:
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
def read_quantity(buf: bytes, at: int, end: int) -> tuple[float, int]:
    """A displayed quantity: (value, offset or -1); mantissa / 10^n is correctly
    rounded up to a mantissa of 2^53 and off by at most one unit in the last place beyond."""
    mantissa, decimals, at = read_decimal(buf, at, end)
    if at < 0:
        return 0.0, -1
    return mantissa / POW10_FLOAT[decimals], at


@njit(cache=True, nogil=True)
def read_fixed(buf: bytes, p: Any) -> tuple[int, int, Any]:
    """`"digits.digits"` at the unsigned offset `p`: (mantissa, decimals, offset behind it).

    -1 decimals where the text is anything else or has more than 15 digits, which a float
    could not hold. No loop crosses a newline, so offsets need not be held against an end;
    they are unsigned because numba lets a negative offset count from the back, which costs
    every byte a look.
    """
    if buf[p] != QUOTE:
        return 0, -1, p
    p += ONE
    start = p
    value = 0
    digit = int(buf[p]) - 48
    while 0 <= digit <= 9:
        value = value * 10 + digit
        p += ONE
        digit = int(buf[p]) - 48
    if digit != POINT - 48:
        return 0, -1, p
    point = p
    p += ONE
    digit = int(buf[p]) - 48
    while 0 <= digit <= 9:
        value = value * 10 + digit
        p += ONE
        digit = int(buf[p]) - 48
    decimals = int(p - point) - 1
    if digit != QUOTE - 48 or decimals == 0 or point == start or p - start > SIXTEEN:
        return 0, -1, p
    return value, decimals, p + ONE


@njit(cache=True, nogil=True)
def read_level(
    buf: bytes, at: int, end: int, tick_units: int, ticks: Array, qtys: Array, n: int
) -> int:
    """`["price","qty"]` however spelt into ticks[n], qtys[n]: offset behind it or -1."""
    if at >= end or buf[at] != BRACKET_OPEN:
        return -1
    tick, at = read_price(buf, at + 1, end, tick_units)
    if at < 0 or at >= end or buf[at] != COMMA:
        return -1
    qty, at = read_quantity(buf, at + 1, end)
    if at < 0 or at >= end or buf[at] != BRACKET_CLOSE:
        return -1
    ticks[n] = tick
    qtys[n] = qty
    return at + 1


@njit(cache=True, nogil=True)
def read_levels(
    buf: bytes, at: int, end: int, tick_units: int, ticks: Array, qtys: Array, n: int
) -> tuple[int, int]:
    """`[["price","qty"],…]` into ticks[n:], qtys[n:]: (new n, offset or -1).

    A newline must stand at `end`. Levels as venues write them take `read_fixed`, all others
    `read_level`.
    """
    if at >= end or buf[at] != BRACKET_OPEN:
        return n, -1
    if buf[at + 1] == BRACKET_CLOSE:
        return n, at + 2
    p = np.uint64(at) + ONE
    known = -1  # decimals that `units` and `inverse` are for
    units = 0  # of the price's last decimal in a tick, 0 where a tick is no whole number of them
    inverse = 0.0
    while n < len(ticks) and buf[p] == BRACKET_OPEN:
        level = p
        mantissa, decimals, p = read_fixed(buf, level + ONE)
        qty = 0
        qty_decimals = -1
        if decimals >= 0 and buf[p] == COMMA:
            qty, qty_decimals, p = read_fixed(buf, p + ONE)
            if decimals != known:
                known = decimals
                unit = int(POW10[PRICE_DECIMALS - decimals]) if decimals <= PRICE_DECIMALS else 0
                units = tick_units // unit if unit > 0 and tick_units % unit == 0 else 0
                inverse = 1.0 / units if units > 0 else 0.0
        # A division costs more than a product, a rounding and the proof that they were right.
        tick = int(mantissa * inverse + 0.5)
        quick = qty_decimals >= 0 and tick > 0 and tick * units == mantissa
        if quick and buf[p] == BRACKET_CLOSE:
            ticks[n] = tick
            qtys[n] = qty / POW10_FLOAT[qty_decimals]
            p += ONE
        else:
            behind = read_level(buf, int(level), end, tick_units, ticks, qtys, n)
            if behind < 0:
                return n, -1
            p = np.uint64(behind)
        n += 1
        if buf[p] == BRACKET_CLOSE:
            return n, int(p) + 1
        if buf[p] != COMMA:
            return n, -1
        p += ONE
    return n, -1


@njit(cache=True, nogil=True)
def skip_value(buf: bytes, at: int, end: int) -> int:
    """Offset behind a value that nobody needs, -1 when it does not end in its frame."""
    depth = 0
    while at < end and buf[at] >= SPACE:
        c = buf[at]
        if c == QUOTE:
            at += 1
            while at < end and buf[at] >= SPACE and buf[at] != QUOTE:
                at += 2 if buf[at] == BACKSLASH else 1
            if at >= end or buf[at] != QUOTE:
                return -1
        elif c in (BRACKET_OPEN, BRACE_OPEN):
            depth += 1
        elif c in (BRACKET_CLOSE, BRACE_CLOSE):
            if depth == 0:
                return at
            depth -= 1
        elif c == COMMA and depth == 0:
            return at
        at += 1
    return -1


@njit(cache=True, nogil=True)
def line_end(buf: bytes, at: int, end: int) -> int:
    """Offset of the first newline from `at`; one must stand at `end`."""
    while buf[at] != NEWLINE and at < end:
        at += 1
    return at


@njit(cache=True, nogil=True)
def spells(buf: bytes, at: int, end: int, word: Array) -> bool:
    """Whether `word` stands at `at`, with something behind it before `end`."""
    if at + len(word) >= end:
        return False
    i = 0
    while i < len(word) and buf[at + i] == word[i]:
        i += 1
    return i == len(word)


@njit(cache=True, nogil=True)
def read_flag(buf: bytes, at: int, end: int) -> tuple[bool, int]:
    """`true` or `false`: (value, offset or -1)."""
    if spells(buf, at, end, TRUE):
        return True, at + len(TRUE)
    if spells(buf, at, end, FALSE):
        return False, at + len(FALSE)
    return False, -1


@njit(cache=True, nogil=True)
def nanoseconds(stamp: int) -> int:
    """A time since the epoch in ms, µs or ns, told apart by magnitude, as ns; -1 if too large."""
    if stamp < 100_000_000_000_000:
        return stamp * 1_000_000 if stamp < 9_000_000_000_000 else -1
    if stamp < 100_000_000_000_000_000:
        return stamp * 1_000 if stamp < 9_000_000_000_000_000 else -1
    return stamp if stamp < 9_000_000_000_000_000_000 else -1
