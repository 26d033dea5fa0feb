"""The L2 book as an object: arrays, their kernels, and readings for Python."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bot.domain.tape import LOST_NAMES
from bot.domain.units import Side
from bot.market import kernels
from bot.market.kernels import (
    CROSSED,
    ENVELOPE_NONE,
    LOST,
    ONE_SIDED,
    OVERFLOW,
    TICKER_DISAGREES,
    TRUSTED,
    UNSYNCED,
)
from bot.market.levels import BOOK, HEAD, WINDOW, best_above, best_below

NAMES = {
    TRUSTED: "",
    UNSYNCED: "unsynced",
    CROSSED: "crossed",
    ONE_SIDED: "one_sided",
    TICKER_DISAGREES: "ticker_disagrees",
    OVERFLOW: "overflow",
    **{LOST + cause: name for cause, name in LOST_NAMES.items()},
}


def array_index(side: Side) -> int:
    """Where a side stands in the book's arrays and in a paper order: bids first."""
    return 0 if side is Side.BUY else 1


class Head(NamedTuple):
    """The scalars of the book as Python values; the fields of `kernels.HEAD` in order."""

    base: int
    best_bid: int
    best_ask: int
    book_id: int
    synced: int
    distrust: int
    since: int
    far_n: int
    far_full: int
    ticker_id: int
    ticker_bid: int
    ticker_ask: int
    ticker_bid_qty: float
    ticker_ask_qty: float
    overlay: int
    bid: int
    ask: int
    bid_qty: float
    ask_qty: float
    recv: int
    depth_recv: int
    depth_matched: int
    envelope: int
    envelope_recv: int
    age: int
    fair: float
    fair_weight: float
    wake_low: float
    wake_high: float


assert Head._fields == HEAD.names


class Book:
    """One symbol's book in ticks.

    `memory` is the record of `kernels.BOOK` as bytes, `record` and `head` are views of it.
    `fair_weight` is the weight of the quantity-weighted mid in the fair price.
    """

    __slots__ = ("_depth", "head", "memory", "record")

    def __init__(self, fair_weight: float = 0.5) -> None:
        self.memory = np.zeros(BOOK.itemsize, np.uint8)
        self.record: NDArray[Any] = self.memory.view(BOOK)
        self.head: NDArray[Any] = self.memory[: HEAD.itemsize].view(HEAD)
        self.head["distrust"] = UNSYNCED
        self.head["envelope"] = ENVELOPE_NONE
        self.head["fair_weight"] = fair_weight
        self.head["base"] = WINDOW // 2
        self._depth = np.zeros(2)

    def learn(self, rows: NDArray[Any], i: int, ticks: NDArray[Any], qtys: NDArray[Any]) -> int:
        """Learn row `i` of a tape; returns the flags of `kernels.learn_row`."""
        return int(kernels.learn_row(self.record, rows, i, ticks, qtys))

    def read(self) -> Head:
        """All scalars at once."""
        return Head._make(self.head[0].item())

    @property
    def trusted(self) -> bool:
        """Whether the book may be quoted from."""
        return bool(self.head[0]["distrust"] == TRUSTED)

    def wake_outside(self, low: float, high: float) -> None:
        """Flag MOVED once the fair price (ticks) leaves [low, high]."""
        self.head["wake_low"] = low
        self.head["wake_high"] = high

    def depth(self, bps: float) -> tuple[float, float]:
        """Sum of tick x quantity within `bps` of the mid, bids and asks (MODEL 7)."""
        kernels.depth_within(self.memory, bps, self._depth)
        bid, ask = self._depth.tolist()
        return bid, ask

    def cost_to_move(self, fraction: float) -> tuple[float, float]:
        """Tick x quantity that a taker pays to move price down and up by `fraction` (MODEL 7)."""
        return self.depth(fraction * 1e4)

    def quantity(self, side: Side, tick: int) -> float:
        """Displayed quantity at `tick` from depth alone."""
        return float(kernels.quantity_at(self.memory, array_index(side), tick))

    def top(self, side: Side, n: int) -> tuple[tuple[int, float], ...]:
        """The first `n` levels of a side, best first, as (tick, quantity), from depth alone."""
        found: list[tuple[int, float]] = []
        next_best = best_below if side is Side.BUY else best_above
        tick = int(self.head[0]["best_bid" if side is Side.BUY else "best_ask"])
        while tick != 0 and len(found) < n:
            found.append((tick, self.quantity(side, tick)))
            tick = int(next_best(self.record, tick - side))
        return tuple(found)

    def levels(self, side: Side) -> dict[int, float]:
        """Every level of a side, ticks to quantity, also those outside the window."""
        book = self.record[0]
        row = array_index(side)
        base, qty, far_key, far_qty = (book[n] for n in ("base", "qty", "far_key", "far_qty"))
        found = {int(base + i): float(qty[row, i]) for i in np.flatnonzero(qty[row])}
        for slot in np.flatnonzero((far_key != 0) & (far_qty != 0.0)):
            key = int(far_key[slot]) - 1
            if key & 1 == row:
                found[key >> 1] = float(far_qty[slot])
        return found

    def __repr__(self) -> str:
        h = self.read()
        state = NAMES[h.distrust] or "trusted"
        return f"<Book {state} u={h.book_id} {h.bid}:{h.bid_qty} / {h.ask}:{h.ask_qty}>"
