"""The order table: every race, what is owed, and a naive model beside the real one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from bot.core.orderlife import PAST_MAX
from bot.core.orders import (
    IllegalTransition,
    OrderInput,
    OrderState,
    OrderTable,
    Overfill,
    ReusedId,
    UnknownOrder,
    WrongSide,
)
from bot.domain.decisions import Amend, Place
from bot.domain.events import (
    Amended,
    AmendRejected,
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
)
from bot.domain.units import Side
from tests.core.test_orderlife import CELLS, LEGAL

S = OrderState
I = OrderInput  # noqa: E741 - as in test_orderlife
NEW_TICK, NEW_LOTS = 1005, 12  # what an amend asks for unless a test says otherwise


def place(order_id: str = "o1", side: Side = Side.BUY, lots: int = 10) -> Place:
    return Place(order_id, side, 1000, lots, 0)


def opened(order_id: str = "o1", cumulative: int = 0) -> OrderOpened:
    return OrderOpened(2, order_id, cumulative)


def rejected(order_id: str = "o1") -> OrderRejected:
    return OrderRejected(2, order_id, "post_only")


def cancelled(order_id: str = "o1", cumulative: int = 0) -> OrderCancelled:
    return OrderCancelled(2, order_id, cumulative)


def expired(order_id: str = "o1", cumulative: int = 0) -> OrderExpired:
    return OrderExpired(2, order_id, "self_trade", cumulative)


def amended(
    tick: int = NEW_TICK, lots: int = NEW_LOTS, cumulative: int = 0, order_id: str = "o1"
) -> Amended:
    return Amended(2, order_id, tick, lots, cumulative)


def amend_rejected(order_id: str = "o1") -> AmendRejected:
    return AmendRejected(2, order_id, "filter")


def cancel_rejected(order_id: str = "o1") -> CancelRejected:
    return CancelRejected(2, order_id)


def lost(order_id: str = "o1") -> OutcomeLost:
    return OutcomeLost(2, order_id)


def filled(
    lots: int,
    trade_id: str = "t1",
    order_id: str = "o1",
    side: Side = Side.BUY,
    cumulative: int = 0,
) -> Filled:
    return Filled(2, order_id, trade_id, side, 1000, lots, True, cumulative)


def amend(tick: int = NEW_TICK, lots: int = NEW_LOTS, side: Side = Side.BUY) -> Amend:
    return Amend("o1", side, tick, lots, 1)


CANCEL_SENT = "cancel sent"  # not an event: the bot's own act
Step = OwnEvent | Amend | str


def run(table: OrderTable, steps: Sequence[Step]) -> int:
    """Apply the steps to order o1; returns the lots newly filled."""
    lots = 0
    for step in steps:
        if isinstance(step, str):
            table.cancel_sent("o1", 2)
        elif isinstance(step, Amend):
            table.amend_sent(step, 2)
        else:
            lots += table.apply(step)[1]
    return lots


def table_after(*steps: Step, lots: int = 10) -> OrderTable:
    table = OrderTable()
    table.placed(place(lots=lots), 1)
    run(table, list(steps))
    return table


# How an order comes to each state through the public door.
PATHS: dict[OrderState, tuple[Step, ...]] = {
    S.PENDING_NEW: (),
    S.LIVE: (opened(),),
    S.PARTIALLY_FILLED: (opened(), filled(3)),
    S.PENDING_AMEND: (opened(), amend()),
    S.PENDING_CANCEL: (opened(), CANCEL_SENT),
    S.UNKNOWN: (lost(),),
    S.FILLED: (opened(), filled(10)),
    S.CANCELLED: (opened(), cancelled()),
    S.REJECTED: (rejected(),),
    S.EXPIRED: (opened(), expired()),
}


@pytest.mark.parametrize(("state", "what"), CELLS)
def test_every_cell_by_events(state: OrderState, what: OrderInput) -> None:
    table = table_after(*PATHS[state])
    order = table.find("o1")
    assert order.state is state
    before = repr(table), order.filled_lots
    rest = order.remaining_lots
    step: dict[OrderInput, Step] = {
        I.OPENED: opened(),
        I.PARTIAL_FILL: filled(1, "t2"),
        I.FULL_FILL: filled(max(rest, 1), "t2"),
        I.AMEND_SENT: amend(),
        I.AMENDED: amended(),
        I.AMEND_REJECTED: amend_rejected(),
        I.CANCEL_SENT: CANCEL_SENT,
        I.CANCELLED: cancelled(),
        I.EXPIRED: expired(),
        I.CANCEL_REJECTED: cancel_rejected(),
        I.REJECTED: rejected(),
        I.OUTCOME_LOST: lost(),
    }
    if what in LEGAL[state]:
        run(table, [step[what]])
        assert order.state is LEGAL[state][what]
        assert (order in table.working(Side.BUY)) is order.working
        return
    with pytest.raises((IllegalTransition, Overfill, AssertionError)):
        run(table, [step[what]])
    assert (repr(table), order.filled_lots) == before


class TestRaces:
    @pytest.mark.parametrize("told", [False, True], ids=["untold", "cumulative"])
    @pytest.mark.parametrize("asked", [False, True], ids=["unasked", "cancel_sent"])
    @pytest.mark.parametrize(
        ("lots", "end"), [(10, S.FILLED), (4, S.CANCELLED)], ids=["full", "partial"]
    )
    @pytest.mark.parametrize("fourth", ["fill", "opened", "cancelled"])
    @pytest.mark.parametrize("turn", list(permutations(range(4))))
    def test_all_24_orders_of_reports_end_alike(
        self,
        turn: tuple[int, ...],
        fourth: str,
        lots: int,
        end: OrderState,
        asked: bool,
        told: bool,
    ) -> None:
        cumulative = lots if told else 0
        fill, cancel = filled(lots, cumulative=cumulative), cancelled(cumulative=cumulative)
        reply = {"fill": fill, "opened": opened(cumulative=cumulative), "cancelled": cancel}
        reports: list[OwnEvent] = [opened(), fill, cancel, reply[fourth]]
        table = table_after(*([CANCEL_SENT] if asked else []))
        assert run(table, [reports[i] for i in turn]) == lots
        order = table.find("o1")
        assert (order.state, order.filled_lots) == (end, lots)
        assert table.n_working == 0
        assert table.exposure_lots(Side.BUY) == 0
        assert table.owed() == ()
        assert (table.n_filled, table.n_cancelled) == (
            int(end is S.FILLED),
            int(end is S.CANCELLED),
        )

    @pytest.mark.parametrize("turn", list(permutations(range(5))))
    def test_two_partial_fills_and_a_cancel_end_alike(self, turn: tuple[int, ...]) -> None:
        first, second = filled(3, "t1", cumulative=3), filled(4, "t2", cumulative=7)
        reports = [opened(), first, second, cancelled(cumulative=7), opened(cumulative=3)]
        table = table_after(CANCEL_SENT)
        assert run(table, [reports[i] for i in turn]) == 7
        order = table.find("o1")
        assert (order.state, order.filled_lots, table.owed()) == (S.CANCELLED, 7, ())
        assert table.exposure_lots(Side.BUY) == 0

    @pytest.mark.parametrize(
        ("one", "other", "end"),
        [
            (cancelled(), expired(), S.EXPIRED),
            (rejected(), expired(), S.REJECTED),
            (cancelled(), filled(10), S.FILLED),
            (expired(), filled(10), S.FILLED),
        ],
    )
    def test_two_words_for_one_end_come_to_the_same(
        self, one: OwnEvent, other: OwnEvent, end: OrderState
    ) -> None:
        for steps in ([one, other], [other, one]):
            table = table_after(*steps)
            assert table.find("o1").state is end
            ends = table.n_filled, table.n_cancelled, table.n_rejected, table.n_expired
            assert sum(ends) == table.n_placed == 1

    def test_a_late_fill_after_the_cancel_ack_is_booked_in_parts(self) -> None:
        table = table_after(opened(), CANCEL_SENT, cancelled())
        assert table.apply(filled(4, "t1"))[1] == 4
        assert table.find("o1").state is S.CANCELLED
        assert table.apply(filled(6, "t2"))[1] == 6
        assert table.find("o1").state is S.FILLED
        assert (table.n_cancelled, table.n_filled) == (0, 1)

    def test_a_cancel_refused_before_the_fill_report_blocks_until_the_report(self) -> None:
        table = table_after(opened(), CANCEL_SENT, cancel_rejected())
        assert table.find("o1").state is S.UNKNOWN
        assert table.blocked(Side.BUY)
        assert table.exposure_lots(Side.BUY) == 10
        assert table.apply(filled(10))[1] == 10
        assert not table.blocked(Side.BUY)
        assert table.exposure_lots(Side.BUY) == 0

    def test_a_cancel_refused_after_the_fill_changes_nothing(self) -> None:
        table = table_after(opened(), CANCEL_SENT, filled(10), cancel_rejected())
        assert table.find("o1").state is S.FILLED

    @pytest.mark.parametrize("how", [(), (opened(), CANCEL_SENT)], ids=["place", "cancel"])
    @pytest.mark.parametrize(
        ("word", "end"),
        [
            (opened(), S.LIVE),
            (filled(1), S.PARTIALLY_FILLED),
            (filled(10), S.FILLED),
            (cancelled(), S.CANCELLED),
            (rejected(), S.REJECTED),
        ],
    )
    def test_a_lost_outcome_blocks_its_side_until_the_venues_word(
        self, how: tuple[Step, ...], word: OwnEvent, end: OrderState
    ) -> None:
        table = table_after(*how, lost())
        assert table.find("o1").state is S.UNKNOWN
        assert table.blocked(Side.BUY)
        assert not table.blocked(Side.SELL)
        assert table.exposure_lots(Side.BUY) == 10
        table.cancel_sent("o1", 3)
        assert table.blocked(Side.BUY)
        table.apply(word)
        assert table.find("o1").state is end
        assert not table.blocked(Side.BUY)

    def test_open_after_an_unknown_spell_remembers_earlier_fills(self) -> None:
        table = table_after(opened(), filled(3), CANCEL_SENT, lost(), opened())
        assert table.find("o1").state is S.PARTIALLY_FILLED
        assert table.exposure_lots(Side.BUY) == 7

    def test_the_stream_outran_the_timeout(self) -> None:
        table = table_after(opened(), lost())
        assert table.find("o1").state is S.LIVE
        assert not table.blocked(Side.BUY)

    def test_an_order_that_traded_cannot_have_been_refused(self) -> None:
        table = table_after(CANCEL_SENT, filled(3))
        with pytest.raises(IllegalTransition, match=r"3/10 filled\) got REJECTED"):
            table.apply(rejected())
        assert table.find("o1").state is S.PENDING_CANCEL


class TestAmends:
    """An order has two prices and two sizes until the venue says which (RISK 5)."""

    def test_the_worse_of_both_counts_until_the_venue_speaks(self) -> None:
        table = table_after(opened(), filled(3), amend())
        order = table.find("o1")
        assert (order.tick, order.lots, order.level) == (1000, 10, 1)
        assert (order.lowest_tick, order.highest_tick) == (1000, NEW_TICK)
        assert table.exposure_lots(Side.BUY) == 9
        table.apply(amended())
        assert (order.state, order.tick, order.lots) == (S.PARTIALLY_FILLED, NEW_TICK, NEW_LOTS)
        assert order.lowest_tick == order.highest_tick == NEW_TICK
        assert order.asked_lots == NEW_LOTS - 3  # what was asked for when 3 had traded
        assert table.exposure_lots(Side.BUY) == 9

    def test_fewer_lots_count_only_from_the_venues_word_on(self) -> None:
        table = table_after(opened(), amend(lots=4))
        assert table.exposure_lots(Side.BUY) == 10
        table.apply(amended(lots=4))
        assert table.exposure_lots(Side.BUY) == 4

    def test_a_rejected_amend_leaves_the_original(self) -> None:
        table = table_after(opened(), amend(), amend_rejected())
        order = table.find("o1")
        assert (order.state, order.tick, order.lots, order.amending) == (S.LIVE, 1000, 10, False)
        assert table.exposure_lots(Side.BUY) == 10

    @pytest.mark.parametrize(("word", "end"), [(cancelled(), S.CANCELLED), (expired(), S.EXPIRED)])
    def test_an_amend_may_end_the_order(self, word: OwnEvent, end: OrderState) -> None:
        table = table_after(opened(), amend(), word)
        assert table.find("o1").state is end
        assert table.n_working == table.exposure_lots(Side.BUY) == 0

    def test_a_lost_amend_is_unknown_at_the_worse_of_both(self) -> None:
        table = table_after(opened(), amend(), lost(), opened(), filled(2))
        order = table.find("o1")
        assert order.state is S.UNKNOWN  # it rests, but where?
        assert table.blocked(Side.BUY)
        assert (order.lowest_tick, order.highest_tick) == (1000, NEW_TICK)
        assert table.exposure_lots(Side.BUY) == 10

    @pytest.mark.parametrize(
        ("word", "tick", "lots"),
        [
            (amended(), NEW_TICK, NEW_LOTS),
            (amended(1000, 10), 1000, 10),  # as asked: it is where it was
            (amended(1003, 11), 1003, 11),  # by the venue's word whatever we asked for
            (amend_rejected(), 1000, 10),
        ],
    )
    def test_where_it_rests_resolves_a_lost_amend(
        self, word: OwnEvent, tick: int, lots: int
    ) -> None:
        table = table_after(opened(), amend(), lost(), word)
        order = table.find("o1")
        assert (order.state, order.tick, order.lots) == (S.LIVE, tick, lots)
        assert not order.amending
        assert not table.blocked(Side.BUY)

    def test_a_late_ack_and_a_fill_say_nothing_of_the_amend(self) -> None:
        table = table_after(opened(), amend(), opened(), filled(2))
        order = table.find("o1")
        assert order.state is S.PENDING_AMEND
        assert table.exposure_lots(Side.BUY) == 10
        table.apply(amended())
        assert order.state is S.PARTIALLY_FILLED

    @pytest.mark.parametrize("word", [amended(), amend_rejected()])
    def test_a_cancel_sent_meanwhile_stays_pending(self, word: OwnEvent) -> None:
        table = table_after(opened(), amend(), CANCEL_SENT)
        assert table.exposure_lots(Side.BUY) == NEW_LOTS
        table.apply(word)
        order = table.find("o1")
        assert order.state is S.PENDING_CANCEL
        at = (NEW_TICK, NEW_LOTS) if isinstance(word, Amended) else (1000, 10)
        assert (order.tick, order.lots, order.amending) == (*at, False)
        table.apply(cancelled())
        assert order.state is S.CANCELLED

    @pytest.mark.parametrize("turn", list(permutations(range(4))))
    def test_all_orders_of_amend_cancel_and_fill_end_alike(self, turn: tuple[int, ...]) -> None:
        reports = [amended(), filled(2), cancelled(cumulative=2), opened()]
        table = table_after(opened(), amend(), CANCEL_SENT)
        assert run(table, [reports[i] for i in turn]) == 2
        order = table.find("o1")
        assert (order.state, order.lots, order.filled_lots) == (S.CANCELLED, NEW_LOTS, 2)
        assert table.exposure_lots(Side.BUY) == 0
        assert table.owed() == ()

    @pytest.mark.parametrize("turn", list(permutations(range(3))))
    def test_all_that_was_asked_for_trades_before_the_amend_is_told(
        self, turn: tuple[int, ...]
    ) -> None:
        reports = [amended(), filled(10, "t1"), filled(2, "t2")]
        table = table_after(opened(), amend())
        assert run(table, [reports[i] for i in turn]) == NEW_LOTS
        assert table.find("o1").state is S.FILLED

    def test_the_old_size_is_not_the_end_while_a_larger_one_is_asked_for(self) -> None:
        table = table_after(opened(), amend(), filled(10))
        assert table.find("o1").state is S.PENDING_AMEND
        assert table.exposure_lots(Side.BUY) == 2
        table.apply(amend_rejected())
        assert table.find("o1").state is S.FILLED
        assert (table.n_filled, table.n_working) == (1, 0)

    @pytest.mark.parametrize("more", [0, 2])
    def test_a_new_size_of_what_has_traded_ends_the_order(self, more: int) -> None:
        table = table_after(opened(), amend(lots=5), filled(5 + more), amended(lots=5))
        order = table.find("o1")
        assert (order.state, order.filled_lots) == (S.FILLED, 5 + more)
        assert table.exposure_lots(Side.BUY) == 0

    @pytest.mark.parametrize("word", [amended(), amend_rejected()])
    def test_the_answer_after_the_end_is_taken_in(self, word: OwnEvent) -> None:
        table = table_after(opened(), amend(), cancelled(), word)
        order = table.find("o1")
        assert (order.state, order.amending) == (S.CANCELLED, False)
        assert order.lots == (NEW_LOTS if isinstance(word, Amended) else 10)

    def test_the_answer_to_an_earlier_amend_leaves_the_later_one_open(self) -> None:
        table = table_after(opened(), amend(), amended(), amend(1007, 8), amended())
        order = table.find("o1")
        assert (order.state, order.tick) == (S.PENDING_AMEND, NEW_TICK)
        assert order.highest_tick == 1007
        table.apply(amended(1007, 8))
        table.apply(amended())  # the stream had told it first; the reply is late
        assert (order.state, order.tick, order.lots) == (S.LIVE, 1007, 8)

    def test_amending_back_is_no_late_answer(self) -> None:
        table = table_after(opened(), amend(), amended(), amend(1000, 10), amended(1000, 10))
        order = table.find("o1")
        assert (order.state, order.tick, order.lots) == (S.LIVE, 1000, 10)

    @pytest.mark.parametrize(
        "state", [s for s in S if s not in (S.LIVE, S.PARTIALLY_FILLED, S.FILLED)]
    )
    def test_an_amend_is_sent_only_to_an_order_that_rests_undisturbed(
        self, state: OrderState
    ) -> None:
        table = table_after(*PATHS[state])
        with pytest.raises(IllegalTransition, match="AMEND_SENT"):
            table.amend_sent(amend(1001, 11), 3)

    def test_an_amend_that_leaves_nothing_or_changes_sides_is_ours_to_avoid(self) -> None:
        table = table_after(opened(), filled(3))
        with pytest.raises(AssertionError, match="nothing would be left"):
            table.amend_sent(amend(lots=3), 3)
        with pytest.raises(AssertionError, match="SELL"):
            table.amend_sent(amend(side=Side.SELL), 3)

    def test_an_overfill_is_one_beyond_both_sizes(self) -> None:
        table = table_after(opened(), amend())
        with pytest.raises(Overfill):
            table.apply(filled(13))
        table.apply(filled(12))
        assert table.find("o1").state is S.FILLED


class TestOwed:
    """What has traded by the venue's word and that no fill has told of."""

    def test_a_cancel_ack_that_shows_more_than_we_know(self) -> None:
        table = table_after(opened(), filled(2), CANCEL_SENT, cancelled(cumulative=6))
        assert table.find("o1").state is S.CANCELLED
        assert table.owed() == ("o1",)
        assert table.exposure_lots(Side.BUY) == 4
        assert table.exposure_lots(Side.SELL) == 0
        table.apply(filled(3, "t2"))
        assert table.exposure_lots(Side.BUY) == 1
        table.apply(filled(1, "t3"))
        assert table.owed() == ()
        assert table.exposure_lots(Side.BUY) == 0

    @pytest.mark.parametrize(
        "word", [opened(cumulative=6), filled(1, "t2", cumulative=6), amended(1001, 10, 6)]
    )
    def test_a_working_order_owes_within_what_it_may_trade(self, word: OwnEvent) -> None:
        table = table_after(opened(), filled(2), word)
        order = table.find("o1")
        assert table.owed() == ("o1",)
        assert order.owed_lots == 6 - order.filled_lots
        assert table.exposure_lots(Side.BUY) == 10 - order.filled_lots

    def test_a_lower_cumulative_quantity_is_an_older_report(self) -> None:
        table = table_after(opened(), filled(6, cumulative=6), opened(cumulative=2))
        assert table.owed() == ()
        assert table.find("o1").filled_lots == 6

    @pytest.mark.parametrize(
        "word",
        [opened(cumulative=11), cancelled(cumulative=11), filled(1, cumulative=11)],
    )
    def test_more_than_the_order_is_a_fault_and_changes_nothing(self, word: OwnEvent) -> None:
        table = table_after(opened())
        before = repr(table)
        with pytest.raises(Overfill, match="11"):
            table.apply(word)
        assert repr(table) == before
        assert table.owed() == ()

    def test_a_smaller_size_never_falls_below_what_is_owed(self) -> None:
        table = table_after(opened(cumulative=6), amend(lots=5), amended(lots=5))
        assert table.exposure_lots(Side.BUY) == 6
        assert table.apply(filled(6))[1] == 6
        assert table.find("o1").state is S.FILLED

    def test_orders_that_owe_are_not_forgotten(self) -> None:
        table = OrderTable(ended_max=1)
        table.placed(place("owes"), 0)
        table.apply(cancelled("owes", 4))
        for n in range(5):
            table.placed(place(f"e{n}"), 0)
            table.apply(cancelled(f"e{n}"))
        assert table.knows("owes")
        assert [table.knows(f"e{n}") for n in range(5)] == [False] * 4 + [True]
        assert table.apply(filled(4, order_id="owes"))[1] == 4
        table.placed(place("e5"), 0)
        table.apply(cancelled("e5"))
        assert [table.knows(name) for name in ("owes", "e4", "e5")] == [False, False, True]

    def test_a_position_taken_over_settles_what_ended_orders_owe(self) -> None:
        table = table_after(opened(), cancelled(cumulative=6))
        table.placed(place("o2"), 1)
        table.apply(opened("o2", cumulative=1))
        table.settle_owed()
        assert table.owed() == ("o2",)
        assert table.exposure_lots(Side.BUY) == 10


