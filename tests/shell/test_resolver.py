"""Asking what became of an order, in virtual time: only the venue's word settles it (RISK 5)."""

import asyncio
from itertools import accumulate, islice
from typing import Any

import pytest

from bot.core.orders import OrderState, OrderTable
from bot.domain.decisions import Amend, Place
from bot.domain.events import (
    Amended,
    CancelRejected,
    Filled,
    OrderCancelled,
    OrderExpired,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
)
from bot.domain.units import NS_PER_S, Side
from bot.shell.entries import Entry
from bot.shell.resolver import LAG_NS, Resolver, delays, settled
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, OrderReport, Status
from tests.shell.fakevenue import ABSENT, INSTRUMENT, LOST, FakeVenue, kind
from tests.shell.virtual import VirtualClock, seconds, virtually

S = OrderState
ID = "mm0a1b2c-1"
TICK, LOTS = 600_000, 10
PRICE, QUANTITY = "60000.0", "0.010"
CODEC = order_codec(INSTRUMENT, "mm0a1b2c")
SAFE_S = CODEC.capabilities.recv_window_ms / 1e3 + LAG_NS / NS_PER_S


class Scene:
    """One order that was sent and never answered for, its venue, and who asks about it."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.venue = FakeVenue()
        self.table = OrderTable()
        self.events: list[Any] = []
        self.asked: list[tuple[str, float]] = []  # what, and when
        self.resolver = Resolver(self.ask, CODEC, self.table, self.clock, self.put)
        now = self.clock.now()
        self.entry = Entry(ID, now, 0)
        self.entry.sent_at = now
        self.entry.asking = True  # as whoever starts the resolver has noted
        self.table.placed(Place(ID, Side.BUY, TICK, LOTS, 0), now)
        self.table.apply(OutcomeLost(now, ID))

    async def ask(self, call: Call) -> Any:
        self.asked.append((kind(call), seconds()))
        return await self.venue.call(call)

    def put(self, event: Any) -> None:
        self.events.append(event)
        if self.table.knows(ID):
            self.table.apply(event)

    def arrived(self) -> "Scene":
        """The order had reached the venue."""
        self.venue._place(
            {
                "symbol": "BTCUSDT",
                "newClientOrderId": ID,
                "side": "BUY",
                "price": PRICE,
                "quantity": QUANTITY,
            }
        )
        return self

    async def resolve(self, *, insist: bool = False, soon: bool = False) -> None:
        await self.resolver.resolve(self.entry, insist=insist, soon=soon)
        assert not self.entry.asking

    @property
    def state(self) -> OrderState:
        return self.table.find(ID).state

    def times(self, what: str = "order") -> list[float]:
        """When it was asked, in seconds."""
        return [at for name, at in self.asked if name == what]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


# --- when ------------------------------------------------------------------------------------


def test_questions_come_fast_at_first_then_every_four_seconds_without_end() -> None:
    assert list(islice(delays(soon=False), 7)) == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert list(islice(delays(soon=True), 3)) == [0.05, 0.25, 0.5]


@virtually
async def test_errors_and_garbage_count_for_nothing() -> None:
    scene = Scene().arrived()
    scene.venue.before["order"] = [LOST] * 8
    scene.venue.garbage["order"] = [{"code": "nonsense"}, []]
    await scene.resolve()
    planned = list(islice(accumulate(delays(soon=False)), 11))
    assert scene.times() == pytest.approx(planned, abs=0.1)  # an answer takes 10 ms
    assert scene.kinds() == ["OrderOpened"]
    assert scene.state is S.LIVE


# --- absent ----------------------------------------------------------------------------------


@virtually
async def test_absence_counts_twice_and_only_behind_validity_and_lag() -> None:
    scene = Scene()
    await scene.resolve()
    early = [at for at in scene.times() if at <= SAFE_S]
    late = [at for at in scene.times() if at > SAFE_S]
    assert (len(early), len(late)) == (3, 2)
    assert scene.events == [OrderRejected(scene.clock.now(), ID, "absent")]
    assert scene.state is S.REJECTED


@virtually
async def test_an_order_that_arrives_late_is_found_between_two_absences() -> None:
    scene = Scene()
    asyncio.get_running_loop().call_later(SAFE_S + 2.0, scene.arrived)
    await scene.resolve()
    assert scene.kinds() == ["OrderOpened"]
    assert scene.state is S.LIVE
    assert scene.venue.open() == [ID]


@virtually
async def test_an_error_between_two_absences_adds_none() -> None:
    scene = Scene()
    scene.venue.before["order"] = [ABSENT] * 4 + [LOST] * 3 + [ABSENT]
    await scene.resolve()
    assert len(scene.times()) == 8
    assert scene.kinds() == ["OrderRejected"]


@virtually
@pytest.mark.parametrize("by", ["accepted_at", "heard_at"])
async def test_an_order_that_rested_and_is_denied_stays_unknown(by: str) -> None:
    scene = Scene()
    setattr(scene.entry, by, scene.clock.now())
    asyncio.get_running_loop().call_later(30.0, scene.arrived)  # the venue had lied
    await scene.resolve()
    assert scene.kinds() == ["CancelRejected", "OrderOpened"]  # said once, and asked on
    assert isinstance(scene.events[0], CancelRejected)
    assert seconds() > 30.0


# --- who else may say it ---------------------------------------------------------------------


@virtually
async def test_the_stream_may_settle_it_first() -> None:
    scene = Scene()
    loop = asyncio.get_running_loop()
    loop.call_later(0.5, lambda: scene.put(OrderOpened(scene.clock.now(), ID)))
    await scene.resolve()
    assert scene.times() == [0.25]  # what was asked before; then nobody had to ask any more
    assert scene.state is S.LIVE


@virtually
async def test_who_insists_asks_on_although_it_rests_as_we_believe() -> None:
    scene = Scene()
    scene.put(OrderOpened(scene.clock.now(), ID))
    scene.venue.before["order"] = [LOST, LOST]
    scene.arrived()
    scene.venue.end(ID, "CANCELED")
    await scene.resolve(insist=True)
    assert len(scene.times()) == 3
    assert scene.state is S.CANCELLED


@virtually
async def test_who_insists_ends_with_the_order() -> None:
    scene = Scene()
    scene.put(OrderOpened(scene.clock.now(), ID))
    scene.venue.before["order"] = [LOST] * 100
    loop = asyncio.get_running_loop()
    loop.call_later(10.0, lambda: scene.put(OrderCancelled(scene.clock.now(), ID)))
    await scene.resolve(insist=True)
    assert seconds() < 16.0


@virtually
async def test_soon_waits_a_moment_for_the_report_that_is_under_way() -> None:
    scene = Scene().arrived()
    loop = asyncio.get_running_loop()
    loop.call_later(0.04, lambda: scene.put(OrderCancelled(scene.clock.now(), ID)))
    await scene.resolve(soon=True)
    assert scene.asked == []

    later = Scene().arrived()
    began = seconds()
    later.venue.end(ID, "CANCELED")
    await later.resolve(soon=True)
    assert later.asked == [("order", round(began + 0.05, 3))]
    assert later.state is S.CANCELLED


@virtually
async def test_nobody_is_left_asking_when_the_task_ends() -> None:
    scene = Scene()
    scene.venue.before["order"] = [LOST] * 100
    task = asyncio.create_task(scene.resolver.resolve(scene.entry, insist=False))
    await asyncio.sleep(2.0)
    assert scene.entry.asking
    task.cancel()
    await asyncio.wait([task])
    assert not scene.entry.asking


# --- executions ------------------------------------------------------------------------------


@virtually
async def test_executions_are_told_before_the_end_that_they_led_to() -> None:
    scene = Scene().arrived()
    scene.venue.fill(ID, "0.004")
    scene.venue.fill(ID, "0.003")
    scene.venue.end(ID, "CANCELED")
    await scene.resolve()
    assert scene.kinds() == ["Filled", "Filled", "OrderCancelled"]
    first = scene.events[0]
    assert isinstance(first, Filled)
    assert (first.lots, first.tick, first.side, first.maker) == (4, TICK, Side.BUY, True)
    assert (str(first.fee), first.fee_currency) == ("0.01", "USDT")
    assert (scene.state, scene.table.find(ID).filled_lots) == (S.CANCELLED, 7)
    assert scene.table.owed() == ()


@virtually
async def test_a_full_fill_ends_it_whatever_was_known_before() -> None:
    scene = Scene().arrived()
    scene.venue.fill(ID, "0.004")
    (told,) = CODEC.read_executions(scene.venue.trades)
    scene.put(
        Filled(scene.clock.now(), ID, told.trade_id, told.side, told.tick, told.lots, told.maker)
    )
    scene.venue.fill(ID, "0.006")
    await scene.resolve(insist=True)
    assert (scene.state, scene.table.find(ID).filled_lots) == (S.FILLED, 10)


@virtually
async def test_what_cannot_be_pulled_stays_owed() -> None:
    scene = Scene().arrived()
    scene.venue.fill(ID, "0.004")
    scene.venue.before["trades"] = [LOST]
    await scene.resolve()
    assert scene.kinds() == ["OrderOpened"]
    assert scene.table.owed() == (ID,)
    assert scene.table.exposure_lots(Side.BUY) == LOTS
    await scene.resolver.pull(scene.entry)
    assert scene.kinds() == ["OrderOpened", "Filled"]
    assert scene.table.owed() == ()
    await scene.resolver.pull(scene.entry)  # told again, and ignored
    assert scene.table.find(ID).filled_lots == 4


@virtually
async def test_a_pull_asks_for_the_venues_own_id_first_where_it_is_not_known() -> None:
    scene = Scene().arrived()
    scene.venue.fill(ID, "0.010")
    await scene.resolver.pull(scene.entry)
    await scene.resolver.pull(scene.entry)
    assert [what for what, _ in scene.asked] == ["order", "trades", "trades"]
    assert scene.entry.venue_id == str(scene.venue.orders[ID]["orderId"])
    scene.venue.garbage["trades"] = [{"code": "nonsense"}]
    before = len(scene.events)
    await scene.resolver.pull(scene.entry)
    assert len(scene.events) == before


# --- an amend --------------------------------------------------------------------------------


def amending(scene: Scene, tick: int) -> None:
    """The order rests, and an amend of it was sent whose answer is lost."""
    scene.arrived()
    now = scene.clock.now()
    scene.put(OrderOpened(now, ID))
    scene.table.amend_sent(Amend(ID, Side.BUY, tick, LOTS, 0), now)
    scene.entry.decided_at = now
    scene.put(OutcomeLost(now, ID))
    scene.events.clear()


@virtually
async def test_an_order_as_before_may_yet_be_amended_while_the_amend_is_valid() -> None:
    scene = Scene()
    amending(scene, TICK - 10)
    await scene.resolve()
    assert [at > SAFE_S for at in scene.times()] == [False, False, False, True]
    assert scene.events == [Amended(scene.clock.now(), ID, TICK, LOTS)]
    order = scene.table.find(ID)
    assert (order.tick, order.amending, order.state) == (TICK, False, S.LIVE)


@virtually
async def test_an_amend_that_was_carried_out_is_told_at_once() -> None:
    scene = Scene()
    amending(scene, TICK - 10)
    scene.venue.orders[ID]["price"] = "59999.0"
    await scene.resolve()
    assert scene.times() == [0.25]
    order = scene.table.find(ID)
    assert (order.tick, order.amending, order.state) == (TICK - 10, False, S.LIVE)


@virtually
async def test_an_end_settles_an_amend_at_once() -> None:
    scene = Scene()
    amending(scene, TICK - 10)
    scene.venue.end(ID, "EXPIRED")
    await scene.resolve()
    assert scene.times() == [0.25]
    assert scene.state is S.EXPIRED


# --- what the table has forgotten ------------------------------------------------------------


@virtually
async def test_of_a_forgotten_order_only_the_executions_are_told() -> None:
    scene = Scene().arrived()
    scene.table = scene.resolver._orders = OrderTable()
    scene.venue.fill(ID, "0.010")
    await scene.resolve(insist=True)
    assert scene.kinds() == ["Filled"]

    nobody = Scene()
    nobody.table = nobody.resolver._orders = OrderTable()
    await nobody.resolve()  # absent: there is nothing to ask a second time
    assert (nobody.events, len(nobody.asked)) == ([], 1)


# --- what a report says ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "amended", "event"),
    [
        (Status.OPEN, False, OrderOpened(5, ID, 3)),
        (Status.OPEN, True, Amended(5, ID, TICK, LOTS, 3)),
        (Status.FILLED, False, OrderOpened(5, ID, 3)),
        (Status.FILLED, True, Amended(5, ID, TICK, LOTS, 3)),
        (Status.CANCELLED, True, OrderCancelled(5, ID, 3)),
        (Status.EXPIRED, False, OrderExpired(5, ID, "by the venue", 3)),
        (Status.REJECTED, False, OrderRejected(5, ID, "by the venue")),
    ],
)
def test_a_report_as_events(status: Status, amended: bool, event: Any) -> None:
    report = OrderReport(ID, "v1", status, Side.BUY, TICK, LOTS, 3)
    assert settled(report, 5, amended=amended) == [event]
