"""The process dies at every await of order entry, and the next one takes over (RISK 9, F30).

A canonical minute of order entry runs in virtual time, and is stopped dead before its k-th step,
for every k: no handler runs, nothing more is sent. What had left is on its way: in one half of
the worlds it is lost, in the other it arrives while the next run already looks around, as late
as its validity allows. Then the next run reads the journal, takes the account over, and must end
with an empty venue, every execution counted once, and the venue's position (I1 to I4).
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest
import structlog

from bot.core.orders import OrderTable
from bot.domain.decisions import Amend, Cancel, Decision, Place
from bot.domain.events import PositionAdopted
from bot.domain.units import NS_PER_MS, NS_PER_S, Side
from bot.journal.log import Decided, Learned
from bot.modes.previous import _add_up, _Story
from bot.shell.gateway import Gateway
from bot.shell.inbox import Inbox
from bot.shell.outbox import Outbox, Tasks
from bot.shell.statements import Statements, fill_key
from bot.shell.takeover import Taken, Takeover
from bot.shell.wire import CallFailed, Gate, NotSent
from bot.venues.binance.ids import is_own
from bot.venues.binance.ordercodec import order_codec
from bot.venues.orderentry import Call, Refusal, Verdict
from tests.shell.fakevenue import INSTRUMENT, LOST, WAY_S, FakeVenue, kind
from tests.shell.test_gateway import Roomy
from tests.shell.virtual import START, VirtualClock, VirtualLoop

PREFIX = "mm0a1b2c"
LATE_S = 1.8  # a placement is valid for two seconds
MORE = {"fapiPrivateV3GetAccount": "holdings", "fapiPrivateGetAllOrders": "history"}

Check = Callable[[], None]


class Wired(FakeVenue):
    """A venue whose requests travel by themselves: they arrive though their sender is dead."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: list[Call] = []
        self.intents: set[str] = set()
        self.check: Check = lambda: None
        self.wrong: list[str] = []  # that was seen on the way
        self.deaf = False  # to those who are dead

    async def call(self, call: Call, gate: Gate | None = None) -> Any:
        await asyncio.sleep(0)
        if gate is not None and not gate():
            raise NotSent(Refusal(Verdict.REJECTED, "gate_shut"))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self.under_way.append(call)
        loop.call_later(WAY_S, self._arrive, call, answer)
        return await answer

    def _arrive(self, call: Call, answer: "asyncio.Future[Any]") -> None:
        self.under_way.remove(call)
        what = MORE.get(call.method) or kind(call)
        refusals = self.before.get(what)
        body: Any = refusals.pop(0) if refusals else self.carry_out(call)
        if after := self.after.get(what):
            body = after.pop(0)
        asyncio.get_running_loop().call_later(WAY_S, self._answer, answer, body)

    @staticmethod
    def _answer(answer: "asyncio.Future[Any]", body: Any) -> None:
        if answer.done():
            return
        if isinstance(body, Refusal):
            answer.set_exception(CallFailed(body))
            answer.exception()  # that nobody is left to hear it is no mistake
        else:
            answer.set_result(body)

    def carry_out(self, call: Call) -> Any:
        """Do what a request asks for; `check` looks at the world afterwards."""
        body = getattr(self, f"_{MORE.get(call.method) or kind(call)}")(call.params)
        self.check()
        return body

    def _place(self, params: Any) -> Any:
        if params["newClientOrderId"] not in self.intents:
            self.wrong.append("I1: no intent was written")
        body = super()._place(params)
        self.orders[body["clientOrderId"]]["updateTime"] = now_ms()
        return body

    def _amend(self, params: Any) -> Any:
        order = self.orders.get(params["origClientOrderId"])
        if order is not None and Decimal(params["quantity"]) <= Decimal(order["executedQty"]):
            self.end(order["clientOrderId"], "CANCELED")
            return dict(order)
        return super()._amend(params)

    def fill(self, order_id: str, quantity: str, *, told: bool = True) -> None:
        super().fill(order_id, quantity, told=told)
        self.trades[-1]["time"] = now_ms()
        self.check()

    def _say(self, order_id: str, what: str, trade: Any = None) -> None:
        if not self.deaf:
            super()._say(order_id, what, trade)

    def _trades(self, params: Any) -> Any:
        found = super()._trades(params)
        return [one for one in found if one["time"] >= params.get("startTime", 0)]

    def _history(self, params: Any) -> Any:
        return [dict(order) for order in self.orders.values()]

    def _holdings(self, params: Any) -> Any:
        amount = str(self.position())
        row = {"symbol": "BTCUSDT", "positionSide": "BOTH", "positionAmt": amount}
        asset = {"asset": "USDT", "availableBalance": "1000"}
        return {"assets": [asset], "positions": [row]}

    def position(self) -> Decimal:
        signs = {"BUY": 1, "SELL": -1}
        return sum((signs[t["side"]] * Decimal(t["qty"]) for t in self.trades), Decimal(0))

    def open_lots(self, side: Side) -> int:
        """What may still trade on a side, in lots."""
        own = [self.orders[order_id] for order_id in self.open()]
        left = [
            Decimal(order["origQty"]) - Decimal(order["executedQty"])
            for order in own
            if order["side"] == side.name
        ]
        return int(sum(left, Decimal(0)) / INSTRUMENT.lot)


