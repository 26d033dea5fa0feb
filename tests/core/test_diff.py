"""What is left alone, what is cancelled, and what is placed."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.diff import KEEPABLE, diff, queue_value
from bot.core.ladder import Target
from bot.core.orders import Order, OrderState
from bot.domain.params import DiffParams
from bot.domain.units import Side

EXACT = DiffParams(tolerance_ticks=2, queue_value_ticks=0.0, lots_tolerance=0.0)
QUEUE = DiffParams(tolerance_ticks=2, queue_value_ticks=2.0, lots_tolerance=0.0)


def target(tick: int, lots: int = 10, level: int = 0) -> Target:
    return Target(Side.BUY, level, tick, lots)


def order(
    tick: int,
    lots: int = 10,
    state: OrderState = OrderState.LIVE,
    name: str = "o",
    ahead: float = 0.0,
    filled: int = 0,
) -> Order:
    return Order(name, Side.BUY, tick, lots, 0, 0, state=state, ahead=ahead, filled_lots=filled)


def run(
    targets: list[Target],
    working: list[Order],
    displayed: list[float] | None = None,
    params: DiffParams = EXACT,
) -> tuple[list[str], list[Target]]:
    """Names of the orders to cancel, and the targets to place."""
    shown = [1.0] * len(working) if displayed is None else displayed
    surplus, missing = diff(targets, working, shown, params)
    return [o.order_id for o in surplus], missing


def test_nothing_from_nothing() -> None:
    assert run([], []) == ([], [])


def test_unchanged_levels_are_left_untouched() -> None:
    targets = [target(100), target(95, 20, 1), target(90, 30, 2)]
    working = [order(100), order(95, 20, name="p"), order(90, 30, name="q")]
    assert run(targets, working) == ([], [])


def test_targets_without_orders_are_placed_in_their_order() -> None:
    targets = [target(100), target(95, level=1)]
    assert run(targets, []) == ([], targets)


def test_orders_without_targets_are_cancelled_in_their_order() -> None:
    assert run([], [order(100, name="b"), order(95, name="a")]) == (["b", "a"], [])


@pytest.mark.parametrize(("away", "kept"), [(0, True), (1, True), (2, True), (3, False)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_price_tolerance_holds_up_to_its_last_tick(away: int, sign: int, kept: bool) -> None:
    wanted = target(100)
    expected = ([], []) if kept else (["o"], [wanted])
    assert run([wanted], [order(100 + sign * away)]) == expected


@pytest.mark.parametrize(
    ("ahead", "displayed", "worth"),
    [
        (0.0, 8.0, 2.0),  # at the head
        (2.0, 8.0, 1.5),
        (4.0, 8.0, 1.0),
        (8.0, 8.0, 0.0),  # at the end
        (9.0, 8.0, 0.0),  # what is displayed fell: never below nothing
        (5.0, 0.0, 2.0),  # the level is empty: nobody is ahead
    ],
)
def test_a_place_in_the_queue_is_worth_ticks(ahead: float, displayed: float, worth: float) -> None:
    assert queue_value(order(100, ahead=ahead), displayed, QUEUE) == worth


@pytest.mark.parametrize(
    ("away", "ahead", "kept"),
    [(4, 0.0, True), (5, 0.0, False), (3, 4.0, True), (3, 4.5, False), (2, 8.0, True)],
)
def test_the_queue_widens_the_tolerance(away: int, ahead: float, kept: bool) -> None:
    wanted = target(100)
    expected = ([], []) if kept else (["o"], [wanted])
    assert run([wanted], [order(100 - away, ahead=ahead)], [8.0], QUEUE) == expected


def test_each_order_is_judged_by_what_its_own_level_displays() -> None:
    targets = [target(100), target(50, level=1)]
    working = [order(97, ahead=4.0), order(47, name="p", ahead=4.0)]
    # 4 of 8 is worth one tick, 4 of 4 nothing.
    assert run(targets, working, [8.0, 4.0], QUEUE) == (["p"], [targets[1]])


@pytest.mark.parametrize("state", list(OrderState)[:5])
def test_only_orders_that_rest_or_are_about_to_are_kept_or_cancelled(state: OrderState) -> None:
    wanted = target(100)
    there = order(100, state=state)
    far = order(200, state=state)
    if state in (OrderState.PENDING_CANCEL, OrderState.UNKNOWN):
        assert run([wanted], [there]) == ([], [wanted])
        assert run([], [far]) == ([], [])
    else:
        assert state in KEEPABLE
        assert run([wanted], [there]) == ([], [])
        assert run([], [far]) == (["o"], [])


@pytest.mark.parametrize(
    ("lots", "kept"), [(79, False), (80, True), (100, True), (120, True), (121, False)]
)
def test_lots_tolerance_is_a_fraction_of_the_target(lots: int, kept: bool) -> None:
    params = msgspec.structs.replace(EXACT, lots_tolerance=0.2)
    wanted = target(100, 100)
    expected = ([], []) if kept else (["o"], [wanted])
    assert run([wanted], [order(100, lots)], params=params) == expected


def test_without_lots_tolerance_another_size_is_replaced() -> None:
    wanted = target(100, 10)
    assert run([wanted], [order(100, 11)]) == (["o"], [wanted])


def test_a_partly_filled_order_is_kept_by_its_original_size() -> None:
    part = order(100, 10, OrderState.PARTIALLY_FILLED, filled=9)
    assert run([target(100, 10)], [part]) == ([], [])
    assert run([target(100, 1)], [part]) == (["o"], [target(100, 1)])


def test_a_target_keeps_the_nearest_order() -> None:
    working = [order(98, name="far"), order(101, name="near"), order(99, name="second")]
    assert run([target(100)], working) == (["far", "second"], [])


def test_of_two_equally_near_orders_the_older_is_kept() -> None:
    working = [order(99, name="older"), order(101, name="newer")]
    assert run([target(100)], working) == (["newer"], [])


def test_one_order_serves_one_target() -> None:
    targets = [target(100), target(99, level=1)]
    assert run(targets, [order(100)]) == ([], [targets[1]])


def test_one_moved_level_of_three_is_the_only_one_replaced() -> None:
    targets = [target(100), target(90, level=1), target(80, level=2)]
    working = [order(100), order(95, name="moved"), order(80, name="q")]
    assert run(targets, working) == (["moved"], [targets[1]])


def test_a_fitting_order_of_the_wrong_size_does_not_hide_a_farther_one_of_the_right() -> None:
    working = [order(100, 11, name="wrong"), order(98, 10, name="right")]
    assert run([target(100, 10)], working) == (["wrong"], [])


orders = st.lists(
    st.builds(
        order,
        st.integers(90, 110),
        st.sampled_from([10, 20]),
        st.sampled_from(list(OrderState)[:5]),
        ahead=st.floats(0.0, 9.0),
    ),
    max_size=6,
)
wants = st.lists(st.builds(target, st.integers(90, 110), st.sampled_from([10, 20])), max_size=4)


@given(wants, orders, st.sampled_from([EXACT, QUEUE]))
@settings(max_examples=200, deadline=None)
def test_every_order_has_one_fate_and_every_target_one_order(
    targets: list[Target], working: list[Order], params: DiffParams
) -> None:
    displayed = [8.0] * len(working)
    before = [(o.state, o.tick, o.lots, o.ahead) for o in working]
    surplus, missing = diff(targets, working, displayed, params)
    touchable = [o for o in working if o.state in KEEPABLE]
    assert all(any(o is t for t in touchable) for o in surplus)
    assert len({id(o) for o in surplus}) == len(surplus)
    # What is neither cancelled nor out of reach is kept, one for each target that is served.
    assert len(touchable) - len(surplus) == len(targets) - len(missing)
    # A target is only missing when no cancelled order would have served it.
    for wanted in missing:
        for o in surplus:
            reach = params.tolerance_ticks + queue_value(o, 8.0, params)
            assert o.lots != wanted.lots or abs(o.tick - wanted.tick) > reach
    assert [(o.state, o.tick, o.lots, o.ahead) for o in working] == before  # pure
