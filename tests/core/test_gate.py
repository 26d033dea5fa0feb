"""Every refusal at its boundary, and the position limit against any order of events."""

from math import nextafter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.gate import Gate, Refusal
from bot.core.orders import Order, OrderState, OrderTable
from bot.domain.decisions import Amend, Place
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
)
from bot.domain.params import RiskParams
from bot.domain.units import Side

BID, ASK = 49_999, 50_001
FAIR = 50_000.0
RISK = RiskParams(loss_budget=1.0, max_position_lots=100, max_order_lots=20)


class Bench:
    """A gate, a table, a position and a touch around 50,000 ticks."""

    def __init__(self, **changes: float) -> None:
        self.gate = Gate(msgspec.structs.replace(RISK, **changes))
        self.table = OrderTable()
        self.position = 0
        self._n = 0

    def check(self, side: Side, tick: int, lots: int = 10) -> Refusal | None:
        place = Place("asked", side, tick, lots, 0)
        return self.gate.check(
            place, self.table, self.position, fair=FAIR, best_bid=BID, best_ask=ASK
        )

    def rest(self, side: Side, tick: int, lots: int = 10) -> str:
        """Put an order into the table, past the gate."""
        self._n += 1
        order_id = f"rest-{self._n}"
        self.table.placed(Place(order_id, side, tick, lots, 0), 0)
        return order_id

    def amending(self, side: Side, tick: int, to: int, lots: int = 10, to_lots: int = 10) -> str:
        """An order of the table at `tick` that is on its way `to` another."""
        order_id = self.rest(side, tick, lots)
        self.table.apply(OrderOpened(1, order_id))
        self.table.amend_sent(Amend(order_id, side, to, to_lots, 0), 1)
        return order_id

    def check_amend(self, order_id: str, tick: int, lots: int = 10) -> Refusal | None:
        order = self.table.find(order_id)
        amend = Amend(order_id, order.side, tick, lots, 0)
        return self.gate.check_amend(
            amend, order, self.table, self.position, fair=FAIR, best_bid=BID, best_ask=ASK
        )


def inner(side: Side) -> int:
    return BID if side is Side.BUY else ASK


both_sides = pytest.mark.parametrize("side", list(Side))


@both_sides
def test_an_ordinary_order_is_approved_and_nothing_is_counted(side: Side) -> None:
    bench = Bench()
    assert bench.check(side, inner(side)) is None
    assert sum(bench.gate.refused.values()) == 0
    assert set(bench.gate.refused) == set(Refusal)
    assert bench.table.n_placed == 0  # it is asked, it does not place


@both_sides
@pytest.mark.parametrize(("lots", "refused"), [(0, True), (1, False), (20, False), (21, True)])
def test_size(side: Side, lots: int, refused: bool) -> None:
    expected = Refusal.ORDER_SIZE if refused else None
    assert Bench().check(side, inner(side), lots) is expected


@both_sides
def test_the_collar_ends_at_its_last_tick(side: Side) -> None:
    bench = Bench()
    edge = 50_000 - side * 500  # 100 bps of the fair price
    assert bench.check(side, edge) is None
    assert bench.check(side, edge - side) is Refusal.COLLAR


def test_the_collar_follows_the_fair_price_and_not_the_touch() -> None:
    gate = Gate(RISK)
    place = Place("asked", Side.BUY, 49_500, 10, 0)
    touch = {"best_bid": BID, "best_ask": ASK}
    assert gate.check(place, OrderTable(), 0, fair=50_000.0, **touch) is None
    above = nextafter(50_000.0, 60_000.0)
    assert gate.check(place, OrderTable(), 0, fair=above + 1e-6, **touch) is Refusal.COLLAR


@both_sides
def test_an_order_at_the_opposite_touch_would_take(side: Side) -> None:
    bench = Bench()
    opposite = inner(Side(-side))
    assert bench.check(side, opposite - side) is None  # inside the spread still rests
    assert bench.check(side, opposite) is Refusal.WOULD_TAKE
    assert bench.check(side, opposite + side) is Refusal.WOULD_TAKE


@both_sides
def test_an_unknown_order_blocks_its_side_only_and_until_the_venue_speaks(side: Side) -> None:
    bench = Bench()
    order_id = bench.rest(side, inner(side) - 5 * side)
    assert bench.check(side, inner(side)) is None
    bench.table.apply(OutcomeLost(1, order_id))
    assert bench.check(side, inner(side)) is Refusal.UNKNOWN_ORDER
    assert bench.check(Side(-side), inner(Side(-side))) is None
    bench.table.apply(OrderOpened(2, order_id))
    assert bench.check(side, inner(side)) is None


