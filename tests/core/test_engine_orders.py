"""The engine and order entry: amends, obstacles, what the account says, and storms of refusals."""

from decimal import Decimal
from typing import Any

import pytest

from bot.core.gate import Gate, Refusal
from bot.core.orders import OrderState, UnknownOrder
from bot.core.triggers import Severity
from bot.domain.decisions import Amend, Cancel, Decision, Place, Rearm, Trip
from bot.domain.events import (
    Amended,
    AmendRejected,
    Cleared,
    Filled,
    FillRecovered,
    Funded,
    Obstructed,
    OrderCancelled,
    OrderExpired,
    OrderRejected,
    OutcomeLost,
    PositionAdopted,
)
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from tests.core.test_engine import MID, Playbook, kinds


def two_live(**changes: Any) -> Playbook:
    """Both first quotes rest; the venue answers only when it is told to."""
    play = Playbook(obedient=False, **changes)
    play.opened("t-1")
    play.opened("t-2")
    return play


def amended(play: Playbook, order_id: str) -> list[Decision]:
    order = play.engine.orders.find(order_id)
    event = Amended(play.now, order_id, order.amend_tick, order.amend_lots)
    return play.tell(event, f"amended {order_id}")


def causes(play: Playbook) -> list[tuple[str, str]]:
    return [(trip.level, trip.cause) for trip in play.all(Trip)]


# --- amends --------------------------------------------------------------------------------


def test_a_moved_market_moves_each_quote_by_one_amend() -> None:
    play = two_live(amend="requeue")
    play.wait(1.0).reset(MID + 10)
    assert play.lines[-3:] == [
        ">> reset 500005/500015",
        "<< amend t-1 BUY 40 @499986 level 0",
        "<< amend t-2 SELL 40 @500034 level 0",
    ]
    assert amended(play, "t-1") == []
    assert play.quotes() == ([499_986], [500_024])  # the other one is not answered yet
    assert amended(play, "t-2") == []
    assert play.quotes() == ([499_986], [500_034])
    assert [o.state for o in play.working()] == [OrderState.LIVE] * 2


def test_a_partly_filled_order_is_amended_by_whole_lots_and_then_left_alone() -> None:
    play = two_live(amend="requeue")
    made = play.fill(Side.BUY, 15)  # the position moves the quotes
    (amend,) = [d for d in made if isinstance(d, Amend) and d.order_id == "t-1"]
    amended(play, "t-2")
    target = next(t for t in play.engine.targets if t.side is Side.BUY)
    assert (amend.tick, amend.lots) == (target.tick, target.lots + 15)
    amended(play, "t-1")
    order = play.engine.orders.find("t-1")
    assert (order.state, order.remaining_lots) == (OrderState.PARTIALLY_FILLED, target.lots)
    seen = len(play.batches)
    play.run(1.0)
    assert all(batch.decisions == [] for batch in play.batches[seen:])


def test_an_amend_under_way_is_judged_by_what_it_asks_for() -> None:
    play = two_live(amend="requeue")
    play.wait(1.0).reset(MID + 10)
    assert play.wait(0.1).beat() == []
    decisions = play.wait(1.0).reset(MID + 20)
    # A second amend has to wait for the first: the order is cancelled, a new one takes its place.
    assert kinds(decisions)[:2] == ["Cancel", "Cancel"]
    assert not any(isinstance(d, Amend) for d in decisions)
    assert {o.state for o in play.working()} >= {OrderState.PENDING_CANCEL}


def test_an_amend_in_the_way_of_which_another_order_is_waits_for_it() -> None:
    play = two_live(amend="requeue")
    play.tell(OutcomeLost(play.now, "t-1"), "lost t-1")  # stays what it is: the stream knew it
    play.wait(1.0).reset(MID + 600)
    assert play.all(Amend)[0].order_id == "t-2"  # the ask moves away first ...
    assert play.engine.gate.refused[Refusal.SELF_CROSS] > 0  # ... but may still be there
    assert play.all(Cancel) == []  # the bid is the shyer one where it is
    amended(play, "t-2")
    play.wait(0.1).beat()
    assert [amend.order_id for amend in play.all(Amend)] == ["t-2", "t-1"]


