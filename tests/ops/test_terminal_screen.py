"""The data of a picture: frozen, comparable, and honest about what is not known."""

import pytest

from bot.ops.terminal_screen import Vitals
from tests.ops.screens import quoting


def test_a_screen_is_frozen_data() -> None:
    screen = quoting()
    assert screen == quoting()
    assert screen != quoting(position_lots=1)
    with pytest.raises(AttributeError, match="immutable"):
        screen.max_position_lots = 1  # type: ignore[misc]


def test_unmeasured_is_not_zero() -> None:
    vitals = Vitals(venue="x", simulated=False)
    measured = (vitals.feed_lag_ms, vitals.decide_p50_us, vitals.decide_p99_us)
    assert (*measured, vitals.loop_lag_p99_ms) == (None, None, None, None)
    assert vitals.orders == "paper"
