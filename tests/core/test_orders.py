"""Order life: every cell of the table, every race, and a naive model beside the real one."""

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

from bot.core.orders import (
    TRANSITIONS,
    IllegalTransition,
    Order,
    OrderInput,
    OrderState,
    OrderTable,
    Overfill,
    ReusedId,
    UnknownOrder,
    WrongSide,
    next_state,
)
from bot.domain.decisions import Place
from bot.domain.events import (
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
    OwnEvent,
)
from bot.domain.units import Side

S = OrderState
I = OrderInput  # noqa: E741 - one letter each keeps the table of legal cells readable

# Written from RISK 5, not from the table under test.
LEGAL: dict[tuple[OrderState, OrderInput], OrderState] = {
    (S.PENDING_NEW, I.OPENED): S.LIVE,
    (S.PENDING_NEW, I.PARTIAL_FILL): S.PARTIALLY_FILLED,
    (S.PENDING_NEW, I.FULL_FILL): S.FILLED,
    (S.PENDING_NEW, I.CANCEL_SENT): S.PENDING_CANCEL,
    (S.PENDING_NEW, I.CANCELLED): S.CANCELLED,
    (S.PENDING_NEW, I.REJECTED): S.REJECTED,
    (S.PENDING_NEW, I.OUTCOME_LOST): S.UNKNOWN,
    (S.LIVE, I.OPENED): S.LIVE,
    (S.LIVE, I.PARTIAL_FILL): S.PARTIALLY_FILLED,
    (S.LIVE, I.FULL_FILL): S.FILLED,
    (S.LIVE, I.CANCEL_SENT): S.PENDING_CANCEL,
    (S.LIVE, I.CANCELLED): S.CANCELLED,
    (S.LIVE, I.CANCEL_REJECTED): S.UNKNOWN,
    (S.LIVE, I.OUTCOME_LOST): S.LIVE,
    (S.PARTIALLY_FILLED, I.OPENED): S.PARTIALLY_FILLED,
    (S.PARTIALLY_FILLED, I.PARTIAL_FILL): S.PARTIALLY_FILLED,
    (S.PARTIALLY_FILLED, I.FULL_FILL): S.FILLED,
    (S.PARTIALLY_FILLED, I.CANCEL_SENT): S.PENDING_CANCEL,
    (S.PARTIALLY_FILLED, I.CANCELLED): S.CANCELLED,
    (S.PARTIALLY_FILLED, I.CANCEL_REJECTED): S.UNKNOWN,
    (S.PARTIALLY_FILLED, I.OUTCOME_LOST): S.PARTIALLY_FILLED,
    (S.PENDING_CANCEL, I.OPENED): S.PENDING_CANCEL,
    (S.PENDING_CANCEL, I.PARTIAL_FILL): S.PENDING_CANCEL,
    (S.PENDING_CANCEL, I.FULL_FILL): S.FILLED,
    (S.PENDING_CANCEL, I.CANCEL_SENT): S.PENDING_CANCEL,
    (S.PENDING_CANCEL, I.CANCELLED): S.CANCELLED,
    (S.PENDING_CANCEL, I.CANCEL_REJECTED): S.UNKNOWN,
    (S.PENDING_CANCEL, I.REJECTED): S.REJECTED,
    (S.PENDING_CANCEL, I.OUTCOME_LOST): S.UNKNOWN,
    (S.UNKNOWN, I.OPENED): S.LIVE,
    (S.UNKNOWN, I.PARTIAL_FILL): S.PARTIALLY_FILLED,
    (S.UNKNOWN, I.FULL_FILL): S.FILLED,
    (S.UNKNOWN, I.CANCEL_SENT): S.UNKNOWN,
    (S.UNKNOWN, I.CANCELLED): S.CANCELLED,
    (S.UNKNOWN, I.CANCEL_REJECTED): S.UNKNOWN,
    (S.UNKNOWN, I.REJECTED): S.REJECTED,
    (S.UNKNOWN, I.OUTCOME_LOST): S.UNKNOWN,
    (S.FILLED, I.OPENED): S.FILLED,
    (S.FILLED, I.CANCELLED): S.FILLED,
    (S.FILLED, I.CANCEL_REJECTED): S.FILLED,
    (S.FILLED, I.OUTCOME_LOST): S.FILLED,
    (S.CANCELLED, I.OPENED): S.CANCELLED,
    (S.CANCELLED, I.PARTIAL_FILL): S.CANCELLED,
    (S.CANCELLED, I.FULL_FILL): S.FILLED,
    (S.CANCELLED, I.CANCELLED): S.CANCELLED,
    (S.CANCELLED, I.CANCEL_REJECTED): S.CANCELLED,
    (S.CANCELLED, I.OUTCOME_LOST): S.CANCELLED,
    (S.REJECTED, I.CANCEL_REJECTED): S.REJECTED,
    (S.REJECTED, I.REJECTED): S.REJECTED,
    (S.REJECTED, I.OUTCOME_LOST): S.REJECTED,
}
CELLS = [(state, what) for state in OrderState for what in OrderInput]