class TestUnknownSince:
    def test_nothing_is_unknown(self) -> None:
        assert table_after(opened()).oldest_unknown_at() is None

    def test_the_oldest_of_both_sides_counts_from_when_it_became_so(self) -> None:
        table = OrderTable()
        for at, (order_id, side) in enumerate([("b", Side.BUY), ("a", Side.SELL)]):
            table.placed(place(order_id, side), at)
        table.apply(OutcomeLost(70, "a"))
        table.apply(OutcomeLost(50, "b"))
        table.apply(OutcomeLost(90, "b"))  # still the same spell
        assert table.oldest_unknown_at() == 50
        table.apply(opened("b"))
        assert table.oldest_unknown_at() == 70
        table.cancel_sent("b", 95)
        table.apply(OutcomeLost(100, "b"))
        table.apply(cancelled("a"))
        assert table.oldest_unknown_at() == 100


class TestFills:
    def test_a_fill_counts_once(self) -> None:
        table = table_after(opened())
        assert [table.apply(filled(3))[1] for _ in range(3)] == [3, 0, 0]
        assert table.apply(filled(3, "t2"))[1] == 3
        assert table.find("o1").filled_lots == 6

    def test_a_duplicate_after_the_end_is_still_known(self) -> None:
        table = table_after(opened(), filled(10))
        assert table.apply(filled(10))[1] == 0
        assert table.n_filled == 1

    def test_two_orders_may_share_a_trade_id(self) -> None:
        table = table_after(opened())
        table.placed(place("o2", Side.SELL), 1)
        assert table.apply(filled(3, "t1"))[1] == 3
        assert table.apply(filled(3, "t1", "o2", Side.SELL))[1] == 3

    @pytest.mark.parametrize("end", [(), (cancelled(),)], ids=["working", "cancelled"])
    def test_an_overfill_raises_and_changes_nothing(self, end: tuple[OwnEvent, ...]) -> None:
        table = table_after(opened(), filled(8), *end)
        before = repr(table)
        for _ in range(2):
            with pytest.raises(Overfill, match="o1"):
                table.apply(filled(3, "t2"))
        assert repr(table) == before
        assert table.apply(filled(2, "t2"))[1] == 2

    def test_the_other_side_raises(self) -> None:
        table = table_after(opened())
        with pytest.raises(WrongSide):
            table.apply(filled(3, side=Side.SELL))
        assert table.find("o1").filled_lots == 0

    def test_a_fill_of_nothing_is_not_a_fill(self) -> None:
        with pytest.raises(AssertionError, match="a fill of nothing"):
            table_after(opened(), filled(0))


