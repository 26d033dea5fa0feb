"""The life of one order: every cell of its table, and what an amend under way changes."""

import pytest

from bot.core.orderlife import (
    PAST_MAX,
    TRANSITIONS,
    IllegalTransition,
    Order,
    OrderInput,
    OrderState,
    next_state,
)
from bot.domain.units import Side

S = OrderState
I = OrderInput  # noqa: E741 - one letter each keeps the table of legal cells readable

# Written from RISK 5, not from the table under test.
LEGAL: dict[OrderState, dict[OrderInput, OrderState]] = {
    S.PENDING_NEW: {
        I.OPENED: S.LIVE,
        I.PARTIAL_FILL: S.PARTIALLY_FILLED,
        I.FULL_FILL: S.FILLED,
        I.CANCEL_SENT: S.PENDING_CANCEL,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.REJECTED: S.REJECTED,
        I.OUTCOME_LOST: S.UNKNOWN,
    },
    S.LIVE: {
        I.OPENED: S.LIVE,
        I.PARTIAL_FILL: S.PARTIALLY_FILLED,
        I.FULL_FILL: S.FILLED,
        I.AMEND_SENT: S.PENDING_AMEND,
        I.AMENDED: S.LIVE,
        I.AMEND_REJECTED: S.LIVE,
        I.CANCEL_SENT: S.PENDING_CANCEL,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.UNKNOWN,
        I.OUTCOME_LOST: S.LIVE,
    },
    S.PARTIALLY_FILLED: {
        I.OPENED: S.PARTIALLY_FILLED,
        I.PARTIAL_FILL: S.PARTIALLY_FILLED,
        I.FULL_FILL: S.FILLED,
        I.AMEND_SENT: S.PENDING_AMEND,
        I.AMENDED: S.PARTIALLY_FILLED,
        I.AMEND_REJECTED: S.PARTIALLY_FILLED,
        I.CANCEL_SENT: S.PENDING_CANCEL,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.UNKNOWN,
        I.OUTCOME_LOST: S.PARTIALLY_FILLED,
    },
    S.PENDING_AMEND: {
        I.OPENED: S.PENDING_AMEND,
        I.PARTIAL_FILL: S.PENDING_AMEND,
        I.FULL_FILL: S.FILLED,
        I.AMENDED: S.LIVE,
        I.AMEND_REJECTED: S.LIVE,
        I.CANCEL_SENT: S.PENDING_CANCEL,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.UNKNOWN,
        I.OUTCOME_LOST: S.UNKNOWN,
    },
    S.PENDING_CANCEL: {
        I.OPENED: S.PENDING_CANCEL,
        I.PARTIAL_FILL: S.PENDING_CANCEL,
        I.FULL_FILL: S.FILLED,
        I.AMENDED: S.PENDING_CANCEL,
        I.AMEND_REJECTED: S.PENDING_CANCEL,
        I.CANCEL_SENT: S.PENDING_CANCEL,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.UNKNOWN,
        I.REJECTED: S.REJECTED,
        I.OUTCOME_LOST: S.UNKNOWN,
    },
    S.UNKNOWN: {
        I.OPENED: S.LIVE,
        I.PARTIAL_FILL: S.PARTIALLY_FILLED,
        I.FULL_FILL: S.FILLED,
        I.AMENDED: S.LIVE,
        I.AMEND_REJECTED: S.LIVE,
        I.CANCEL_SENT: S.UNKNOWN,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.UNKNOWN,
        I.REJECTED: S.REJECTED,
        I.OUTCOME_LOST: S.UNKNOWN,
    },
    S.FILLED: {
        I.OPENED: S.FILLED,
        I.AMENDED: S.FILLED,
        I.AMEND_REJECTED: S.FILLED,
        I.CANCELLED: S.FILLED,
        I.EXPIRED: S.FILLED,
        I.CANCEL_REJECTED: S.FILLED,
        I.OUTCOME_LOST: S.FILLED,
    },
    S.CANCELLED: {
        I.OPENED: S.CANCELLED,
        I.PARTIAL_FILL: S.CANCELLED,
        I.FULL_FILL: S.FILLED,
        I.AMENDED: S.CANCELLED,
        I.AMEND_REJECTED: S.CANCELLED,
        I.CANCELLED: S.CANCELLED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.CANCELLED,
        I.OUTCOME_LOST: S.CANCELLED,
    },
    S.REJECTED: {
        I.EXPIRED: S.REJECTED,
        I.CANCEL_REJECTED: S.REJECTED,
        I.REJECTED: S.REJECTED,
        I.OUTCOME_LOST: S.REJECTED,
    },
    S.EXPIRED: {
        I.OPENED: S.EXPIRED,
        I.PARTIAL_FILL: S.EXPIRED,
        I.FULL_FILL: S.FILLED,
        I.AMENDED: S.EXPIRED,
        I.AMEND_REJECTED: S.EXPIRED,
        I.CANCELLED: S.EXPIRED,
        I.EXPIRED: S.EXPIRED,
        I.CANCEL_REJECTED: S.EXPIRED,
        I.REJECTED: S.REJECTED,
        I.OUTCOME_LOST: S.EXPIRED,
    },
}
CELLS = [(state, what) for state in OrderState for what in OrderInput]