@both_sides
def test_open_orders_count_per_side_with_pending_ones(side: Side) -> None:
    bench = Bench(max_open_orders_per_side=3)
    ids = [bench.rest(side, inner(side) - i * side, 1) for i in range(1, 3)]
    assert bench.check(side, inner(side)) is None
    ids.append(bench.rest(side, inner(side) - 3 * side, 1))
    assert bench.check(side, inner(side)) is Refusal.OPEN_ORDERS
    assert bench.check(Side(-side), inner(Side(-side))) is None
    bench.table.cancel_sent(ids[0], 1)
    assert bench.check(side, inner(side)) is Refusal.OPEN_ORDERS  # it may still trade
    bench.table.apply(OrderCancelled(2, ids[0]))
    assert bench.check(side, inner(side)) is None


@both_sides
@pytest.mark.parametrize(
    ("position", "resting", "lots", "refused"),
    [
        (0, 80, 20, False),
        (0, 81, 20, True),
        (90, 0, 10, False),
        (91, 0, 10, True),
        (50, 40, 10, False),
        (50, 41, 10, True),
        (100, 0, 1, True),
        (-100, 180, 20, False),  # the reducing side may turn the whole position around
        (-100, 181, 20, True),
    ],
)
def test_position_counts_at_its_worst_case(
    side: Side, position: int, resting: int, lots: int, refused: bool
) -> None:
    bench = Bench()
    bench.position = side * position
    if resting:
        bench.rest(side, inner(side) - 5 * side, resting)
    bench.rest(Side(-side), inner(Side(-side)) + 5 * side, 90)  # the other side does not net
    expected = Refusal.POSITION if refused else None
    assert bench.check(side, inner(side), lots) is expected


@both_sides
def test_a_partly_filled_order_counts_with_what_remains(side: Side) -> None:
    bench = Bench()
    order_id = bench.rest(side, inner(side) - 5 * side, 90)
    assert bench.check(side, inner(side), 20) is Refusal.POSITION
    tick = inner(side) - 5 * side
    bench.table.apply(Filled(1, order_id, "t", side, tick, 30, True))
    assert bench.check(side, inner(side), 20) is None  # as if the position were not known yet
    bench.position = side * 30
    assert bench.check(side, inner(side), 20) is Refusal.POSITION
    assert bench.check(side, inner(side), 10) is None


@both_sides
@pytest.mark.parametrize("fate", ["pending", "live", "cancelling", "unknown"])
def test_no_order_meets_an_own_one_whatever_is_known_of_it(side: Side, fate: str) -> None:
    bench = Bench()
    tick = 50_000
    order_id = bench.rest(Side(-side), tick)
    if fate == "live":
        bench.table.apply(OrderOpened(1, order_id))
    elif fate == "cancelling":
        bench.table.cancel_sent(order_id, 1)
    elif fate == "unknown":
        bench.table.apply(OutcomeLost(1, order_id))
    assert bench.check(side, tick - side) is None
    assert bench.check(side, tick) is Refusal.SELF_CROSS
    bench.table.apply(OrderCancelled(2, order_id))
    assert bench.check(side, tick) is None


# --- amends --------------------------------------------------------------------------------


@both_sides
@pytest.mark.parametrize("away", [False, True], ids=["nearer", "farther"])
def test_an_own_order_under_amendment_may_be_at_either_price(side: Side, away: bool) -> None:
    bench = Bench()
    near, far = 50_000, 50_000 + 3 * side  # of an order of the other side
    other = bench.amending(Side(-side), *((near, far) if away else (far, near)))
    assert bench.check(side, near - side) is None
    assert bench.check(side, near) is Refusal.SELF_CROSS
    bench.table.apply(AmendRejected(2, other, "filter"))
    assert bench.check(side, near) is (Refusal.SELF_CROSS if away else None)


@both_sides
@pytest.mark.parametrize(("lots", "to_lots"), [(30, 80), (80, 30)])
def test_an_order_under_amendment_counts_with_the_larger_size(
    side: Side, lots: int, to_lots: int
) -> None:
    bench = Bench()
    tick = inner(side) - 5 * side
    order_id = bench.amending(side, tick, tick, lots, to_lots)
    assert bench.check(side, inner(side), 20) is None
    bench.position = side
    assert bench.check(side, inner(side), 20) is Refusal.POSITION
    bench.table.apply(Amended(2, order_id, tick, to_lots))
    assert bench.check(side, inner(side), 20) is (Refusal.POSITION if to_lots == 80 else None)