def test_an_amend_that_the_gate_refuses_becomes_a_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    play = two_live(amend="requeue")
    monkeypatch.setattr(Gate, "check_amend", lambda *_, **__: Refusal.COLLAR)
    play.wait(1.0).reset(MID + 600)
    assert play.all(Amend) == []
    assert [cancel.order_id for cancel in play.all(Cancel)] == ["t-1", "t-2"]


def test_reduce_only_shrinks_and_keeps_the_place() -> None:
    play = two_live(amend="reduce")
    order = play.engine.orders.find("t-1")
    order.ahead = 3.0
    play.engine.apply(PositionAdopted(play.now, 75, 2 * MID, "start"))
    play.wait(0.1).beat()
    assert play.all(Amend) == []  # the price moved as well
    assert "t-1" in [cancel.order_id for cancel in play.all(Cancel)]


@pytest.mark.parametrize(("how", "ahead"), [("requeue", 10.0), ("reduce", 3.0)])
def test_a_place_in_the_queue_is_lost_only_where_the_venue_says_so(how: str, ahead: float) -> None:
    play = Playbook(obedient=False, amend=how)
    order = play.engine.orders.find("t-1")
    play.change({order.tick: 10.0})
    play.opened("t-1")
    order.ahead = 3.0
    play.engine.orders.amend_sent(Amend("t-1", Side.BUY, order.tick, 30, 0), play.now)
    play.engine.apply(Amended(play.now, "t-1", order.tick, 30))
    assert order.ahead == ahead


def test_an_order_that_already_is_what_is_wanted_is_left_alone() -> None:
    """What it has left is what is wanted, at the same price: nothing is to be sent."""
    play = two_live(amend="requeue", tolerance_ticks=1_000)
    order = play.engine.orders.find("t-1")
    assert play.fill(Side.BUY, 15) == []
    target = next(t for t in play.engine.targets if t.side is Side.BUY)
    seen = len(play.batches)
    order.lots, order.tick = target.lots + 15, target.tick
    play.wait(0.1).beat()
    assert not any("t-1" in repr(d) for batch in play.batches[seen:] for d in batch.decisions)
    assert order.state is OrderState.PARTIALLY_FILLED


def test_a_trip_cancels_an_order_whose_amend_is_under_way() -> None:
    play = two_live(amend="requeue")
    play.wait(1.0).reset(MID + 10)
    decisions = play.wait(0.1).lost()
    assert kinds(decisions) == ["Trip", "Cancel", "Cancel"]
    order = play.engine.orders.find("t-1")
    play.tell(Amended(play.now, "t-1", order.amend_tick, order.amend_lots), "amended t-1")
    assert order.state is OrderState.PENDING_CANCEL


@pytest.mark.parametrize("side", list(Side))
def test_during_an_amend_a_fill_may_be_at_either_limit(side: Side) -> None:
    play = two_live(amend="requeue")
    play.wait(1.0).reset(MID + 10 * side)  # the order of `side` moves to a worse price
    order = play.engine.orders.working(side)[0]
    better, worse = order.tick, order.amend_tick
    assert side * (worse - better) > 0
    play.tell(Filled(play.now, order.order_id, "x1", side, worse, 1, True), "at the new limit")
    assert play.all(Trip) == []
    play.reset(MID)
    play.tell(AmendRejected(play.now, order.order_id, "filter"), "rejected")
    assert order.state is OrderState.PENDING_CANCEL
    play.tell(Filled(play.now, order.order_id, "x2", side, better, 1, True), "at the old limit")
    assert play.all(Trip) == []
    play.tell(Filled(play.now, order.order_id, "x3", side, worse, 1, True), "beyond")
    assert causes(play) == [("HALTED", "fill_beyond_limit")]


@pytest.mark.parametrize("side", list(Side))
def test_a_fill_at_the_old_price_may_be_told_after_the_amend(side: Side) -> None:
    play = two_live(amend="requeue")
    play.wait(1.0).reset(MID - 10 * side)
    order = play.engine.orders.working(side)[0]
    old = order.tick
    amended(play, order.order_id)
    assert order.tick != old
    play.tell(Filled(play.now, order.order_id, "x1", side, old, 1, True), "late")
    assert play.all(Trip) == []
    play.tell(Filled(play.now, order.order_id, "x2", side, old + side, 1, True), "beyond")
    assert causes(play) == [("HALTED", "fill_beyond_limit")]


