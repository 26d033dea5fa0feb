"""Conformance cards 02 to 16, 20 and 24: orders, from their placement to every way to end."""

from decimal import Decimal

from msgspec.structs import replace

from bot.core.orders import OrderState
from bot.domain.account import SelfTrade, Status
from bot.domain.decisions import Place
from bot.domain.events import (
    AmendRejected,
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
)
from bot.domain.units import Side
from bot.modes.instruments import FEES
from bot.venues.binance.failures import AMENDS, CANCELS, PLACEMENTS
from bot.venues.binance.ids import is_own
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Verdict
from tests.modes.conformance import card
from tests.modes.conformancebench import PREFIX, Bench
from tests.shell.wire import eventually

S = OrderState
CENT = Decimal("1e-8")  # what money is rounded to


def card_fee(bench: Bench, side: Side, tick: int, lots: int) -> tuple[Decimal, str]:
    """A maker's fee by the fee schedule, and its currency: spot takes it from what is received."""
    instrument = bench.instrument
    quantity = instrument.quantity(lots)
    worth, currency = quantity * instrument.price(tick), "USDT"
    if bench.spot and side is Side.BUY:
        worth, currency = quantity, "BTC"
    return (worth * FEES[bench.venue].maker).quantize(CENT), currency


@card(2, "rest", "a post-only order rests; the REST answer and the private stream both say so")
async def rests(bench: Bench) -> None:
    for side in Side:
        order_id = await bench.rest(side, behind=2)
        await eventually(lambda i=order_id: len(bench.told(OrderOpened, i)) >= 2)
        own = bench.own(order_id)
        assert own is not None
        assert (own.tick, own.lots, own.wanted.side) == (
            bench.tick(side, 2), bench.unit, side
        )  # fmt: skip
        assert own.wanted.post_only
        assert bench.line(side, own.tick) == ["", order_id]
    assert bench.unheard == []


@card(
    3, "would take", "a post-only order that would take is refused as post_only, and nothing rests"
)
async def would_take(bench: Bench) -> None:
    for side in Side:
        order_id = bench.send(side, behind=-1)
        await bench.until(order_id, S.REJECTED)
        (told,) = bench.told(OrderRejected, order_id)
        assert told.reason == "post_only"
        assert bench.own(order_id) is None
    assert not bench.account.trades


@card(4, "cancel", "a cancelled order has left the book, and both ways say so")
async def cancels(bench: Bench) -> None:
    order_id = await bench.rest()
    bench.cancel(order_id)
    assert bench.order(order_id).working  # until the venue's word
    await bench.until(order_id, S.CANCELLED)
    await eventually(lambda: len(bench.told(OrderCancelled, order_id)) >= 2)
    assert bench.open() == []
    assert bench.unasked == []


@card(
    5, "cancel of the ended", "it is answered by `absent`; the venue is asked, and tells the truth"
)
async def cancel_of_the_ended(bench: Bench) -> None:
    order_id = await bench.rest()
    bench.faults.events.silence()
    bench.hit(Side.BUY, bench.unit)
    assert bench.order(order_id).state is S.LIVE  # nobody said anything
    bench.cancel(order_id)
    await bench.until(order_id, S.FILLED)
    assert len(bench.told(CancelRejected, order_id)) == 1
    assert [fill.lots for fill in bench.fills(order_id)] == [bench.unit]
    assert bench.position == bench.unit
    bench.faults.heal()


@card(6, "fills", "partial and full fills come once each, with exact fees and the maker's flag")
async def fills(bench: Bench) -> None:
    for side in Side:
        order_id = await bench.rest(side)
        tick, part = bench.tick(side), bench.unit // 3
        bench.hit(side, part)
        await bench.until(order_id, S.PARTIALLY_FILLED)
        assert bench.order(order_id).filled_lots == part
        bench.hit(side, bench.unit - part)
        await bench.until(order_id, S.FILLED)
        told = bench.fills(order_id)
        assert [(fill.lots, fill.tick, fill.maker) for fill in told] == [
            (part, tick, True),
            (bench.unit - part, tick, True),
        ]
        booked = [trade for trade in bench.account.trades if trade.side is side]
        for fill, trade in zip(told, booked, strict=True):
            assert fill.trade_id == str(trade.trade_id)
            assert (fill.fee, fill.fee_currency) == card_fee(bench, side, tick, fill.lots)
            assert (fill.fee, fill.fee_currency) == (trade.commission, trade.asset)
    assert bench.position == 0


@card(7, "fill during a cancel", "what trades between a cancel and its answer counts, once")
async def fill_during_a_cancel(bench: Bench) -> None:
    part = bench.unit // 3
    ends = {part: S.CANCELLED, bench.unit: S.FILLED}
    for lots, end in ends.items():
        order_id = await bench.rest()
        bench.faults.delay_request(CANCELS, 100)
        bench.cancel(order_id)
        await eventually(lambda: not bench.faults.active())
        bench.hit(Side.BUY, lots)
        await bench.until(order_id, end)
        await bench.quiet()
        assert bench.order(order_id).state is end
        assert [fill.lots for fill in bench.fills(order_id)] == [lots]
    assert bench.position == part + bench.unit
    assert bench.open() == []