def now_ms() -> int:
    return VirtualClock().now() // NS_PER_MS


class Crash(SystemExit):
    """The process is no more."""


class Stepped(Coroutine[Any, Any, Any]):
    """A coroutine of which every step is counted before it is taken."""

    def __init__(self, inner: Coroutine[Any, Any, Any], step: Callable[[], None]) -> None:
        self._inner = inner
        self._step = step

    def send(self, value: Any) -> Any:
        self._step()
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        self._step()
        return self._inner.throw(*error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("only tasks are counted")


class Life:
    """The run that dies: gateway, table, and its journal in memory."""

    def __init__(self, venue: Wired) -> None:
        self.venue = venue
        self.journal: list[Learned | Decided] = []
        self.clock = VirtualClock()
        self.inbox = Inbox(self.clock, frames_max=10, bytes_max=10)
        self.table = OrderTable()
        self.position = 0
        adopted = PositionAdopted(self.clock.now(), 0, 1_200_000, "start")
        self.journal.append(Learned(0, adopted))
        self.broken: list[Exception] = []
        self.tasks = Tasks(self.broken.append)
        self.gateway = gateway_on(venue, self.table, self.inbox, self.tasks)
        venue.hear = self.gateway.heard
        venue.check = self.look
        self._n = 0

    def look(self) -> None:
        """I2 and I4 at any moment: what we believe covers what is."""
        believed = {order.order_id for side in Side for order in self.table.working(side)}
        wrong = self.venue.wrong
        if not set(self.venue.open()) <= believed:
            wrong.append(f"I2: {self.venue.open()} of {sorted(believed)}")
        position = int(self.venue.position() / INSTRUMENT.lot)
        for side in Side:
            feared = side * self.position + self.table.exposure_lots(side)
            true = side * position + self.venue.open_lots(side)
            if true > feared:
                wrong.append(f"I4: {true} lots of {side.name} where {feared} were feared")

    async def learn(self) -> None:
        while True:
            await self.inbox.wait(None)
            for event in self.inbox.drain(1_000):
                self.journal.append(Learned(0, event))  # type: ignore[arg-type]
                if self.table.knows(getattr(event, "order_id", "")):
                    order, lots = self.table.apply(event)  # type: ignore[arg-type]
                    self.position += order.side * lots

    def decide(self, *decisions: Place | Amend | Cancel) -> None:
        now = self.clock.now()
        kept: list[Decision] = list(decisions)
        self.journal.append(Decided(0, now, 0, kept))
        for one in decisions:
            match one:
                case Place():
                    self.venue.intents.add(one.order_id)
                    self.table.placed(one, now)
                case Amend():
                    self.table.amend_sent(one, now)
                case Cancel():
                    self.table.cancel_sent(one.order_id, now)
        self.gateway.perform(now, decisions)

    def place(self, *wanted: tuple[Side, int]) -> list[str]:
        places = []
        for side, behind in wanted:
            self._n += 1
            tick = 600_000 - side * behind
            places.append(Place(f"{PREFIX}-{self._n}", side, tick, 10, 0))
        self.decide(*places)
        return [place.order_id for place in places]

    def amend(self, order_id: str, behind: int, lots: int) -> None:
        order = self.table.find(order_id)
        tick = 600_000 - order.side * behind
        self.decide(Amend(order_id, order.side, tick, lots, 0))


async def canonical(life: Life) -> None:
    """Every kind of request, with its answer, without one, and overtaken by a trade."""
    venue = life.venue
    jobs = [asyncio.create_task(life.learn()), asyncio.create_task(life.gateway.run())]
    bid, ask, far = life.place((Side.BUY, 1), (Side.SELL, 1), (Side.SELL, 5))  # one call
    await asyncio.sleep(0.03)
    venue.fill(bid, "0.004")
    venue.after["place"], venue.silent = [LOST], True
    (lost,) = life.place((Side.BUY, 2))
    await asyncio.sleep(0.008)
    venue.silent = False
    venue.before["place"] = [LOST]
    life.amend(ask, 2, 8)
    await asyncio.sleep(0.02)
    (hasty,) = life.place((Side.BUY, 3))
    await asyncio.sleep(0.001)
    life.decide(Cancel(hasty))  # before its answer
    venue.after["amend"] = [LOST]
    life.amend(far, 6, 12)
    venue.silent = True
    venue.fill(ask, "0.003")
    await asyncio.sleep(0.05)
    venue.silent = False
    life.decide(Cancel(bid))
    await asyncio.sleep(0.001)
    venue.fill(bid, "0.006")  # it is cancelled, and trades before that arrives
    venue.before["cancel"] = [LOST]
    life.decide(Cancel(ask))
    await asyncio.sleep(4.5)
    if life.table.find(lost).working:
        life.decide(Cancel(lost))
    await asyncio.sleep(0.2)
    for job in jobs:
        job.cancel()


def gateway_on(venue: Wired, table: OrderTable, inbox: Inbox, tasks: Tasks) -> Gateway:
    budget: Any = Roomy()
    clock = VirtualClock()
    return Gateway(
        venue,
        order_codec(INSTRUMENT, PREFIX),
        table,
        inbox,
        clock,
        Outbox(budget, clock, tasks),
        tasks,
        unheard=lambda order_id: None,
        unasked=lambda order_id: None,
        clock_wrong=lambda: None,
        silence=lambda until, banned: None,
        throttle=nullcontext(),
    )


def live_and_die(venue: Wired, steps: int | None) -> tuple[Life, int, float]:
    """Run until so many steps are taken: the run, the steps taken, and when it ended."""
    loop = VirtualLoop()
    tasks: list[asyncio.Task[Any]] = []
    taken = 0

    def step() -> None:
        nonlocal taken
        if taken == steps:
            raise Crash
        taken += 1

    def counted(loop: asyncio.AbstractEventLoop, inner: Any, **how: Any) -> "asyncio.Task[Any]":
        tasks.append(asyncio.Task(Stepped(inner, step), loop=loop, **how))
        return tasks[-1]

    loop.set_task_factory(counted)
    asyncio.set_event_loop(loop)
    lives: list[Life] = []

    async def begin() -> None:
        lives.append(Life(venue))
        await canonical(lives[0])

    try:
        loop.run_until_complete(begin())
    except Crash:
        pass
    finally:
        at = loop.time()
        failures = bury(tasks)
        asyncio.set_event_loop(None)
        loop.close()
    assert failures == []
    lives[0].look()  # what is believed at the moment of death
    assert lives[0].broken == []
    assert venue.wrong == []
    return lives[0], taken, at


def bury(tasks: list["asyncio.Task[Any]"]) -> list[BaseException]:
    """Leave nothing of a dead run that could run; what it had failed with before it died."""
    failures: list[BaseException] = []
    for task in tasks:
        task.get_coro().close()  # type: ignore[union-attr]
        if not task.done():
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        elif not task.cancelled() and (failure := task.exception()) is not None:
            failures.append(failure)
    return [one for one in failures if not isinstance(one, Crash)]


def succeed(life: Life, at: float, *, late: bool) -> Taken:
    """The next run takes over, while what had been sent is lost or arrives."""
    venue = life.venue
    story = _Story("run-1", START, INSTRUMENT, None)
    for record in life.journal:
        story.take(record)
    previous = _add_up([story], START + round(at * NS_PER_S))
    loop = VirtualLoop()
    loop.now_s = at
    venue.deaf, venue.check = True, lambda: None
    venue.before, venue.after = {}, {}

    async def begin() -> Taken:
        for call in venue.under_way if late else ():
            asyncio.get_running_loop().call_later(LATE_S, venue.carry_out, call)
        venue.under_way = []
        clock = VirtualClock()
        tasks = Tasks(life.broken.append)
        inbox = Inbox(clock, frames_max=10, bytes_max=10)
        gateway = gateway_on(venue, OrderTable(), inbox, tasks)
        codec = order_codec(INSTRUMENT, "mmffffff")
        statements = Statements(gateway.ask, codec, is_own)
        takeover = Takeover(
            statements, gateway, INSTRUMENT, clock, structlog.get_logger(),
            spot=False, neutral=None, is_own=is_own,
        )  # fmt: skip
        await takeover.sweep(previous)
        taken = await takeover.take(previous)
        assert venue.open() == [], "I2"
        await asyncio.sleep(5.0)
        assert venue.open() == [], "I2, later"
        await tasks.close()
        return taken

    try:
        asyncio.set_event_loop(loop)
        taken = loop.run_until_complete(begin())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    told = set(previous.keys)
    recovered = [fill_key(fill) for fill in taken.recovered]
    there = {(trade_order(venue, one), str(one["id"]), Side[one["side"]]) for one in venue.trades}
    assert len(set(recovered)) == len(recovered), "I3: twice"
    assert not told & set(recovered), "I3: already counted"
    assert told | set(recovered) == there, "I3: missing"
    assert taken.lots == int(venue.position() / INSTRUMENT.lot), "I3"
    assert taken.expected_lots == taken.lots, "I3: a position without its fills"
    assert life.broken == []
    assert venue.wrong == []
    return taken


def trade_order(venue: Wired, trade: dict[str, Any]) -> str:
    (order_id,) = (i for i, o in venue.orders.items() if o["orderId"] == trade["orderId"])
    return order_id


def test_the_canonical_run_meets_everything() -> None:
    venue = Wired()
    _, steps, at = live_and_die(venue, None)
    states = {order["status"] for order in venue.orders.values()}
    assert states == {"FILLED", "CANCELED", "NEW"}
    assert venue.before == {"place": [], "cancel": []}
    assert venue.after == {"place": [], "amend": []}
    assert len(venue.trades) == 3
    assert steps > 80
    assert at > 4.0


@pytest.mark.parametrize("late", [False, True], ids=["what was sent is lost", "it arrives late"])
def test_a_crash_at_every_await_is_recovered_from(late: bool) -> None:
    _, steps, _ = live_and_die(Wired(), None)
    recovered = arrived = 0
    for k in range(2, steps + 1):
        venue = Wired()
        try:
            life, taken, at = live_and_die(venue, k)
            assert taken == k
            before = len(venue.orders)
            found = succeed(life, at, late=late)
        except AssertionError as error:
            pytest.fail(f"after {k} of {steps} steps: {error}")
        recovered += bool(found.recovered)
        arrived += len(venue.orders) > before
    assert recovered > 0
    assert (arrived > 0) is late
