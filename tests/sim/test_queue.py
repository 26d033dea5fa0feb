"""The queue estimate: the printed vector, what fills and what does not, and its invariants."""

from types import FunctionType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.tape import (
    BOOK_CHANGED,
    BOOK_LOST,
    BOOK_RESET,
    NOTHING,
    ROW,
    TOUCH_CHANGED,
    TRADED,
)
from bot.domain.units import Side
from bot.market import levels
from bot.market.book import Book
from bot.market.kernels import CROSSED, TRUSTED
from bot.market.levels import HEAD
from bot.sim import queue
from bot.sim.queue import (
    FILLED,
    LOG1,
    LOG2,
    POWER1,
    POWER2,
    POWER3,
    RISK_AVERSE,
    SLOT,
)

MODELS = [RISK_AVERSE, POWER1, POWER2, POWER3, LOG1, LOG2]
POWER = {POWER1: 2.0, POWER2: 2.0, POWER3: 3.0}
BID, ASK = 0, 1

_BOOK = Book()


class Level:
    """A bid of 99 and an ask of 101 unless told otherwise, and slots in front of them.

    Every row is matched later than the one before, unless `late` says that an earlier
    depth row contained it already.
    """

    def __init__(self, model: int = RISK_AVERSE, bid: int = 99, ask: int = 101) -> None:
        _BOOK.memory[: HEAD.itemsize] = 0
        self.head = _BOOK.head
        self.qty = _BOOK.record[0]["qty"]
        self.qty[:, :256] = 0.0
        self.slots = np.zeros(8, SLOT)
        self.n = 0
        self.model = model
        self.now = 1
        self.observe = queue.observe_row
        self.head["synced"] = 1
        self.head["distrust"] = TRUSTED
        self.touch(bid, ask)

    def touch(self, bid: int, ask: int) -> int:
        self.head["bid"], self.head["ask"] = bid, ask
        return self.row(TOUCH_CHANGED)

    def join(self, side: int, tick: int, size: float, front: float | None = None) -> int:
        shown = self.qty[side, tick]
        front = shown if front is None else front
        self.slots[self.n] = (
            1,
            side,
            tick,
            front,
            0.0,
            shown,
            size,
            0.0,
            0.0,
            0.0,
            int(self.head["depth_matched"][0]),
        )
        self.n += 1
        return self.n - 1

    def depth(self, side: int, tick: int, quantity: float) -> int:
        self.now += 1
        self.qty[side, tick] = quantity
        self.head["depth_matched"] = self.now
        return self.row(BOOK_CHANGED)

    def trade(self, aggressor: Side, tick: int, quantity: float, late: bool = False) -> int:
        self.now += not late
        matched = int(self.head[0]["depth_matched"]) if late else self.now
        return self.row(TRADED, bid=tick, bid_qty=quantity, side=aggressor, matched=matched)

    def row(self, kind: int, **fields: Any) -> int:
        row = np.zeros(1, ROW)
        row["kind"] = kind
        for name, value in fields.items():
            row[name] = value
        return self.observe(
            _BOOK.record,
            row,
            0,
            self.slots,
            self.n,
            self.model,
            POWER.get(self.model, 0.0),
        )

    def front(self, j: int = 0) -> float:
        return float(self.slots[j]["front"])

    def filled(self, j: int = 0) -> float:
        return float(self.slots[j]["filled"])

    def left(self, j: int = 0) -> float:
        return float(self.slots[j]["remaining"])


def queued(model: int, side: int = BID, front: float = 10.0, size: float = 5.0) -> Level:
    """One order at the touch of its side (99 or 101) behind `front`."""
    level = Level(model)
    tick = 99 if side == BID else 101
    level.qty[side, tick] = front
    level.join(side, tick, size)
    return level


# --- The vector ----------------------------------------------------------------------------