# --- obstacles -----------------------------------------------------------------------------


def test_an_obstacle_reads_like_this() -> None:
    play = Playbook().run(0.2)
    play.lines.clear()
    play.tell(Obstructed(play.now, "private_stream", "closed"), "obstructed")
    assert play.engine.view().obstacles == ("private_stream",)
    play.tell(Obstructed(play.now, "reconcile"), "obstructed again")
    play.tell(Cleared(play.now, "private_stream"), "cleared")
    assert play.engine.view().obstacles == ("reconcile",)
    play.run(2.0)
    play.tell(Cleared(play.now, "reconcile"), "cleared")
    play.tell(Cleared(play.now, "nothing of the kind"), "cleared")
    assert play.engine.view().obstacles == ()
    play.run(0.9)
    assert play.lines == [
        ">> obstructed",
        "<< trip PAUSED execution:private_stream",
        "<< cancel t-1",
        "<< cancel t-2",
        ">> obstructed again",
        ">> cleared",
        *[">> same"] * 20,
        ">> cleared",
        ">> cleared",
        *[">> same"] * 9,
    ]
    play.run(0.2)
    assert play.all(Rearm) == [Rearm("execution:reconcile", 0.25)]
    assert {place.lots for place in play.all(Place)[2:]} == {10}


def test_an_obstacle_before_the_first_quote_is_no_trip() -> None:
    play = Playbook(open_book=False)
    play.tell(Obstructed(play.now, "reconcile"), "obstructed")
    play.reset()
    play.run(5.0)
    assert play.all(Place) == play.all(Trip) == []
    assert play.severity is Severity.PAUSED
    play.tell(Cleared(play.now, "reconcile"), "cleared")
    assert play.all(Rearm) == []
    assert {place.lots for place in play.all(Place)} == {40}


def test_obstacles_count_with_the_feed_and_not_with_the_market() -> None:
    """A seventh re-arm of a day halts after market trips only."""
    play = Playbook()
    for _ in range(8):
        play.tell(Obstructed(play.now, "private_stream"), "obstructed")
        play.tell(Cleared(play.now, "private_stream"), "cleared")
        play.run(2.0, until=Rearm)
    assert len(play.all(Rearm)) == 8
    assert play.severity < Severity.PAUSED


def test_an_order_of_unknown_fate_pauses_and_then_halts() -> None:
    play = Playbook(obedient=False)
    play.tell(OutcomeLost(play.now, "t-1"), "lost t-1")
    play.run(10.0)
    assert play.all(Trip) == []
    play.run(0.1)
    assert causes(play) == [("PAUSED", "unknown_order")]
    play.run(49.8)
    assert len(play.all(Trip)) == 1
    play.run(0.2)
    assert causes(play)[1:] == [("HALTED", "unknown_order")]
    play.tell(OrderCancelled(play.now, "t-1"), "cancelled t-1")
    play.run(2.0)
    assert play.severity is Severity.HALTED
    play.rearm()
    assert play.severity < Severity.PAUSED


def test_an_order_found_in_time_lets_go() -> None:
    play = Playbook(obedient=False)
    play.tell(OutcomeLost(play.now, "t-1"), "lost t-1")
    play.run(11.0)
    assert play.severity is Severity.PAUSED
    play.tell(OrderCancelled(play.now, "t-1"), "cancelled t-1")
    play.run(1.1)
    assert [rearm.cause for rearm in play.all(Rearm)] == ["unknown_order"]


# --- refusals ------------------------------------------------------------------------------


def refuse(play: Playbook, reason: str) -> None:
    """The venue refuses the oldest pending order, whatever side it is on."""
    pending = [o for o in play.working() if o.state is OrderState.PENDING_NEW]
    play.wait(0.01)
    play.tell(OrderRejected(play.now, pending[0].order_id, reason), "rejected")


