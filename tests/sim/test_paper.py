"""The paper venue in transcripts: `>>` is what it is shown or asked, `<<` what it reports.

Times are ms. Without feed lag a request acts 6 ms after it was sent (1 feed + 5 entry) and
a report arrives 2 ms after its cause (3 response - 1 feed).
"""

from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.decisions import Cancel, Place
from bot.domain.events import (
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderOpened,
    OrderRejected,
    OwnEvent,
)
from bot.domain.tape import BOOK_CHANGED, BOOK_LOST, BOOK_RESET, ROW, TOUCH_CHANGED, TRADED
from bot.domain.units import NS_PER_MS, Side
from bot.market.book import Book
from bot.sim.latency import LatencyParams
from bot.sim.paper import MODELS, NEVER, Paper
from bot.sim.queue import FILLED, SLOTS, observe_row

ZERO = 10**15  # ns; ms 0 of the transcripts
LOT = 0.5
SIDES = {"buy": Side.BUY, "sell": Side.SELL}

_BOOK = Book()


def fresh_book() -> Book:
    """An untouched book; it is big, so one is wiped and used again."""
    _BOOK.memory[:] = 0
    _BOOK.head[:] = PRISTINE
    return _BOOK


PRISTINE = _BOOK.head.copy()


class Stage:
    """What the pump does, for one row at a time: venue first, then the row, then reports."""

    def __init__(self, queue: str = "risk_averse", **latency: float) -> None:
        self.book = fresh_book()
        self.paper = Paper(self.book, LOT, LatencyParams(**latency), queue)
        self.lag = 0
        self.u = 0
        self.reports: list[OwnEvent] = []
        self.transcript: list[str] = []

    def say(self, line: str) -> None:
        self.transcript.append(line)

    def release(self, now: int) -> None:
        for event in self.paper.release(now):
            assert event.at <= now
            self.reports.append(event)
            self.say(f"<< {report(event)}")

    def until(self, now: int) -> None:
        """Every moment that is due comes on its own, as between two frames."""
        while self.paper.due() <= now:
            self.release(self.paper.due())

    def row(
        self,
        now: int,
        kind: int,
        bids: dict[int, float] | None = None,
        asks: dict[int, float] | None = None,
        **fields: Any,
    ) -> None:
        bids, asks = bids or {}, asks or {}
        row = np.zeros(1, ROW)
        row["kind"], row["recv"], row["frame_end"] = kind, now, 1
        row["exch"] = row["matched"] = now - self.lag
        row["n_bid"], row["n_ask"] = len(bids), len(asks)
        self.u += 1
        row["last_id"] = self.u
        for name, value in fields.items():
            row[name] = value
        ticks = np.array([*bids, *asks, 0], np.int64)
        qtys = np.array([*bids.values(), *asks.values(), 0.0])
        self.book.learn(row, 0, ticks, qtys)
        paper = self.paper
        flags = observe_row(
            self.book.record, row, 0, paper.slots, paper.n_slots, paper.model, paper.power
        )
        if flags & FILLED:
            paper.collect(now)
        self.release(now)

    def perform(self, now: int, verb: str, words: list[str]) -> None:
        match verb, words:
            case "book" | "depth", _:
                cut = words.index("/")
                bids, asks = levels(words[:cut]), levels(words[cut + 1 :])
                self.row(now, BOOK_RESET if verb == "book" else BOOK_CHANGED, bids, asks)
            case "touch", [bid, ask]:
                ((bid_tick, bid_qty),), ((ask_tick, ask_qty),) = (
                    levels([bid]).items(),
                    levels([ask]).items(),
                )
                self.row(
                    now,
                    TOUCH_CHANGED,
                    bid=bid_tick,
                    bid_qty=bid_qty,
                    ask=ask_tick,
                    ask_qty=ask_qty,
                )
            case "trade", [side, at, *matched]:
                ((tick, quantity),) = levels([at]).items()
                extra = {"matched": ZERO + int(matched[1]) * NS_PER_MS} if matched else {}
                self.row(now, TRADED, bid=tick, bid_qty=quantity, side=SIDES[side], **extra)
            case "lost", []:
                self.row(now, BOOK_LOST, side=1)
            case "lag", [ms]:
                self.lag = int(ms) * NS_PER_MS
            case "place", [order_id, side, at]:
                ((tick, lots),) = levels([at]).items()
                self.paper.submit(now, Place(order_id, SIDES[side], tick, int(lots), 0))
            case "cancel", [order_id]:
                self.paper.submit(now, Cancel(order_id))
            case _:
                raise ValueError(f"{verb} {words}")


