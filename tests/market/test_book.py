import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.tape import (
    BOOK_CHANGED,
    BOOK_LOST,
    BOOK_RESET,
    LOST_GAP,
    LOST_NAMES,
    NOTHING,
    ROW,
    TOUCH_CHANGED,
    TRADED,
)
from bot.domain.units import Side
from bot.market.book import NAMES, Book
from bot.market.kernels import (
    CROSSED,
    ENVELOPE_NS_PER_NS,
    LOST,
    MOVED,
    ONE_SIDED,
    OVERFLOW,
    TICKER_DISAGREES,
    TRUST,
    TRUSTED,
    UNSYNCED,
)
from bot.market.levels import FAR_LIVE_MAX, WINDOW

S = 10**9
MID = 5_000_000  # ticks, far from where the window can touch 0
Levels = dict[int, float]

_BOOK = Book()
_PRISTINE = _BOOK.head.copy()


def fresh() -> Book:
    """An untouched book; it is big, so one is wiped and used again."""
    _BOOK.memory[:] = 0
    _BOOK.head[:] = _PRISTINE
    return _BOOK


def learn(
    book: Book,
    kind: int,
    u: int,
    bids: Levels | None = None,
    asks: Levels | None = None,
    **fields: Any,
) -> int:
    bids, asks = bids or {}, asks or {}
    row = np.zeros(1, ROW)
    row["kind"], row["last_id"] = kind, u
    row["n_bid"], row["n_ask"], row["frame_end"] = len(bids), len(asks), 1
    for name, value in fields.items():
        row[name] = value
    ticks = np.array([*bids, *asks, 0], np.int64)
    return book.learn(row, 0, ticks, np.array([*bids.values(), *asks.values(), 0.0]))


def touch(book: Book, u: int, bid: int, bid_qty: float, ask: int, ask_qty: float) -> int:
    return learn(book, TOUCH_CHANGED, u, bid=bid, bid_qty=bid_qty, ask=ask, ask_qty=ask_qty)


def simple(u: int = 10) -> Book:
    book = fresh()
    flags = learn(
        book, BOOK_RESET, u, {MID: 2.0, MID - 3: 5.0}, {MID + 2: 1.0, MID + 4: 7.0}, recv=S
    )
    assert flags == TRUST
    assert book.read().distrust == TRUSTED
    return book


class Plain:
    """The book as two dicts."""

    def __init__(self) -> None:
        self.sides: list[Levels] = [{}, {}]

    def put(self, bids: Levels, asks: Levels) -> None:
        for side, levels in zip(self.sides, (bids, asks), strict=True):
            side.update(levels)
            for tick in [tick for tick, qty in side.items() if qty == 0.0]:
                del side[tick]

    @property
    def best(self) -> tuple[int, int]:
        return max(self.sides[0], default=0), min(self.sides[1], default=0)

    def depth(
        self, bps: float, touch_: tuple[int, float, int, float] | None
    ) -> tuple[float, float]:
        bid, ask = self.best
        bids, asks = self.sides
        if touch_ is not None:
            bid, bid_qty, ask, ask_qty = touch_
            bids = {t: q for t, q in bids.items() if t < bid} | {bid: bid_qty}
            asks = {t: q for t, q in asks.items() if t > ask} | {ask: ask_qty}
        mid = (bid + ask) / 2
        low, high = mid * (1 - bps * 1e-4), mid * (1 + bps * 1e-4)
        return (
            math.fsum(t * q for t, q in bids.items() if low <= t <= bid),
            math.fsum(t * q for t, q in asks.items() if ask <= t <= high),
        )


def check(book: Book, plain: Plain) -> None:
    h = book.read()
    assert (h.best_bid, h.best_ask) == plain.best
    assert [book.levels(side) for side in Side] == plain.sides
    for side, levels in zip(Side, plain.sides, strict=True):
        for tick, qty in levels.items():
            assert book.quantity(side, tick) == qty
            assert book.quantity(side, tick + WINDOW * 64) == 0.0
    bid, ask = plain.best
    if bid and ask:
        assert h.distrust == (CROSSED if bid >= ask else TRUSTED)
    else:
        assert h.distrust == ONE_SIDED


