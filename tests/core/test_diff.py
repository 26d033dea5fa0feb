"""What is left alone, what is cancelled, and what is placed."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.diff import AMENDABLE, KEEPABLE, amendment, diff, pair, queue_value
from bot.core.ladder import Target
from bot.core.orders import Order, OrderState
from bot.domain.decisions import Amend
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


@pytest.mark.parametrize("state", [s for s in OrderState if s < OrderState.FILLED])
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
        st.sampled_from([s for s in OrderState if s < OrderState.FILLED]),
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


# --- amends --------------------------------------------------------------------------------


def amending(tick: int, to: int, lots: int = 10, to_lots: int = 10, filled: int = 0) -> Order:
    one = order(tick, lots, OrderState.PENDING_AMEND, filled=filled)
    one.amend_tick, one.amend_lots, one.amend_kept = to, to_lots, filled
    return one


def test_an_amend_under_way_is_judged_by_what_it_asks_for() -> None:
    assert run([target(120)], [amending(100, 120)]) == ([], [])
    assert run([target(100)], [amending(100, 120)]) == (["o"], [target(100)])
    assert run([target(120, 7)], [amending(100, 120, to_lots=10, filled=3)]) == ([], [])


def test_an_amend_under_way_has_no_place_in_a_queue() -> None:
    assert queue_value(amending(100, 120), 8.0, QUEUE) == 0.0
    assert run([target(123)], [amending(100, 120)], [8.0], QUEUE) == (["o"], [target(123)])


def test_an_amended_order_counts_with_the_size_that_was_asked_for() -> None:
    part = order(100, 13, OrderState.PARTIALLY_FILLED, filled=5)
    part.kept_lots = 3
    assert run([target(100, 10)], [part]) == ([], [])
    assert run([target(100, 13)], [part]) == (["o"], [target(100, 13)])


Pairs = tuple[list[tuple[str, int]], list[str], list[int]]


def pairs(surplus: list[Order], missing: list[Target], how: str) -> Pairs:
    """(name and new tick, names to cancel, ticks to place)."""
    moves, cancels, places = pair(surplus, missing, how)  # type: ignore[arg-type]
    named = [(o.order_id, wanted.tick) for o, wanted in moves]
    return named, [o.order_id for o in cancels], [wanted.tick for wanted in places]


def test_without_amends_everything_is_cancelled_and_placed() -> None:
    surplus, missing = [order(100)], [target(103)]
    assert pairs(surplus, missing, "none") == ([], ["o"], [103])


def test_the_nearest_pair_goes_first() -> None:
    surplus = [order(100, name="a"), order(90, name="b")]
    missing = [target(93), target(99, level=1)]
    assert pairs(surplus, missing, "requeue") == ([("a", 99), ("b", 93)], [], [])
    assert pairs(surplus, [target(94)], "requeue") == ([("b", 94)], ["a"], [])
    assert pairs([surplus[0]], missing, "requeue") == ([("a", 99)], [], [93])


def test_of_equally_near_pairs_the_older_order_and_the_inner_target_go_first() -> None:
    surplus = [order(100, name="older"), order(100, name="newer")]
    assert pairs(surplus, [target(103)], "requeue") == ([("older", 103)], ["newer"], [])
    assert pairs(surplus[:1], [target(103), target(97)], "requeue") == ([("older", 103)], [], [97])


@pytest.mark.parametrize("state", [s for s in OrderState if s in KEEPABLE])
@pytest.mark.parametrize("how", ["requeue", "reduce"])
def test_only_an_order_that_rests_undisturbed_is_amended(state: OrderState, how: str) -> None:
    named, cancels, places = pairs([order(100, state=state)], [target(100, 5)], how)
    assert (named != []) == (state in AMENDABLE)
    assert (cancels == places == []) == (state in AMENDABLE)


@pytest.mark.parametrize(
    ("tick", "lots", "amended"),
    [(100, 6, True), (100, 7, True), (100, 8, False), (101, 6, False), (100, 1, True)],
)
def test_reduce_keeps_the_price_and_never_asks_for_more(
    tick: int, lots: int, amended: bool
) -> None:
    part = order(100, 10, OrderState.PARTIALLY_FILLED, filled=3)
    named, cancels, places = pairs([part], [target(tick, lots)], "reduce")
    assert (named == [("o", tick)]) == amended
    assert ((cancels, places) == (["o"], [tick])) == (not amended)


def test_an_amend_states_whole_lots() -> None:
    part = order(100, 10, OrderState.PARTIALLY_FILLED, filled=3)
    assert amendment(part, target(99, 10, 2)) == Amend("o", Side.BUY, 99, 13, 2)
    assert amendment(part, target(100, 7)) is None  # it is that already
    assert amendment(part, target(100, 6)) == Amend("o", Side.BUY, 100, 9, 0)


@given(wants, orders, st.sampled_from(["none", "requeue", "reduce"]))
@settings(max_examples=200, deadline=None)
def test_pairing_loses_nothing(targets: list[Target], surplus: list[Order], how: str) -> None:
    moves, cancels, places = pair(surplus, targets, how)  # type: ignore[arg-type]
    assert sorted(map(id, [*(o for o, _ in moves), *cancels])) == sorted(map(id, surplus))
    assert sorted(map(id, [*(t for _, t in moves), *places])) == sorted(map(id, targets))
    assert all(o.state in AMENDABLE for o, _ in moves)
    if how == "requeue":
        assert not places or not any(o.state in AMENDABLE for o in cancels)