def levels(words: list[str]) -> dict[int, float]:
    return {int(tick): float(qty) for tick, qty in (word.split(":") for word in words)}


def report(event: OwnEvent) -> str:
    at = f"{round((event.at - ZERO) / NS_PER_MS)} {event.order_id}"
    match event:
        case Filled():
            side, maker = event.side.name.lower(), "maker" if event.maker else "taker"
            return f"{at} filled {side} {event.tick}:{event.lots} {event.trade_id} {maker}"
        case OrderRejected():
            return f"{at} rejected: {event.reason}"
        case OrderOpened():
            return f"{at} opened"
        case OrderCancelled():
            return f"{at} cancelled"
        case CancelRejected():
            return f"{at} cancel rejected"
    raise ValueError(event)


def plays(text: str, stage: Stage | None = None) -> Stage:
    """Perform a transcript's `>>` lines; its `<<` lines must come out where they stand."""
    stage = stage or Stage()
    lines = [line for line in dedent(text).strip().splitlines() if line.strip()]
    for line in lines:
        if not line.startswith(">>"):
            continue
        _, at, verb, *words = line.split()
        now = ZERO + int(at) * NS_PER_MS
        stage.until(now)
        stage.say(line)
        stage.perform(now, verb, words)
    while stage.paper.due() != NEVER:
        stage.release(stage.paper.due())
    assert stage.transcript == lines
    return stage


# --- Life of an order ----------------------------------------------------------------------


def test_opens_fills_in_parts_and_is_gone() -> None:
    stage = plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:4
        << 8 a opened
        >> 10 trade sell 100:5.5
        << 12 a filled buy 100:1 p1 maker
        >> 13 trade sell 100:1.25
        << 15 a filled buy 100:2 p2 maker
        >> 16 trade sell 100:0.25
        << 18 a filled buy 100:1 p3 maker
        >> 20 trade sell 100:9
    """)
    assert stage.paper.n_slots == 0


def test_a_sell_order_waits_for_buyers() -> None:
    plays("""
        >> 0 book 100:5 / 102:1
        >> 0 place a sell 102:2
        << 8 a opened
        >> 10 trade sell 102:9
        >> 11 trade buy 102:2
        << 13 a filled sell 102:2 p1 maker
    """)


def test_less_than_a_lot_waits_for_its_rest() -> None:
    plays("""
        >> 0 book 100:1 / 102:5
        >> 0 place a buy 100:3
        << 8 a opened
        >> 10 trade sell 100:1.25
        >> 14 trade sell 100:0.5
        << 16 a filled buy 100:1 p1 maker
        >> 18 trade sell 99:0.001
        << 20 a filled buy 100:2 p2 maker
    """)


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("buy 102:1", "post_only would match"),
        ("buy 103:1", "post_only would match"),
        ("sell 100:1", "post_only would match"),
        ("sell 99:1", "post_only would match"),
    ],
)
def test_an_order_that_would_take_is_rejected(order: str, reason: str) -> None:
    plays(f"""
        >> 0 book 100:5 / 102:5
        >> 0 place a {order}
        << 8 a rejected: {reason}
    """)


def test_the_book_at_the_time_of_acting_decides() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 101:1
        >> 5 depth 100:5 / 101:1
        << 8 a rejected: post_only would match
    """)
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 101:1
        >> 6 depth 100:5 / 101:1
        << 8 a opened
        << 8 a filled buy 101:1 p1 maker
    """)


def test_no_market_no_order() -> None:
    plays("""
        >> 0 place a buy 100:1
        << 8 a rejected: no market
        >> 10 book 100:5 / 102:5
        >> 11 lost
        >> 12 place b buy 100:1
        << 20 b rejected: no market
        >> 30 book 100:5 /
        >> 31 place c buy 100:1
        << 39 c rejected: no market
    """)


def test_a_cancelled_order_fills_no_more() -> None:
    stage = plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:1
        << 8 a opened
        >> 10 cancel a
        >> 16 trade sell 99:9
        << 18 a cancelled
    """)
    assert stage.paper.n_slots == 0


