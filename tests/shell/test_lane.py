"""Rows in bulk are rows one by one: the lane stops at the same places with the same state."""

from typing import Any, NamedTuple

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
from bot.market.book import Book
from bot.market.kernels import MOVED, TRUST
from bot.shell.lane import DUE, END, advance
from bot.sim.queue import FILLED, POWER3, RISK_AVERSE, SLOT, observe_row

FOREVER = 1 << 62
MID = 100_000
KINDS = [NOTHING, *[BOOK_CHANGED] * 6, *[TOUCH_CHANGED] * 3, *[TRADED] * 6, BOOK_RESET, BOOK_LOST]


class Rows(NamedTuple):
    rows: Any
    ticks: Any
    qtys: Any


class World:
    """A book and eight slots; big arrays are wiped and used again."""

    def __init__(self) -> None:
        self.book = Book()
        self.pristine = self.book.head.copy()
        self.memory = np.zeros(8 * SLOT.itemsize, np.uint8)
        self.slots: Any = self.memory.view(SLOT)

    def wipe(self) -> "World":
        self.book.memory[:] = 0
        self.book.head[:] = self.pristine
        self.slots[:] = np.zeros(8, SLOT)
        for j in range(6):
            side = j % 2
            tick = MID - 1 - j if side == 0 else MID + j
            self.slots[j] = (1, side, tick, 1.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0, -1)
        self.book.wake_outside(MID - 2, MID + 2)
        return self

    def advance(self, tape: Rows, i: int, n: int, until: int, model: int) -> tuple[int, int, int]:
        i, frames, flags = advance(
            self.book.memory,
            tape.rows.view(np.uint8),
            i,
            n,
            tape.ticks,
            tape.qtys,
            until,
            self.memory,
            6,
            model,
            3.0,
        )
        return int(i), int(frames), int(flags)

    def one_row(self, tape: Rows, i: int, model: int) -> int:
        flags = self.book.learn(tape.rows, i, tape.ticks, tape.qtys)
        return flags | int(observe_row(self.book.record, tape.rows, i, self.slots, 6, model, 3.0))

    def state(self) -> tuple[Any, ...]:
        return (
            self.book.head.tobytes(),
            self.slots.tobytes(),
            self.book.levels(Side.BUY),
            self.book.levels(Side.SELL),
        )


BULK, SINGLE = World(), World()