class TestOrderTable:
    def test_a_placement_is_exposure_at_once(self) -> None:
        table = OrderTable()
        order = table.placed(Place("o1", Side.SELL, 1001, 5, 2), 77)
        assert (order.side, order.tick, order.lots, order.level) == (Side.SELL, 1001, 5, 2)
        assert (order.sent_at, order.ahead, order.opened_at) == (77, 0.0, 0)
        assert order.state is S.PENDING_NEW
        assert table.exposure_lots(Side.SELL) == 5
        assert table.exposure_lots(Side.BUY) == 0
        assert not table.two_sided()

    def test_working_keeps_placement_order_and_is_a_snapshot(self) -> None:
        table = OrderTable()
        for i in range(4):
            table.placed(place(f"b{i}"), i)
        table.placed(place("a0", Side.SELL), 9)
        seen = table.working(Side.BUY)
        table.apply(cancelled("b1"))
        assert [o.order_id for o in seen] == ["b0", "b1", "b2", "b3"]
        assert [o.order_id for o in table.working(Side.BUY)] == ["b0", "b2", "b3"]
        assert [o.order_id for o in table.working(Side.SELL)] == ["a0"]
        assert table.n_working == 4

    def test_two_sided_needs_a_resting_order_on_each_side(self) -> None:
        table = table_after(opened())
        table.placed(place("a0", Side.SELL), 1)
        assert not table.two_sided()
        table.apply(opened("a0"))
        assert table.two_sided()
        table.apply(filled(1))
        assert table.two_sided()
        table.cancel_sent("o1", 5)
        assert not table.two_sided()
        assert table.find("o1").cancel_sent_at == 5

    def test_ids_are_never_reused(self) -> None:
        table = table_after(opened())
        with pytest.raises(ReusedId, match="o1"):
            table.placed(place(), 2)
        table.apply(cancelled())
        with pytest.raises(ReusedId, match="CANCELLED"):
            table.placed(place(), 3)
        assert table.n_placed == 1

    def test_unknown_ids_raise(self) -> None:
        table = OrderTable()
        with pytest.raises(UnknownOrder, match="o1"):
            table.apply(opened())
        with pytest.raises(UnknownOrder):
            table.cancel_sent("o1", 1)
        with pytest.raises(UnknownOrder):
            table.amend_sent(amend(), 1)
        assert not table.knows("o1")

    def test_the_memory_of_ended_orders_is_bounded_and_forgets_the_oldest(self) -> None:
        table = OrderTable(ended_max=2)
        table.placed(place("working"), 0)
        for order_id in ("e1", "e2", "e3"):
            table.placed(place(order_id), 0)
            table.apply(cancelled(order_id))
        with pytest.raises(UnknownOrder):
            table.apply(filled(1, order_id="e1"))
        assert table.apply(filled(1, order_id="e2"))[1] == 1
        assert table.apply(filled(1, order_id="working"))[1] == 1
        table.apply(filled(9, "t2", "e2"))  # its end changes, its age does not
        table.placed(place("e4"), 0)
        table.apply(cancelled("e4"))
        with pytest.raises(UnknownOrder):
            table.find("e2")
        assert table.find("e3").state is S.CANCELLED
        assert (table.n_cancelled, table.n_filled) == (3, 1)

    def test_a_memory_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="ended_max 0"):
            OrderTable(ended_max=0)

    def test_repr(self) -> None:
        table = table_after(opened(), filled(3))
        assert repr(table) == (
            "OrderTable(bids=[Order(o1 BUY 3/10 @1000 level=0 PARTIALLY_FILLED)], asks=[],"
            " remembered=0, placed=1, filled=0, cancelled=0, rejected=0, expired=0)"
        )


