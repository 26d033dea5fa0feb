"""Conformance cards 01, 17 to 19, 21 to 23, 25 to 27: the account, its stream, clock and limits."""

import asyncio
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bot.core.orders import OrderState
from bot.domain.events import Cleared, Obstructed, OrderRejected
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.shell.deadman import Countdown, WatchdogRequired
from bot.shell.heartbeat import Heartbeat, State
from bot.shell.statements import ReadFailed
from bot.shell.venuetime import VenueTime
from bot.venues.binance.failures import OPEN_ORDERS
from bot.venues.orderentry import NotTrading
from tests.modes.conformance import card
from tests.modes.conformancebench import QUOTE, Bench
from tests.shell.wire import eventually, get

S = OrderState


def ignore(event: Obstructed | Cleared) -> None:
    """Nobody quotes here, so that nobody has to stop."""


@card(1, "listing", "tick, lot and least sizes are read exactly as the venue has them")
async def listing(bench: Bench) -> None:
    body = await bench.gateway.ask(bench.codec.filters())
    assert bench.codec.read_filters(body) == bench.instrument


@card(17, "pages", "a history longer than a page is read to its end, nothing twice")
async def pages(bench: Bench) -> None:
    most = bench.codec.capabilities.page_max
    lots = most + 5
    order_id = await bench.rest(lots=lots)
    for _ in range(lots):
        bench.hit(Side.BUY, 1)
    await bench.until(order_id, S.FILLED)
    bench.calls.clear()
    found = await bench.statements.executions(bench.began_ms * NS_PER_MS)
    assert len(bench.calls) >= 2
    assert [int(one.trade_id) for one in found] == [t.trade_id for t in bench.account.trades]
    assert {one.order_id for one in found} == {order_id}
    assert len(found) == len(bench.fills(order_id)) == bench.position == lots


@card(18, "holdings", "position and free balances are the venue's own, locked parts told apart")
async def holdings(bench: Bench) -> None:
    before = await bench.statements.holdings()
    assert before.quote == QUOTE
    order_id = await bench.rest()
    bench.hit(Side.BUY, bench.unit)
    await bench.until(order_id, S.FILLED)
    await bench.rest(Side.SELL)
    after = await bench.statements.holdings()
    bought = bench.instrument.quantity(bench.unit)
    (fill,) = bench.fills(order_id)
    fee = fill.fee or Decimal(0)
    if bench.spot:
        assert after.position == before.position + bought - fee  # what an order locks included
        assert after.base_free == after.position - bought
        assert after.quote == QUOTE - bought * bench.instrument.price(fill.tick)
    else:
        assert after.position == bought
        assert after.quote <= QUOTE - fee


@card(
    19, "private stream", "it is kept alive, comes back when it ends, and nothing is lost meanwhile"
)
async def private_stream(bench: Bench) -> None:
    order_id = await bench.rest(lots=bench.unit)
    if not bench.spot:  # spot subscribes for as long as a connection lives
        await _kept_alive(bench)
    part = bench.unit // 3
    for n, lose in enumerate((bench.server.expire_listen_key, bench.faults.events.cut), start=1):
        opened = bench.opened
        bench.faults.events.shut = True  # nobody gets in again
        lose()
        await eventually(lambda: not bench.stream.open)
        await eventually(lambda: any(map(_stream_stands_in_the_way, bench.events)))
        bench.hit(Side.BUY, part)
        bench.faults.heal()
        await eventually(lambda was=opened: bench.opened > was)
        await eventually(lambda n=n: bench.order(order_id).filled_lots == n * part)
    bench.hit(Side.BUY, bench.unit - 2 * part)  # and it speaks again
    await eventually(lambda: bench.order(order_id).state is S.FILLED)
    assert len(bench.fills(order_id)) == 3
    assert bench.position == bench.unit


def _stream_stands_in_the_way(event: object) -> bool:
    return isinstance(event, Obstructed) and event.what == "private_stream"


async def _kept_alive(bench: Bench) -> None:
    """A key that lives an hour is extended long before, again and again."""
    assert bench.wire._extend_s <= 30 * 60
    extended: list[int] = []
    extend = bench.seat.stream.extend

    def count(now: int) -> bool:
        extended.append(now)
        return extend(now)

    bench.seat.stream.extend = count  # type: ignore[method-assign]
    bench.wire._extend_s = 0.05
    opened = bench.opened
    bench.stream.restart("to be opened with a short period")
    await eventually(lambda: bench.opened > opened and len(extended) >= 3)
    assert bench.stream.open
    assert bench.opened == opened + 1


@card(21, "clock", "a wrong clock is refused as that, and corrected by the venue's time")
async def clock(bench: Bench) -> None:
    time = VenueTime(bench.gateway.ask, bench.codec, ignore, bench.ours, bench.wire.set_offset)
    for seconds in (3.0, -12.0):
        bench.ours.ahead = round(seconds * NS_PER_S)
        wrong = bench.clock_wrong
        order_id = bench.send(behind=2)
        await bench.until(order_id, S.REJECTED)
        (refused,) = bench.told(OrderRejected, order_id)
        assert (refused.reason, bench.clock_wrong) == ("clock", wrong + 1)
        assert await time.compare()
        assert time.ahead_ns is not None
        assert abs(time.ahead_ns - bench.ours.ahead) < NS_PER_S // 4
        await bench.rest(behind=2)


