"""Order entry in virtual time: every answer, no answer, and the venue's word in the end."""

import asyncio
from contextlib import nullcontext
from itertools import permutations
from typing import Any

from bot.core.orders import OrderState, OrderTable
from bot.domain.decisions import Amend, Cancel, Place
from bot.domain.events import Obstructed, OrderRejected, OutcomeLost
from bot.domain.units import NS_PER_MS, Side
from bot.shell.gateway import STALE_NS, Gateway
from bot.shell.inbox import Inbox
from bot.shell.outbox import Outbox, Tasks
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, Refusal, Verdict
from tests.shell.fakevenue import ABSENT, BUSY, INSTRUMENT, LOST, POST_ONLY, FakeVenue
from tests.shell.virtual import VirtualClock, virtually

S = OrderState
PREFIX = "mm0a1b2c"


class Roomy:
    """A budget that lets everything go."""

    def __init__(self) -> None:
        self.waits: dict[int, int] = {}
        self.spent_calls = 0

    def wait_ns(self, priority: int, weight: int, orders: int, now: int) -> int:
        return self.waits.get(priority, 0)

    def spent(self, weight: int, orders: int, now: int) -> None:
        self.spent_calls += 1


class Scene:
    """A gateway, a table that learns what it says, and a fake venue."""

    def __init__(self, *, exclusive: bool = False) -> None:
        self.clock = VirtualClock()
        self.inbox = Inbox(self.clock, frames_max=10, bytes_max=10)
        self.table = OrderTable()
        self.venue = FakeVenue()
        self.broken: list[Exception] = []
        self.log: list[str] = []
        self.events: list[Any] = []
        self.unheard: list[str] = []
        self.unasked: list[str] = []
        self.silences: list[tuple[int, bool]] = []
        self.clock_wrong = 0
        self.budget: Any = Roomy()
        self.tasks = Tasks(self.broken.append)
        self.gateway = Gateway(
            self.venue,
            order_codec(INSTRUMENT, PREFIX),
            self.table,
            self.inbox,
            self.clock,
            Outbox(self.budget, self.clock, self.tasks),
            self.tasks,
            unheard=self.unheard.append,
            unasked=self.unasked.append,
            clock_wrong=self._wrong,
            silence=lambda until, banned: self.silences.append((until, banned)),
            exclusive=exclusive,
            throttle=nullcontext(),  # asyncio-throttle reads the machine's clock
        )
        self.venue.hear = self.gateway.heard
        self._n = 0
        self._jobs = [asyncio.create_task(self._learn()), asyncio.create_task(self.gateway.run())]

    def _wrong(self) -> None:
        self.clock_wrong += 1

    async def _learn(self) -> None:
        while True:
            await self.inbox.wait(None)
            for event in self.inbox.drain(1_000):
                self.events.append(event)
                self.log.append(type(event).__name__)
                if hasattr(event, "order_id") and not isinstance(event, Obstructed):
                    self.table.apply(event)  # type: ignore[arg-type]

    def place(self, side: Side = Side.BUY, tick: int = 600_000, lots: int = 10) -> str:
        """Decide one order, as an engine does."""
        return self.place_all([(side, tick, lots)])[0]

    def place_all(self, wanted: list[tuple[Side, int, int]]) -> list[str]:
        places = []
        for side, tick, lots in wanted:
            self._n += 1
            place = Place(f"{PREFIX}-{self._n}", side, tick, lots, 0)
            self.table.placed(place, self.clock.now())
            places.append(place)
        self.gateway.perform(self.clock.now(), places)
        return [place.order_id for place in places]

    def cancel(self, order_id: str) -> None:
        self.table.cancel_sent(order_id, self.clock.now())
        self.gateway.perform(self.clock.now(), [Cancel(order_id)])

    def amend(self, order_id: str, tick: int, lots: int) -> None:
        order = self.table.find(order_id)
        amend = Amend(order_id, order.side, tick, lots, 0)
        self.table.amend_sent(amend, self.clock.now())
        self.gateway.perform(self.clock.now(), [amend])

    def state(self, order_id: str) -> OrderState:
        return self.table.find(order_id).state

    async def close(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.wait(self._jobs)
        await self.tasks.close()
        assert self.broken == []


# --- what the venue answers -----------------------------------------------------------------


@virtually
async def test_an_accepted_order_is_live() -> None:
    scene = Scene()
    order_id = scene.place()
    assert scene.state(order_id) is S.PENDING_NEW
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.LIVE
    assert scene.venue.open() == [order_id]
    assert scene.gateway.in_flight == 0
    await scene.close()


@virtually
async def test_a_refused_order_is_rejected_with_its_reason() -> None:
    scene = Scene()
    scene.venue.before["place"] = [POST_ONLY]
    order_id = scene.place()
    await asyncio.sleep(5.0)
    assert scene.state(order_id) is S.REJECTED
    assert scene.events == [OrderRejected(scene.events[0].at, order_id, "post_only")]
    assert scene.venue.calls == ["place"]  # nobody asked again, nothing was sent again
    await scene.close()


@virtually
async def test_an_order_refused_in_the_body_is_rejected() -> None:
    scene = Scene()
    scene.venue.silent = True
    order_id = scene.place()
    await asyncio.sleep(0)
    scene.venue.garbage["place"] = [
        {
            "symbol": "BTCUSDT", "orderId": 1, "clientOrderId": order_id, "side": "BUY",
            "price": "60000.0", "origQty": "0.010", "executedQty": "0", "status": "REJECTED",
            "updateTime": 1, "timeInForce": "GTX", "type": "LIMIT",
        }
    ]  # fmt: skip
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.REJECTED
    await scene.close()


@virtually
async def test_only_full_batches_go_in_one_call() -> None:
    scene = Scene()
    ids = scene.place_all([(Side.BUY, 600_000 - i, 10) for i in range(7)])
    await asyncio.sleep(0.1)
    assert sorted(scene.venue.calls) == ["batch", "place", "place"]
    assert [scene.state(order_id) for order_id in ids] == [S.LIVE] * 7
    await scene.close()


@virtually
async def test_one_of_a_batch_may_be_refused() -> None:
    scene = Scene()
    scene.venue.silent = True
    ids = scene.place_all([(Side.BUY, 600_000 + i, 10) for i in range(5)])
    await asyncio.sleep(0)
    await asyncio.sleep(0.007)
    body = {"code": -5022, "msg": "Due to the order could not be executed as maker."}
    taken = [dict(scene.venue.orders[order_id]) for order_id in ids[:4]]
    scene.venue.orders[ids[4]]["status"] = "NEVER"
    scene.venue.garbage["batch"] = [[*taken, body]]
    await asyncio.sleep(0.1)
    assert [scene.state(order_id) for order_id in ids] == [S.LIVE] * 4 + [S.REJECTED]
    assert any(getattr(one, "reason", "").startswith("post_only") for one in scene.events)
    await scene.close()


# --- nobody answers -------------------------------------------------------------------------


@virtually
async def test_a_lost_reply_is_unknown_until_the_stream_or_the_venue_says() -> None:
    scene = Scene()
    scene.venue.silent = True
    scene.venue.after["place"] = [LOST]
    order_id = scene.place()
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.UNKNOWN
    assert scene.table.blocked(Side.BUY)
    await asyncio.sleep(1.0)
    assert scene.state(order_id) is S.LIVE
    assert scene.venue.calls.count("place") == 1
    await scene.close()


@virtually
async def test_the_stream_may_say_it_before_the_timeout() -> None:
    scene = Scene()
    scene.venue.after["place"] = [LOST]
    order_id = scene.place()
    await asyncio.sleep(0.1)
    assert scene.log == ["OrderOpened", "OutcomeLost"]
    assert scene.state(order_id) is S.LIVE
    await asyncio.sleep(5.0)
    assert scene.venue.calls.count("place") == 1
    await scene.close()


@virtually
async def test_an_order_that_never_arrived_is_rejected_behind_its_validity() -> None:
    scene = Scene()
    scene.venue.before["place"] = [LOST]
    order_id = scene.place()
    await asyncio.sleep(2.9)
    assert scene.state(order_id) is S.UNKNOWN  # it may still arrive, or not be listed yet
    await asyncio.sleep(12.0)
    assert scene.state(order_id) is S.REJECTED
    assert scene.events[-1].reason == "absent"
    assert scene.venue.calls.count("place") == 1
    await scene.close()


@virtually
async def test_silence_and_errors_never_settle_an_order() -> None:
    scene = Scene()
    scene.venue.silent = True
    scene.venue.after["place"] = [LOST]
    scene.venue.before["order"] = [LOST] * 40
    order_id = scene.place()
    await asyncio.sleep(100.0)
    assert scene.state(order_id) is S.UNKNOWN
    await asyncio.sleep(120.0)
    assert scene.state(order_id) is S.LIVE
    await scene.close()


@virtually
async def test_an_unreadable_answer_is_no_answer() -> None:
    for body in ("", "<html>", None, [], {"status": "NEW"}, [{"code": 1}], 7):
        scene = Scene()
        scene.venue.silent = True
        scene.venue.garbage["place"] = [body]
        order_id = scene.place()
        await asyncio.sleep(0.1)
        assert scene.state(order_id) is S.UNKNOWN, body
        await asyncio.sleep(1.0)
        assert scene.state(order_id) is S.LIVE
        await scene.close()


@virtually
async def test_fills_behind_a_lost_reply_are_pulled_once() -> None:
    scene = Scene()
    scene.venue.silent = True
    scene.venue.after["place"] = [LOST]
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.fill(order_id, "0.004", told=False)
    await asyncio.sleep(1.0)
    assert scene.state(order_id) is S.PARTIALLY_FILLED
    assert scene.table.find(order_id).filled_lots == 4
    scene.venue.silent = False
    scene.venue.fill(order_id, "0.006")
    await asyncio.sleep(1.0)
    assert scene.state(order_id) is S.FILLED
    await scene.close()


# --- cancels --------------------------------------------------------------------------------


@virtually
async def test_a_cancel_before_the_placement_left_withdraws_it() -> None:
    scene = Scene()
    order_id = scene.place()
    scene.cancel(order_id)
    await asyncio.sleep(1.0)
    assert scene.venue.calls == []
    assert scene.state(order_id) is S.REJECTED
    await scene.close()


@virtually
async def test_a_cancel_that_overtakes_its_placement_is_sent_again() -> None:
    scene = Scene()
    scene.venue.hold["place"] = asyncio.Event()
    order_id = scene.place()
    await asyncio.sleep(0.02)
    scene.cancel(order_id)
    await asyncio.sleep(0.5)
    assert scene.state(order_id) is S.PENDING_CANCEL  # the venue knew no such order, yet
    scene.venue.hold["place"].set()
    await asyncio.sleep(0.5)
    assert scene.state(order_id) is S.CANCELLED
    assert scene.venue.open() == []
    assert scene.venue.calls.count("cancel") == 2
    await scene.close()


@virtually
async def test_a_cancel_without_effect_is_repeated() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.before["cancel"] = [BUSY, BUSY]
    scene.cancel(order_id)
    await asyncio.sleep(5.0)
    assert scene.state(order_id) is S.CANCELLED
    assert [banned for _, banned in scene.silences] == [False, False]
    await scene.close()


@virtually
async def test_a_cancel_whose_reply_is_lost_stays_exposure() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.silent = True
    scene.venue.after["cancel"] = [LOST]
    scene.cancel(order_id)
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.UNKNOWN
    assert scene.table.exposure_lots(Side.BUY) == 10
    await asyncio.sleep(1.0)
    assert scene.state(order_id) is S.CANCELLED
    await scene.close()


@virtually
async def test_a_cancel_that_meets_a_full_fill_ends_filled() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.fill(order_id, "0.010", told=False)
    scene.cancel(order_id)
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.UNKNOWN  # refused: it ended some other way
    await asyncio.sleep(1.0)
    assert scene.state(order_id) is S.FILLED
    await scene.close()


@virtually
async def test_a_cancel_that_tells_of_an_unknown_fill_has_it_pulled() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.fill(order_id, "0.003", told=False)
    scene.cancel(order_id)
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.CANCELLED
    assert scene.table.exposure_lots(Side.BUY) == 3  # owed: traded, and not yet told
    await asyncio.sleep(2.0)
    assert scene.table.find(order_id).filled_lots == 3
    assert scene.table.exposure_lots(Side.BUY) == 0
    await scene.close()


# --- amends ---------------------------------------------------------------------------------


@virtually
async def test_an_amend_moves_the_order() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.amend(order_id, 600_005, 12)
    assert scene.state(order_id) is S.PENDING_AMEND
    await asyncio.sleep(0.1)
    order = scene.table.find(order_id)
    assert (order.state, order.tick, order.lots) == (S.LIVE, 600_005, 12)
    await scene.close()


@virtually
async def test_a_refused_amend_leaves_the_order() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.before["amend"] = [Refusal(Verdict.REJECTED, "filter")]
    scene.amend(order_id, 600_005, 12)
    await asyncio.sleep(0.1)
    order = scene.table.find(order_id)
    assert (order.state, order.tick, order.lots) == (S.LIVE, 600_000, 10)
    await scene.close()


@virtually
async def test_an_amend_that_would_cross_loses_the_order() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.hold["amend"] = asyncio.Event()
    scene.amend(order_id, 600_005, 12)
    await asyncio.sleep(0.02)
    scene.venue.end(order_id, "EXPIRED")
    scene.venue.hold["amend"].set()
    await asyncio.sleep(2.0)
    assert scene.state(order_id) is S.EXPIRED
    await scene.close()


@virtually
async def test_an_amend_without_an_answer_counts_as_the_worse_of_both() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.silent = True
    scene.venue.after["amend"] = [LOST]
    scene.amend(order_id, 600_005, 12)
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.UNKNOWN
    assert scene.table.exposure_lots(Side.BUY) == 12
    await asyncio.sleep(1.0)
    order = scene.table.find(order_id)
    assert (order.state, order.tick, order.lots) == (S.LIVE, 600_005, 12)
    await scene.close()


@virtually
async def test_an_amend_that_never_arrived_is_given_up_once_it_is_no_longer_valid() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.before["amend"] = [LOST]
    scene.amend(order_id, 600_005, 12)
    window_s = order_codec(INSTRUMENT, PREFIX).capabilities.recv_window_ms / 1e3
    await asyncio.sleep(window_s)
    assert scene.state(order_id) is S.UNKNOWN  # it may be on its way
    assert scene.table.exposure_lots(Side.BUY) == 12
    await asyncio.sleep(8.0)
    order = scene.table.find(order_id)
    assert (order.state, order.tick, order.lots, order.amending) == (S.LIVE, 600_000, 10, False)
    await scene.close()


# --- the gate -------------------------------------------------------------------------------


@virtually
async def test_nothing_decided_before_a_trip_leaves_behind_it() -> None:
    scene = Scene()
    order_id = scene.place()
    scene.gateway.tripped()
    await asyncio.sleep(1.0)
    assert scene.venue.calls == []
    assert scene.state(order_id) is S.REJECTED
    after = scene.place()
    await asyncio.sleep(0.1)
    assert scene.state(after) is S.LIVE
    await scene.close()


@virtually
async def test_a_trip_on_an_exclusive_account_cancels_all_in_one_call() -> None:
    for exclusive in (True, False):
        scene = Scene(exclusive=exclusive)
        ids = scene.place_all([(Side.BUY, 600_000 - i, 10) for i in range(4)])
        await asyncio.sleep(0.1)
        scene.gateway.tripped()
        for order_id in ids:
            scene.cancel(order_id)
        await asyncio.sleep(1.0)
        assert [scene.state(order_id) for order_id in ids] == [S.CANCELLED] * 4
        assert scene.venue.calls.count("cancel_all") == exclusive
        assert scene.venue.calls.count("cancel") == 4
        assert scene.unasked == []
        await scene.close()


@virtually
async def test_a_shut_gateway_lets_cancels_through() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.gateway.shut()
    late = scene.place()
    scene.cancel(order_id)
    await asyncio.sleep(0.1)
    assert scene.state(late) is S.REJECTED
    assert scene.state(order_id) is S.CANCELLED
    await scene.close()


@virtually
async def test_a_quote_that_waited_too_long_is_not_sent() -> None:
    scene = Scene()
    scene.budget.waits[2] = 2 * STALE_NS
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.budget.waits.clear()
    await asyncio.sleep(3.0)
    assert scene.venue.calls == []
    assert scene.state(order_id) is S.REJECTED
    await scene.close()


@virtually
async def test_cancels_pass_placements_that_wait_for_their_budget() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.budget.waits[2] = 200 * NS_PER_MS
    waiting = scene.place()
    scene.cancel(order_id)
    await asyncio.sleep(0.05)
    assert scene.state(order_id) is S.CANCELLED
    assert scene.state(waiting) is S.PENDING_NEW
    scene.budget.waits.clear()
    await asyncio.sleep(0.5)
    assert scene.state(waiting) is S.LIVE
    await scene.close()


# --- doubts, strays, a mute stream ------------------------------------------------------------


@virtually
async def test_a_doubted_order_is_asked_about() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.silent = True
    scene.venue.end(order_id, "CANCELED")
    scene.gateway.doubt(order_id)
    await asyncio.sleep(1.0)
    assert scene.state(order_id) is S.CANCELLED
    await scene.close()


@virtually
async def test_an_order_that_rested_and_is_denied_stays_unknown() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.before["order"] = [ABSENT] * 50
    scene.gateway.doubt(order_id)
    await asyncio.sleep(60.0)
    assert scene.state(order_id) is S.UNKNOWN
    await scene.close()


@virtually
async def test_a_mute_stream_is_noticed_once() -> None:
    scene = Scene()
    scene.venue.silent = True
    order_id = scene.place()
    await asyncio.sleep(1.9)
    assert scene.unheard == []
    await asyncio.sleep(2.0)
    assert scene.unheard == [order_id]
    await scene.close()


@virtually
async def test_orders_that_end_unasked_are_reported() -> None:
    scene = Scene()
    order_id = scene.place()
    await asyncio.sleep(0.1)
    scene.venue.end(order_id, "CANCELED")
    await asyncio.sleep(0.1)
    assert scene.unasked == [order_id]
    assert scene.state(order_id) is S.CANCELLED
    await scene.close()


@virtually
async def test_a_stray_is_cancelled_without_the_table() -> None:
    scene = Scene()
    call = Call(
        "fapiPrivatePostOrder",
        {
            "symbol": "BTCUSDT", "side": "BUY", "price": "60000.0", "quantity": "0.010",
            "newClientOrderId": "mmffffff-1",
        },
        2,  # type: ignore[arg-type]
    )  # fmt: skip
    hear, scene.venue.hear = scene.venue.hear, lambda message: None
    await scene.venue.call(call)
    scene.gateway.cancel_stray("mmffffff-1")
    await asyncio.sleep(0.1)
    assert scene.venue.open() == []
    scene.venue.hear = hear
    await scene.close()


# --- errors with consequences -----------------------------------------------------------------


@virtually
async def test_a_ban_silences_and_obstructs_until_it_ends() -> None:
    scene = Scene()
    ban = Refusal(Verdict.REJECTED, "banned", limited_s=30.0, banned=True)
    scene.venue.before["place"] = [ban]
    order_id = scene.place()
    await asyncio.sleep(0.1)
    assert scene.state(order_id) is S.REJECTED
    assert scene.silences[0][1]
    assert "Obstructed" in scene.log
    assert "Cleared" not in scene.log
    await asyncio.sleep(31.0)
    assert scene.log[-1] == "Cleared"
    await scene.close()


@virtually
async def test_a_refused_key_obstructs_for_good() -> None:
    scene = Scene()
    scene.venue.before["place"] = [Refusal(Verdict.REJECTED, "key", auth=True)]
    scene.place()
    await asyncio.sleep(1_000.0)
    assert "Obstructed" in scene.log
    assert "Cleared" not in scene.log
    await scene.close()


@virtually
async def test_a_refused_clock_is_told() -> None:
    scene = Scene()
    scene.venue.before["place"] = [Refusal(Verdict.REJECTED, "clock", clock=True)]
    scene.place()
    await asyncio.sleep(0.1)
    assert scene.clock_wrong == 1
    await scene.close()


# --- every order of what is told --------------------------------------------------------------


@virtually
async def test_ack_fill_cancel_and_reply_in_every_order_end_the_same() -> None:
    """The venue's stream and the two replies, 24 orders: one end, one position."""
    ends = []
    for order in permutations(("ack", "fill", "cancelled", "reply")):
        scene = Scene()
        scene.venue.silent = True
        heard: list[Any] = []
        scene.venue.hear = heard.append
        scene.venue.silent = False
        scene.venue.hold["place"] = asyncio.Event()
        order_id = scene.place()
        await asyncio.sleep(0.02)
        scene.venue._place(
            {
                "symbol": "BTCUSDT", "side": "BUY", "price": "60000.0", "quantity": "0.010",
                "newClientOrderId": order_id,
            }
        )  # fmt: skip
        body = dict(scene.venue.orders[order_id])
        scene.venue.fill(order_id, "0.004")
        scene.venue.end(order_id, "CANCELED")
        messages = dict(zip(("ack", "fill", "cancelled"), heard, strict=True))
        scene.table.cancel_sent(order_id, scene.clock.now())
        scene.venue.before["place"] = [LOST]
        for what in order:
            if what == "reply":
                scene.gateway._placed(scene.gateway._entries.get(order_id), read(body))  # type: ignore[arg-type]
            else:
                scene.gateway.heard(messages[what])
            await asyncio.sleep(0.001)
        scene.venue.hold["place"].set()
        await asyncio.sleep(5.0)
        one = scene.table.find(order_id)
        ends.append((one.state, one.filled_lots, scene.table.exposure_lots(Side.BUY)))
        await scene.close()
    assert set(ends) == {(S.CANCELLED, 4, 0)}
    assert len(ends) == 24


def read(body: dict[str, Any]) -> Any:
    """A placement's body, as the codec reads it."""
    return order_codec(INSTRUMENT, PREFIX).read_placed(body)[0]


@virtually
async def test_outcomes_are_lost_without_a_second_order() -> None:
    scene = Scene()
    scene.venue.silent = True
    scene.venue.after["place"] = [LOST, LOST, LOST]
    for _ in range(3):
        scene.place()
    await asyncio.sleep(2.0)
    assert sum(isinstance(one, OutcomeLost) for one in scene.events) == 3
    assert len(scene.venue.open()) == 3
    assert scene.venue.calls.count("place") == 3
    await scene.close()
