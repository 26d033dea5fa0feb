"""The levels themselves, without streams or trust: held against two dictionaries."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bot.market.levels import (
    BLOCK,
    BOOK,
    WINDOW,
    best_above,
    best_below,
    clear,
    level_qty_at,
    put_level,
    put_side,
)

MID = 10 * WINDOW
BOOKS: list[Any] = [np.zeros(1, BOOK), np.zeros(1, BOOK)]

near = st.integers(-200, 200)
far = st.sampled_from([-3 * WINDOW, -WINDOW, -WINDOW // 2 - 1, WINDOW // 2, WINDOW, 4 * WINDOW])
changes = st.lists(
    st.tuples(
        st.sampled_from([0, 1]), st.one_of(near, near, far), st.sampled_from([0.0, 1.0, 2.5])
    ),
    max_size=60,
)


def emptied(book: Any) -> Any:
    clear(book)
    book[0]["base"] = MID - WINDOW // 2
    return book


def sides(book: Any, ticks: set[int]) -> list[dict[int, float]]:
    return [
        {tick: q for tick in ticks if (q := level_qty_at(book, side, tick)) != 0.0}
        for side in (0, 1)
    ]


@given(changes)
def test_one_by_one_and_in_rows_are_what_dictionaries_hold(
    changes: list[tuple[int, int, float]],
) -> None:
    single, rows = (emptied(book) for book in BOOKS)
    plain: list[dict[int, float]] = [{}, {}]
    for side, offset, q in changes:
        tick = MID + offset
        put_level(single, side, tick, q)
        put_side(rows, side, np.array([7, tick, 9]), np.array([1.0, q, 1.0]), 1, 2)
        plain[side].pop(tick, None)
        if q != 0.0:
            plain[side][tick] = q
        for book in (single, rows):
            assert book[0]["best_bid"] == max(plain[0], default=0)
            assert book[0]["best_ask"] == min(plain[1], default=0)
    touched = {MID + offset for _, offset, _ in changes}
    for book in (single, rows):
        assert sides(book, touched) == plain
        head = book[0]
        blocks = [np.count_nonzero(side.reshape(-1, BLOCK), axis=1) for side in head["qty"]]
        assert np.array_equal(head["count"], blocks)
        for tick in touched:
            assert best_below(book, tick) == max((t for t in plain[0] if t <= tick), default=0)
            assert best_above(book, tick) == min((t for t in plain[1] if t >= tick), default=0)
