"""What the engine believes, read through `Beliefs`: it must be what the engine learned."""

from decimal import Decimal

from bot.core.orders import OrderState
from bot.domain.events import Filled, OrderCancelled
from bot.domain.units import Side
from bot.shell.beliefs import Beliefs
from tests.core.test_engine import MID, Playbook


def fill(play: Playbook, order_id: str, **fields: object) -> Filled:
    order = play.engine.orders.find(order_id)
    event = Filled(play.now, order_id, "x1", order.side, order.tick, 10, True, **fields)  # type: ignore[arg-type]
    play.tell(event, "filled")
    return event


def test_an_engine_that_has_learned_nothing_believes_nothing() -> None:
    beliefs = Beliefs(Playbook(open_book=False).engine)
    assert (beliefs.position_lots, beliefs.base_fees, beliefs.filled_at) == (0, Decimal(0), 0)
    assert (beliefs.tick2, beliefs.working(), beliefs.owed()) == (0, [], ())
    assert not beliefs.knows_order("t-1")
    assert not beliefs.knows_fill(("t-1", "x1", Side.BUY))


def test_orders_of_both_sides_work_until_they_end_and_are_remembered() -> None:
    play = Playbook(obedient=False)
    beliefs = Beliefs(play.engine)
    assert [(one.order_id, one.side) for one in beliefs.working()] == [
        ("t-1", Side.BUY),
        ("t-2", Side.SELL),
    ]
    play.opened("t-1")
    assert [one.state for one in beliefs.working()] == [OrderState.LIVE, OrderState.PENDING_NEW]
    play.tell(OrderCancelled(play.now, "t-1"), "cancelled t-1")
    assert "t-1" not in [one.order_id for one in beliefs.working()]
    assert beliefs.knows_order("t-1")
    assert not beliefs.knows_order("t-99")


def test_a_fill_moves_position_fees_time_and_keys() -> None:
    play = Playbook()
    beliefs = Beliefs(play.engine)
    bid, ask = beliefs.working()
    play.wait(0.2)
    at = play.now
    fill(play, bid.order_id, fee=Decimal("0.00001"), fee_currency="BTC")
    assert (beliefs.position_lots, beliefs.filled_at) == (10, at)
    assert beliefs.base_fees == Decimal("0.00001")
    assert beliefs.knows_fill((bid.order_id, "x1", Side.BUY))
    assert not beliefs.knows_fill((bid.order_id, "x1", Side.SELL))
    assert not beliefs.knows_fill((bid.order_id, "x2", Side.BUY))
    fill(play, ask.order_id, fee=Decimal("0.5"), fee_currency="USDT")
    assert beliefs.position_lots == 0
    assert beliefs.base_fees == Decimal("0.00001")  # the other fee left the quote currency


def test_what_traded_by_the_venues_word_is_owed_until_its_fill_comes() -> None:
    play = Playbook()
    beliefs = Beliefs(play.engine)
    bid = beliefs.working()[0].order_id
    play.tell(OrderCancelled(play.now, bid, 10), "cancelled with 10 traded")
    assert list(beliefs.owed()) == [bid]
    assert beliefs.position_lots == 0
    fill(play, bid)
    assert list(beliefs.owed()) == []
    assert beliefs.position_lots == 10


def test_the_mid_is_the_last_that_was_trusted() -> None:
    play = Playbook()
    beliefs = Beliefs(play.engine)
    assert beliefs.tick2 == 2 * MID
    play.reset(MID, half=4)
    play.change(asks={MID + 4: 0.0})  # best: 499,996 and 500,009
    assert beliefs.tick2 == 2 * MID + 5
    play.lost()
    assert beliefs.tick2 == 2 * MID + 5


def test_it_names_the_engine_that_it_reads() -> None:
    engine = Playbook().engine
    assert repr(Beliefs(engine)) == f"<Beliefs of {engine!r}>"