def test_five_refusals_in_ten_seconds_pause_for_a_minute_and_then_for_two() -> None:
    play = Playbook(obedient=False)
    for pause_s in (60.0, 120.0):
        for _ in range(5):
            assert play.severity < Severity.PAUSED
            refuse(play, "insufficient balance")
        tripped = play.now
        assert causes(play)[-1] == ("PAUSED", "reject_storm")
        for order in play.working():
            play.tell(OrderCancelled(play.now, order.order_id), "cancelled")
        play.run(130.0, until=Rearm)
        assert (play.now - tripped) / NS_PER_S == pytest.approx(pause_s, abs=0.2)


def test_fewer_or_slower_refusals_do_not_pause() -> None:
    play = Playbook(obedient=False)
    for _ in range(20):
        refuse(play, "insufficient balance")
        play.run(2.5)
    assert play.all(Trip) == []


def test_a_refused_amend_counts_like_a_refused_placement() -> None:
    play = two_live(amend="requeue")
    for i in range(5):
        play.wait(0.5).reset(MID + 10 * (i + 1))
        play.tell(AmendRejected(play.now, "t-1", "filter"), "rejected")
        amended(play, "t-2") if play.engine.orders.find("t-2").amending else None
    assert causes(play) == [("PAUSED", "reject_storm")]


@pytest.mark.parametrize("how", ["rejected", "expired"])
def test_ten_refusals_as_would_take_in_a_row_pause_for_five_seconds(how: str) -> None:
    play = Playbook(obedient=False)
    for i in range(10):
        assert play.all(Trip) == [], i
        if how == "rejected":
            refuse(play, "post_only would match")
        else:
            order = play.working()[0]
            play.wait(0.01)
            play.tell(OrderExpired(play.now, order.order_id, "post_only"), "expired")
    assert causes(play) == [("PAUSED", "post_only_row")]
    at = play.now
    for order in play.working():
        play.tell(OrderCancelled(play.now, order.order_id), "cancelled")
    play.run(20.0, until=Rearm)
    assert (play.now - at) / NS_PER_S == pytest.approx(5.0, abs=0.2)
    refuse(play, "post_only would match")
    assert len(play.all(Trip)) == 1  # the row starts anew


def test_an_acceptance_ends_a_row() -> None:
    play = Playbook(obedient=False)
    for _ in range(9):
        refuse(play, "post_only would match")
    pending = [o for o in play.working() if o.state is OrderState.PENDING_NEW]
    play.opened(pending[0].order_id)
    for _ in range(9):
        refuse(play, "post_only would match")
    assert play.all(Trip) == []


# --- the account ---------------------------------------------------------------------------


def recovered(play: Playbook, trade: str = "v1", order_id: str = "before-7") -> FillRecovered:
    return FillRecovered(play.now, order_id, trade, Side.BUY, MID - 10, 7, True)


def test_a_recovered_fill_is_booked_once() -> None:
    play = Playbook()
    play.tell(recovered(play), "recovered")
    assert play.engine.ledger.position_lots == 7
    play.wait(60.0).beat()
    play.tell(recovered(play), "recovered again")
    assert play.engine.ledger.position_lots == 7
    play.tell(recovered(play, "v2"), "recovered")
    assert play.engine.ledger.position_lots == 14
    assert play.engine.view().pnl.unexplained == 0
    assert play.engine.markouts.values()["30s"] is not None


def test_a_fill_known_from_an_earlier_journal_is_not_booked() -> None:
    play = Playbook()
    play.engine.fill_keys.add("before-7", "v1", Side.BUY, play.now - NS_PER_S)
    play.tell(recovered(play), "recovered")
    assert play.engine.ledger.position_lots == 0


def test_a_fill_recovered_before_the_first_book_is_neither_spread_nor_inventory() -> None:
    play = Playbook(open_book=False)
    play.engine.apply(recovered(play))
    pnl = play.engine.ledger.mark(play.engine._instrument.price(MID - 10))
    assert (pnl.total, pnl.spread, pnl.inventory) == (0, 0, 0)


def test_many_recovered_fills_count_as_speed() -> None:
    play = Playbook(fill_speed_fraction_1s=0.05)
    play.tell(recovered(play), "recovered")
    assert causes(play) == [("PAUSED", "fill_speed")]