@both_sides
def test_what_an_ended_order_owes_counts(side: Side) -> None:
    bench = Bench()
    order_id = bench.rest(side, inner(side) - 5 * side, 90)
    bench.table.apply(OrderCancelled(1, order_id, 81))
    assert bench.check(side, inner(side), 20) is Refusal.POSITION
    assert bench.check(side, inner(side), 19) is None


@both_sides
def test_an_amend_passes_the_checks_of_a_placement(side: Side) -> None:
    bench = Bench()
    order_id = bench.rest(side, inner(side) - 5 * side)
    bench.table.apply(OrderOpened(1, order_id))
    opposite = inner(Side(-side))
    assert bench.check_amend(order_id, inner(side)) is None
    assert bench.check_amend(order_id, opposite - side) is None
    assert bench.check_amend(order_id, opposite) is Refusal.WOULD_TAKE
    assert bench.check_amend(order_id, 50_000 - side * 500) is None
    assert bench.check_amend(order_id, 50_000 - side * 501) is Refusal.COLLAR
    assert bench.check_amend(order_id, inner(side), 21) is Refusal.ORDER_SIZE
    assert bench.check_amend(order_id, inner(side), 0) is Refusal.ORDER_SIZE
    assert bench.gate.refused[Refusal.ORDER_SIZE] == 2


@both_sides
@pytest.mark.parametrize(
    ("filled", "told", "lots", "refused"),
    [(3, 0, 23, False), (3, 0, 24, True), (3, 0, 3, True), (3, 5, 5, True), (3, 5, 6, False)],
)
def test_the_size_of_an_amend_is_what_may_still_trade(
    side: Side, filled: int, told: int, lots: int, refused: bool
) -> None:
    bench = Bench()
    tick = inner(side) - 5 * side
    order_id = bench.rest(side, tick)
    bench.table.apply(OrderOpened(1, order_id, told))
    bench.table.apply(Filled(1, order_id, "t", side, tick, filled, True))
    assert bench.check_amend(order_id, tick, lots) is (Refusal.ORDER_SIZE if refused else None)


@both_sides
@pytest.mark.parametrize(
    ("position", "others", "lots", "to_lots", "refused"),
    [
        (70, 20, 10, 10, False),  # its own old size does not count twice
        (70, 20, 10, 11, True),
        (70, 10, 10, 20, False),
        (70, 21, 10, 5, True),  # until the venue's word it may have its old size
        (100, 0, 10, 5, True),
        (-100, 0, 10, 20, False),
    ],
)
def test_an_amend_counts_at_the_worse_of_its_sizes(
    side: Side, position: int, others: int, lots: int, to_lots: int, refused: bool
) -> None:
    bench = Bench()
    bench.position = side * position
    tick = inner(side) - 5 * side
    order_id = bench.rest(side, tick, lots)
    bench.table.apply(OrderOpened(1, order_id))
    if others:
        bench.rest(side, tick, others)
    expected = Refusal.POSITION if refused else None
    assert bench.check_amend(order_id, inner(side), to_lots) is expected


@both_sides
def test_an_amend_may_pass_its_own_order_and_no_other(side: Side) -> None:
    bench = Bench()
    order_id = bench.rest(side, inner(side) - 5 * side)
    bench.table.apply(OrderOpened(1, order_id))
    assert bench.check_amend(order_id, 50_000) is None
    bench.rest(Side(-side), 50_000 + side)
    assert bench.check_amend(order_id, 50_000) is None
    bench.rest(Side(-side), 50_000)
    assert bench.check_amend(order_id, 50_000) is Refusal.SELF_CROSS


@both_sides
def test_no_amend_on_a_side_with_an_unknown_order(side: Side) -> None:
    bench = Bench()
    order_id = bench.rest(side, inner(side) - 5 * side)
    bench.table.apply(OrderOpened(1, order_id))
    other = bench.rest(side, inner(side) - 6 * side)
    bench.table.apply(OutcomeLost(1, other))
    assert bench.check_amend(order_id, inner(side)) is Refusal.UNKNOWN_ORDER


def test_refusals_are_counted_by_reason() -> None:
    bench = Bench()
    bench.check(Side.BUY, BID, 21)
    bench.check(Side.BUY, BID, 0)
    bench.check(Side.SELL, BID)
    bench.check(Side.BUY, BID)
    counts = {refusal: n for refusal, n in bench.gate.refused.items() if n}
    assert counts == {Refusal.ORDER_SIZE: 2, Refusal.WOULD_TAKE: 1}
    assert repr(bench.gate) == "<Gate refused={'order_size': 2, 'would_take': 1}>"