@card(8, "amend", "an amended order has the new terms, and the place in the queue that is declared")
async def amends(bench: Bench) -> None:
    order_id = await bench.rest()
    tick = bench.tick(Side.BUY)
    bench.join(Side.BUY, tick, bench.unit)
    assert bench.line(Side.BUY, tick) == [order_id, ""]
    lots = bench.unit * 2 // 3
    bench.amend(order_id, lots=lots)
    await bench.until(order_id, S.LIVE)
    own = bench.own(order_id)
    assert own is not None
    assert (own.tick, own.lots) == (tick, lots) == (
        bench.order(order_id).tick, bench.order(order_id).lots
    )  # fmt: skip
    if bench.codec.capabilities.amend == "reduce":
        assert bench.line(Side.BUY, tick) == [order_id, ""]
        return
    assert bench.codec.capabilities.amend == "requeue"
    assert bench.line(Side.BUY, tick) == ["", order_id]
    bench.amend(order_id, tick=bench.tick(Side.BUY, 3), lots=bench.unit)
    await bench.until(order_id, S.LIVE)
    assert bench.order(order_id).tick == bench.tick(Side.BUY, 3)
    assert bench.line(Side.BUY, bench.tick(Side.BUY, 3)) == ["", order_id]
    assert bench.line(Side.BUY, tick) == [""]
    bench.hit(Side.BUY, bench.unit)  # of the stranger, who is first now
    assert bench.open() == [order_id]


@card(9, "amend refused", "an amend that a filter refuses leaves the order as it was, in its place")
async def amend_refused(bench: Bench) -> None:
    order_id = await bench.rest()
    bench.join(Side.BUY, bench.tick(Side.BUY), bench.unit)
    bench.amend(order_id, lots=1)  # below the least notional
    await bench.until(order_id, S.LIVE)
    (told,) = bench.told(AmendRejected, order_id)
    assert told.reason == "filter"
    own = bench.own(order_id)
    assert own is not None
    assert own.lots == bench.order(order_id).lots == bench.unit
    assert bench.line(Side.BUY, own.tick) == [order_id, ""]


@card(
    10, "amend that crosses",
    "an amend that would take ends the order: it is cancelled, nothing trades, nobody is alarmed",
    {"binance-spot": "an amend there only takes quantity away and cannot move a price"},
)  # fmt: skip
async def amend_that_crosses(bench: Bench) -> None:
    order_id = await bench.rest()
    bench.amend(order_id, tick=bench.tick(Side.BUY, -2))
    await bench.until(order_id, S.CANCELLED, S.EXPIRED)
    await bench.quiet()
    assert bench.open() == []
    assert not bench.account.trades
    assert bench.unasked == []


@card(11, "amend to what has traded", "too late an amend ends the order or is refused, never both")
async def amend_to_what_has_traded(bench: Bench) -> None:
    order_id = await bench.rest()
    wanted = bench.unit // 3
    bench.faults.delay_request(AMENDS, 100)
    bench.amend(order_id, lots=wanted)
    await eventually(lambda: not bench.faults.active())
    bench.hit(Side.BUY, wanted + 1)
    await bench.until(order_id, S.PARTIALLY_FILLED, S.CANCELLED, S.EXPIRED)
    await bench.quiet()
    order, own = bench.order(order_id), bench.own(order_id)
    assert own is not None
    assert own.filled == order.filled_lots == bench.position == wanted + 1
    if bench.codec.capabilities.amend == "requeue":
        assert own.status is Status.CANCELED
        assert not order.working
    else:
        assert own.status is Status.PARTIALLY_FILLED
        assert (order.state, order.lots) == (S.PARTIALLY_FILLED, bench.unit)