def test_a_recovered_fill_of_a_known_order_goes_to_the_order() -> None:
    play = two_live()
    order = play.engine.orders.find("t-1")
    event = FillRecovered(play.now, "t-1", "v1", Side.BUY, order.tick, 15, True)
    play.tell(event, "recovered")
    assert (order.filled_lots, play.engine.ledger.position_lots) == (15, 15)
    play.tell(Filled(play.now, "t-1", "v1", Side.BUY, order.tick, 15, True), "filled")
    assert play.engine.ledger.position_lots == 15


def test_reports_of_forgotten_orders_of_ours_are_only_heard_for_their_fills() -> None:
    play = two_live()
    order = play.engine.orders.find("t-1")
    fill = Filled(play.now, "t-1", "x1", Side.BUY, order.tick, 15, True)
    play.tell(fill, "filled")
    play.tell(OrderCancelled(play.now, "t-1"), "cancelled")
    del play.engine.orders._orders["t-1"]
    play.engine.orders._ended.clear()
    for event in (fill, OrderCancelled(play.now, "t-1"), OrderExpired(play.now, "t-1", "late")):
        play.tell(event, "late")
    assert play.engine.ledger.position_lots == 15
    play.tell(Filled(play.now, "t-1", "x2", Side.BUY, order.tick, 5, True), "late and new")
    assert play.engine.ledger.position_lots == 20


@pytest.mark.parametrize("order_id", ["t-99", "t-0", "u-1", "t-", "t-x", "t"])
def test_a_fill_of_an_order_nobody_sent_is_a_fault(order_id: str) -> None:
    play = two_live()
    with pytest.raises(UnknownOrder):
        play.tell(Filled(play.now, order_id, "x1", Side.BUY, MID, 1, True), "filled")


@pytest.mark.parametrize(
    ("reason", "lots", "halts"),
    [("start", 50, False), ("reconcile", 5, False), ("reconcile", -5, False),
     ("reconcile", 6, True), ("reconcile", -6, True)],
)  # fmt: skip
def test_an_adopted_position_halts_only_when_reconciling_finds_too_much(
    reason: Any, lots: int, halts: bool
) -> None:
    play = Playbook()
    play.tell(PositionAdopted(play.now, lots, 2 * MID, reason), "adopted")
    assert play.engine.ledger.position_lots == lots
    view = play.engine.view()
    assert (view.pnl.total, view.pnl.unexplained) == (0, 0)
    assert causes(play) == ([("HALTED", "position_mismatch")] if halts else [])
    if halts:
        assert play.all(Trip)[0].evidence == {"believed_lots": 0.0, "venue_lots": float(lots)}


def test_what_ended_orders_owe_counts_until_a_position_is_taken_over() -> None:
    play = two_live()
    play.tell(OrderCancelled(play.now, "t-1", 40), "cancelled t-1, all of it traded")
    engine = play.engine
    assert engine.orders.owed() == ("t-1",)
    assert engine.orders.exposure_lots(Side.BUY) >= 40
    play.tell(PositionAdopted(play.now, 5, 2 * MID, "reconcile"), "adopted")
    assert engine.orders.owed() == ()


def test_funding_is_money() -> None:
    play = Playbook()
    play.tell(Funded(play.now, Decimal("-1.25")), "funded")
    pnl = play.engine.view().pnl
    assert (pnl.funding, pnl.total, pnl.unexplained) == (Decimal("-1.25"), Decimal("-1.25"), 0)


def test_the_venues_own_fee_is_booked() -> None:
    play = two_live()
    order = play.engine.orders.find("t-1")
    fee = Decimal("0.0123")
    event = Filled(play.now, "t-1", "x1", Side.BUY, order.tick, 15, True, 15, fee, "USDT")
    play.tell(event, "filled")
    assert play.engine.view().pnl.maker_fees == fee


def test_the_expiry_of_an_order_is_quoted_anew() -> None:
    play = two_live()
    made = play.tell(OrderExpired(play.now, "t-1", "self_trade"), "expired t-1")
    assert kinds(made) == ["Place"]
    assert play.engine.deadline() == play.now + 100 * NS_PER_MS