@dataclass
class Naive:
    """What one order's history says, in flags instead of states."""

    order_id: str
    side: Side
    lots: int
    tick: int = 1000
    trades: dict[str, int] = field(default_factory=dict)
    told: int = 0
    wanted: tuple[int, int] | None = None  # tick and lots of an amend under way
    past: list[tuple[int, int]] = field(default_factory=list)
    opened: bool = False
    cancelled: bool = False
    expired: bool = False
    rejected: bool = False
    cancel_ever: bool = False
    cancelling: bool = False
    unknown: bool = False

    @property
    def filled(self) -> int:
        return sum(self.trades.values())

    @property
    def most(self) -> int:
        return max(self.lots, self.wanted[1]) if self.wanted else self.lots

    @property
    def full(self) -> bool:
        return self.filled >= self.most

    @property
    def open(self) -> bool:
        return not (self.full or self.cancelled or self.expired or self.rejected)

    @property
    def heard(self) -> bool:
        return self.opened or bool(self.trades)

    @property
    def resting(self) -> bool:
        return self.open and self.heard and not self.cancelling and not self.unknown

    @property
    def exposure(self) -> int:
        return self.most - self.filled if self.open else max(0, self.told - self.filled)

    def rests_at(self, tick: int, lots: int) -> None:
        """By the venue's word, in answer to whatever was asked."""
        self.wanted = None
        self.unknown = False
        lots = max(lots, self.filled, self.told)
        if (tick, lots) != (self.tick, self.lots):
            self.past.append((self.tick, self.lots))
            self.tick, self.lots = tick, lots


