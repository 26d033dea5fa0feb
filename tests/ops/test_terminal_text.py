"""Numbers and lines of exactly so many cells."""

from decimal import Decimal
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from bot.domain.units import NS_PER_S
from bot.ops.terminal_text import (
    NONE,
    PLAIN,
    Line,
    bar,
    beside,
    clean,
    clock,
    columns,
    decimals,
    duration,
    exact,
    fit,
    number,
    piece,
    plain_ascii,
    signed,
    split,
    title,
)


def plain(line: Line) -> str:
    return "".join(segment.text for segment in line)


@pytest.mark.parametrize(
    ("value", "digits", "width", "expected"),
    [
        (0.0, 3, 12, "0.000"),
        (-1234.5678, 2, 12, "-1,234.57"),
        (12_345.678, 3, 9, "12,345.68"),
        (123_456_789.0, 0, 9, "123.46M"),
        (1.98e9, 0, 11, "1.98B"),
        (-2.5e12, 2, 8, "-2.50T"),
        (1.5e15, 2, 30, "1.50e+15"),
        (1e300, 2, 4, "1.00e+300"),
        (None, 2, 9, NONE),
        (nan, 2, 9, NONE),
        (inf, 2, 9, NONE),
    ],
)
def test_numbers_degrade_in_steps(
    value: float | None, digits: int, width: int, expected: str
) -> None:
    assert number(value, digits, width) == expected


@pytest.mark.parametrize(
    ("step", "digits"),
    [("0.10", 1), ("1E-8", 8), ("0.00025", 5), ("5", 0), ("1E+2", 0), ("0", 0), ("1.00", 0)],
)
def test_a_step_needs_so_many_digits(step: str, digits: int) -> None:
    assert decimals(Decimal(step)) == digits


def test_money_is_exact_and_zero_has_no_sign() -> None:
    assert exact(Decimal("1234567.10"), 1) == "1,234,567.1"
    assert signed(Decimal("0.5"), 4) == "+0.5000"
    assert signed(Decimal("-1234.5"), 2) == "-1,234.50"
    assert signed(Decimal("-0.00001"), 4) == "0.0000"
    assert signed(Decimal("NaN"), 4) == NONE


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, "    "),
        (-1.0, "    "),
        (nan, "    "),
        (1e-9, "▏   "),
        (0.5, "██  "),
        (0.53125, "██▏ "),
        (1.0, "████"),
        (inf, "████"),
    ],
)
def test_a_bar_fills_by_eighths(share: float, expected: str) -> None:
    assert bar(share, 4) == expected


def test_a_bar_without_room() -> None:
    assert bar(0.5, 0) == bar(0.5, -3) == ""


def test_times() -> None:
    assert clock(1_760_130_780_123_456_789) == "21:13:00.123"
    assert clock(0) == "00:00:00.000"
    assert duration(0.9) == "00:00:00"
    assert duration(90_061.0) == "25:01:01"
    assert duration(nan) == duration(-1.0) == duration(inf) == "00:00:00"
    assert clock(86_399 * NS_PER_S + 999_999_999) == "23:59:59.999"


def test_text_from_outside_cannot_move_the_cursor() -> None:
    assert clean("a\x1b[2J\r\nb\tc\x7f") == "a·[2J··b·c·"
    assert piece("a\x1bb").text == "a·b"
    assert clean("naïve 日本") == "naïve 日本"


def test_the_right_end_of_a_line_wins() -> None:
    line = split([piece("a long label")], [piece("12.5")], 10)
    assert plain(line) == "a long12.5"
    assert plain(split([piece("x")], [piece("0123456789")], 4)) == "0123"


def test_columns_keep_a_blank_before_their_values() -> None:
    cells = [("cancelled", "1,166", PLAIN), ("fills", "34", PLAIN)]
    assert plain(columns(cells, 25)) == "cancel 1,166 fills     34"
    assert plain(columns(cells, 60)) == (
        "cancelled               1,166  fills                      34"
    )


def test_a_title_fills_its_width() -> None:
    assert plain(title("BOOK", 20, "note")) == "─ BOOK ────── note ─"
    assert plain(title("BOOK", 5)) == "─ BOO"


def test_blocks_stand_beside_each_other() -> None:
    joined = beside([[piece("a")], [piece("b")]], [[piece("c")]], 3, 10)
    assert [plain(line) for line in joined] == ["a   │ c   ", "b   │     "]


@given(st.text(max_size=20), st.integers(-2, 30))
def test_a_line_fits(text: str, width: int) -> None:
    line = fit([piece(text), piece("日本語")], width)
    assert sum(cell_len(segment.text) for segment in line) == max(0, width)


def test_ascii_keeps_the_meaning_of_signs() -> None:
    assert plain_ascii("▶ γ × 2 — ██▏ ⋯ µs σ √ │ ░ é") == "> g x 2 - ##  ~ us s / | . ?"  # noqa: RUF001