# Front after [add, cancel 4, trade 3, its depth, cancel 1, trade 4, its depth]; a negative
# front is printed before the fill resets it.
VECTOR = {
    RISK_AVERSE: (10, 10, 7, 7, 7, 3, 3),
    POWER1: (10, 7.058824, 4.058824, 4.058824, 3.655929, -0.344071, 0),
    POWER2: (10, 6.5625, 3.5625, 3.5625, 2.927517, -1.072483, 0),
    POWER3: (10, 9.023438, 6.023438, 6.023438, 5.723655, 1.723655, 1.723655),
    LOG1: (10, 7.791894, 4.791894, 4.791894, 4.276301, 0.276301, 0.276301),
    LOG2: (10, 8.747284, 5.747284, 5.747284, 5.375950, 1.375950, 1.375950),
}


@pytest.mark.parametrize("side", [BID, ASK])
@pytest.mark.parametrize("model", MODELS)
def test_vector(model: int, side: int) -> None:
    level = queued(model, side)
    tick, taker = (99, Side.SELL) if side == BID else (101, Side.BUY)
    seen = []
    for trade, depth in [(0, 16), (0, 12), (3, 9), (0, 8), (4, 4)]:
        if trade:
            before = level.filled()
            flags = level.trade(taker, tick, trade)
            fill = level.filled() - before
            assert flags == (FILLED if fill else 0)
            assert not fill or level.front() == 0.0
            seen.append(level.front() - fill)
        assert level.depth(side, tick, depth) == 0
        seen.append(level.front())
    assert seen == pytest.approx(VECTOR[model], abs=5.01e-7)
    assert level.filled() == pytest.approx(max(-min(VECTOR[model]), 0.0), abs=5.01e-7)
    assert level.filled() + level.left() == pytest.approx(5.0)


@pytest.mark.parametrize("model", MODELS)
def test_nobody_behind_means_the_decrease_was_ahead(model: int) -> None:
    level = queued(model)
    level.depth(BID, 99, 6.0)
    assert level.front() == 6.0


@pytest.mark.parametrize("model", MODELS)
def test_at_the_head_of_the_queue_nothing_is_ahead(model: int) -> None:
    level = queued(model, front=0.0)
    for shown in (7.0, 3.0, 0.0, 2.0):
        level.depth(BID, 99, shown)
        assert level.front() == 0.0


@pytest.mark.parametrize("model", MODELS)
def test_a_bigger_part_behind_makes_a_decrease_behind_likelier(model: int) -> None:
    behind = [queue.chance_behind(10.0, back, model, 3.0) for back in (0.0, 1.0, 10.0, 1e3)]
    if model == RISK_AVERSE:
        return  # never asked
    assert behind[0] == 0.0
    assert behind == sorted(set(behind))
    assert behind[-1] <= 1.0


# --- What fills ----------------------------------------------------------------------------


def test_a_trade_fills_what_exceeds_the_front_and_no_more_than_is_left() -> None:
    level = queued(RISK_AVERSE, front=2.0, size=5.0)
    assert level.trade(Side.SELL, 99, 2.0) == 0
    assert (level.front(), level.filled()) == (0.0, 0.0)
    assert level.trade(Side.SELL, 99, 1.5) == FILLED
    assert (level.filled(), level.left()) == (1.5, 3.5)
    assert level.trade(Side.SELL, 99, 50.0) == FILLED
    assert (level.filled(), level.left()) == (5.0, 0.0)
    assert level.trade(Side.SELL, 99, 50.0) == 0
    assert level.filled() == 5.0


@pytest.mark.parametrize(
    ("side", "aggressor", "price", "through"),
    [
        (BID, Side.SELL, 98, True),
        (BID, Side.SELL, 102, False),
        (BID, Side.BUY, 98, False),
        (ASK, Side.BUY, 102, True),
        (ASK, Side.BUY, 98, False),
        (ASK, Side.SELL, 102, False),
    ],
)
def test_a_trade_through_our_price_fills_us(
    side: int, aggressor: Side, price: int, through: bool
) -> None:
    level = queued(RISK_AVERSE, side, front=1e6)
    assert level.trade(aggressor, price, 0.001) == (FILLED if through else 0)
    assert level.filled() == (5.0 if through else 0.0)
    assert level.left() == 5.0 - level.filled()


