"""Decimal text to whole steps and back, exactly or not at all."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.units import Side
from bot.venues.binance.amounts import decimal_of, nearest_step, plain, side_of, steps

STEPS = st.sampled_from(["0.01", "0.10", "0.00001000", "0.5", "1", "10", "0.0000000025"])


@given(count=st.integers(0, 10**12), step=STEPS)
def test_text_of_whole_steps_comes_back(count: int, step: str) -> None:
    size = Decimal(step)
    text = plain(size * count)
    assert steps(text, size) == nearest_step(text, size) == count
    assert "E" not in text
    assert "." not in text or text[-1] not in "0."


@given(count=st.integers(0, 10**9), tenth=st.integers(1, 9))
def test_between_two_steps_is_no_number_of_them(count: int, tenth: int) -> None:
    text = f"{count}.{tenth}"
    with pytest.raises(ValueError, match="no whole number"):
        steps(text, Decimal(1))
    assert nearest_step(text, Decimal(1)) == count + (tenth >= 5)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "NaN", "Infinity", "1e5", "1E400", "+1", ".5", "5.", "0x1", "1_0", "\u0661"],
)
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    for read in (decimal_of, lambda word: steps(word, Decimal(1))):
        with pytest.raises(ValueError, match="no number"):
            read(text)


def test_more_digits_than_are_exact_are_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        decimal_of("1" * 16)
    with pytest.raises(ValueError, match="no number"):
        decimal_of("1." + "1" * 11)
    exact = "9" * 15 + "." + "9" * 10
    assert plain(decimal_of(exact)) == exact


@pytest.mark.parametrize("read", [steps, nearest_step])
def test_a_price_is_not_negative(read: object) -> None:
    assert callable(read)
    with pytest.raises(ValueError, match="-1"):
        read("-1", Decimal(1))
    assert decimal_of("-0.5") == Decimal("-0.5")


@pytest.mark.parametrize(
    ("value", "text"),
    [("61800.10000000", "61800.1"), ("1E+3", "1000"), ("0.00001000", "0.00001"), ("5.0", "5")],
)
def test_plain_text_has_no_needless_zeros(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text


def test_sides() -> None:
    assert side_of("BUY") is Side.BUY
    assert side_of("SELL") is Side.SELL
    with pytest.raises(ValueError, match="'buy' is no side"):
        side_of("buy")
