"""Fills that are known: once each, for a week, in bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.fillkeys import REMEMBERED_NS, FillKeys
from bot.domain.units import NS_PER_S, Side

MINUTE = 60 * NS_PER_S


def test_a_fill_is_new_once() -> None:
    keys = FillKeys()
    assert not keys.seen("o1", "t1", Side.BUY, 0)
    assert keys.seen("o1", "t1", Side.BUY, 0)
    assert keys.seen("o1", "t1", Side.BUY, 40 * MINUTE)


@pytest.mark.parametrize(
    "other", [("o2", "t1", Side.BUY), ("o1", "t2", Side.BUY), ("o1", "t1", Side.SELL)]
)
def test_order_trade_and_side_make_the_key(other: tuple[str, str, Side]) -> None:
    keys = FillKeys()
    keys.seen("o1", "t1", Side.BUY, 0)
    assert not keys.seen(*other, 0)
    assert len(keys) == 2


def test_keys_of_earlier_journals_are_known() -> None:
    keys = FillKeys()
    keys.add("o1", "t1", Side.BUY, 5)
    assert keys.seen("o1", "t1", Side.BUY, 6)


def test_a_week_is_remembered_and_not_longer() -> None:
    keys = FillKeys()
    keys.add("o1", "t1", Side.BUY, 0)
    keys.add("o1", "t2", Side.BUY, 1)
    assert keys.seen("o1", "t1", Side.BUY, REMEMBERED_NS)
    assert not keys.seen("o1", "t1", Side.BUY, REMEMBERED_NS + 1)
    assert len(keys) == 2  # the first one anew; the second is a week old and still known
    assert keys.seen("o1", "t2", Side.BUY, REMEMBERED_NS + 1)
    keys.add("o1", "t3", Side.BUY, REMEMBERED_NS + 2)
    assert repr(keys) == "FillKeys(2 of 262144)"


def test_a_key_that_came_out_of_order_is_judged_by_its_own_time() -> None:
    keys = FillKeys()
    keys.add("o1", "young", Side.BUY, REMEMBERED_NS)
    keys.add("o1", "old", Side.BUY, 0)
    assert not keys.seen("o1", "old", Side.BUY, REMEMBERED_NS + 1)


def test_the_oldest_goes_when_there_are_too_many() -> None:
    keys = FillKeys(limit=2)
    for trade in ("t1", "t2", "t3"):
        keys.seen("o1", trade, Side.BUY, 0)
    assert len(keys) == 2
    assert keys.seen("o1", "t3", Side.BUY, 0)
    assert keys.seen("o1", "t2", Side.BUY, 0)
    assert not keys.seen("o1", "t1", Side.BUY, 0)


def test_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="limit 0"):
        FillKeys(limit=0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=60))
def test_as_a_plain_list_would_have_it(steps: list[tuple[int, int]]) -> None:
    keys, now = FillKeys(limit=4, remembered_ns=100), 0
    naive: list[tuple[int, int]] = []  # (time, trade), oldest first
    for trade, after in steps:
        now += after
        known = [t for at, t in naive if now - at <= 100]
        assert keys.seen("o", str(trade), Side.SELL, now) == (trade in known)
        if trade not in known:
            naive = [*((at, t) for at, t in naive if t != trade), (now, trade)][-4:]
            naive = [(at, t) for at, t in naive if now - at <= 100]
        assert len(keys) <= 4