# --- no sequence of events gets past the position limit ------------------------------------

Step = tuple[int, bool, int, int]
steps = st.lists(
    st.tuples(st.integers(0, 11), st.booleans(), st.integers(0, 40), st.integers(1, 25)),
    max_size=60,
)


class Venue:
    """Does to the orders of a bench whatever a step says, as far as it is legal."""

    def __init__(self) -> None:
        self.bench = Bench(max_open_orders_per_side=8)
        self.trades = 0
        self.placed = 0

    def do(self, step: Step) -> None:
        what, buy, which, lots = step
        side = Side.BUY if buy else Side.SELL
        if what <= 2:
            self.place(side, which, lots)
            return
        bench, table = self.bench, self.bench.table
        working = table.working(side)
        if not working:
            return
        order = working[which % len(working)]
        order_id, state = order.order_id, order.state
        if what <= 4:
            self.trades += 1
            lots = order.remaining_lots if what == 3 else min(lots, order.remaining_lots)
            fill = Filled(1, order_id, f"t{self.trades}", side, order.tick, lots, True)
            bench.position += side * table.apply(fill)[1]
        elif what == 5:
            table.apply(OrderOpened(1, order_id))
        elif what == 6:
            table.cancel_sent(order_id, 1)
        elif what == 7:
            table.apply(OutcomeLost(1, order_id))
        elif what >= 9:
            self.amend(order, which, lots)
        elif state is OrderState.PENDING_NEW:
            table.apply(OrderRejected(1, order_id, "no"))
        elif state is OrderState.PENDING_CANCEL and which % 2:
            table.apply(CancelRejected(1, order_id))
        else:
            table.apply(OrderCancelled(1, order_id))

    def amend(self, order: Order, which: int, lots: int) -> None:
        """Ask for an amend, or answer one that is under way."""
        bench, order_id, side = self.bench, order.order_id, order.side
        if order.amending:
            told = Amended(1, order_id, order.amend_tick, order.amend_lots)
            rejectable = which % 2 and order.filled_lots <= order.lots
            bench.table.apply(AmendRejected(1, order_id, "no") if rejectable else told)
        elif order.resting:
            tick = inner(side) - side * which
            if bench.check_amend(order_id, tick, order.filled_lots + lots) is None:
                asked = Amend(order_id, side, tick, order.filled_lots + lots, 0)
                bench.table.amend_sent(asked, 1)

    def place(self, side: Side, away: int, lots: int) -> None:
        bench = self.bench
        self.placed += 1
        place = Place(f"o{self.placed}", side, inner(side) - side * away, lots, 0)
        refusal = bench.gate.check(
            place, bench.table, bench.position, fair=FAIR, best_bid=BID, best_ask=ASK
        )
        if refusal is None:
            bench.table.placed(place, 0)

    def assert_limits(self) -> None:
        bench = self.bench
        assert abs(bench.position) <= RISK.max_position_lots
        for side in Side:
            worst = side * bench.position + bench.table.exposure_lots(side)
            assert worst <= RISK.max_position_lots, (side, bench.position, bench.table)
        bids = [order.highest_tick for order in bench.table.working(Side.BUY)]
        asks = [order.lowest_tick for order in bench.table.working(Side.SELL)]
        assert not bids or not asks or max(bids) < min(asks)


@given(steps)
@settings(max_examples=300, deadline=None)
def test_no_sequence_of_events_exceeds_the_position_limit(sequence: list[Step]) -> None:
    venue = Venue()
    for step in sequence:
        venue.do(step)
        venue.assert_limits()


def test_a_greedy_sequence_ends_exactly_at_the_limit() -> None:
    venue = Venue()
    for _ in range(12):
        venue.do((0, True, 0, 10))  # buy ten
        venue.do((3, True, 0, 1))  # all of it trades
        venue.assert_limits()
    assert venue.bench.position == RISK.max_position_lots
    assert venue.bench.gate.refused[Refusal.POSITION] == 2


def test_tightened_limits_are_judged_by_from_then_on() -> None:
    bench = Bench()
    assert bench.check(Side.BUY, BID, lots=20) is None
    bench.gate.tighten(msgspec.structs.replace(RISK, max_order_lots=19))
    assert bench.check(Side.BUY, BID, lots=20) is Refusal.ORDER_SIZE
    assert bench.check(Side.BUY, BID, lots=19) is None
    bench.gate.tighten(msgspec.structs.replace(RISK, max_position_lots=18))
    assert bench.check(Side.BUY, BID, lots=19) is Refusal.POSITION