def place(order_id: str = "o1", side: Side = Side.BUY, lots: int = 10) -> Place:
    return Place(order_id, side, 1000, lots, 0)


def opened(order_id: str = "o1") -> OrderOpened:
    return OrderOpened(2, order_id)


def rejected(order_id: str = "o1") -> OrderRejected:
    return OrderRejected(2, order_id, "post_only")


def cancelled(order_id: str = "o1") -> OrderCancelled:
    return OrderCancelled(2, order_id)


def cancel_rejected(order_id: str = "o1") -> CancelRejected:
    return CancelRejected(2, order_id)


def lost(order_id: str = "o1") -> OutcomeLost:
    return OutcomeLost(2, order_id)


def filled(lots: int, trade_id: str = "t1", order_id: str = "o1", side: Side = Side.BUY) -> Filled:
    return Filled(2, order_id, trade_id, side, 1000, lots, maker=True)


CANCEL_SENT = "cancel sent"  # not an event: the bot's own act


def run(table: OrderTable, steps: list[OwnEvent | str]) -> int:
    """Apply the steps to order o1; returns the lots newly filled."""
    lots = 0
    for step in steps:
        if isinstance(step, str):
            table.cancel_sent("o1", 2)
        else:
            lots += table.apply(step)[1]
    return lots


def table_after(*steps: OwnEvent | str, lots: int = 10) -> OrderTable:
    table = OrderTable()
    table.placed(place(lots=lots), 1)
    run(table, list(steps))
    return table


# How an order comes to each state through the public door.
PATHS: dict[OrderState, tuple[OwnEvent | str, ...]] = {
    S.PENDING_NEW: (),
    S.LIVE: (opened(),),
    S.PARTIALLY_FILLED: (opened(), filled(3)),
    S.PENDING_CANCEL: (opened(), CANCEL_SENT),
    S.UNKNOWN: (lost(),),
    S.FILLED: (opened(), filled(10)),
    S.CANCELLED: (opened(), cancelled()),
    S.REJECTED: (rejected(),),
}


class TestTable:
    def test_shape(self) -> None:
        assert [len(row) for row in TRANSITIONS] == [len(OrderInput)] * len(OrderState)

    @pytest.mark.parametrize(("state", "what"), CELLS)
    def test_every_cell(self, state: OrderState, what: OrderInput) -> None:
        order = Order("o7", Side.BUY, 1000, 10, 0, 1, state)
        if (state, what) in LEGAL:
            assert next_state(order, what) is LEGAL[state, what]
        else:
            with pytest.raises(IllegalTransition, match=f"o7 in {state.name} .* {what.name}"):
                next_state(order, what)
        assert order.state is state

    @pytest.mark.parametrize(("state", "what"), CELLS)
    def test_every_cell_by_events(self, state: OrderState, what: OrderInput) -> None:
        table = table_after(*PATHS[state])
        order = table.find("o1")
        assert order.state is state
        before = repr(table), order.filled_lots
        rest = order.remaining_lots
        step: dict[OrderInput, OwnEvent | str] = {
            I.OPENED: opened(),
            I.PARTIAL_FILL: filled(1, "t2"),
            I.FULL_FILL: filled(max(rest, 1), "t2"),
            I.CANCEL_SENT: CANCEL_SENT,
            I.CANCELLED: cancelled(),
            I.CANCEL_REJECTED: cancel_rejected(),
            I.REJECTED: rejected(),
            I.OUTCOME_LOST: lost(),
        }
        if (state, what) in LEGAL:
            run(table, [step[what]])
            assert order.state is LEGAL[state, what]
            assert (order in table.working(Side.BUY)) is order.working
        else:
            with pytest.raises((IllegalTransition, Overfill)):
                run(table, [step[what]])
            assert (repr(table), order.filled_lots) == before


