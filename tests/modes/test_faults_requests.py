"""The bot on the simulated exchange while requests and their answers go wrong (RISK 9)."""

import urllib.parse
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest

from bot.core.orders import OrderState
from bot.domain.account import Status
from bot.domain.events import (
    AmendRejected,
    Filled,
    OrderOpened,
    OrderRejected,
    OutcomeLost,
)
from bot.domain.units import NS_PER_MS, Side
from bot.venues.binance.failures import AMENDS, CANCELS, PLACEMENTS, requests
from bot.venues.binance.reply import Reply, Request
from tests.modes.trading import Scenario, Stage, outcomes, trading

NEW: Final = b'"x":"NEW"'
CANCELED: Final = b'"x":"CANCELED"'
AMENDMENT: Final = b'"x":"AMENDMENT"'
# A request without an answer is given up sooner than as configured: that only takes time.
QUICK: Final = "execution.request_timeout_ms=1000"
RESTLESS: Final = "diff.tolerance_ticks=4"  # a small move of the market moves every order
SETTLED_S: Final = 6.0  # until the venue was asked about an order, and has answered
SPOT: Final = "binance-spot"


def calm(venue: str) -> Scenario:
    """Nothing goes wrong: what the others come back to."""

    async def scenario(folder: Path) -> None:
        async with trading(folder, venue=venue) as stage:
            await stage.converge()
            for side in Side:
                stage.venue.fill(side, 5)
                await stage.until(lambda: not stage.witness.differences(), 5.0, "the fill")
            await stage.converge()
            assert len(stage.events(Filled)) == 2
            assert not stage.events(OutcomeLost)

    return scenario


# --- placements -------------------------------------------------------------------------------


async def placement(stage: Stage, side: Side = Side.BUY) -> str:
    """Make the bot place one order of a side: the id of the latest once it is on its way."""
    before = set(stage.witness.placed)
    best = stage.venue.resting(side)[0]
    stage.venue.fill(side, best.lots - best.filled)

    def new() -> list[str]:
        return [i for i in stage.witness.placed - before if stage.order(i).side is side]

    await stage.until(new, 5.0, "a placement")
    return min(new(), key=lambda order_id: stage.order(order_id).sent_at)


async def unknown(stage: Stage, order_id: str) -> None:
    """Wait until nobody can say what became of an order; its side must be blocked."""
    await stage.until(
        lambda: stage.order(order_id).state is OrderState.UNKNOWN, 5.0, f"{order_id} UNKNOWN"
    )
    side = stage.order(order_id).side
    assert stage.engine.orders.blocked(side)
    lots = sum(order.remaining_lots for order in stage.engine.orders.working(side))
    assert stage.engine.orders.exposure_lots(side) == lots


async def found(stage: Stage, order_id: str) -> None:
    """The order lives at the venue: the bot must adopt it, and place no second one."""
    side = stage.order(order_id).side
    await unknown(stage, order_id)
    n = len(stage.witness.placed)
    rested = stage.venue.order(order_id)
    assert rested is not None
    assert rested.is_open
    await stage.until(lambda: stage.events(OrderOpened, order_id), SETTLED_S, "found by its id")
    assert stage.venue.asked("GET", "/order")
    assert len(stage.witness.placed) == n  # no second order while it was unknown
    assert stage.order(order_id).side is side
    stage.venue.mute()
    await stage.converge()