@pytest.mark.parametrize(
    ("side", "bid", "ask", "crossed"),
    [
        (BID, 97, 99, True),
        (BID, 97, 98, True),
        (BID, 99, 100, False),
        (ASK, 101, 103, True),
        (ASK, 102, 103, True),
        (ASK, 100, 101, False),
    ],
)
def test_a_book_that_crosses_our_price_fills_us(
    side: int, bid: int, ask: int, crossed: bool
) -> None:
    level = queued(RISK_AVERSE, side)
    assert level.touch(bid, ask) == (FILLED if crossed else 0)
    assert level.filled() == (5.0 if crossed else 0.0)
    assert level.front() == 10.0  # a touch says nothing of our level


def test_a_distrusted_book_crosses_nobody() -> None:
    level = queued(RISK_AVERSE)
    level.head["distrust"] = CROSSED
    assert level.touch(102, 99) == 0
    assert level.filled() == 0.0
    level.head["distrust"] = TRUSTED
    assert level.depth(BID, 99, 10.0) == FILLED


@pytest.mark.parametrize("kind", [BOOK_CHANGED, BOOK_RESET, TOUCH_CHANGED])
def test_an_unsynced_book_moves_nobody(kind: int) -> None:
    level = queued(POWER3)
    level.head["synced"] = 0
    level.head["bid"], level.head["ask"] = 90, 91
    level.qty[BID, 99] = 1.0
    before = level.slots.tobytes()
    assert level.row(kind) == 0
    assert level.slots.tobytes() == before
    level.head["synced"] = 1
    assert level.row(kind) == FILLED


@pytest.mark.parametrize("kind", [NOTHING, BOOK_LOST])
def test_rows_without_market_data_reach_nobody(kind: int) -> None:
    level = queued(POWER3)
    level.head["bid"], level.head["ask"] = 90, 91
    before = level.slots.tobytes()
    assert level.row(kind, bid=99, bid_qty=50.0, side=Side.SELL, matched=99) == 0
    assert level.slots.tobytes() == before


def test_a_print_inside_the_spread_met_nobody_that_is_displayed() -> None:
    level = Level(bid=98, ask=102)
    level.join(BID, 100, 5.0)
    level.join(ASK, 101, 5.0)
    assert level.trade(Side.SELL, 100, 3.0) == 0
    assert level.trade(Side.BUY, 101, 3.0) == 0
    assert [level.filled(0), level.filled(1)] == [0.0, 0.0]
    level.touch(100, 101)  # now others display our prices
    assert level.trade(Side.SELL, 100, 3.0) == FILLED
    assert level.trade(Side.BUY, 101, 2.0) == FILLED
    assert [level.filled(0), level.filled(1)] == [3.0, 2.0]


@pytest.mark.parametrize(("side", "wrong"), [(BID, Side.BUY), (ASK, Side.SELL)])
def test_our_own_sides_aggressor_meets_the_other_side(side: int, wrong: Side) -> None:
    level = queued(RISK_AVERSE, side)
    before = level.front()
    assert level.trade(wrong, 99 if side == BID else 101, 50.0) == 0
    assert (level.front(), level.filled()) == (before, 0.0)


def test_an_inactive_slot_is_left_alone() -> None:
    level = queued(RISK_AVERSE)
    level.slots[0]["active"] = 0
    before = level.slots.tobytes()
    assert level.trade(Side.SELL, 98, 50.0) == 0
    assert level.touch(90, 91) == 0
    assert level.slots.tobytes() == before


def test_only_the_first_n_slots_are_looked_at() -> None:
    level = queued(RISK_AVERSE)
    level.n = 0
    assert level.trade(Side.SELL, 98, 50.0) == 0
    level.n = 1
    assert level.trade(Side.SELL, 98, 50.0) == FILLED