def test_until_the_cancel_acts_the_order_fills() -> None:
    plays("""
        >> 0 book 100:1 / 102:5
        >> 0 place a buy 100:3
        << 8 a opened
        >> 10 cancel a
        >> 15 trade sell 100:1.5
        << 17 a filled buy 100:1 p1 maker
        << 18 a cancelled
    """)


def test_a_cancel_after_the_fill_is_rejected() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:2
        << 8 a opened
        >> 10 cancel a
        >> 15 trade sell 99:1
        << 17 a filled buy 100:2 p1 maker
        << 18 a cancel rejected
    """)


def test_a_cancel_of_a_stranger_is_rejected() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 cancel a
        << 8 a cancel rejected
    """)


def test_a_cancel_sent_at_once_finds_its_order() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:1
        >> 0 cancel a
        << 8 a opened
        << 8 a cancelled
    """)


def test_a_crossing_touch_fills_at_our_price() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:2
        << 8 a opened
        >> 10 touch 98:1 99:1
        << 12 a filled buy 100:2 p1 maker
    """)


# --- Where it queues -----------------------------------------------------------------------


def test_joins_behind_what_is_displayed_when_it_acts() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:2
        >> 5 depth 100:3 /
        << 8 a opened
        >> 10 trade sell 100:3
        >> 11 trade sell 100:0.5
        << 13 a filled buy 100:1 p1 maker
    """)


@pytest.mark.parametrize(
    ("side", "tick", "taker", "touch"),
    [("buy", 100, "sell", "100:2 102:5"), ("sell", 102, "buy", "100:5 102:2")],
)
def test_joins_behind_the_newer_tickers_quantity(
    side: str, tick: int, taker: str, touch: str
) -> None:
    plays(f"""
        >> 0 book 100:8 / 102:8
        >> 1 touch {touch}
        >> 1 place a {side} {tick}:2
        << 9 a opened
        >> 10 trade {taker} {tick}:2
        >> 11 trade {taker} {tick}:0.5
        << 13 a filled {side} {tick}:1 p1 maker
    """)


def test_joins_first_where_the_ticker_says_that_the_level_is_gone() -> None:
    # The depth still displays 8 at 100; the newer ticker's best bid is 99.
    plays("""
        >> 0 book 99:4 100:8 / 102:8
        >> 1 touch 99:4 102:8
        >> 1 place a buy 100:2
        << 9 a opened
        >> 10 depth 100:0.5 /
        >> 11 trade sell 100:0.5
        << 13 a filled buy 100:1 p1 maker
    """)


def test_below_the_tickers_touch_the_depth_counts() -> None:
    plays("""
        >> 0 book 99:4 100:8 / 102:8
        >> 1 touch 100:1 102:8
        >> 1 place a buy 99:2
        << 9 a opened
        >> 10 depth 100:0 /
        >> 11 trade sell 99:4
        >> 12 trade sell 99:0.5
        << 14 a filled buy 99:1 p1 maker
    """)


@pytest.mark.parametrize(("queue", "lots"), [("risk_averse", 0), ("power3", 2)])
def test_the_queue_model_is_the_one_asked_for(queue: str, lots: int) -> None:
    stage = Stage(queue)
    plays(
        f"""
        >> 0 book 100:10 / 102:5
        >> 0 place a buy 100:20
        << 8 a opened
        >> 10 depth 100:20 /
        >> 11 depth 100:12 /
        >> 12 trade sell 100:10
        {f"<< 14 a filled buy 100:{lots} p1 maker" if lots else ""}
        """,
        stage,
    )
    assert stage.paper.model == MODELS[queue]


def test_a_late_trade_after_its_depth_does_not_move_us_twice() -> None:
    plays("""
        >> 0 book 100:5 / 102:5
        >> 0 place a buy 100:2
        << 8 a opened
        >> 12 depth 100:2 /
        >> 13 trade sell 100:3 matched 11
        >> 14 trade sell 100:2
        >> 15 trade sell 100:0.5
        << 17 a filled buy 100:1 p1 maker
    """)


# --- Time ----------------------------------------------------------------------------------


def test_lag_delays_acting_and_reporting() -> None:
    plays("""
        >> 0 book 100:1 / 102:5
        >> 0 lag 9
        >> 1 trade buy 102:1
        >> 1 place a buy 100:2
        >> 40 trade sell 99:1
        << 71 a opened
        >> 80 trade sell 99:1
        << 100 a filled buy 100:2 p1 maker
    """)


def test_a_request_never_overtakes_an_earlier_one() -> None:
    # Sent with a lag of 9 ms the order acts 10 + 40 ms later, at 51; then the lag is gone.
    plays("""
        >> 0 book 100:1 / 102:5
        >> 0 lag 9
        >> 1 trade buy 102:1
        >> 1 place a buy 100:2
        >> 2 lag 0
        >> 3 trade buy 102:1
        >> 3 cancel a
        >> 3 place b buy 99:1
        << 53 a opened
        << 53 a cancelled
        << 53 b opened
    """)


def test_a_report_never_overtakes_an_earlier_one() -> None:
    # The fill is seen with a lag of 9 ms and reported at 30; the cancel acts at 16 without.
    plays("""
        >> 0 book 100:1 / 102:5
        >> 0 place a buy 100:2
        >> 0 place b buy 98:2
        << 8 a opened
        << 8 b opened
        >> 9 lag 9
        >> 10 trade sell 99:1
        >> 10 lag 0
        >> 11 trade buy 102:1
        >> 11 cancel b
        << 30 a filled buy 100:2 p1 maker
        << 30 b cancelled
    """)


def test_due_is_the_next_thing_to_happen() -> None:
    stage = Stage()
    assert stage.paper.due() == NEVER
    stage.perform(ZERO, "book", ["100:1", "/", "102:1"])
    stage.perform(ZERO, "place", ["a", "buy", "100:1"])
    assert stage.paper.due() == ZERO + 6 * NS_PER_MS
    assert stage.paper.release(stage.paper.due() - 1) == []
    assert stage.paper.n_slots == 0
    assert stage.paper.release(stage.paper.due()) == []
    assert stage.paper.n_slots == 1
    assert stage.paper.due() == ZERO + 8 * NS_PER_MS
    assert stage.paper.release(ZERO + 8 * NS_PER_MS) == [OrderOpened(ZERO + 8 * NS_PER_MS, "a")]
    assert stage.paper.due() == NEVER


# --- Slots ---------------------------------------------------------------------------------


def test_slots_run_out_and_come_back() -> None:
    stage = Stage()
    stage.perform(ZERO, "book", ["100:1", "/", "102:1"])
    for j in range(SLOTS + 1):
        stage.perform(ZERO, "place", [f"o{j}", "buy", "90:1"])
    now = ZERO + 20 * NS_PER_MS
    stage.until(now)
    last = stage.reports[-1]
    assert last == OrderRejected(ZERO + 8 * NS_PER_MS, f"o{SLOTS}", "too many orders")
    assert [type(event) for event in stage.reports[:-1]] == [OrderOpened] * SLOTS
    stage.perform(now, "cancel", ["o3"])
    stage.perform(now, "place", ["again", "buy", "91:1"])
    stage.until(now + 20 * NS_PER_MS)
    assert [report(event) for event in stage.reports[-2:]] == ["28 o3 cancelled", "28 again opened"]
    assert stage.paper.n_slots == SLOTS
    assert stage.paper.slots[3]["tick"] == 91


def test_n_slots_covers_the_last_resting_order() -> None:
    stage = plays("""
        >> 0 book 100:1 / 102:5
        >> 0 place a buy 99:1
        >> 0 place b buy 98:1
        >> 0 place c buy 97:1
        << 8 a opened
        << 8 b opened
        << 8 c opened
        >> 10 cancel b
        >> 10 cancel a
        << 18 b cancelled
        << 18 a cancelled
        >> 20 trade sell 96:1
        << 22 c filled buy 97:1 p1 maker
    """)
    assert stage.paper.n_slots == 0


def test_the_book_is_never_written() -> None:
    stage = Stage()
    stage.perform(ZERO, "book", ["100:1", "/", "102:1"])
    before = stage.book.memory.tobytes()
    stage.perform(ZERO, "place", ["a", "buy", "101:1"])
    stage.perform(ZERO, "cancel", ["a"])
    stage.until(NEVER - 1)
    assert len(stage.reports) == 2
    assert stage.book.memory.tobytes() == before


# --- Any session ---------------------------------------------------------------------------

TICKS = st.integers(97, 105)
QTYS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.75, 25.42618900])
TRADES = st.tuples(
    st.just("trade"),
    st.sampled_from(["buy", "sell"]),
    TICKS,
    st.sampled_from([0.1, 0.3, 0.5, 1.0, 7.00001]),
)
DEPTHS = st.tuples(st.just("depth"), st.integers(97, 101), st.integers(101, 105), QTYS)
TOUCHES = st.tuples(st.just("touch"), st.integers(97, 101), st.integers(101, 105), QTYS)
PLACES = st.tuples(
    st.just("place"), st.sampled_from(["buy", "sell"]), TICKS, st.integers(1, 6), st.none()
)
CANCELS = st.tuples(st.just("cancel"), st.integers(0, 9))
LAGS = st.tuples(st.just("lag"), st.integers(0, 30))
SESSIONS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.one_of(TRADES, TRADES, DEPTHS, TOUCHES, PLACES, PLACES, CANCELS, LAGS),
    ),
    min_size=5,
    max_size=40,
)


def words_of(step: tuple[Any, ...], placed: dict[str, int]) -> list[str]:
    match step:
        case "trade", side, tick, qty:
            return [side, f"{tick}:{qty}"]
        case "depth", bid, ask, qty:
            return [f"{bid}:{qty}", "/", f"{ask}:{qty}"]
        case "touch", bid, ask, qty:
            return [f"{bid}:{qty}", f"{ask}:{qty}"]
        case "place", side, tick, lots, None:
            placed[f"o{len(placed)}"] = lots
            return [f"o{len(placed) - 1}", side, f"{tick}:{lots}"]
        case _, number:
            return [str(number) if step[0] == "lag" else f"o{number}"]
    raise ValueError(step)


@given(st.sampled_from(sorted(MODELS)), SESSIONS)
def test_any_session_keeps_the_books(queue: str, steps: list[tuple[int, Any]]) -> None:
    stage = Stage(queue)
    stage.perform(ZERO, "book", ["99:1", "98:3", "/", "103:1", "104:2"])
    placed: dict[str, int] = {}
    now = ZERO
    for passed, step in steps:
        now += passed * NS_PER_MS
        stage.until(now)
        heard = len(stage.reports)
        stage.perform(now, step[0], words_of(step, placed))
        assert all(event.at >= now for event in stage.reports[heard:])
    stage.until(NEVER - 1)
    assert [event.at for event in stage.reports] == sorted(event.at for event in stage.reports)
    trades = [event.trade_id for event in stage.reports if isinstance(event, Filled)]
    assert len(trades) == len(set(trades))
    for order_id, lots in placed.items():
        told = [event for event in stage.reports if event.order_id == order_id]
        fills = [event.lots for event in told if isinstance(event, Filled)]
        born = [e for e in told if isinstance(e, OrderOpened | OrderRejected)]
        gone = [event for event in told if isinstance(event, OrderCancelled)]
        assert len(born) == 1
        assert all(fill > 0 for fill in fills)
        assert sum(fills) <= lots
        resting = stage.paper.slots[: stage.paper.n_slots]
        assert (resting["filled"] < LOT).all()  # whole lots are always reported
        if isinstance(born[0], OrderRejected):
            assert not fills
            assert not gone
            continue
        # Whatever is said of an order but "unknown" comes behind "opened".
        first = next(e for e in told if not isinstance(e, CancelRejected))
        assert first is born[0]
        assert len(gone) <= (sum(fills) < lots)
        if gone:
            assert all(isinstance(e, CancelRejected) for e in told[told.index(gone[0]) + 1 :])


def test_a_trade_from_before_we_joined_is_not_ours() -> None:
    """The book that the order joined shows it already, at the level and through it."""
    plays(
        """
        >> 0 book 99:10 / 102:5
        >> 1 depth 99:6 /
        >> 1 place a buy 99:2
        >> 8 trade sell 99:6.5 matched 1
        << 9 a opened
        >> 9 trade sell 98:0.1 matched 1
        """
    )
