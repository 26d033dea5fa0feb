from dataclasses import dataclass
from decimal import Decimal

import pytest

from bot.core.orderlife import Order, OrderState
from bot.core.reconcile import (
    FRESH_FILL_NS,
    OVERDUE_NS,
    POSITION_GAP_NS,
    QUIET_NS,
    Finding,
    OrdersVerdict,
    OrdersWatch,
    PositionRead,
    PositionWatch,
    Standing,
    compare,
    overdue,
    position_off,
)
from bot.domain.units import NS_PER_S, Side

T = 1_000 * NS_PER_S
LONG_AGO = T - QUIET_NS


@dataclass
class One:
    order_id: str
    tick: int = 100
    lots: int = 5
    cumulative_lots: int = 0


def order(order_id: str, state: OrderState = OrderState.LIVE, filled: int = 0) -> Order:
    return Order(order_id, Side.BUY, 100, 5, 0, 1, state, filled)


def own(order_id: str) -> bool:
    return order_id.startswith("mm")


def watch() -> OrdersWatch:
    return OrdersWatch(own)


def test_equal_lists_say_nothing() -> None:
    orders = watch()
    partial = order("mm-2", OrderState.PARTIALLY_FILLED, filled=2)
    listed = [One("mm-1"), One("mm-2", cumulative_lots=2)]
    verdict = orders.judge([order("mm-1"), partial], listed, lambda _: 0, T)
    assert verdict == OrdersVerdict()
    assert not orders.suspects


def test_a_missing_order_is_doubted_after_two_readings() -> None:
    orders, listed = watch(), [One("mm-2")]
    believed = [order("mm-1"), order("mm-2")]
    assert orders.judge(believed, listed, lambda _: LONG_AGO, T).doubts == ()
    assert orders.judge(believed, listed, lambda _: LONG_AGO, T + 1).doubts == ("mm-1",)


def test_a_list_that_has_it_again_clears_the_suspicion() -> None:
    # F80: a lagging replica answers every other time
    orders, believed = watch(), [order("mm-1"), order("mm-2")]
    stale, fresh = [One("mm-2")], [One("mm-1"), One("mm-2")]
    for n in range(6):
        verdict = orders.judge(believed, stale if n % 2 else fresh, lambda _: 0, T + n)
        assert verdict == OrdersVerdict()


def test_no_verdict_while_our_own_activity_is_fresh() -> None:
    # F54: the list lags two seconds behind
    orders, believed = watch(), [order("mm-1"), order("mm-2")]
    for n in range(5):
        assert orders.judge(believed, [One("mm-2")], lambda _: LONG_AGO + 1, T).doubts == (), n
    assert not orders.suspects


def test_a_reading_within_the_fresh_time_is_not_the_first_of_two() -> None:
    orders, believed = watch(), [order("mm-1")]
    listed = [One("mm-1", tick=99)]
    assert orders.judge(believed, listed, lambda _: T, T + QUIET_NS - 1).doubts == ()
    assert orders.judge(believed, listed, lambda _: T, T + QUIET_NS).doubts == ()
    assert orders.judge(believed, listed, lambda _: T, T + QUIET_NS + 1).doubts == ("mm-1",)


@pytest.mark.parametrize("change", [{"tick": 101}, {"lots": 4}, {"cumulative_lots": 1}])
def test_a_different_order_is_doubted_after_two_readings(change: dict[str, int]) -> None:
    orders, believed, listed = watch(), [order("mm-1")], [One("mm-1", **change)]
    assert orders.judge(believed, listed, lambda _: 0, T).doubts == ()
    assert orders.judge(believed, listed, lambda _: 0, T + 1).doubts == ("mm-1",)


def test_another_kind_of_finding_begins_anew() -> None:
    orders, believed = watch(), [order("mm-1")]
    assert orders.judge(believed, [One("mm-1", tick=99)], lambda _: 0, T).doubts == ()
    assert orders.judge(believed, [One("mm-9")], lambda _: 0, T + 1).doubts == ()


def test_a_stray_is_cancelled_after_two_readings_and_quiet() -> None:
    orders, listed = watch(), [One("mm-7")]
    assert orders.judge([], listed, lambda _: LONG_AGO + 1, T).strays == ()
    assert orders.judge([], listed, lambda _: LONG_AGO, T).strays == ()
    assert orders.judge([], listed, lambda _: LONG_AGO, T).strays == ("mm-7",)


def test_foreign_orders_are_named_and_nothing_else() -> None:
    orders = watch()
    for _ in range(3):
        verdict = orders.judge([], [One("web_1")], lambda _: 0, T)
        assert verdict == OrdersVerdict(foreign=("web_1",))


@pytest.mark.parametrize(
    "state",
    [
        OrderState.PENDING_NEW,
        OrderState.PENDING_AMEND,
        OrderState.PENDING_CANCEL,
        OrderState.UNKNOWN,
    ],
)
def test_orders_under_way_are_not_judged(state: OrderState) -> None:
    believed = [order("mm-1", state)]
    assert compare(believed, [], own) == {}
    assert compare(believed, [One("mm-1", tick=9)], own) == {}


def test_an_empty_list_contradicts_resting_orders() -> None:
    orders = watch()
    assert orders.judge([order("mm-1")], [], lambda _: T, T).contradicts
    assert not orders.judge([order("mm-1", OrderState.PENDING_NEW)], [], lambda _: T, T).contradicts
    assert not orders.judge([], [], lambda _: T, T).contradicts


