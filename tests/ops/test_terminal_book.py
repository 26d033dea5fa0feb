"""The ladder: which rows, in which order, and the marks between."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bot.domain.units import Side
from bot.ops.terminal_book import Gap, Rung, book, rungs
from bot.ops.terminal_screen import Screen
from bot.ops.terminal_text import BUY, QUIET
from tests.ops.screens import long_near_max, lost, order, quoting, ticker_ahead, waiting

BIDS = tuple((100 - i, 1.0) for i in range(12))


def ladder(screen: Screen, width: int = 62, height: int = 28) -> list[str]:
    return ["".join(s.text for s in line).rstrip() for line in book(screen, width, height)]


def shape(rows: list[Rung | Gap]) -> list[str]:
    """`100` a level, `100*` with own orders, `100-` own orders only, `...1/2` a gap."""
    found = []
    for row in rows:
        if isinstance(row, Gap):
            found.append(f"...{row.shown}/{row.orders}")
        else:
            found.append(f"{row.tick}{'-' if row.quantity is None else '*' if row.orders else ''}")
    return found


def test_levels_without_orders() -> None:
    assert shape(rungs(BIDS, (), Side.BUY, 3)) == ["100", "99", "98"]
    assert shape(rungs((), (), Side.BUY, 3)) == []


def test_own_orders_stand_at_their_level_also_where_the_book_shows_none() -> None:
    bids = ((100, 1.0), (97, 1.0), (95, 2.0))
    orders = [order(i, Side.BUY, tick, 1) for i, tick in enumerate((101, 97, 96))]
    assert shape(rungs(bids, orders, Side.BUY, 5)) == ["101-", "100", "97*", "96-", "95"]
    asks = ((100, 1.0), (103, 1.0))
    sells = [order(i, Side.SELL, tick, 1) for i, tick in enumerate((99, 102))]
    assert shape(rungs(asks, [*orders, *sells], Side.SELL, 5)) == ["99-", "100", "102-", "103"]


def test_own_orders_further_out_stand_behind_a_gap() -> None:
    orders = [order(1, Side.BUY, 50, 1), order(2, Side.BUY, 60, 1), order(3, Side.BUY, 60, 1)]
    assert shape(rungs(BIDS, orders, Side.BUY, 6)) == ["100", "99", "98", "...3/3", "60-", "50-"]


def test_many_orders_further_out_leave_half_of_the_rows_to_the_book() -> None:
    orders = [order(i, Side.BUY, 50 - i, 1) for i in range(9)]
    assert shape(rungs(BIDS, orders, Side.BUY, 6)) == [
        *("100", "99", "98"),
        "...2/9",
        *("50-", "49-"),
    ]


def test_orders_over_an_empty_book_are_all_behind_the_gap() -> None:
    orders = [order(1, Side.SELL, 50, 1), order(2, Side.SELL, 40, 1)]
    assert shape(rungs((), orders, Side.SELL, 4)) == ["...2/2", "40-", "50-"]


TICKS = st.integers(80, 120)


@given(
    st.lists(st.tuples(TICKS, st.floats(0.1, 9.0)), max_size=12, unique_by=lambda level: level[0]),
    st.lists(TICKS, max_size=9),
    st.sampled_from(Side),
    st.integers(2, 14),
)
def test_rows_are_ordered_and_bounded_and_lose_no_order(
    levels: list[tuple[int, float]], own: list[int], side: Side, n: int
) -> None:
    levels.sort(reverse=side is Side.BUY)
    orders = [order(i, side, tick, 1) for i, tick in enumerate(own)]
    rows = rungs(levels, orders, side, n)
    ticks = [row.tick for row in rows if isinstance(row, Rung)]
    assert len(rows) <= n
    assert ticks == sorted(set(ticks), reverse=side is Side.BUY)
    gaps = [row for row in rows if isinstance(row, Gap)]
    at_levels = sum(len(row.orders) for row in rows if isinstance(row, Rung))
    hidden = sum(gap.orders - gap.shown for gap in gaps)
    assert len(gaps) <= 1
    assert at_levels + hidden == len(own)


def test_the_fair_and_the_reservation_price_stand_between() -> None:
    drawn = ladder(quoting())
    fair = next(i for i, line in enumerate(drawn) if "fair price" in line)
    assert "115,623.09" in drawn[fair]
    assert "115,623.03" in drawn[fair + 1]
    assert "reservation" in drawn[fair + 1]
    assert "115,623.1 " in drawn[fair - 1]
    assert "115,623.0 " in drawn[fair + 2]


def test_the_touch_stays_in_its_rows() -> None:
    for screen in (quoting(), quoting(orders=()), long_near_max(), lost(), waiting()):
        drawn = ladder(screen)
        rows = [i for i, line in enumerate(drawn) if "fair" in line or "NOT TRUSTED" in line]
        rows += [i for i, line in enumerate(drawn) if "waiting" in line]
        assert rows == [14]


def test_a_reservation_price_outside_the_spread_is_marked_at_its_level() -> None:
    marked = [line for line in ladder(long_near_max()) if line.startswith(" ◂")]
    assert [line.split()[1] for line in (m.replace("◂", "◂ ") for m in marked)] == ["115,622.0"]
    assert not any("◂" in line for line in ladder(quoting()))
    far_away = replace(long_near_max().view, reservation_ticks=1_100_000.0)
    assert not any("◂" in line for line in ladder(replace(long_near_max(), view=far_away)))


def test_size_filled_part_and_state_of_own_orders() -> None:
    drawn = "\n".join(ladder(quoting()))
    assert "▶ 115,622.7" in drawn
    assert "0.004/0.010" in drawn
    assert "new 0.020" in drawn
    stacked = quoting(orders=(order(1, Side.BUY, 1_156_227, 10), order(2, Side.BUY, 1_156_227, 5)))
    assert "2 = 0.015" in "\n".join(ladder(stacked))
    assert "unk 0.010" in "\n".join(ladder(lost()))


def test_after_a_halt_there_is_no_reservation_price_of_old() -> None:
    drawn = "\n".join(ladder(quoting(level="HALTED")))
    assert "no reservation price" in drawn
    assert "115,623.03" not in drawn


def test_a_book_that_is_not_trusted_says_why() -> None:
    screen = quoting(trusted=False, distrust="gap", level="PAUSED", causes=("x",))
    drawn = "\n".join(ladder(screen))
    assert "BOOK NOT TRUSTED: gap" in drawn
    assert "spread" not in drawn
    assert "fair price" not in drawn
    assert "waiting for the first book" in "\n".join(ladder(waiting()))


def test_levels_that_the_ticker_has_passed_are_quiet() -> None:
    drawn = ladder(ticker_ahead())
    assert "ticker 115,622.6 / 115,622.9  fair price" in "\n".join(drawn)
    assert "by ticker fair price" in "\n".join(ladder(ticker_ahead(), 42))
    assert "ticker" not in "\n".join(ladder(quoting()))
    styles = {
        segment.text.strip(): segment.style
        for line in book(ticker_ahead(), 62, 28)
        for segment in line
    }
    assert styles["115,623.0"] == styles["115,622.8"] == QUIET
    assert styles["115,622.6"] == BUY


def test_a_small_panel_is_cut_from_below() -> None:
    assert len(ladder(quoting(), 30, 3)) == 3
    assert len(ladder(replace(quoting()), 30, 0)) == 0