@card(
    22,
    "dead man",
    "a countdown cancels all unless refreshed; where there is none, a watchdog must be",
)
async def dead_man(bench: Bench) -> None:
    if not bench.codec.capabilities.dead_man:
        await _watchdog_required(bench)
        return
    switch = Countdown(
        bench.wire.call, bench.codec, ignore, bench.ours, lambda: True, time_ms=10_000
    )
    await switch.arm()
    assert switch.armed
    order_id = await bench.rest(behind=2)
    for _ in range(2):
        bench.time.skip(7)
        await switch.refresh()
    await _passed(bench)
    assert bench.open() == [order_id]  # 14 s after the first
    bench.time.skip(10.5)
    await bench.until(order_id, S.CANCELLED, S.EXPIRED)
    assert bench.open() == []
    assert bench.unasked == [order_id]
    await switch.arm()
    later = await bench.rest(behind=2)
    await switch.disarm()
    bench.time.skip(30)
    await _passed(bench)
    assert bench.open() == [later]


async def _passed(bench: Bench) -> None:
    """The venue has had a look at its clock since."""
    steps = bench.server.stats().steps
    await eventually(lambda: bench.server.stats().steps >= steps + 2)


async def _watchdog_required(bench: Bench) -> None:
    with pytest.raises(ValueError, match="no dead-man's switch"):
        bench.codec.countdown(10_000)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "beat"
        names = {"venue": bench.venue, "symbol": bench.instrument.symbol}
        required = WatchdogRequired(path, ignore, bench.ours, **names)
        await required.arm()
        assert not required.armed
        heart = Heartbeat(path, bench.ours, epoch="w", state=State.WATCHING, **names)
        await required.refresh()
        assert not required.armed  # a file proves nothing
        bench.time.skip(0.25)
        heart.beat(1, State.WATCHING)
        await required.refresh()
        assert required.armed
        bench.time.skip(3.5)
        await required.refresh()
        assert not required.armed
        heart.close()


@card(23, "limits", "used weight reaches the budget; 429 silences all but cancels, 418 everything")
async def limits(bench: Bench) -> None:
    order_id = await bench.rest(behind=2)
    ours = bench.budget._weights[0]
    for _ in range(5):  # somebody else asks from our address
        await get(bench.server.port, f"{bench.root}/depth?symbol=BTCUSDT&limit=1000")
    assert ours.used < bench.server.desk.public.weights.used
    await bench.statements.open_orders()
    assert bench.weights[-1] == bench.server.desk.public.weights.used <= ours.used
    bench.faults.throttle(20, OPEN_ORDERS)
    await _fails(bench)
    silenced = bench.send(behind=3)  # waits
    bench.cancel(order_id)  # does not
    await bench.until(order_id, S.CANCELLED)
    assert bench.order(silenced).state is S.PENDING_NEW
    assert bench.own(silenced) is None
    bench.time.skip(20.5)
    await bench.until(bench.send(behind=4), S.LIVE)
    await bench.until(silenced, S.REJECTED)  # too old by now: it was not sent
    await _banned(bench)


async def _banned(bench: Bench) -> None:
    order_id = await bench.rest(behind=2)
    bench.faults.ban(30)
    await _fails(bench)
    sent = len(bench.calls)
    bench.cancel(order_id)
    bench.send(behind=3)
    await _passed(bench)
    await asyncio.sleep(0.1)
    assert len(bench.calls) == sent
    assert order_id in bench.open()
    assert any(isinstance(e, Obstructed) and e.detail == "banned" for e in bench.events)
    bench.time.skip(30.5)
    bench.gateway._outbox._release()
    await bench.until(order_id, S.CANCELLED)


async def _fails(bench: Bench) -> None:
    """A question that is answered by a wish for silence."""
    with pytest.raises(ReadFailed) as failed:
        await bench.statements.open_orders()
    assert failed.value.refusal is not None
    assert failed.value.refusal.limited_s > 0


@card(25, "permissions", "what the key may do is read: trading only, and withdrawals are seen")
async def permissions(bench: Bench) -> None:
    for allowed in (False, True):
        bench.seat.may_withdraw = allowed
        body = await bench.gateway.ask(bench.codec.permissions())
        found = bench.codec.read_permissions(body)
        assert (found.can_trade, found.ip_restricted) == (True, True)
        assert (found.can_withdraw, found.can_transfer) == (allowed, allowed)


@card(26, "fee tier", "the account's own fee rates are read exactly")
async def fee_tier(bench: Bench) -> None:
    body = await bench.gateway.ask(bench.codec.fees())
    assert bench.codec.read_fees(body) == bench.account.fees


@card(
    27, "halt", "a symbol that does not trade says so and refuses orders as closed; cancels go on"
)
async def halt(bench: Bench) -> None:
    resting = await bench.rest(behind=2)
    bench.faults.halt()
    body = await bench.gateway.ask(bench.codec.filters())
    with pytest.raises(NotTrading, match=bench.instrument.symbol):
        bench.codec.read_filters(body)
    order_id = bench.send()
    await bench.until(order_id, S.REJECTED)
    (told,) = bench.told(OrderRejected, order_id)
    assert told.reason == "closed"
    bench.cancel(resting)
    await bench.until(resting, S.CANCELLED)
    bench.faults.heal()
    await bench.rest()
    assert bench.faults.met("halt") >= 2