def tape_of(seed: int, n: int, longest: int) -> Rows:
    """A random tape: a snapshot, then anything, in frames of up to `longest` rows."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(n, ROW)
    ticks: list[int] = []
    qtys: list[float] = []
    recv, left = 1_000, 1
    for i in range(n):
        kind = BOOK_RESET if i == 0 else int(rng.choice(KINDS))
        row = rows[i]
        row["kind"], row["recv"], row["last_id"] = kind, recv, i + 1
        row["exch"] = recv - int(rng.integers(0, 50))
        row["matched"] = row["exch"]
        row["lo"] = len(ticks)
        if kind in (BOOK_RESET, BOOK_CHANGED):
            row["n_bid"], row["n_ask"] = (4, 4) if kind == BOOK_RESET else rng.integers(0, 3, 2)
            ticks += (MID - 1 - rng.integers(0, 6, row["n_bid"])).tolist()
            ticks += (MID + rng.integers(0, 6, row["n_ask"])).tolist()
            qtys += rng.choice([0.0, 0.5, 1.0, 4.0], row["n_bid"] + row["n_ask"]).tolist()
        elif kind == BOOK_LOST:
            row["side"] = 1
        elif kind in (TOUCH_CHANGED, TRADED):
            row["bid"], row["ask"] = MID - rng.integers(-3, 6), MID + rng.integers(0, 6)
            row["bid_qty"], row["ask_qty"] = rng.choice([0.25, 1.0, 3.0], 2)
            row["side"] = rng.choice([-1, 1])
        left -= 1
        if left == 0 or i == n - 1:
            row["frame_end"] = 1
            left = int(rng.integers(1, longest + 1))
            recv += int(rng.integers(0, 20))
    return Rows(rows, np.array([*ticks, 0], np.int64), np.array([*qtys, 0.0]))


def frames_of(tape: Rows) -> list[tuple[int, int]]:
    """First row and the row behind the last of every frame."""
    ends = (np.flatnonzero(tape.rows["frame_end"]) + 1).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def naive(world: World, tape: Rows, i: int, until: int, model: int) -> tuple[int, int, int]:
    """`advance` to the end of the tape as a sentence: frame by frame, row by row."""
    frames = 0
    for first, behind in frames_of(tape):
        if first < i:
            continue
        if tape.rows[first]["recv"] >= until:
            return first, frames, DUE
        flags = 0
        for j in range(first, behind):
            flags |= world.one_row(tape, j, model)
        frames += 1
        if flags:
            return behind, frames, flags
    return len(tape.rows), frames, END


SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 80)
LONGEST = st.integers(1, 5)
UNTILS = st.lists(st.integers(990, 2_000), max_size=6).map(lambda found: [*sorted(found), FOREVER])
QUEUES = st.sampled_from([RISK_AVERSE, POWER3])


@given(SEEDS, SIZES, LONGEST, UNTILS, QUEUES)
def test_bulk_is_row_by_row(seed: int, n: int, longest: int, untils: list[int], model: int) -> None:
    tape = tape_of(seed, n, longest)
    bulk, single = BULK.wipe(), SINGLE.wipe()
    i, at = 0, 0
    while i < n:
        stop = bulk.advance(tape, i, n, untils[at], model)
        assert stop == naive(single, tape, i, untils[at], model)
        assert bulk.state() == single.state()
        i = stop[0]
        at += stop[2] == DUE
    assert at < len(untils)


@given(SEEDS, SIZES, LONGEST, UNTILS, QUEUES)
def test_a_call_a_frame_stops_where_bulk_does(
    seed: int, n: int, longest: int, untils: list[int], model: int
) -> None:
    tape = tape_of(seed, n, longest)
    behind = dict(frames_of(tape))
    stops = []
    for world in (BULK.wipe(), SINGLE.wipe()):
        found = []
        i, at, frames = 0, 0, 0
        while i < n:
            upto = n if world is BULK else behind[i]
            i, more, flags = world.advance(tape, i, upto, untils[at], model)
            frames += more
            at += flags == DUE
            if flags != END:
                found.append((i, frames, flags))
        stops.append((found, frames))
    assert stops[0] == stops[1]
    assert stops[0][1] == len(behind)
    assert BULK.state() == SINGLE.state()


@given(SEEDS, SIZES, LONGEST, st.integers(990, 2_000))
def test_stops_between_frames_and_before_until(seed: int, n: int, longest: int, until: int) -> None:
    tape = tape_of(seed, n, longest)
    world = BULK.wipe()
    i = 0
    while i < n:
        before = i
        i, frames, flags = world.advance(tape, i, n, until, RISK_AVERSE)
        assert i == 0 or tape.rows[i - 1]["frame_end"] == 1
        assert frames == tape.rows["frame_end"][before:i].sum()
        assert (tape.rows["recv"][before:i] < until).all()
        if flags == DUE:
            assert tape.rows[i]["recv"] >= until
            return
        assert (flags == END) <= (i == n)


def test_random_tapes_raise_every_flag() -> None:
    seen = 0
    for seed in range(30):
        tape = tape_of(seed, 80, 3)
        world, i = BULK.wipe(), 0
        while i < 80:
            i, _, flags = world.advance(tape, i, 80, FOREVER, RISK_AVERSE)
            seen |= flags
    assert seen == MOVED | TRUST | FILLED


# --- By hand -------------------------------------------------------------------------------


def hand(*rows: dict[str, Any]) -> Rows:
    """A snapshot of MID - 1 and MID + 1 as the first frame, then `rows`."""
    made = np.zeros(1 + len(rows), ROW)
    made[0]["kind"], made[0]["recv"], made[0]["last_id"] = BOOK_RESET, 1_000, 1
    made[0]["n_bid"], made[0]["n_ask"], made[0]["frame_end"] = 1, 1, 1
    for row, fields in zip(made[1:], rows, strict=True):
        row["frame_end"] = 1
        for name, value in fields.items():
            row[name] = value
    return Rows(made, np.array([MID - 1, MID + 1]), np.array([2.0, 2.0]))


def synced() -> World:
    world = BULK.wipe()
    assert world.advance(hand(), 0, 1, FOREVER, RISK_AVERSE) == (1, 1, TRUST)
    return world


SWEEP = {"kind": TRADED, "bid": MID - 9, "bid_qty": 1.0, "side": -1, "matched": 5_000}


@pytest.mark.parametrize(("until", "learned"), [(2_001, 1), (2_000, 0), (1_999, 0), (0, 0)])
def test_until_is_not_reached(until: int, learned: int) -> None:
    tape = hand({"recv": 2_000}, {"recv": 3_000})
    stop = synced().advance(tape, 1, 3, until, RISK_AVERSE)
    assert stop == (1 + learned, learned, DUE)


def test_the_first_row_of_a_tape_waits_too() -> None:
    assert BULK.wipe().advance(hand(), 0, 1, 1_000, RISK_AVERSE) == (0, 0, DUE)


def test_until_inside_a_frame_lets_the_frame_end() -> None:
    tape = hand({"recv": 2_000, "frame_end": 0}, {"recv": 2_500}, {"recv": 3_000})
    assert synced().advance(tape, 1, 4, 2_200, RISK_AVERSE) == (3, 1, DUE)


def test_a_flag_inside_a_frame_is_told_behind_it() -> None:
    tape = hand({**SWEEP, "recv": 2_000, "frame_end": 0}, {"recv": 2_000}, {"recv": 2_001})
    world = synced()
    assert world.advance(tape, 1, 4, FOREVER, RISK_AVERSE) == (3, 1, FILLED)
    assert world.slots["filled"].sum() == 9.0  # the three bids
    assert world.advance(tape, 3, 4, FOREVER, RISK_AVERSE) == (4, 1, END)


def test_flags_of_one_frame_come_together() -> None:
    tape = hand(
        {**SWEEP, "recv": 2_000, "frame_end": 0}, {"kind": BOOK_LOST, "recv": 2_000, "side": 1}
    )
    assert synced().advance(tape, 1, 3, FOREVER, RISK_AVERSE) == (3, 1, FILLED | TRUST)


def test_the_book_learns_a_row_before_the_venue_sees_it() -> None:
    tape = hand(
        {
            "kind": TOUCH_CHANGED,
            "recv": 2_000,
            "last_id": 5,
            "bid": MID - 9,
            "ask": MID - 3,
            "bid_qty": 1.0,
            "ask_qty": 1.0,
        }
    )
    world = synced()
    i, _, flags = world.advance(tape, 1, 2, FOREVER, RISK_AVERSE)
    assert (i, flags) == (2, MOVED | FILLED)
    assert world.slots["filled"].tolist() == [3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_nothing_to_do_is_the_end() -> None:
    assert synced().advance(hand(), 1, 1, 0, RISK_AVERSE) == (1, 0, END)


@pytest.mark.parametrize("n", [2, 3])
def test_a_bound_inside_a_frame_lets_the_frame_end(n: int) -> None:
    tape = hand({**SWEEP, "recv": 2_000, "frame_end": 0}, {"recv": 2_000}, {"recv": 2_001})
    assert synced().advance(tape, 1, n, FOREVER, RISK_AVERSE) == (3, 1, FILLED)