# --- Several slots -------------------------------------------------------------------------


def test_two_slots_share_one_trade() -> None:
    level = queued(RISK_AVERSE, front=1.0, size=2.0)
    level.join(BID, 99, 2.0, front=1.0)
    assert level.trade(Side.SELL, 99, 4.0) == FILLED
    assert (level.filled(0), level.left(0)) == (2.0, 0.0)
    assert level.filled(1) == 1.0  # 4 less our own 2 less the 1 ahead
    assert level.filled(0) + level.filled(1) <= 4.0


def test_a_trade_eaten_by_the_first_slot_does_not_reach_the_second() -> None:
    level = queued(RISK_AVERSE, front=0.0, size=5.0)
    level.join(BID, 99, 5.0, front=0.0)
    assert level.trade(Side.SELL, 99, 5.0) == FILLED
    assert [level.filled(0), level.filled(1)] == [5.0, 0.0]


EIGHTHS = st.integers(0, 160).map(lambda n: n / 8)
SOME = st.integers(1, 160).map(lambda n: n / 8)


@given(st.lists(st.tuples(EIGHTHS, SOME), min_size=1, max_size=8), SOME, st.booleans())
def test_slots_never_execute_more_than_was_traded(
    orders: list[tuple[float, float]], quantity: float, late: bool
) -> None:
    level = Level()
    for front, size in orders:
        level.join(BID, 99, size, front)
    level.trade(Side.SELL, 99, quantity, late)
    best = max(quantity - min(front for front, _ in orders), 0.0)
    assert level.slots["filled"].sum() <= best


# --- Late trades ---------------------------------------------------------------------------


def test_a_late_trade_moves_us_once() -> None:
    level = queued(POWER3)  # nobody behind: the whole decrease was ahead
    level.depth(BID, 99, 6.0)
    assert level.front() == 6.0
    level.trade(Side.SELL, 99, 4.0, late=True)
    assert level.front() == 6.0
    level.trade(Side.SELL, 99, 1.0, late=True)  # more than the depth explains
    assert level.front() == 5.0


def test_a_late_trade_moves_us_by_what_the_depth_did_not() -> None:
    level = queued(RISK_AVERSE, front=10.0)
    level.depth(BID, 99, 20.0)
    level.depth(BID, 99, 16.0)  # risk-averse: all of it behind us
    assert level.front() == 10.0
    level.trade(Side.SELL, 99, 4.0, late=True)  # but it traded, so it was ahead
    assert level.front() == 6.0


def test_a_fresh_trade_ends_the_netting() -> None:
    level = queued(RISK_AVERSE)
    level.depth(BID, 99, 6.0)
    level.trade(Side.BUY, 101, 1.0)
    level.trade(Side.SELL, 99, 2.0, late=True)
    assert level.front() == 4.0


def test_a_depth_that_its_trade_explains_leaves_nothing_for_late_trades() -> None:
    level = queued(RISK_AVERSE)
    level.trade(Side.SELL, 99, 4.0)
    level.depth(BID, 99, 6.0)
    level.trade(Side.SELL, 99, 1.0, late=True)
    assert level.front() == 5.0


@given(EIGHTHS, EIGHTHS, SOME, EIGHTHS)
def test_depth_then_late_trade_is_trade_then_depth(
    front: float, behind: float, quantity: float, now_shown: float
) -> None:
    levels = []
    for late in (False, True):
        level = Level()
        level.qty[BID, 99] = front + behind
        level.join(BID, 99, 1e3, front)
        if not late:
            level.trade(Side.SELL, 99, quantity)
        level.depth(BID, 99, now_shown)
        if late:
            level.trade(Side.SELL, 99, quantity, late=True)
        levels.append(level)
    prompt, late_one = levels
    assert late_one.front() == prompt.front()
    assert late_one.filled() == prompt.filled()