class TestRaces:
    @pytest.mark.parametrize("asked", [False, True], ids=["unasked", "cancel_sent"])
    @pytest.mark.parametrize(
        ("lots", "end"), [(10, S.FILLED), (4, S.CANCELLED)], ids=["full", "partial"]
    )
    @pytest.mark.parametrize("fourth", ["duplicate_fill", "rest_reply"])
    @pytest.mark.parametrize("turn", list(permutations(range(4))))
    def test_all_24_orders_of_reports_end_alike(
        self, turn: tuple[int, ...], fourth: str, lots: int, end: OrderState, asked: bool
    ) -> None:
        again: OwnEvent = filled(lots) if fourth == "duplicate_fill" else opened()
        reports: list[OwnEvent] = [opened(), filled(lots), cancelled(), again]
        table = table_after(*([CANCEL_SENT] if asked else []))
        assert run(table, [reports[i] for i in turn]) == lots
        order = table.find("o1")
        assert (order.state, order.filled_lots) == (end, lots)
        assert table.n_working == 0
        assert table.exposure_lots(Side.BUY) == 0
        assert (table.n_filled, table.n_cancelled) == (
            int(end is S.FILLED),
            int(end is S.CANCELLED),
        )

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
        self, how: tuple[OwnEvent | str, ...], word: OwnEvent, end: OrderState
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
            " remembered=0, placed=1, filled=0, cancelled=0, rejected=0)"
        )


@dataclass
class Naive:
    """What one order's history says, in flags instead of states."""

    order_id: str
    side: Side
    lots: int
    trades: dict[str, int] = field(default_factory=dict)
    opened: bool = False
    cancelled: bool = False
    rejected: bool = False
    cancel_ever: bool = False
    cancelling: bool = False
    unknown: bool = False

    @property
    def filled(self) -> int:
        return sum(self.trades.values())

    @property
    def open(self) -> bool:
        return self.filled < self.lots and not self.cancelled and not self.rejected

    @property
    def heard(self) -> bool:
        return self.opened or bool(self.trades)

    @property
    def resting(self) -> bool:
        return self.open and self.heard and not self.cancelling and not self.unknown


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

    @rule(order=orders)
    def open(self, order: Naive) -> None:
        if order.rejected:
            return
        order.opened = True
        order.unknown = False
        assert self.table.apply(opened(order.order_id))[1] == 0

    @rule(order=orders, lots=st.integers(1, 4), again=st.integers(1, 2))
    def fill(self, order: Naive, lots: int, again: int) -> None:
        lots = min(lots, order.lots - order.filled)
        if order.rejected or lots == 0:
            return
        # The id repeats from order to order: it is unique for one order only.
        event = filled(lots, f"t{len(order.trades)}", order.order_id, order.side)
        order.trades[event.trade_id] = lots
        order.unknown = False
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
        lots = order.lots - order.filled + 1
        with pytest.raises(Overfill):
            self.table.apply(filled(lots, "too much", order.order_id, order.side))

    @rule(order=orders)
    def send_cancel(self, order: Naive) -> None:
        if not order.open:
            with pytest.raises(IllegalTransition):
                self.table.cancel_sent(order.order_id, 5)
            return
        order.cancel_ever = True
        order.cancelling = not order.unknown
        self.table.cancel_sent(order.order_id, 5)

    @rule(order=orders)
    def cancel(self, order: Naive) -> None:
        if order.rejected:
            return
        order.cancelled = True
        self.table.apply(cancelled(order.order_id))

    @rule(order=orders)
    def refuse_cancel(self, order: Naive) -> None:
        if not order.cancel_ever:
            return
        order.unknown = True
        order.cancelling = False
        self.table.apply(cancel_rejected(order.order_id))

    @rule(order=orders)
    def refuse(self, order: Naive) -> None:
        if order.heard or order.cancelled:
            return
        order.rejected = True
        self.table.apply(rejected(order.order_id))

    @rule(order=orders)
    def lose(self, order: Naive) -> None:
        if order.cancelling or not order.heard:
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
            mine = [o for o in self.naive if o.side is side and o.open]
            working = self.table.working(side)
            assert [o.order_id for o in working] == [o.order_id for o in mine]
            assert [o.filled_lots for o in working] == [o.filled for o in mine]
            assert self.table.exposure_lots(side) == sum(o.lots - o.filled for o in mine)
            assert self.table.exposure_lots(side) >= 0
            assert self.table.blocked(side) == any(o.unknown for o in mine)
        assert self.table.two_sided() == all(
            any(o.resting for o in self.naive if o.side is side) for side in Side
        )

    @invariant()
    def ends_agree(self) -> None:
        full = sum(o.filled == o.lots for o in self.naive)
        cancelled_short = sum(o.cancelled and o.filled < o.lots for o in self.naive)
        refused = sum(o.rejected for o in self.naive)
        table = self.table
        ends = table.n_filled, table.n_cancelled, table.n_rejected
        assert ends == (full, cancelled_short, refused)
        assert table.n_placed == table.n_working + sum(ends) == len(self.naive)
        assert self.position == sum(o.side * o.filled for o in self.naive)
        for naive in self.naive:
            order = table.find(naive.order_id)
            assert order.filled_lots == naive.filled <= order.lots
            assert order.working == naive.open
            assert order.resting == naive.resting
            assert (order.state is S.PARTIALLY_FILLED) == (naive.resting and naive.filled > 0)


TestOrderLife = OrderLife.TestCase
TestOrderLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