def test_forgetting_makes_the_next_reading_the_first() -> None:
    orders, believed = watch(), [order("mm-1")]
    orders.judge(believed, [One("mm-2")], lambda _: 0, T)
    assert orders.suspects == {"mm-1": Finding.MISSING, "mm-2": Finding.STRAY}
    orders.forget()
    assert orders.judge(believed, [One("mm-2")], lambda _: 0, T + 1) == OrdersVerdict()


def test_a_request_without_an_answer_is_overdue() -> None:
    pending = Order("mm-1", Side.BUY, 100, 5, 0, T)
    others = [order("mm-2"), order("mm-3", OrderState.UNKNOWN)]
    amended = order("mm-4", OrderState.PENDING_AMEND)
    assert overdue([pending, *others], lambda _: 0, T + OVERDUE_NS) == []
    assert overdue([pending, *others], lambda _: 0, T + OVERDUE_NS + 1) == ["mm-1"]
    assert overdue([pending, *others], lambda _: T + 1, T + OVERDUE_NS + 1) == []
    assert overdue([amended], lambda _: T, T + OVERDUE_NS + 1) == ["mm-4"]


# --- position -----------------------------------------------------------------------------


def test_a_mismatch_is_seen_twice_in_quiet() -> None:
    position = PositionWatch()
    assert position.judge(PositionRead(T, 2), LONG_AGO, 0) is Standing.UNDECIDED
    soon = PositionRead(T + POSITION_GAP_NS - 1, 2)
    assert position.judge(soon, LONG_AGO, 0) is Standing.UNDECIDED
    later = PositionRead(T + POSITION_GAP_NS, 2)
    assert position.judge(later, LONG_AGO, 0) is Standing.MISMATCH


def test_activity_between_the_readings_begins_anew() -> None:
    position = PositionWatch()
    position.judge(PositionRead(T, 2), LONG_AGO, 0)
    later = T + 2 * POSITION_GAP_NS
    assert position.judge(PositionRead(later, 2), LONG_AGO + 1, 0) is Standing.UNDECIDED
    last = PositionRead(later + POSITION_GAP_NS, 2)
    assert position.judge(last, LONG_AGO + 1, 0) is Standing.MISMATCH


def test_another_difference_begins_anew() -> None:
    position = PositionWatch()
    for n, off in enumerate([2, 3, 2, -2]):
        read = PositionRead(T + n * POSITION_GAP_NS, off)
        assert position.judge(read, LONG_AGO, 0) is Standing.UNDECIDED


def test_an_equal_reading_clears_the_suspicion() -> None:
    position = PositionWatch()
    for n in range(6):
        read = PositionRead(T + n * POSITION_GAP_NS, n % 2)
        expected = Standing.UNDECIDED if n % 2 else Standing.EQUAL
        assert position.judge(read, LONG_AGO, 0) is expected


def test_nothing_is_proven_while_something_is_under_way() -> None:
    position = PositionWatch()
    for n in range(2):
        read = PositionRead(T + n * POSITION_GAP_NS, 2, settled=False)
        assert position.judge(read, 0, 0) is Standing.UNDECIDED


def test_the_same_difference_again_and_again_is_suspect_though_never_quiet() -> None:
    position = PositionWatch()
    said = [position.judge(PositionRead(T + n, 2), T + n, 0) for n in range(3)]
    assert said == [Standing.UNDECIDED, Standing.UNDECIDED, Standing.SUSPECT]


def test_races_with_fills_are_not_suspect() -> None:
    # off by another fill each time, as readings behind a busy account are
    position = PositionWatch()
    for n in range(20):
        assert position.judge(PositionRead(T + n, 1 + n % 2), T + n, 0) is Standing.UNDECIDED


def test_an_empty_account_just_after_a_fill_is_no_reading() -> None:
    # F55
    position = PositionWatch()
    for n in range(4):
        read = PositionRead(T + n * POSITION_GAP_NS, -5, empty=True)
        assert position.judge(read, LONG_AGO, T - NS_PER_S) is Standing.CONTRADICTS
    late = T + FRESH_FILL_NS
    assert position.judge(PositionRead(late, -5, empty=True), 0, T) is Standing.UNDECIDED
    last = PositionRead(late + POSITION_GAP_NS, -5, empty=True)
    assert position.judge(last, 0, T) is Standing.MISMATCH


def test_an_empty_account_is_fine_when_we_hold_nothing() -> None:
    assert PositionWatch().judge(PositionRead(T, 0, empty=True), T, T) is Standing.EQUAL


@pytest.mark.parametrize(
    ("believed", "position", "exact", "off"),
    [
        (5, "0.005", True, 0),
        (5, "0.004", True, -1),
        (5, "0.0051", True, 1),
        (-5, "-0.0051", True, -1),
        (0, "-0.002", True, -2),
        (5, "0.0059", False, 0),
        (5, "0.0041", False, 0),
        (5, "0.006", False, 1),
        (5, "0.0025", False, -2),
        (-5, "-0.0059", False, 0),
        (-5, "-0.008", False, -3),
    ],
)
def test_difference_in_lots(believed: int, position: str, exact: bool, off: int) -> None:
    assert position_off(believed, Decimal(position), Decimal("0.001"), exact) == off