def make(state: OrderState = S.LIVE, filled: int = 0, side: Side = Side.BUY) -> Order:
    return Order("o7", side, 1000, 10, 0, 1, state, filled_lots=filled)


def amending(tick: int, lots: int, side: Side = Side.BUY, filled: int = 0) -> Order:
    order = make(S.PENDING_AMEND, filled, side)
    order.amend_tick, order.amend_lots = tick, lots
    return order


def test_shape() -> None:
    assert [len(row) for row in TRANSITIONS] == [len(OrderInput)] * len(OrderState)


@pytest.mark.parametrize(("state", "what"), CELLS)
def test_every_cell(state: OrderState, what: OrderInput) -> None:
    order = make(state)
    if what in LEGAL[state]:
        assert next_state(order, what) is LEGAL[state][what]
    else:
        with pytest.raises(IllegalTransition, match=f"o7 in {state.name} .* {what.name}"):
            next_state(order, what)
    assert order.state is state


@pytest.mark.parametrize("state", [s for s in S if I.REJECTED in LEGAL[s]])
def test_an_order_that_traded_cannot_have_been_refused(state: OrderState) -> None:
    with pytest.raises(IllegalTransition, match=r"3/10 filled\) got REJECTED"):
        next_state(make(state, filled=3), I.REJECTED)


@pytest.mark.parametrize("what", [I.OPENED, I.AMENDED, I.AMEND_REJECTED])
def test_open_after_an_unknown_spell_remembers_earlier_fills(what: OrderInput) -> None:
    assert next_state(make(S.UNKNOWN, filled=3), what) is S.PARTIALLY_FILLED


@pytest.mark.parametrize(
    ("what", "state"),
    [
        (I.OPENED, S.UNKNOWN),
        (I.PARTIAL_FILL, S.UNKNOWN),
        (I.FULL_FILL, S.FILLED),
        (I.AMENDED, S.LIVE),
        (I.AMEND_REJECTED, S.LIVE),
        (I.CANCELLED, S.CANCELLED),
        (I.EXPIRED, S.EXPIRED),
    ],
)
def test_only_a_word_about_the_amend_or_an_end_resolves_an_unknown_amend(
    what: OrderInput, state: OrderState
) -> None:
    order = amending(1005, 12)
    order.state = S.UNKNOWN
    assert next_state(order, what) is state


@pytest.mark.parametrize(("lots", "most", "remaining"), [(12, 12, 9), (10, 10, 7), (5, 10, 7)])
def test_the_larger_size_counts(lots: int, most: int, remaining: int) -> None:
    order = amending(1000, lots, filled=3)
    assert (order.most_lots, order.remaining_lots) == (most, remaining)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("tick", "low", "high"), [(990, 990, 1000), (1010, 1000, 1010)])
def test_both_prices_count(side: Side, tick: int, low: int, high: int) -> None:
    order = amending(tick, 10, side)
    assert (order.lowest_tick, order.highest_tick) == (low, high)
    assert order.limit_tick == (high if side is Side.BUY else low)
    assert (order.asked_tick, order.asked_lots) == (tick, 10)
    settled = make(side=side)
    assert (settled.lowest_tick, settled.highest_tick, settled.limit_tick) == (1000, 1000, 1000)
    assert (settled.asked_tick, settled.asked_lots) == (1000, 10)


@pytest.mark.parametrize(("side", "worst"), [(Side.BUY, 1003), (Side.SELL, 990)])
def test_a_late_fill_may_have_happened_at_a_former_price(side: Side, worst: int) -> None:
    order = make(side=side)
    for tick in (990, 1003, 1001):
        order.rests_at(tick, 10)
    order.rests_at(1001, 10)  # nothing new
    assert order.past == ((1000, 10), (990, 10), (1003, 10))
    assert order.limit_tick == worst


def test_former_prices_are_bounded() -> None:
    order = make()
    for tick in range(2000, 2000 - 3 * PAST_MAX, -1):
        order.rests_at(tick, 10)
    assert len(order.past) == PAST_MAX
    assert order.limit_tick == order.past[0][0] == order.tick + PAST_MAX


def test_what_is_owed() -> None:
    order = make(filled=3)
    assert order.owed_lots == 0
    order.told_lots = 5
    assert order.owed_lots == 2
    order.filled_lots = 6
    assert order.owed_lots == 0  # the venue's word is older than the fill


def test_working_and_resting() -> None:
    working = [state for state in S if make(state).working]
    assert working == [
        S.PENDING_NEW,
        S.LIVE,
        S.PARTIALLY_FILLED,
        S.PENDING_AMEND,
        S.PENDING_CANCEL,
        S.UNKNOWN,
    ]
    resting = [state for state in S if make(state).resting]
    assert resting == [S.LIVE, S.PARTIALLY_FILLED, S.PENDING_AMEND]


def test_repr() -> None:
    assert repr(make(filled=3)) == "Order(o7 BUY 3/10 @1000 level=0 LIVE)"
    assert repr(amending(1005, 12)) == "Order(o7 BUY 0/10 @1000 -> 12@1005 level=0 PENDING_AMEND)"