@card(12, "several at once", "each of several placements has its own outcome, in few calls")
async def several_at_once(bench: Bench) -> None:
    behind = [2, 3, -1, 4, 5, 6]  # the third would take
    places = [
        Place(bench.new_id(), Side.SELL, bench.tick(Side.SELL, n), bench.unit, 0) for n in behind
    ]
    before = len(bench.calls)
    bench.perform(*places)
    for place, n in zip(places, behind, strict=True):
        await bench.until(place.order_id, S.LIVE if n > 0 else S.REJECTED)
    (told,) = bench.told(OrderRejected, places[2].order_id)
    assert told.reason == "post_only"
    most = bench.codec.capabilities.batch_max
    assert len(bench.calls) - before == -(-len(places) // most)
    assert sorted(bench.open()) == sorted(p.order_id for p in places if p is not places[2])


@card(13, "client id used twice", "the second order is refused, and not as proof that none lives")
async def client_id_used_twice(bench: Bench) -> None:
    order_id = await bench.rest()
    again = bench.codec.place(Place(order_id, Side.BUY, bench.tick(Side.BUY, 2), bench.unit, 0))
    refusal = await bench.refused(again)
    assert (refusal.verdict, refusal.reason) == (Verdict.UNKNOWN, "duplicate")
    assert bench.open() == [order_id]
    assert bench.line(Side.BUY, bench.tick(Side.BUY)) == [order_id]


@card(14, "filters", "lot, tick, least notional and price band are refused as filters, and proved")
async def filters(bench: Bench) -> None:
    far = bench.middle * 11 // 10 if not bench.spot else bench.middle // 10
    wrong = {
        "least notional": Place(bench.new_id(), Side.BUY, bench.tick(Side.BUY), 1, 0),
        "price band": Place(bench.new_id(), Side.BUY, far, bench.unit, 0),
    }
    for why, place in wrong.items():
        bench.perform(place)
        await bench.until(place.order_id, S.REJECTED)
        (told,) = bench.told(OrderRejected, place.order_id)
        assert told.reason == "filter", why
    # What our numbers cannot say: a tenth of a lot, a tenth of a tick.
    for name in ("lot", "tick"):
        finer = replace(bench.instrument, **{name: getattr(bench.instrument, name) / 10})
        tick, lots = bench.tick(Side.BUY, 1), bench.unit
        tick, lots = (tick * 10 + 1, lots) if name == "tick" else (tick, lots * 10 + 1)
        place = Place(bench.new_id(), Side.BUY, tick, lots, 0)
        refusal = await bench.refused(order_codec(finer, PREFIX).place(place))
        assert (refusal.verdict, refusal.reason) == (Verdict.REJECTED, "filter"), name
    assert bench.account.orders() == []


@card(15, "balance", "an order that the account cannot pay for is refused as balance")
async def balance(bench: Bench) -> None:
    for side in Side:
        order_id = bench.send(side, lots=bench.unit * 100_000)
        await bench.until(order_id, S.REJECTED)
        (told,) = bench.told(OrderRejected, order_id)
        assert told.reason == "balance"
    assert bench.account.orders() == []


@card(16, "own and foreign", "all open orders are listed; ours are cancelled, foreign ones stay")
async def own_and_foreign(bench: Bench) -> None:
    bench.by_hand("web_by-hand", Side.BUY, 3)
    mine = [await bench.rest(side, behind=4) for side in Side]
    earlier = bench.by_hand("mmabcdef-7", Side.SELL, 3)
    listed = await bench.statements.open_orders()
    assert {one.order_id for one in listed} == {*mine, "web_by-hand", earlier.client_id}
    for one in listed:
        if is_own(one.order_id):
            bench.gateway.cancel_stray(one.order_id)
    await eventually(lambda: bench.open() == ["web_by-hand"])
    for order_id in mine:
        await bench.until(order_id, S.CANCELLED)


@card(20, "too late", "a placement that arrives behind its validity is refused and proved absent")
async def too_late(bench: Bench) -> None:
    window_s = bench.codec.capabilities.recv_window_ms / 1_000
    # The first is told so; of the second the answer is lost, and the venue has to be asked.
    for lost in (False, True):
        bench.faults.delay_request(PLACEMENTS, window_s * 1_000 + 200)
        if lost:
            bench.faults.lose_reply(PLACEMENTS)
        order_id = bench.send()
        await eventually(lambda n=1 + lost: bench.faults.met("delay_request") == n)
        bench.time.skip(window_s + 0.5)
        if lost:
            await bench.until(order_id, S.UNKNOWN)
            assert bench.told(OutcomeLost, order_id)
            assert bench.table.blocked(Side.BUY)
            bench.time.skip(1.0)  # as far as the venue's reads may lag
        await bench.until(order_id, S.REJECTED)
        (told,) = bench.told(OrderRejected, order_id)
        assert told.reason == ("absent" if lost else "clock")
        assert bench.own(order_id) is None
    assert [name for name in bench.calls if "Post" in name and "Order" in name] == [
        bench.codec.place(Place("mm000000-1", Side.BUY, 1, 1, 0)).method
    ] * 2


@card(24, "self-trade prevention", "every order carries it; of two of ours the resting one goes")
async def self_trade(bench: Bench) -> None:
    places = [
        Place(bench.new_id(), Side.BUY, bench.tick(Side.BUY, n), bench.unit, 0) for n in range(3)
    ]
    bench.perform(*places)
    for place in places:
        await bench.until(place.order_id, S.LIVE)
    bench.amend(places[0].order_id, lots=bench.unit * 2 // 3)
    await bench.until(places[0].order_id, S.LIVE)
    for order in bench.account.open_orders():
        assert order.wanted.self_trade is SelfTrade.EXPIRE_MAKER
    by_hand = bench.by_hand("web_by-hand", Side.SELL, 0)  # takes, and meets ours first
    await bench.until(places[0].order_id, S.EXPIRED)
    assert bench.told(OrderExpired, places[0].order_id)
    assert not bench.account.trades
    assert bench.told(Filled, places[0].order_id) == []
    assert by_hand.client_id in bench.open()