QTY = st.sampled_from([0.0, 0.0, 1.0, 0.001, 2.5, 25.42618900])
NEAR = st.integers(-100, 100)
EDGE = st.sampled_from([-1, 1]).flatmap(
    lambda sign: st.integers(-2, 2).map(lambda d: sign * WINDOW // 2 + d)
)
FAR = st.integers(-15 * WINDOW, 15 * WINDOW)
STEP = st.integers(-5 * WINDOW, 5 * WINDOW)


@st.composite
def sides(draw: st.DrawFn, apart: st.SearchStrategy[int]) -> tuple[Levels, Levels]:
    """Bids below the middle and asks above it, as offsets."""
    bids = draw(st.dictionaries(apart.map(lambda d: -abs(d) - 1), QTY, max_size=8))
    asks = draw(st.dictionaries(apart.map(lambda d: abs(d) + 1), QTY, max_size=8))
    return bids, asks


@st.composite
def walks(draw: st.DrawFn, apart: st.SearchStrategy[int], step: Any) -> list[Any]:
    """Resets and deltas around a middle that may jump: (is_reset, bids, asks)."""
    middle = MID
    events = []
    plain = Plain()
    for i in range(draw(st.integers(1, 12))):
        reset = i == 0 or draw(st.integers(0, 9)) == 0
        if draw(st.integers(0, 2)) == 0:
            middle = min(max(middle + draw(step), 1_000), MID * 3)
        bids, asks = ({middle + d: q for d, q in side.items()} for side in draw(sides(apart)))
        bids = {t: q for t, q in bids.items() if t > 0}
        asks = {t: q for t, q in asks.items() if t > 0}
        if reset:
            plain = Plain()
        else:
            # What the middle passed is gone, and the same event says so.
            bids |= {t: 0.0 for t in plain.sides[0] if t >= middle}
            asks |= {t: 0.0 for t in plain.sides[1] if t <= middle}
        plain.put(bids, asks)
        events.append((reset, bids, asks))
    return events


def replay(events: list[Any]) -> tuple[Book, Plain]:
    book, plain = fresh(), Plain()
    for u, (reset, bids, asks) in enumerate(events, 1):
        if reset:
            plain = Plain()
        plain.put(bids, asks)
        learn(book, BOOK_RESET if reset else BOOK_CHANGED, u, bids, asks, recv=u)
        check(book, plain)
    return book, plain


@given(walks(NEAR, st.integers(-150, 150)))
@settings(deadline=None, max_examples=100)
def test_near_levels(events: list[Any]) -> None:
    replay(events)


@given(walks(st.one_of(NEAR, EDGE, FAR), STEP))
@settings(deadline=None, max_examples=100)
def test_far_levels_and_a_moving_window(events: list[Any]) -> None:
    replay(events)


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.dictionaries(st.one_of(NEAR, FAR).map(lambda d: abs(MID + d) + 1), QTY, max_size=5),
            st.dictionaries(st.one_of(NEAR, FAR).map(lambda d: abs(MID + d) + 1), QTY, max_size=5),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(deadline=None, max_examples=120)
def test_any_levels_also_crossed(events: list[Any]) -> None:
    replay([(True, {}, {}), *events])


def test_a_crossed_far_ask_is_not_forgotten() -> None:
    """Removing the best ask below the window finds the next one below the window."""
    book, plain = fresh(), Plain()
    low = MID - 2 * WINDOW
    for u, (bids, asks) in enumerate(
        [({MID: 1.0}, {MID + 5: 1.0, low: 1.0, low + 9: 1.0}), ({}, {low: 0.0})], 1
    ):
        plain.put(bids, asks)
        learn(book, BOOK_RESET if u == 1 else BOOK_CHANGED, u, bids, asks)
        check(book, plain)


@given(
    walks(st.integers(-300, 300), st.integers(-100, 100)),
    st.sampled_from([0.01, 0.1, 0.3, 0.6, 1.0, 5.0]),
    st.one_of(st.none(), st.tuples(st.integers(-80, 80), st.integers(1, 40))),
)
@settings(deadline=None, max_examples=120)
def test_depth_is_the_sum_of_the_levels(
    events: list[Any], bps: float, ticker: tuple[int, int] | None
) -> None:
    book, plain = replay(events)
    bid, ask = plain.best
    if not bid or not ask:
        return
    stated = None
    if ticker is not None:
        stated = (bid + ticker[0], 0.75, bid + ticker[0] + ticker[1], 1.25)
        touch(book, 1_000, *stated)
        assert book.read().overlay == 1
    assert book.depth(bps) == pytest.approx(plain.depth(bps, stated), rel=1e-12)
    assert book.cost_to_move(bps * 1e-4) == pytest.approx(book.depth(bps), rel=1e-9)


@pytest.mark.parametrize("low", [1_000, WINDOW // 2 + 10, WINDOW - 100])
def test_depth_near_the_first_tick(low: int) -> None:
    """A cheap symbol whose price grew: the window follows although it began at tick 0."""
    book, plain = fresh(), Plain()
    path = sorted({500, low})
    for u, middle in enumerate(path, 1):
        bids = {middle: 1.0} | {t: 0.0 for t in plain.sides[0]}
        asks = {t: 0.0 for t in plain.sides[1]} | {middle + 200: 3.0}
        plain.put(bids, asks)
        learn(book, BOOK_RESET if u == 1 else BOOK_CHANGED, u, bids, asks)
        check(book, plain)
    assert book.depth(9_000.0) == pytest.approx(plain.depth(9_000.0, None))


def test_many_far_levels_are_an_overflow() -> None:
    book = simple()
    far = {MID + WINDOW + i: 1.0 for i in range(FAR_LIVE_MAX + 1)}
    learn(book, BOOK_CHANGED, 11, {}, far)
    # The next move of the window finds it out.
    jump = MID + WINDOW // 3
    learn(book, BOOK_CHANGED, 12, {jump: 1.0}, {MID + 2: 0.0, MID + 4: 0.0, jump + 1: 1.0})
    assert book.read().distrust == OVERFLOW
    assert "overflow" in repr(book)
    learn(book, BOOK_RESET, 13, {MID: 1.0}, {MID + 1: 1.0})
    assert book.read().distrust == TRUSTED


FLOOD = """
import numpy as np
from bot.domain.tape import BOOK_RESET, ROW
from bot.market.book import Book
book, n = Book(), 70_000
row = np.zeros(1, ROW)
row["kind"], row["n_bid"], row["n_ask"] = BOOK_RESET, 1, n
ticks = np.concatenate([[5_000_000], 6_000_000 + np.arange(n)])
book.learn(row, 0, ticks, np.ones(n + 1))
print(repr(book))
"""


def test_more_far_levels_than_the_table_holds_end_in_distrust() -> None:
    """In a process of its own, so that a kernel without an end fails instead of hanging."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", FLOOD],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=True,
            timeout=15,
        )
    except subprocess.TimeoutExpired:
        pytest.fail("the far table is full and the kernel does not end")
    assert done.stdout.startswith("<Book overflow ")


def test_removed_far_levels_take_no_room() -> None:
    book, u = simple(), 10
    for turn in range(8):
        far = [MID + WINDOW + turn * 40_000 + i for i in range(20_000)]
        u += 2
        learn(book, BOOK_CHANGED, u, {}, dict.fromkeys(far, 1.0))
        assert book.quantity(Side.SELL, far[-1]) == 1.0
        learn(book, BOOK_CHANGED, u + 1, {}, dict.fromkeys(far, 0.0))
    assert book.read().distrust == TRUSTED
    assert len(book.levels(Side.SELL)) == 2


def test_recentring_keeps_every_level() -> None:
    book, plain = fresh(), Plain()
    bids = {MID - i * 997: 1.0 + i for i in range(1000)}
    asks = {MID + 1 + i * 1009: 2.0 + i for i in range(1000)}
    plain.put(bids, asks)
    learn(book, BOOK_RESET, 1, bids, asks)
    check(book, plain)
    bases = {book.read().base}
    for u, step in enumerate([WINDOW // 3, WINDOW // 3, -WINDOW * 2, WINDOW * 3, -WINDOW // 2], 2):
        middle = plain.best[0] + step
        bids = {t: 0.0 for t in plain.sides[0] if t > middle} | {middle: 9.0}
        asks = {t: 0.0 for t in plain.sides[1] if t <= middle} | {middle + 1: 8.0}
        plain.put(bids, asks)
        learn(book, BOOK_CHANGED, u, bids, asks)
        check(book, plain)
        bases.add(book.read().base)
    assert len(bases) == 6


def test_a_reset_replaces_the_book() -> None:
    book = simple()
    learn(book, BOOK_RESET, 20, {MID + 50: 1.0}, {MID + 60: 2.0})
    assert [book.levels(side) for side in Side] == [{MID + 50: 1.0}, {MID + 60: 2.0}]
    assert book.read().book_id == 20


def test_one_sided() -> None:
    book = simple()
    assert learn(book, BOOK_CHANGED, 11, {}, {MID + 2: 0.0, MID + 4: 0.0}, recv=2 * S) == TRUST
    h = book.read()
    assert (h.distrust, h.since) == (ONE_SIDED, 2 * S)
    assert learn(book, BOOK_CHANGED, 12, {MID - 1: 1.0}, recv=3 * S) == 0
    assert book.read().since == 2 * S
    assert learn(book, BOOK_CHANGED, 13, {}, {MID + 2: 1.0}, recv=4 * S) == TRUST
    assert (book.read().distrust, book.read().since) == (TRUSTED, 4 * S)


@pytest.mark.parametrize("bid", [MID + 2, MID + 3])
def test_crossed(bid: int) -> None:
    book = simple()
    assert learn(book, BOOK_CHANGED, 11, {bid: 1.0}) == TRUST
    assert book.read().distrust == CROSSED
    assert repr(book).startswith("<Book crossed u=11 ")
    assert learn(book, BOOK_CHANGED, 12, {bid: 0.0}) == TRUST
    assert book.read().distrust == TRUSTED


def test_a_lost_book() -> None:
    book = simple()
    touch(book, 11, MID, 1.0, MID + 1, 1.0)
    assert learn(book, BOOK_LOST, 0, side=LOST_GAP, recv=2 * S) == TRUST
    h = book.read()
    assert (h.distrust, h.since, h.synced, h.overlay) == (LOST + LOST_GAP, 2 * S, 0, 0)
    assert touch(book, 12, MID, 1.0, MID + 1, 1.0) == 0
    assert book.read().overlay == 0
    assert learn(book, BOOK_RESET, 20, {MID: 1.0}, {MID + 1: 1.0}) == TRUST
    assert book.read().distrust == TRUSTED


def test_a_newer_ticker_overrides_the_touch() -> None:
    book = simple(10)
    touch(book, 11, MID + 1, 4.0, MID + 3, 6.0)
    h = book.read()
    assert (h.bid, h.bid_qty, h.ask, h.ask_qty, h.overlay) == (MID + 1, 4.0, MID + 3, 6.0, 1)
    assert (h.best_bid, h.best_ask) == (MID, MID + 2)
    assert h.fair == MID + 2 + 0.5 * ((MID + 1) * 6.0 + (MID + 3) * 4.0) / 10 - 0.5 * (MID + 2)
    # Depth that is older than the ticker leaves it; depth that caught up ends it.
    learn(book, BOOK_CHANGED, 10, {MID - 5: 1.0})
    assert book.read().overlay == 1
    learn(book, BOOK_CHANGED, 12, {MID - 6: 1.0})
    h = book.read()
    assert (h.bid, h.bid_qty, h.ask, h.ask_qty, h.overlay) == (MID, 2.0, MID + 2, 1.0, 0)


def test_an_older_ticker_is_ignored() -> None:
    book = simple(10)
    before = book.read()
    assert touch(book, 9, MID + 1, 4.0, MID + 3, 6.0) == 0
    h = book.read()
    assert (h.bid, h.ask, h.fair, h.overlay, h.distrust) == (
        before.bid,
        before.ask,
        before.fair,
        0,
        TRUSTED,
    )
    touch(book, 15, MID + 1, 4.0, MID + 3, 6.0)
    touch(book, 14, MID, 1.0, MID + 9, 1.0)
    touch(book, 15, MID, 1.0, MID + 9, 1.0)
    assert (book.read().ticker_id, book.read().ask) == (15, MID + 3)


def test_an_equal_ticker_that_agrees() -> None:
    book = simple(10)
    book.wake_outside(0.0, 2.0 * MID)
    assert touch(book, 10, MID, 2.0, MID + 2, 1.0) == 0
    assert book.read().distrust == TRUSTED
    assert book.read().overlay == 0


@pytest.mark.parametrize("first", ["ticker", "depth"])
@pytest.mark.parametrize(
    "stated",
    [
        (MID - 1, 2.0, MID + 2, 1.0),
        (MID, 2.5, MID + 2, 1.0),
        (MID, 2.0, MID + 3, 1.0),
        (MID, 2.0, MID + 2, 1.5),
    ],
)
def test_an_equal_ticker_that_disagrees(first: str, stated: tuple[int, float, int, float]) -> None:
    book = simple(9)
    if first == "ticker":
        touch(book, 10, *stated)
        assert learn(book, BOOK_CHANGED, 10, {MID - 9: 1.0}) == TRUST
    else:
        learn(book, BOOK_CHANGED, 10, {MID - 9: 1.0})
        assert touch(book, 10, *stated) == TRUST
    assert book.read().distrust == TICKER_DISAGREES
    # No later frame makes it good again; a new book does.
    learn(book, BOOK_CHANGED, 11, {MID: 3.0})
    touch(book, 12, MID, 3.0, MID + 2, 1.0)
    assert book.read().distrust == TICKER_DISAGREES
    assert learn(book, BOOK_RESET, 20, {MID: 3.0}, {MID + 2: 1.0}) == TRUST
    assert book.read().distrust == TRUSTED


@pytest.mark.parametrize("factor", [10, 2, 0.9, 0.1])
def test_a_ticker_far_from_the_book_is_no_market(factor: float) -> None:
    book = simple(9)
    far = round(MID * factor)
    assert touch(book, 10, far, 2.0, far + 1, 1.0) == TRUST
    assert book.read().distrust == TICKER_DISAGREES


@pytest.mark.parametrize("factor", [1.04, 0.96])
def test_a_ticker_may_run_ahead_of_the_book(factor: float) -> None:
    book = simple(9)
    ahead = round(MID * factor)
    touch(book, 10, ahead, 2.0, ahead + 1, 1.0)
    assert book.read().distrust == TRUSTED
    assert (book.read().bid, book.read().overlay) == (ahead, 1)


def test_wake_flags() -> None:
    book = simple(10)
    fair = book.read().fair
    book.wake_outside(fair - 0.4, fair + 0.4)
    assert learn(book, BOOK_CHANGED, 11, {MID - 7: 3.0}) == 0
    assert learn(book, TRADED, 1, bid=MID, bid_qty=1.0, side=1) == 0
    assert learn(book, NOTHING, 0) == 0
    assert touch(book, 12, MID + 1, 2.0, MID + 3, 1.0) == MOVED
    assert touch(book, 13, MID + 2, 2.0, MID + 4, 1.0) == MOVED
    assert touch(book, 14, MID, 2.0, MID + 2, 1.0) == 0
    assert learn(book, BOOK_CHANGED, 15, {MID: 0.0}) == MOVED
    # An untrusted book wakes once, not with every move.
    assert learn(book, BOOK_CHANGED, 16, {MID + 9: 1.0}) == TRUST
    assert learn(book, BOOK_CHANGED, 17, {MID + 10: 1.0}) == 0


def test_fair_weight() -> None:
    for weight, expected in ((0.0, MID + 1), (1.0, (MID * 1.0 + (MID + 2) * 2.0) / 3.0)):
        book = Book(weight)
        learn(book, BOOK_RESET, 1, {MID: 2.0}, {MID + 2: 1.0})
        assert book.read().fair == pytest.approx(expected, abs=1e-6)


def test_age_is_lag_above_the_envelope() -> None:
    book = fresh()
    ahead = -1_400_000_000  # exchange time may be ahead of ours
    learn(book, TRADED, 1, recv=S, exch=S - ahead)
    assert (book.read().envelope, book.read().age) == (ahead, 0)
    learn(book, TRADED, 1, recv=2 * S, exch=2 * S - ahead - 30_000_000)
    rise = S // ENVELOPE_NS_PER_NS
    h = book.read()
    assert (h.envelope, h.age) == (ahead + rise, 30_000_000 - rise)
    learn(book, TRADED, 1, recv=3 * S, exch=3 * S - ahead + 10_000_000)
    assert (book.read().envelope, book.read().age) == (ahead - 10_000_000, 0)
    learn(book, TOUCH_CHANGED, 1, recv=4 * S, exch=0, bid=1, ask=2, bid_qty=1.0, ask_qty=1.0)
    assert (book.read().envelope, book.read().recv) == (ahead - 10_000_000, 4 * S)


@given(st.lists(st.tuples(st.integers(0, 10 * S), st.integers(-S, S)), min_size=1, max_size=50))
@settings(deadline=None, max_examples=100)
def test_the_envelope_rises_slowly_and_stays_below(steps: list[tuple[int, int]]) -> None:
    book = fresh()
    recv, last = S, None
    for passed, lag in steps:
        recv += passed
        learn(book, TRADED, 1, recv=recv, exch=recv - lag)
        h = book.read()
        assert h.envelope <= lag
        assert h.age == lag - h.envelope
        if last is not None:
            # Whole nanoseconds rise; what is left of one waits for the next row.
            rise = passed // ENVELOPE_NS_PER_NS
            assert h.envelope in (lag, last + rise, last + rise + 1)
        last = h.envelope


def test_the_envelope_rises_also_in_small_steps() -> None:
    """A thousand rows a second must not round the drift away."""
    book = fresh()
    lag = 1_000_000
    learn(book, TRADED, 1, recv=S, exch=S - lag)
    for i in range(1, 20_001):
        recv = S + i * 15_000  # 0.75 ns of drift each
        learn(book, TRADED, 1, recv=recv, exch=recv - lag - 500_000)
    expected = lag + 20_000 * 15_000 // ENVELOPE_NS_PER_NS
    assert book.read().envelope == pytest.approx(expected, abs=1_000)


def test_a_frame_that_carried_nothing_teaches_no_time() -> None:
    """The times of an unreadable or foreign frame are nobody's."""
    book = simple()
    learn(book, TRADED, 1, recv=2 * S, exch=2 * S)
    learn(book, NOTHING, 0, recv=3 * S, exch=10**18)
    learn(book, TRADED, 1, recv=4 * S, exch=4 * S)
    assert book.read().age == 0


def test_repr() -> None:
    assert repr(Book()) == "<Book unsynced u=0 0:0.0 / 0:0.0>"
    assert repr(simple(10)) == f"<Book trusted u=10 {MID}:2.0 / {MID + 2}:1.0>"
    assert NAMES[UNSYNCED] == "unsynced"
    for cause, name in LOST_NAMES.items():
        book = simple()
        learn(book, BOOK_LOST, 0, side=cause)
        assert repr(book).startswith(f"<Book {name} ")


def test_top_is_the_first_levels_of_a_side() -> None:
    book = fresh()
    bids = {MID - offset: float(offset) for offset in (1, 2, 5, 9)}
    asks = {MID + offset: float(offset) for offset in (1, 3, 4)} | {MID + WINDOW: 7.0}
    learn(book, BOOK_RESET, 1, bids, asks)
    assert book.top(Side.BUY, 3) == ((MID - 1, 1.0), (MID - 2, 2.0), (MID - 5, 5.0))
    assert book.top(Side.SELL, 9) == tuple(sorted(asks.items()))
    assert book.top(Side.SELL, 0) == ()