@pytest.mark.parametrize("model", MODELS)
@given(front=EIGHTHS, behind=EIGHTHS, part=st.integers(1, 8))
def test_a_pure_trade_counts_the_same_late_or_not_in_every_model(
    model: int, front: float, behind: float, part: int
) -> None:
    shown = front + behind
    quantity = shown * part / 8
    fronts = []
    for late in (False, True):
        level = Level(model)
        level.qty[BID, 99] = shown
        level.join(BID, 99, 1e3, front)
        if not late:
            level.trade(Side.SELL, 99, quantity)
        level.depth(BID, 99, shown - quantity)
        if late:
            level.trade(Side.SELL, 99, quantity, late=True)
        fronts.append((level.front(), level.filled()))
    assert fronts[1] == pytest.approx(fronts[0], abs=1e-9)


# --- Invariants ----------------------------------------------------------------------------

DEPTH = st.tuples(st.just("depth"), st.sampled_from([BID, ASK]), st.integers(97, 103), EIGHTHS)
TRADE = st.tuples(
    st.just("trade"), st.sampled_from(list(Side)), st.integers(97, 103), SOME, st.booleans()
)
TOUCH = st.tuples(st.just("touch"), st.integers(97, 100), st.integers(100, 103))
ORDER = st.tuples(st.just("join"), st.sampled_from([BID, ASK]), st.integers(97, 103), SOME)
STEPS = st.lists(st.one_of(DEPTH, TRADE, TRADE, TOUCH, ORDER), max_size=30)


def play(level: Level, step: tuple[Any, ...]) -> int:
    name, *values = step
    if name == "join" and level.n == len(level.slots):
        return 0
    done = getattr(level, name)(*values)
    return 0 if name == "join" else done


@given(st.sampled_from(MODELS), STEPS)
def test_no_row_breaks_a_slot(model: int, steps: list[tuple[Any, ...]]) -> None:
    level = Level(model)
    placed = np.zeros(len(level.slots))
    for step in steps:
        n = level.n
        before = level.slots.copy()
        flags = play(level, step)
        if level.n > n:
            placed[n] = level.left(n)
            continue
        after = level.slots
        assert (after["front"] >= 0.0).all()
        assert (after["front"] <= before["front"]).all()  # nobody gets in ahead of us
        assert (after["remaining"] >= 0.0).all()
        assert (after["late"] >= 0.0).all()
        assert (after["late_moved"] >= 0.0).all()
        assert after["filled"] + after["remaining"] == pytest.approx(placed)
        assert (flags == FILLED) == bool((after["filled"] > before["filled"]).any())


def plain(module: Any, **names: Any) -> dict[str, Any]:
    """A module's names with every kernel as plain Python, which calls only plain Python."""
    own = {**vars(module), **names}
    for name, value in vars(module).items():
        kernel = getattr(value, "py_func", value)
        if isinstance(kernel, FunctionType) and kernel.__module__ == module.__name__:
            own[name] = FunctionType(kernel.__code__, own, name)
    return own


PLAIN = plain(queue, level_qty_at=plain(levels)["level_qty_at"])


@given(st.sampled_from(MODELS), STEPS)
def test_compiled_is_plain_python(model: int, steps: list[tuple[Any, ...]]) -> None:
    ends = []
    for observe in (queue.observe_row, PLAIN["observe_row"]):
        level = Level(model)
        level.observe = observe
        flags = [play(level, step) for step in steps]
        ends.append((flags, level.slots))
    (flags, slots), (plain_flags, plain_slots) = ends
    assert flags == plain_flags
    for name in SLOT.names or ():
        assert slots[name] == pytest.approx(plain_slots[name], rel=1e-12, abs=1e-12), name


def test_plain_python_is_not_compiled() -> None:
    called = [PLAIN[name] for name in PLAIN["observe_row"].__code__.co_names if name in PLAIN]
    assert PLAIN["observe_trade"] in called
    assert not any(hasattr(kernel, "py_func") for kernel in called)
