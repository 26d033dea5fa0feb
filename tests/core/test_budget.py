"""The message governor: windows, shares, the server's word, silence, and our own cap."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.budget import (
    AMEND,
    CANCEL,
    DATA,
    PLACE,
    RECONCILE,
    SHARES,
    SLOTS,
    Budget,
    Runaway,
    Window,
)
from bot.domain.units import MINUTE_NS, NS_PER_S
from bot.venues.orderentry import Priority

TEN_S = 10 * NS_PER_S
START = 1_700_000_000 * NS_PER_S + 123


def budget(weight: int = 100, orders_10s: int = 50, cap: int = 1_000) -> Budget:
    return Budget([(weight, MINUTE_NS)], [(orders_10s, TEN_S), (500, MINUTE_NS)], cap)


def test_priorities_are_those_of_the_calls() -> None:
    assert list(Priority) == [CANCEL, AMEND, PLACE, RECONCILE, DATA]
    assert len(SHARES) == len(Priority)


class TestWindow:
    def test_what_was_spent_returns_when_its_slot_has_left_the_window(self) -> None:
        window = Window(10, TEN_S)
        window.spend(10, START)
        wait = window.wait_ns(100, 1, START)
        assert TEN_S < wait <= TEN_S + TEN_S // SLOTS
        assert window.wait_ns(100, 1, START + wait - 1) == 1
        assert window.wait_ns(100, 10, START + wait) == 0
        assert window.used == 0

    def test_waits_only_for_as_much_as_is_needed(self) -> None:
        window = Window(10, TEN_S)
        for i in range(5):
            window.spend(2, START + i * NS_PER_S)
        one, three = (
            window.wait_ns(100, 1, START + 5 * NS_PER_S),
            window.wait_ns(100, 3, START + 5 * NS_PER_S),
        )
        assert three - one == NS_PER_S

    def test_what_never_fits_is_a_fault(self) -> None:
        with pytest.raises(ValueError, match="8 units never fit into 70 % of 10"):
            Window(10, TEN_S).wait_ns(70, 8, START)

    @pytest.mark.parametrize(("limit", "window_ns"), [(0, 1), (1, 0)])
    def test_a_window_of_nothing_is_refused(self, limit: int, window_ns: int) -> None:
        with pytest.raises(ValueError, match="a limit and a length"):
            Window(limit, window_ns)

    def test_memory_is_bounded(self) -> None:
        window = Window(10, TEN_S)
        for i in range(10_000):
            window.spend(1, START + i * NS_PER_S // 100)
        assert len(window._slots) <= SLOTS + 2
        assert repr(window) == f"Window({window.used}/10 in 10 s)"


class TestShares:
    @pytest.mark.parametrize(
        ("priority", "most"), [(CANCEL, 100), (AMEND, 70), (PLACE, 70), (RECONCILE, 90), (DATA, 70)]
    )
    def test_each_priority_ends_at_its_share(self, priority: int, most: int) -> None:
        room = budget()
        room.spent(most - 1, 0, START)
        assert room.wait_ns(priority, 1, 0, START) == 0
        room.spent(1, 0, START)
        assert room.wait_ns(priority, 1, 0, START) > 0

    def test_orders_are_counted_in_every_window_of_theirs(self) -> None:
        room = budget()
        for _ in range(35):
            assert room.wait_ns(PLACE, 1, 1, START) == 0
            room.spent(1, 1, START)
        wait = room.wait_ns(PLACE, 1, 1, START)
        assert TEN_S < wait < 2 * TEN_S
        assert room.wait_ns(PLACE, 1, 0, START) == 0  # no order, no limit on orders
        assert room.wait_ns(PLACE, 1, 1, START + wait) == 0

    def test_the_longest_wait_of_all_windows_counts(self) -> None:
        room = budget()
        room.spent(70, 35, START)
        assert room.wait_ns(PLACE, 1, 1, START) > MINUTE_NS

    def test_a_call_that_costs_more_than_its_share_never_goes(self) -> None:
        with pytest.raises(ValueError, match="never fit"):
            budget().wait_ns(DATA, 71, 0, START)


class TestServer:
    def test_the_server_corrects_upward_only(self) -> None:
        room = budget()
        room.spent(10, 0, START)
        room.told(69, START)
        assert room.wait_ns(PLACE, 1, 0, START) == 0
        assert room.wait_ns(PLACE, 2, 0, START) > 0
        room.told(5, START)
        assert room.wait_ns(PLACE, 2, 0, START) > 0
        assert room.wait_ns(PLACE, 70, 0, START + MINUTE_NS + NS_PER_S) == 0

    def test_the_servers_count_of_orders_is_that_of_its_window(self) -> None:
        room = budget()
        room.told_orders(35, TEN_S, START)
        assert TEN_S < room.wait_ns(PLACE, 1, 1, START) < 2 * TEN_S
        room = budget()
        room.told_orders(35, MINUTE_NS, START)
        assert room.wait_ns(PLACE, 1, 1, START) == 0

    def test_after_a_429_only_cancels_go(self) -> None:
        room = budget()
        room.silence(START + 7, banned=False)
        waits = [room.wait_ns(priority, 1, 0, START) for priority in Priority]
        assert waits == [0, 7, 7, 7, 7]
        room.silence(START + 3, banned=False)  # an earlier end does not shorten it
        assert room.wait_ns(PLACE, 1, 0, START) == 7
        assert room.wait_ns(PLACE, 1, 0, START + 7) == 0

    def test_after_a_418_nothing_goes(self) -> None:
        room = budget()
        room.silence(START + 7, banned=True)
        assert [room.wait_ns(priority, 1, 0, START) for priority in Priority] == [7] * 5
        assert room.wait_ns(CANCEL, 1, 0, START + 7) == 0


class TestCap:
    def test_more_orders_in_a_minute_than_we_can_mean_are_a_fault(self) -> None:
        room = Budget([], [], 3)
        for i in range(3):
            room.spent(1, 1, START + i)
        with pytest.raises(Runaway, match="4 orders within a minute, 3 at most"):
            room.spent(1, 1, START + 3)
        room.spent(1, 0, START + 4)  # cancels and questions are no orders
        room.spent(1, 1, START + 2 * MINUTE_NS)

    def test_it_does_not_make_anything_wait(self) -> None:
        room = Budget([], [], 1)
        room.spent(1, 1, START)
        assert room.wait_ns(PLACE, 1, 1, START) == 0

    def test_repr(self) -> None:
        room = Budget([(100, MINUTE_NS)], [], 3)
        room.spent(2, 1, START)
        assert repr(room) == (
            "Budget(weights=(Window(2/100 in 60 s),), orders=(), cap=Window(1/3 in 60 s))"
        )


calls = st.lists(
    st.tuples(
        st.sampled_from(list(Priority)),
        st.integers(1, 12),
        st.integers(0, 3),
        st.integers(0, 3 * NS_PER_S),
    ),
    max_size=120,
)


@given(calls)
@settings(max_examples=150, deadline=None)
def test_no_window_of_any_start_ever_holds_more_than_its_limit(
    sequence: list[tuple[Priority, int, int, int]],
) -> None:
    room = Budget([(60, TEN_S)], [(12, TEN_S)], 10_000)
    now, sent = START, deque[tuple[int, int, int]]()
    for priority, weight, orders, after in sequence:
        now += after
        orders = 0 if priority is Priority.CANCEL else orders
        if room.wait_ns(priority, weight, orders, now) == 0:
            room.spent(weight, orders, now)
            sent.append((now, weight, orders))
        within = [(w, o) for at, w, o in sent if at > now - TEN_S]
        assert sum(w for w, _ in within) <= 60
        assert sum(o for _, o in within) <= 12


@given(calls)
@settings(max_examples=150, deadline=None)
def test_a_wait_is_as_long_as_needed_and_no_longer(
    sequence: list[tuple[Priority, int, int, int]],
) -> None:
    room, now = Budget([(60, TEN_S)], [(12, TEN_S)], 10_000), START
    for priority, weight, orders, after in sequence:
        now += after
        wait = room.wait_ns(priority, weight, orders, now)
        if wait:
            assert room.wait_ns(priority, weight, orders, now + wait - 1) == 1
            now += wait
            assert room.wait_ns(priority, weight, orders, now) == 0
        room.spent(weight, orders, now)


@given(calls)
@settings(max_examples=150, deadline=None)
def test_no_placement_makes_a_cancel_wait(
    sequence: list[tuple[Priority, int, int, int]],
) -> None:
    """While cancels keep to what is reserved for them, whatever placements and amends ask for."""
    room, now = Budget([(100, TEN_S)], [(20, TEN_S)], 10_000), START
    cancels = deque[tuple[int, int]]()
    for priority, weight, orders, after in sequence:
        now += after
        if priority is not Priority.CANCEL:
            asked = Priority.AMEND if priority is Priority.AMEND else Priority.PLACE
            if room.wait_ns(asked, weight, orders, now) == 0:
                room.spent(weight, orders, now)
            continue
        # A slot's length more than the window, as that is how late weight is forgotten.
        recent = sum(w for at, w in cancels if at > now - TEN_S - TEN_S // SLOTS)
        if recent + weight <= 30:
            assert room.wait_ns(CANCEL, weight, 0, now) == 0
            room.spent(weight, 0, now)
            cancels.append((now, weight))