class OrderLife(RuleBasedStateMachine):
    """Everything that a bot and a venue can really do, in any order."""

    orders = Bundle("orders")

    @initialize()
    def start(self) -> None:
        self.table = OrderTable()
        self.naive: list[Naive] = []
        self.position = 0

    @rule(target=orders, side=st.sampled_from(Side), lots=st.integers(1, 4))
    def place(self, side: Side, lots: int) -> Naive:
        order = Naive(f"o{len(self.naive)}", side, lots)
        self.naive.append(order)
        self.table.placed(Place(order.order_id, side, 1000, lots, 0), len(self.naive))
        return order

    @rule(order=orders, more=st.integers(0, 2))
    def open(self, order: Naive, more: int) -> None:
        if order.rejected:
            return
        order.opened = True
        order.unknown = order.unknown and order.wanted is not None
        cumulative = min(order.filled + more, order.lots)
        order.told = max(order.told, cumulative)
        assert self.table.apply(opened(order.order_id, cumulative))[1] == 0

    @rule(order=orders, lots=st.integers(1, 4), again=st.integers(1, 2))
    def fill(self, order: Naive, lots: int, again: int) -> None:
        lots = min(lots, order.most - order.filled)
        if order.rejected or lots <= 0:
            return
        # The id repeats from order to order: it is unique for one order only.
        event = filled(lots, f"t{len(order.trades)}", order.order_id, order.side)
        order.trades[event.trade_id] = lots
        order.unknown = order.unknown and order.wanted is not None
        new = [self.table.apply(event)[1] for _ in range(again)]
        assert new == [lots, 0][:again]
        self.position += order.side * lots

    @rule(order=orders, data=st.data())
    def fill_once_more(self, order: Naive, data: st.DataObject) -> None:
        if not order.trades:
            return
        trade_id = data.draw(st.sampled_from(sorted(order.trades)))
        event = filled(order.trades[trade_id], trade_id, order.order_id, order.side)
        assert self.table.apply(event)[1] == 0

    @rule(order=orders)
    def overfill(self, order: Naive) -> None:
        lots = order.most - order.filled + 1
        with pytest.raises(Overfill):
            self.table.apply(filled(lots, "too much", order.order_id, order.side))

    @rule(order=orders, tick=st.integers(998, 1002), more=st.integers(1, 4))
    def send_amend(self, order: Naive, tick: int, more: int) -> None:
        lots = order.filled + more
        asked = Amend(order.order_id, order.side, tick, lots, 0)
        if not order.resting or order.wanted is not None:
            with pytest.raises(IllegalTransition):
                self.table.amend_sent(asked, 5)
            return
        order.wanted = (tick, lots)
        self.table.amend_sent(asked, 5)

    @rule(order=orders)
    def amend(self, order: Naive) -> None:
        if order.wanted is None or order.full:
            return
        tick, lots = order.wanted
        order.rests_at(tick, lots)
        self.table.apply(amended(tick, lots, order_id=order.order_id))

    @rule(order=orders)
    def refuse_amend(self, order: Naive) -> None:
        if order.wanted is None or max(order.filled, order.told) > order.lots:
            return
        order.rests_at(order.tick, order.lots)
        self.table.apply(amend_rejected(order.order_id))

    @rule(order=orders, data=st.data())
    def tell_of_an_earlier_amend(self, order: Naive, data: st.DataObject) -> None:
        known = [*order.past[-PAST_MAX:], (order.tick, order.lots)]
        words = [word for word in known if word != order.wanted]
        if not order.past or not words or order.full:
            return
        tick, lots = data.draw(st.sampled_from(words))
        if order.unknown and (tick, lots) == (order.tick, order.lots):
            order.rests_at(tick, lots)  # the answer to our question
        self.table.apply(amended(tick, lots, order_id=order.order_id))

    @rule(order=orders)
    def send_cancel(self, order: Naive) -> None:
        if not order.open:
            with pytest.raises(IllegalTransition):
                self.table.cancel_sent(order.order_id, 5)
            return
        order.cancel_ever = True
        order.cancelling = not order.unknown
        self.table.cancel_sent(order.order_id, 5)

    @rule(order=orders, more=st.integers(0, 2))
    def cancel(self, order: Naive, more: int) -> None:
        if order.rejected:
            return
        order.cancelled = True
        cumulative = min(order.filled + more, order.lots)
        order.told = max(order.told, cumulative)
        self.table.apply(cancelled(order.order_id, cumulative))

    @rule(order=orders)
    def expire(self, order: Naive) -> None:
        order.expired = not order.rejected
        self.table.apply(expired(order.order_id))

    @rule(order=orders)
    def refuse_cancel(self, order: Naive) -> None:
        if not order.cancel_ever:
            return
        order.unknown = True
        order.cancelling = False
        self.table.apply(cancel_rejected(order.order_id))

    @rule(order=orders)
    def refuse(self, order: Naive) -> None:
        if order.heard or order.cancelled or order.expired:
            return
        order.rejected = True
        self.table.apply(rejected(order.order_id))

    @rule(order=orders)
    def lose(self, order: Naive) -> None:
        if order.cancelling or not order.heard or order.wanted is not None:
            order.unknown = True
            order.cancelling = False
        self.table.apply(lost(order.order_id))

    @rule(order=consumes(orders))
    def reuse(self, order: Naive) -> None:
        with pytest.raises(ReusedId):
            self.table.placed(Place(order.order_id, order.side, 1000, 1, 0), 9)

    @invariant()
    def agree(self) -> None:
        for side in Side:
            mine = [o for o in self.naive if o.side is side]
            working = self.table.working(side)
            assert [o.order_id for o in working] == [o.order_id for o in mine if o.open]
            assert self.table.exposure_lots(side) == sum(o.exposure for o in mine)
            assert self.table.blocked(side) == any(o.unknown and o.open for o in mine)
        assert self.table.two_sided() == all(
            any(o.resting for o in self.naive if o.side is side) for side in Side
        )
        owing = [o.order_id for o in self.naive if o.told > o.filled]
        assert sorted(self.table.owed()) == sorted(owing)

    @invariant()
    def ends_agree(self) -> None:
        full = sum(o.full for o in self.naive)
        expired_short = sum(o.expired and not o.full for o in self.naive)
        cancelled_short = sum(o.cancelled and not (o.full or o.expired) for o in self.naive)
        refused = sum(o.rejected for o in self.naive)
        table = self.table
        ends = table.n_filled, table.n_cancelled, table.n_rejected, table.n_expired
        assert ends == (full, cancelled_short, refused, expired_short)
        assert table.n_placed == table.n_working + sum(ends) == len(self.naive)
        assert self.position == sum(o.side * o.filled for o in self.naive)

    @invariant()
    def orders_agree(self) -> None:
        for naive in self.naive:
            order = self.table.find(naive.order_id)
            assert order.filled_lots == naive.filled <= order.most_lots
            assert order.working == naive.open
            assert order.resting == naive.resting
            changing = naive.resting and naive.wanted is not None
            assert (order.state is S.PENDING_AMEND) == changing
            partly = naive.resting and naive.filled > 0 and not changing
            assert (order.state is S.PARTIALLY_FILLED) == partly
            if naive.open:
                ticks = [naive.tick] + ([naive.wanted[0]] if naive.wanted else [])
                assert (order.lowest_tick, order.highest_tick) == (min(ticks), max(ticks))


TestOrderLife = OrderLife.TestCase
TestOrderLife.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