async def f01_reply_lost(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.venue.mute(NEW)
        stage.faults.lose_reply(PLACEMENTS)
        await found(stage, await placement(stage))


async def f01_reply_never(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.venue.mute(NEW)
        stage.faults.lose_reply(PLACEMENTS, hang=True)
        await found(stage, await placement(stage, Side.SELL))


async def f01_reply_lost_on_spot(folder: Path) -> None:
    async with trading(folder, QUICK, venue=SPOT) as stage:
        stage.venue.mute(NEW)
        stage.faults.lose_reply(PLACEMENTS)
        await found(stage, await placement(stage))


async def f01_batch_lost(folder: Path) -> None:
    """Three levels are six orders: five in one request, and one that is not lost."""
    async with trading(folder, QUICK, "ladder.sizes_units=[1,1,1]") as stage:
        stage.obstruct()
        await stage.until(lambda: not stage.witness.believed(), 5.0, "nothing rests")
        stage.venue.mute(NEW)
        stage.faults.lose_reply(requests("POST batchOrders"))
        before = set(stage.witness.placed)
        stage.clear()
        await stage.until(lambda: len(stage.witness.placed - before) == 6, 5.0, "a batch")
        new = stage.witness.placed - before

        def lost() -> list[str]:
            return [order_id for order_id in new if stage.events(OutcomeLost, order_id)]

        await stage.until(lambda: len(lost()) == 5, 5.0, "UNKNOWN")
        for order_id in lost():
            await stage.until(partial(stage.events, OrderOpened, order_id), SETTLED_S, "found")
        assert len(stage.witness.placed - before) == 6
        stage.venue.mute()
        await stage.converge()


def f02_failed_after(answer: str) -> Scenario:
    async def scenario(folder: Path) -> None:
        async with trading(folder, QUICK) as stage:
            stage.venue.mute(NEW)
            stage.faults.fail_after(PLACEMENTS, answer)
            await found(stage, await placement(stage))

    return scenario


async def absent(stage: Stage, order_id: str) -> None:
    """The venue never took the order: that must be proved before another one is placed."""
    side = stage.order(order_id).side
    await unknown(stage, order_id)
    n = len(stage.witness.placed)
    await stage.until(lambda: stage.events(OrderRejected, order_id), 15.0, "proved absent")
    refused = stage.events(OrderRejected, order_id)[0]
    assert refused.reason == "absent"
    # Not before a request as old as the venue would still obey has become too old.
    valid_ns = stage.execution._codec.capabilities.recv_window_ms * NS_PER_MS
    assert refused.at - stage.order(order_id).sent_at >= valid_ns
    assert stage.venue.order(order_id) is None
    await stage.until(lambda: len(stage.witness.placed) > n, 5.0, "another order")
    assert stage.order(order_id).state is OrderState.REJECTED
    await stage.converge()
    assert len(stage.venue.resting(side)) == 2


async def f03_failed_before(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.faults.fail_before(PLACEMENTS, "503")
        await absent(stage, await placement(stage))


async def f03_request_lost(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.faults.lose_request(PLACEMENTS)
        await absent(stage, await placement(stage, Side.SELL))


def f04_spoilt(form: str) -> Scenario:
    async def scenario(folder: Path) -> None:
        async with trading(folder, QUICK) as stage:
            stage.venue.mute(NEW)
            stage.faults.spoil(PLACEMENTS, form)
            await found(stage, await placement(stage))

    return scenario


def asked_for(request: Request) -> dict[str, str]:
    """The parameters of a request."""
    return dict(urllib.parse.parse_qsl(request.query + "&" + request.body))


async def f05_rejected_in_a_200(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        refused: list[str] = []

        def refuse(request: Request) -> Reply | None:
            if (request.method, request.path) != ("POST", "/fapi/v1/order") or refused:
                return None
            wanted = asked_for(request)
            refused.append(wanted["newClientOrderId"])
            order = {
                "orderId": 99, "symbol": "BTCUSDT", "status": "REJECTED", "executedQty": "0",
                "clientOrderId": wanted["newClientOrderId"], "price": wanted["price"],
                "origQty": wanted["quantity"], "side": wanted["side"], "avgPrice": "0",
                "cumQuote": "0", "type": "LIMIT", "timeInForce": "GTX", "updateTime": 1,
            }  # fmt: skip
            return Reply(200, msgspec.json.encode(order))

        stage.venue.answering(refuse)
        order_id = await placement(stage)
        await stage.until(lambda: stage.events(OrderRejected, order_id), 5.0, "rejected")
        assert stage.order(order_id).state is OrderState.REJECTED
        assert not stage.events(OutcomeLost, order_id)
        await stage.converge()
        assert refused == [order_id]


async def f06_accepted_before_the_timeout(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.faults.lose_reply(PLACEMENTS, hang=True)
        order_id = await placement(stage)
        await stage.until(lambda: stage.order(order_id).state is OrderState.LIVE, 0.6, "LIVE")
        asked_at = stage.live.clock.now()
        await stage.until(lambda: stage.events(OutcomeLost, order_id), 3.0, "the timeout")
        assert stage.order(order_id).state is OrderState.LIVE  # the venue's word stands
        await stage.pause(1.5)
        # It is looked at once more at most, and never sent again.
        assert len(stage.venue.asked("GET", "/order", asked_at)) <= 1
        assert len(stage.venue.asked("POST", "/order", asked_at)) == 0
        await stage.converge()


async def f08_too_late(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.faults.delay_request(PLACEMENTS, 1_500)
        await absent(stage, await placement(stage))


async def f08_late_but_valid(folder: Path) -> None:
    """The first answers to whoever asks are that there is no such order."""
    async with trading(folder) as stage:
        stage.execution.wire._timeout_s = 0.1  # shorter than any request is valid
        stage.venue.mute(NEW)
        stage.faults.delay_request(PLACEMENTS, 850)
        order_id = await placement(stage)
        await unknown(stage, order_id)
        assert stage.venue.order(order_id) is None
        await stage.until(lambda: stage.venue.order(order_id), 3.0, "accepted")
        await found(stage, order_id)
        assert not stage.events(OrderRejected, order_id)


# --- cancels ----------------------------------------------------------------------------------


async def f12_cancel_done(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.venue.mute(CANCELED)
        stage.faults.lose_reply(CANCELS, times=4)
        own = stage.witness.believed()
        stage.obstruct()
        for order_id in sorted(own):
            await unknown(stage, order_id)  # and still exposure
        assert not stage.venue.account.open_orders()
        await stage.until(lambda: not stage.witness.believed(), SETTLED_S, "proved")
        assert {stage.order(i).state for i in own} == {OrderState.CANCELLED}
        stage.venue.mute()
        stage.clear()
        await stage.converge()


async def f13_cancel_not_done(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        stage.faults.lose_request(CANCELS, times=4)
        best = stage.venue.resting(Side.BUY)[0]
        own = stage.witness.believed()
        stage.obstruct()
        for order_id in sorted(own):
            await unknown(stage, order_id)
        stage.venue.fill(Side.BUY, best.lots)
        await stage.until(
            lambda: stage.order(best.client_id).state is OrderState.FILLED, 3.0, "the fill"
        )
        assert stage.engine.ledger.position_lots == best.lots
        # What still rests is found out, and cancelled after all.
        await stage.until(lambda: not stage.venue.account.open_orders(), 9.0, "cancelled")
        assert stage.order(best.client_id).state is OrderState.FILLED
        stage.clear()
        await stage.converge()


async def f14_cancel_meets_a_full_fill(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        best = stage.venue.resting(Side.BUY)[0]
        stage.faults.delay_request(CANCELS, 250, times=4)
        stage.obstruct()
        await stage.until(lambda: stage.faults.met("delay_request") == 4, 3.0, "cancels")
        stage.venue.mute(b"TRADE")
        stage.venue.fill(Side.BUY, best.lots)
        await stage.until(lambda: not stage.witness.believed(), SETTLED_S, "all ended")
        order = stage.order(best.client_id)
        assert (order.state, order.filled_lots) == (OrderState.FILLED, best.lots)
        assert stage.engine.ledger.position_lots == best.lots
        stage.venue.mute()
        stage.clear()
        await stage.converge()


async def f15_partial_fill_before_the_ack(folder: Path) -> None:
    async with trading(folder, QUICK) as stage:
        best = stage.venue.resting(Side.SELL)[0]
        stage.faults.delay_request(CANCELS, 250, times=4)
        stage.obstruct()
        await stage.until(lambda: stage.faults.met("delay_request") == 4, 3.0, "cancels")
        stage.faults.events.delay(1_500)
        stage.venue.fill(Side.SELL, 4)
        await stage.until(lambda: not stage.witness.believed(), SETTLED_S, "acknowledged")
        await stage.until(lambda: not stage.engine.orders.owed(), SETTLED_S, "the fill")
        order = stage.order(best.client_id)
        assert (order.state, order.filled_lots) == (OrderState.CANCELLED, 4)
        assert stage.engine.ledger.position_lots == -4
        await stage.pause(1.5)  # now the stream tells the same
        assert len(stage.events(Filled, best.client_id)) == 1
        stage.faults.heal()
        stage.clear()
        await stage.converge()


# --- amends -----------------------------------------------------------------------------------


async def f16_amend_refused(folder: Path) -> None:
    async with trading(folder, QUICK, RESTLESS) as stage:
        own = stage.witness.believed()
        left = [len(own)]

        def refuse(request: Request) -> Reply | None:
            if request.method != "PUT" or not left[0]:
                return None
            left[0] -= 1
            body = {"code": -4014, "msg": "Price not increased by tick size."}
            return Reply(400, msgspec.json.encode(body))

        stage.venue.answering(refuse)
        before = {o.client_id: o.tick for o in stage.venue.account.open_orders()}
        stage.venue.market.shift(12)
        await stage.until(lambda: len(stage.events(AmendRejected)) == len(own), 5.0, "refusals")
        assert stage.witness.believed() == own  # each lives, and is known where it is
        for order_id, tick in before.items():
            assert stage.order(order_id).resting or stage.order(order_id).working
            assert stage.order(order_id).tick == tick or not left[0]
        await stage.converge()
        assert stage.witness.believed() == own
        assert {o.client_id: o.tick for o in stage.venue.account.open_orders()} != before


async def f17_amend_would_cross(folder: Path) -> None:
    async with trading(folder, QUICK, RESTLESS) as stage:
        bids = [order.client_id for order in stage.venue.resting(Side.BUY)]
        stage.faults.delay_request(AMENDS, 250, times=4)
        stage.venue.market.shift(12)
        await stage.until(lambda: stage.faults.met("delay_request") == 4, 3.0, "amends")
        stage.venue.market.shift(-18)  # asks stand where the bids are to go
        await stage.until(
            lambda: all(stage.venue.order(i).status is Status.CANCELED for i in bids), 3.0, "ended"
        )
        await stage.converge()
        assert {stage.order(i).state for i in bids} == {OrderState.CANCELLED}


def f18_amend_lost(*, done: bool) -> Scenario:
    async def scenario(folder: Path) -> None:
        async with trading(folder, QUICK, RESTLESS) as stage:
            own = stage.witness.believed()
            lose = stage.faults.lose_reply if done else stage.faults.lose_request
            stage.venue.mute(AMENDMENT)
            lose(AMENDS, times=4)
            before = {i: stage.order(i).tick for i in own}
            stage.venue.market.shift(12)
            for order_id in sorted(own):
                await unknown(stage, order_id)
                order = stage.order(order_id)
                assert order.amending
                # The worse of both prices counts, whichever it is.
                assert order.lowest_tick <= before[order_id] < order.highest_tick
            assert stage.witness.placed >= own
            await stage.until(
                lambda: all(stage.order(i).state is not OrderState.UNKNOWN for i in own),
                12.0,
                "told",
            )
            stage.venue.mute()
            await stage.converge()
            assert not done or stage.witness.believed() == own

    return scenario


SCENARIOS: Final[dict[str, Scenario]] = {
    "calm": calm("binance-usdm"),
    "calm, spot": calm(SPOT),
    "F01 place: reply lost": f01_reply_lost,
    "F01 place: no reply": f01_reply_never,
    "F01 place: reply lost, spot": f01_reply_lost_on_spot,
    "F01 place: batch lost": f01_batch_lost,
    "F02 place: 503 after": f02_failed_after("503"),
    "F02 place: -1006 after": f02_failed_after("-1006"),
    "F02 place: -1007 after": f02_failed_after("-1007"),
    "F03 place: 503 before": f03_failed_before,
    "F03 place: request lost": f03_request_lost,
    "F04 place: truncated": f04_spoilt("truncated"),
    "F04 place: html": f04_spoilt("html"),
    "F04 place: empty": f04_spoilt("empty"),
    "F05 place: rejected in a 200": f05_rejected_in_a_200,
    "F06 place: stream before timeout": f06_accepted_before_the_timeout,
    "F08 place: too late": f08_too_late,
    "F08 place: late but valid": f08_late_but_valid,
    "F12 cancel: reply lost": f12_cancel_done,
    "F13 cancel: not done, filled": f13_cancel_not_done,
    "F14 cancel: filled before": f14_cancel_meets_a_full_fill,
    "F15 cancel: partly filled before": f15_partial_fill_before_the_ack,
    "F16 amend: refused": f16_amend_refused,
    "F17 amend: would cross": f17_amend_would_cross,
    "F18 amend: reply lost": f18_amend_lost(done=True),
    "F18 amend: request lost": f18_amend_lost(done=False),
}


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Exception | None]:
    return outcomes(request, SCENARIOS, tmp_path_factory.mktemp("requests"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_request(name: str, results: dict[str, Exception | None]) -> None:
    error = results[name]
    if error is not None:
        raise error
